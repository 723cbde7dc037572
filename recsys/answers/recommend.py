"""A patient's visits in, medications out, in milliseconds: the loaded recommender as an object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kb.errors import DataError
from kb.settings import Settings
from recsys.cohorts.batches import Histories
from recsys.cohorts.cohort import KINDS, Ragged, Vocabulary
from recsys.experiments.checkpoint import Trained
from recsys.experiments.decode import select

if TYPE_CHECKING:
    from recsys.recommenders.contract import Recommender

WARNING = "Research software, not a medical device: nothing here may guide the treatment of a patient."
_FIELDS = {"diagnosis": "diagnoses", "procedure": "procedures", "medication": "medications"}


@dataclass(frozen=True)
class Visit:
    """The codes of one visit, e.g. ``ICD9CM:4280``, ``ATC:C03C``."""

    diagnosis: tuple[str, ...] = ()
    procedure: tuple[str, ...] = ()
    medication: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patient:
    """Visits in time order; medications are asked for the last one."""

    visits: tuple[Visit, ...]


class Recommendation(NamedTuple):
    """One recommended medication."""

    code: str
    name: str
    probability: float
    """Calibrated on validation patients."""
    given_before: int
    """How many earlier visits had it."""
    rests_on: tuple[str, ...]
    """The modalities behind its vector; empty when its score was learned from prescriptions alone."""
    accepted: tuple[str, ...]
    """Interactions with other recommended medications that were accepted."""


class Avoided(NamedTuple):
    """A medication left out because of its interactions, though its probability was above the threshold."""

    code: str
    name: str
    probability: float
    because_of: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What is recommended for the last visit, what was avoided, and what the answer does not know."""

    recommended: list[Recommendation]
    avoided: list[Avoided]
    unknown: dict[str, list[str]]
    """Codes of the request that the training patients never had, by kind; they had no influence."""
    run: str
    warning: str = field(default=WARNING)

    def as_json(self) -> dict[str, Any]:
        """The answer as plain values."""
        return {"warning": self.warning, "run": self.run, "unknown_codes": self.unknown,
                "recommended": [item._asdict() for item in self.recommended],
                "avoided": [item._asdict() for item in self.avoided]}


def parse_patient(document: Any) -> Patient:
    """The patient of a JSON document ``{"visits": [{"diagnoses": […], "procedures": […], "medications": […]}, …]}``.

    The last visit is the one to recommend for; when visits carry ``time`` they are sorted by it. Medications of the
    last visit are refused: they are what is asked for. Raises DataError that says what is wrong.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("visits"), list) or not document["visits"]:
        raise DataError("a patient is an object with a non-empty list of visits",
                        hint='{"visits": [{"diagnoses": ["ICD9CM:4280"], "procedures": [], "medications": []}]}')
    visits: list[Any] = document["visits"]
    if all(isinstance(visit, Mapping) and "time" in visit for visit in visits):
        visits = sorted(visits, key=lambda visit: str(visit["time"]))
    parsed = []
    for number, visit in enumerate(visits, 1):
        if not isinstance(visit, Mapping) or set(visit) - {*_FIELDS.values(), "time"}:
            raise DataError(f"visit {number} has unknown fields or is no object",
                            hint=f"its fields are {', '.join(_FIELDS.values())} and time")
        parsed.append(Visit(**{kind: _codes(visit.get(name, []), name, number) for kind, name in _FIELDS.items()}))
    if parsed[-1].medication:
        raise DataError("the last visit already has medications", hint="add a visit without them to ask for its own")
    return Patient(tuple(parsed))


def _codes(values: Any, name: str, number: int) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{name} of visit {number} must be a list of texts")
    return tuple(dict.fromkeys(value.strip() for value in values))


EXAMPLE = "give the patient's visits as a JSON file; demo/patient.json of the program is an example"


def read_patient(path: Path) -> Patient:
    """The patient of a JSON file."""
    try:
        return parse_patient(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{path} is not there", hint=EXAMPLE) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}", hint=EXAMPLE) from None


class RecommenderService:
    """A trained recommender, ready to answer; one thread, no database, no disk."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.knowledge = trained.recommender.knowledge
        self.vocabularies = {kind: Vocabulary(tuple(trained.vocabularies[kind])) for kind in KINDS}
        self.task = str(trained.meta.get("task", "stay"))
        self._modalities = _modalities_used(trained.recommender)
        self._interacting = [frozenset(np.flatnonzero(row).tolist()) for row in self.knowledge.interactions.matrix]

    @classmethod
    def open(cls, settings: Settings, run: str = "") -> RecommenderService:
        """The service of a run, the latest when ``run`` is empty."""
        from recsys.experiments.run_folders import load_run

        return cls(load_run(settings, run))

    def histories(self, patients: Sequence[Patient]) -> tuple[Histories, list[dict[str, list[str]]]]:
        """The patients as a recommender takes them, and each one's unknown codes by kind."""
        unknown: list[dict[str, list[str]]] = [{} for _ in patients]
        flat: dict[str, list[list[int]]] = {kind: [] for kind in KINDS}
        for number, patient in enumerate(patients):
            for visit in patient.visits:
                for kind in KINDS:
                    known, missing = self.vocabularies[kind].indices(getattr(visit, kind))
                    flat[kind].append(known)
                    if missing:
                        unknown[number].setdefault(kind, []).extend(missing)
        counts = [len(patient.visits) for patient in patients]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        parts = {kind: _ragged(flat[kind]) for kind in KINDS}
        if self.task == "order-time":
            parts |= {kind: parts[kind].take(_lagged(starts)) for kind in ("diagnosis", "procedure")}
        total = int(starts[-1])
        return Histories(starts, **parts, sizes=self.trained.recommender.sizes, scored=np.ones(total, bool),
                         unseen=np.zeros(total, np.int64)), unknown

    def probabilities(self, visits: Histories) -> np.ndarray:
        """float32[P, K]: the raw probabilities at each patient's last visit."""
        return self.trained.recommender.predict_proba(visits)[visits.starts[1:] - 1]

    def recommend(self, patient: Patient) -> Answer:
        """The answer for one patient."""
        return self.recommend_many([patient])[0]

    def recommend_many(self, patients: Sequence[Patient]) -> list[Answer]:
        """The answers for several patients in one pass."""
        visits, unknown = self.histories(patients)
        raw = self.probabilities(visits)
        matrix = self.knowledge.interactions.matrix
        chosen = select(raw, self.trained.decision, matrix)
        calibrated = self.trained.platt.apply(raw)
        above = raw >= self.trained.decision.threshold
        run = str(self.trained.meta.get("run", ""))
        return [self._answer(visits, row, chosen[row], above[row], calibrated[row], unknown[row], run)
                for row in range(len(patients))]

    def _answer(self, visits: Histories, patient: int, chosen: np.ndarray, above: np.ndarray, probability: np.ndarray,
                unknown: dict[str, list[str]], run: str) -> Answer:
        codes, names = self.knowledge.medications, self.knowledge.names
        rows = np.flatnonzero(chosen)
        order = rows[np.argsort(-probability[rows], kind="stable")].tolist()
        taken, score = set(order), probability.tolist()
        first, last = visits.medication.indptr[visits.starts[patient:patient + 2]]
        before = visits.medication.values[first:last].tolist()
        recommended = [Recommendation(codes[m], names[m], score[m], before.count(m), self._modalities[m],
                                      self._among(taken, m)) for m in order]
        avoided = [Avoided(codes[m], names[m], score[m], self._among(taken, m))
                   for m in np.flatnonzero(above & ~chosen).tolist()]
        avoided.sort(key=lambda item: -item.probability)
        return Answer(recommended, avoided, unknown, run)

    def _among(self, taken: set[int], medication: int) -> tuple[str, ...]:
        """The codes among ``taken`` that interact with the medication, in the order of the vocabulary."""
        found = taken & self._interacting[medication]
        return tuple(self.knowledge.medications[other] for other in sorted(found)) if found else ()


def _modalities_used(recommender: Recommender) -> list[tuple[str, ...]]:
    """What each medication's score rests on besides prescriptions; a recommender that reads no vectors uses none."""
    from recsys.recommenders.layers import DrugTable
    from recsys.recommenders.molecules import MedicationEncoder

    knowledge, network = recommender.knowledge, getattr(recommender, "network", None)
    if isinstance(getattr(network, "drugs", None), DrugTable):
        return [tuple(name for name, has in zip(knowledge.modalities, row, strict=True) if has)
                for row in knowledge.rests_on]
    if network is not None and any(isinstance(part, MedicationEncoder) for part in network.modules()):
        return [("molecule",) if smiles else () for smiles in knowledge.smiles or ((),) * len(knowledge.medications)]
    return [()] * len(knowledge.medications)


def _ragged(lists: Sequence[Sequence[int]]) -> Ragged:
    """As Ragged.from_lists, for rows that are distinct already; one patient must not cost a sort."""
    indptr = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(row) for row in lists], out=indptr[1:])
    return Ragged(indptr, np.array([code for row in lists for code in row], np.int32))


def _lagged(starts: np.ndarray) -> np.ndarray:
    """For each visit the one before it of the same patient, or −1."""
    before = np.arange(int(starts[-1]), dtype=np.int64) - 1
    before[starts[:-1]] = -1
    return before
