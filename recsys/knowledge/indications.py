"""What a medication is given for by the graph and by ``mkmed.indications``, and which diagnoses are near it.

A diagnosis is near a disease that one of the medication's drugs treats where a statement gives an ICD-10 code of the
disease and the diagnosis is that code or stands below it (likeness 1), or where the cosine of its title and the
disease's name, by the run's sentence encoder, is at least ``NEAR``. Only the nearest disease of each diagnosis and
medication is kept. That none is near says that the knowledge base does not know it, not that there is no indication.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAR = 0.65


class Statement(NamedTuple):
    """What a drug is given for: a disease, who says so, and the disease's codes of ICD-10-CM without the dot."""

    drug: int
    disease: str
    sources: tuple[str, ...] = ()
    """Relations of the graph and providers."""
    icd10: tuple[str, ...] = ()


class KnownIndication(NamedTuple):
    """A diagnosis near a disease that a drug of the medication treats."""

    medication: str
    problem: str
    drug: str
    disease: str
    likeness: float
    sources: str = ""
    """Who says that the drug treats the disease."""


@dataclass(frozen=True)
class Indications:
    """The near pairs, and the medications of which the graph knows any disease."""

    found: tuple[KnownIndication, ...]
    treating: frozenset[str]

    def among(self, problems: Collection[str], medications: Collection[str]) -> Indications:
        """Those of these diagnoses and medications only."""
        held = set(problems)
        return Indications(tuple(one for one in self.found if one.problem in held and one.medication in medications),
                           self.treating & frozenset(medications))

    @cached_property
    def _of(self) -> Mapping[str, Mapping[str, KnownIndication]]:
        by: dict[str, dict[str, KnownIndication]] = defaultdict(dict)
        for one in self.found:
            by[one.medication][one.problem] = one
        return by

    def nearest(self, medication: str, problems: Collection[str]) -> KnownIndication | None:
        """The likeliest reason for the medication among a patient's diagnoses."""
        near = self._of.get(medication, {})
        return max((near[problem] for problem in problems if problem in near),
                   key=lambda one: (one.likeness, one.problem), default=None)

    def as_json(self) -> dict[str, Any]:
        """As plain values; every name once."""
        words = sorted({word for one in self.found for word in (*one[:4], one.sources)})
        place = {word: number for number, word in enumerate(words)}
        return {"words": words, "treating": sorted(self.treating),
                "found": [[*(place[word] for word in one[:4]), round(one.likeness, 3), place[one.sources]]
                          for one in self.found]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Indications:
        """Take back what ``as_json`` gave."""
        words = stored["words"]
        return cls(tuple(KnownIndication(words[m], words[p], words[d], words[s], float(likeness),
                                         words[by[0]] if by else "")
                         for m, p, d, s, likeness, *by in stored["found"]), frozenset(stored["treating"]))


def nearest_diseases(codes: Sequence[str], titles: NDArray[np.float32], names: Sequence[str],
                     diseases: NDArray[np.float32], treated: Sequence[Statement], medications: Sequence[str],
                     drugs: Sequence[Sequence[int]], drug_names: Mapping[int, str],
                     below: Mapping[str, Sequence[int]]) -> Indications:
    """The indications of ``medications``, whose drugs are ``drugs``, from the statements ``treated``.

    ``titles`` [C, F] and ``diseases`` [S, F] are unit vectors of the codes' titles (zero without one) and ``names``;
    ``below`` has the places of the codes that are, or stand below, each ICD-10 code of a statement.
    """
    number = {name: row for row, name in enumerate(names)}
    of_drug: dict[int, list[Statement]] = defaultdict(list)
    for one in treated:
        of_drug[one.drug].append(one)
    cosine = titles @ diseases.T
    found, treating = [], set()
    for medication, members in zip(medications, drugs, strict=True):
        told = [one for drug in members for one in of_drug.get(drug, ())]
        if not told:
            continue
        treating.add(medication)
        of_medication = cosine[:, [number[one.disease] for one in told]]
        for column, one in enumerate(told):
            for code in one.icd10:
                of_medication[list(below.get(code, ())), column] = 1.0
        best = of_medication.argmax(1)
        for place in np.flatnonzero(of_medication.max(1) >= NEAR).tolist():
            one = told[best[place]]
            found.append(KnownIndication(medication, codes[place], drug_names[one.drug], one.disease,
                                         min(float(of_medication[place, best[place]]), 1.0), "; ".join(one.sources)))
    return Indications(tuple(found), frozenset(treating))
