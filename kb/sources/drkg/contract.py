"""What the full DRKG file holds, to the row, and a check of a file against it.

Sources: the tables of github.com/gnn4dr/DRKG (rows by provider and pair of types, entities by type), and the
preprocessing report of github.com/htang7415/DRKG-Query (rows with an empty id, duplicates among the others, self loops,
largest degree).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kb.errors import ContractViolation
from kb.graph.encode import CodedTriples, entity_type
from kb.graph.tables import DescribedRelation

ROWS = 5_874_261
EMPTY_IDS = 29
KEPT = 5_874_229
"""Distinct triples with ids at both ends: 29 rows have an empty id, and 3 of the others are repeated."""
SELF_LOOPS = 3_499
RELATIONS = 107
LARGEST_DEGREE = 23_879

ENTITIES: Mapping[str, int] = {
    "Anatomy": 400,
    "Atc": 4_048,
    "Biological Process": 11_381,
    "Cellular Component": 1_391,
    "Compound": 24_313,
    "Disease": 5_103,
    "Gene": 39_219,
    "Molecular Function": 2_884,
    "Pathway": 1_822,
    "Pharmacologic Class": 345,
    "Side Effect": 5_701,
    "Symptom": 415,
    "Tax": 215,
}
"""Entities by type; the published 39,220 genes count the one whose id is empty."""

PAIRS: Mapping[tuple[str, str], int] = {
    ("DRUGBANK", "Compound–Gene"): 24_801,
    ("DRUGBANK", "Atc–Compound"): 15_750,
    ("DRUGBANK", "Compound–Compound"): 1_379_271,
    ("DRUGBANK", "Compound–Disease"): 4_968,
    ("GNBR", "Gene–Gene"): 66_722,
    ("GNBR", "Compound–Gene"): 80_803,
    ("GNBR", "Disease–Gene"): 95_399,
    ("GNBR", "Compound–Disease"): 77_782,
    ("GNBR", "Gene–Tax"): 14_663,
    ("Hetionet", "Gene–Gene"): 474_526,
    ("Hetionet", "Compound–Gene"): 51_429,
    ("Hetionet", "Disease–Gene"): 27_977,
    ("Hetionet", "Compound–Compound"): 6_486,
    ("Hetionet", "Compound–Disease"): 1_145,
    ("Hetionet", "Biological Process–Gene"): 559_504,
    ("Hetionet", "Disease–Symptom"): 3_357,
    ("Hetionet", "Anatomy–Disease"): 3_602,
    ("Hetionet", "Disease–Disease"): 543,
    ("Hetionet", "Anatomy–Gene"): 726_495,
    ("Hetionet", "Gene–Molecular Function"): 97_222,
    ("Hetionet", "Compound–Pharmacologic Class"): 1_029,
    ("Hetionet", "Cellular Component–Gene"): 73_566,
    ("Hetionet", "Gene–Pathway"): 84_372,
    ("Hetionet", "Compound–Side Effect"): 138_944,
    ("STRING", "Gene–Gene"): 1_496_708,
    ("INTACT", "Gene–Gene"): 254_346,
    ("INTACT", "Compound–Gene"): 1_805,
    ("DGIDB", "Compound–Gene"): 26_290,
    ("bioarx", "Gene–Gene"): 58_629,
    ("bioarx", "Compound–Gene"): 25_666,
    ("bioarx", "Disease–Gene"): 461,
}
"""Rows of the raw file by provider and unordered pair of types; they add up to ``ROWS``."""


@dataclass(frozen=True, slots=True)
class CountCheck:
    """One number of the contract and what the file has."""

    what: str
    expected: int
    found: int

    @property
    def passed(self) -> bool:
        """Whether they are equal."""
        return self.expected == self.found


def pair_of(relation: DescribedRelation) -> str:
    """The unordered pair of types that a relation connects, as ``PAIRS`` names it."""
    return "–".join(sorted((relation.head_type, relation.tail_type)))


def compare_counts(triples: CodedTriples, relations: Mapping[str, DescribedRelation]) -> list[CountCheck]:
    """Every number of the contract beside the file's own."""
    counts = triples.counts
    degree = np.bincount(triples.heads, minlength=len(triples.entities))
    degree += np.bincount(triples.tails, minlength=len(triples.entities))
    checks = [
        CountCheck("rows", ROWS, counts.rows),
        CountCheck("rows with an empty id", EMPTY_IDS, counts.empty_ids),
        CountCheck("triples kept", KEPT, counts.kept),
        CountCheck("self loops", SELF_LOOPS, counts.self_loops),
        CountCheck("relations", RELATIONS, len(triples.relation_names)),
        CountCheck("entities", sum(ENTITIES.values()), len(triples.entities)),
        CountCheck("largest degree", LARGEST_DEGREE, int(degree.max(initial=0))),
    ]
    types = Counter(entity_type(name) for name in triples.entities)
    checks += [CountCheck(f"entities of type {t}", ENTITIES.get(t, 0), types[t]) for t in sorted({*ENTITIES, *types})]
    pairs: Counter[tuple[str, str]] = Counter()
    for name, rows in triples.rows_of.items():
        relation = relations[name]
        pairs[relation.provider, pair_of(relation)] += rows
    checks += [
        CountCheck(f"rows of {p} {pair}", PAIRS.get((p, pair), 0), pairs[p, pair]) for p, pair in {**PAIRS, **pairs}
    ]
    return checks


def require(checks: list[CountCheck]) -> None:
    """Return when every number agrees; raise ContractViolation with those that do not."""
    wrong = [c for c in checks if not c.passed]
    if wrong:
        shown = "; ".join(f"{c.what}: {c.found:,} instead of {c.expected:,}" for c in wrong[:4])
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ContractViolation(
            f"this is not the whole of DRKG ({len(wrong)} of {len(checks)} checks fail: {shown}{more})",
            hint="--allow-subset loads a part; for the whole, download the file again",
        )
