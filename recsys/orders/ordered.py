"""Which ingredients were ordered under each label, and how many listed pairs of drugs the visits had.

A class-level label hides which of its drugs was given. With the (label, ingredient) pairs that a cohort keeps, the
interactions that patients really had are counted: pairs of two different ingredients of one visit that a source lists.
Beside them stands what a matrix of classes flags on the same visits, and how much of that is a listed pair of drugs
ordered, one drug under two labels, or neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.cohorts.cohort import Cohort, Int64, Ragged
from recsys.orders.interactions import SEVERITIES, DrugInteractions

Shares = Mapping[str, Mapping[str, float]]
"""For each label, its ingredients and the share of its orders that each has."""


def ordered_of(cohort: Cohort) -> tuple[Ragged, tuple[tuple[str, str], ...]]:
    """The (label, ingredient) pairs of each visit; a label is its own ingredient where the cohort keeps no others."""
    if cohort.ordered is not None:
        return cohort.ordered, cohort.ordered_pairs
    names = cohort.vocabularies["medication"].codes
    return cohort.codes["medication"], tuple((name, name) for name in names)


def shares(cohort: Cohort, visits: Int64, least: int = 1) -> dict[str, dict[str, float]]:
    """The ingredients of each label on these visits, by how many visits had them.

    An ingredient that fewer than ``least`` patients had is left out, as its presence would tell of them.
    """
    ordered, pairs = ordered_of(cohort)
    table = ordered.take(visits)
    width = max(len(pairs), 1)
    counts = np.bincount(table.values, minlength=width)
    patients = cohort.visit_patient[np.asarray(visits, np.int64)][table.rows()].astype(np.int64)
    held = np.bincount(np.unique(patients * width + table.values) % width, minlength=width)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for number in np.flatnonzero(held >= max(least, 1)).tolist():
        label, key = pairs[number]
        found[label][key] = float(counts[number])
    return {label: {key: count / sum(own.values()) for key, count in own.items()} for label, own in found.items()}


@dataclass(frozen=True)
class OrderedInteractions:
    """Listed pairs of drugs that the visits had, and what a class matrix flags on them."""

    visits: int
    drug_pairs: int
    """Pairs of two different ingredients ordered in one visit."""
    listed: int
    """Those that a source lists."""
    by_severity: Mapping[str, int]
    label_pairs: int
    """Pairs of two labels of one visit."""
    flagged: int
    """Those flagged by the drugs ordered: a drug under the one is listed with another drug under the other."""
    flagged_by_class: int
    """Those that the class matrix flags, whatever was ordered."""
    class_with_listed: int
    """Of these, pairs with a listed pair of drugs ordered."""
    class_with_itself: int
    """Of these without one, pairs whose labels both stand for one and the same drug ordered."""

    @property
    def rate(self) -> float:
        """Listed over all pairs of drugs ordered, pooled over visits."""
        return self.listed / self.drug_pairs if self.drug_pairs else 0.0

    def rows(self) -> list[dict[str, object]]:
        """The counts for a listing."""
        def share(part: int, whole: int) -> str:
            return f"{part / whole:.1%}" if whole else ""

        return [
            {"what": "pairs of drugs ordered in one visit", "pairs": self.drug_pairs, "share": ""},
            {"what": "listed interactions among them", "pairs": self.listed,
             "share": share(self.listed, self.drug_pairs)},
            *({"what": f"of these {grade}", "pairs": self.by_severity[grade],
               "share": share(self.by_severity[grade], self.listed)}
              for grade in SEVERITIES if self.by_severity.get(grade)),
            {"what": "pairs of labels flagged by the drugs ordered", "pairs": self.flagged,
             "share": share(self.flagged, self.label_pairs)},
            {"what": "pairs of labels that the class matrix flags", "pairs": self.flagged_by_class,
             "share": share(self.flagged_by_class, self.label_pairs)},
            {"what": "of these a listed pair of drugs ordered", "pairs": self.class_with_listed,
             "share": share(self.class_with_listed, self.flagged_by_class)},
            {"what": "of these one drug with itself", "pairs": self.class_with_itself,
             "share": share(self.class_with_itself, self.flagged_by_class)},
        ]


def ordered_interactions(cohort: Cohort, visits: Int64, known: DrugInteractions, classes: np.ndarray | None = None,
                         labels: Sequence[str] = ()) -> OrderedInteractions:
    """The interactions of these visits; ``classes`` bool[K, K] is the class matrix over ``labels``."""
    ordered, pairs = ordered_of(cohort)
    keys = sorted({key for _, key in pairs})
    place = {key: number for number, key in enumerate(keys)}
    listed = known.matrix(keys)
    grades = _grades(known, keys)
    label_place = {label: number for number, label in enumerate(labels)}
    drug_pairs = found = label_pairs = flagged = by_class = with_listed = with_itself = 0
    severities = np.zeros(len(SEVERITIES), np.int64)
    for visit in np.asarray(visits).tolist():
        under: dict[str, list[int]] = defaultdict(list)
        for number in ordered.row(visit).tolist():
            under[pairs[number][0]].append(place[pairs[number][1]])
        drugs = np.array(sorted({drug for own in under.values() for drug in own}), np.int64)
        drug_pairs += len(drugs) * (len(drugs) - 1) // 2
        first, second = np.nonzero(np.triu(listed[np.ix_(drugs, drugs)], 1))
        found += len(first)
        severities += np.bincount(grades[drugs[first], drugs[second]], minlength=len(SEVERITIES))
        names = sorted(under)
        for i, one in enumerate(names):
            for other in names[i + 1:]:
                label_pairs += 1
                real = bool(listed[np.ix_(under[one], under[other])].any())
                flagged += real
                a, b = label_place.get(one), label_place.get(other)
                if classes is not None and a is not None and b is not None and classes[a, b]:
                    by_class += 1
                    with_listed += real
                    with_itself += not real and bool(set(under[one]) & set(under[other]))
    return OrderedInteractions(len(visits), drug_pairs, found,
                               dict(zip(SEVERITIES, severities.tolist(), strict=True)), label_pairs, flagged, by_class,
                               with_listed, with_itself)


def _grades(known: DrugInteractions, keys: Sequence[str]) -> np.ndarray:
    """int64[I, I]: the place in SEVERITIES of the gravest statement about each pair; meaningless where none is."""
    place = {key: number for number, key in enumerate(keys)}
    grades = np.full((len(keys), len(keys)), len(SEVERITIES) - 1, np.int64)
    for statement in known.statements:
        a, b = place.get(statement.first), place.get(statement.second)
        if a is not None and b is not None:
            grade = min(int(grades[a, b]), SEVERITIES.index(statement.severity))
            grades[a, b] = grades[b, a] = grade
    return grades
