"""What is known when a medication is recommended (the task), and which patients are learned from (the split).

``stay`` is the literature's retrospective task: the visit's own diagnoses (coded at discharge) and procedures (done
during the stay) are inputs. ``order-time`` uses only what was known before the visit: earlier visits. ``admission``
adds to these what is known at the door: the diagnosis given at admission, medications taken at home, age, sex, origin,
kind of admission, where the source has them. All see the medications of earlier visits alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kb.errors import DataError, UsageError
from kb.registry import Registry
from recsys.cohorts.cohort import DOOR, KINDS, Cohort, Int32, Int64, Ragged, Split


@dataclass(frozen=True)
class Task:
    """Which visit's codes enter at a visit: ``lag[kind]`` is 0 for its own, 1 for the visit before it."""

    name: str
    lag: Mapping[str, int]
    first_visits: bool
    """Whether a patient's first visit is scored."""
    door: bool = False
    """Whether what is known at the door enters."""

    def inputs(self, codes: Mapping[str, Ragged], starts: Int64) -> dict[str, Ragged]:
        """For each kind, one row a visit: the codes that become known at that visit.

        ``codes`` has one row a visit, patient after patient, of whom p has rows ``starts[p]:starts[p + 1]``. A model
        that reads the rows of a patient's visits up to and including ``t`` has seen all that the task allows for ``t``,
        and no future code.
        """
        before = previous_visit(starts)
        kinds = (*KINDS, DOOR) if self.door else KINDS
        return {kind: codes[kind].take(before) if self.lag.get(kind) else codes[kind] for kind in kinds}

    def scored(self, starts: Int64) -> np.ndarray:
        """bool[T]: the visits for which a recommendation is asked."""
        return np.ones(int(starts[-1]), bool) if self.first_visits else previous_visit(starts) >= 0


STAY = Task("stay", {"medication": 1}, first_visits=True)
ORDER_TIME = Task("order-time", {"diagnosis": 1, "procedure": 1, "medication": 1}, first_visits=False)
ADMISSION = Task("admission", {"diagnosis": 1, "procedure": 1, "medication": 1}, first_visits=True, door=True)

TASKS: Registry[Task] = Registry("task", {"stay": "recsys.cohorts.tasks:STAY",
                                          "order-time": "recsys.cohorts.tasks:ORDER_TIME",
                                          "admission": "recsys.cohorts.tasks:ADMISSION"})


def previous_visit(starts: Int64) -> Int64:
    """For each visit the same patient's visit before it, or -1; patient p has visits ``starts[p]:starts[p + 1]``."""
    before = np.arange(int(starts[-1]), dtype=np.int64) - 1
    before[starts[:-1]] = -1
    return before


def _shares(shares: tuple[float, float, float]) -> tuple[float, float]:
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"the split's shares {shares} do not sum to 1", hint="e.g. 0.667,0.1665,0.1665")
    return shares[0], shares[0] + shares[1]


def patient_split(cohort: Cohort, seed: int = 0, shares: tuple[float, float, float] = (2 / 3, 1 / 6, 1 / 6)) -> Split:
    """A random split of the patients, the same for the same seed and number of patients."""
    first, second = _shares(shares)
    order = np.random.default_rng(seed).permutation(cohort.patients).astype(np.int32)
    a, b = round(first * cohort.patients), round(second * cohort.patients)
    return _checked(order, [a, b], f"patients, seed {seed}")


def temporal_split(cohort: Cohort, shares: tuple[float, float, float] = (2 / 3, 1 / 6, 1 / 6)) -> Split:
    """A split of the patients by the time of their last visit: everything trained on was over before validation.

    No training visit is later than the last visit of any validation or test patient's. Earlier visits of a test
    patient may lie in the training years, as they would when a model goes into use. MIMIC shifts each patient's dates
    by another amount, so there this split is no more than another seeded one.
    """
    first, second = _shares(shares)
    last = cohort.visit_time[cohort.patient_indptr[1:] - 1]
    order = np.argsort(last, kind="stable").astype(np.int32)
    cuts = [round(first * cohort.patients), round(second * cohort.patients)]
    for i, cut in enumerate(cuts):
        while 0 < cut < cohort.patients and last[order[cut]] == last[order[cut - 1]]:
            cut += 1  # patients whose last visits coincide stay on one side
        cuts[i] = cut
    return _checked(order, cuts, "time of the last visit")


def reference_split(cohort: Cohort) -> Split:
    """The public code's split: in file order the first 2/3 train, the middle 1/6 test, the last 1/6 validate."""
    everyone: Int32 = np.arange(cohort.patients, dtype=np.int32)
    a = int(cohort.patients * 2 / 3)
    b = a + int((cohort.patients - a) / 2)
    test_last = np.concatenate((everyone[:a], everyone[b:], everyone[a:b]))
    return _checked(test_last, [a, a + len(everyone) - b], "reference: file order")


def _checked(order: Int32, cuts: list[int], rule: str) -> Split:
    train, validation, test = (np.sort(part) for part in np.split(order, cuts))
    split = Split(train, validation, test, rule=rule)
    if not (len(split.train) and len(split.validation) and len(split.test)):
        raise DataError(
            f"the split leaves a side without patients: {len(split.train)}/{len(split.validation)}/{len(split.test)}",
            hint="the cohort is too small; take --min-visits 1 or a larger extract",
        )
    return split


SPLITS = ("patients", "temporal", "reference")


def split_cohort(cohort: Cohort, rule: str = "patients", seed: int = 0) -> Split:
    """The split by the rule of that name: ``patients``, ``temporal`` or ``reference``."""
    if rule == "patients":
        return patient_split(cohort, seed)
    if rule == "temporal":
        return temporal_split(cohort)
    if rule == "reference":
        return reference_split(cohort)
    raise UsageError(f"unknown split {rule!r}", hint=f"known: {', '.join(SPLITS)}")
