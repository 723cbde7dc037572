"""Writes a file of DRKG's size, relation names, entity types and counts, with made-up triples (SYNTHETIC).

Rows a relation are the published ones where they are published; a pair of types' remainder is split geometrically over
its other relations. Entities are drawn by a truncated power law. The file meets every number of
``kb/sources/drkg/contract.py``, so that loading it takes the same path as loading DRKG. Entity names are read from
DRKG's own ``embed/entities.tsv`` where that is given, else made in the same forms.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, csv

from kb.graph.encode import entity_type
from kb.graph.tables import DescribedRelation
from kb.sources.drkg import contract
from kb.sources.drkg.read import known_relations

Ids = NDArray[np.int64]

PUBLISHED = {
    "DRUGBANK::target::Compound:Gene": 19_158,
    "DRUGBANK::enzyme::Compound:Gene": 4_923,
    "Hetionet::AeG::Anatomy:Gene": 526_407,
    "Hetionet::AdG::Anatomy:Gene": 102_240,
    "Hetionet::Gr>G::Gene:Gene": 265_672,
    "Hetionet::GiG::Gene:Gene": 147_164,
    "Hetionet::CtD::Compound:Disease": 755,
    "Hetionet::CbG::Compound:Gene": 11_571,
    "Hetionet::CuG::Compound:Gene": 18_756,
    "Hetionet::DaG::Disease:Gene": 12_623,
    "Hetionet::DuG::Disease:Gene": 7_731,
    "STRING::REACTION::Gene:Gene": 400_426,
    "STRING::CATALYSIS::Gene:Gene": 343_533,
    "STRING::BINDING::Gene:Gene": 315_875,
    "STRING::OTHER::Gene:Gene": 310_690,
    "GNBR::T::Compound:Disease": 54_020,
}
LOOPS, EMPTIES, HUB = "STRING::REACTION::Gene:Gene", "GNBR::L::Gene:Disease", "Hetionet::AeG::Anatomy:Gene"
EXPONENT, OFFSET = 0.62, 20.0
FORMS = {"Compound": "DB{:05d}", "Gene": "{}", "Disease": "MESH:D{:06d}", "Side Effect": "C{:07d}", "Atc": "A{:05d}"}


def entity_names(path: Path | None) -> dict[str, list[str]]:
    """The names of DRKG's entities by type, from its ``entities.tsv`` or made up; the one with an empty id left out."""
    names: dict[str, list[str]] = defaultdict(list)
    if path is None:
        for kind, count in contract.ENTITIES.items():
            form = FORMS.get(kind, "X:{:06d}")
            names[kind] = [f"{kind}::{form.format(i + 1)}" for i in range(count)]
        return names
    for line in path.read_text(encoding="utf-8").splitlines():
        name = line.split("\t")[0]
        if not name.endswith("::"):
            names[entity_type(name)].append(name)
    return names


def relation_rows(relations: dict[str, DescribedRelation]) -> dict[str, int]:
    """How many rows each relation gets; they add up to the contract's number for every provider and pair of types."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, relation in relations.items():
        groups[relation.provider, contract.pair_of(relation)].append(name)
    rows: dict[str, int] = {}
    for group, members in groups.items():
        known = {name: PUBLISHED[name] for name in members if name in PUBLISHED}
        others = [name for name in members if name not in known]
        left = contract.PAIRS[group] - sum(known.values())
        weights = 0.6 ** np.arange(len(others))
        shares = np.maximum(1, np.floor(left * weights / weights.sum())).astype(int) if others else np.empty(0, int)
        if others:
            shares[0] += left - shares.sum()
        rows |= known | dict(zip(others, shares.tolist(), strict=True))
    return rows


class Drawer:
    """Draws entities of each type by a power law; the first draws go through all of them, so that none is left out."""

    def __init__(self, counts: dict[str, int], rng: np.random.Generator) -> None:
        self._rng = rng
        self._order = {kind: rng.permutation(n) for kind, n in counts.items()}
        self._left = {kind: rng.permutation(n) for kind, n in counts.items()}

    def draw(self, kind: str, size: int, fresh: float) -> Ids:
        """``size`` indices into the type's names, up to the share ``fresh`` of them entities not drawn before."""
        order = self._order[kind]
        mass = np.cumsum((np.arange(len(order)) + OFFSET) ** -EXPONENT)
        drawn = order[np.searchsorted(mass, self._rng.random(size) * mass[-1])]
        new = min(len(self._left[kind]), int(size * fresh))
        drawn[:new], self._left[kind] = self._left[kind][:new], self._left[kind][new:]
        return drawn.astype(np.int64)


def edges(
    relation: DescribedRelation, rows: int, counts: dict[str, int], drawer: Drawer, last: bool
) -> tuple[Ids, Ids]:
    """Distinct pairs without loops."""
    n = counts[relation.tail_type]
    keys = np.empty(0, np.int64)
    fresh = 1.0 if last else 0.3
    while len(keys) < rows:
        size = int((rows - len(keys)) * 1.3) + 16
        heads, tails = drawer.draw(relation.head_type, size, fresh), drawer.draw(relation.tail_type, size, fresh)
        if relation.head_type == relation.tail_type:
            heads, tails = heads[heads != tails], tails[heads != tails]
        _, first = np.unique(np.concatenate([keys, heads * n + tails]), return_index=True)
        keys = np.concatenate([keys, heads * n + tails])[np.sort(first)]
    return keys[:rows] // n, keys[:rows] % n


def make(path: Path, entities: Path | None = None, seed: int = 0) -> None:
    """Write the file."""
    rng = np.random.default_rng(seed)
    names, relations = entity_names(entities), known_relations()
    counts = {kind: len(found) for kind, found in names.items()}
    rows, drawer = relation_rows(relations), Drawer(counts, rng)
    made: dict[str, list[Ids]] = {}
    for name in sorted(relations, key=lambda n: rows[n]):
        made[name] = list(edges(relations[name], rows[name], counts, drawer, rows[name] > 3000))
    loops = rng.permutation(counts["Gene"])[: contract.SELF_LOOPS]
    made[LOOPS][0][-len(loops) :] = made[LOOPS][1][-len(loops) :] = loops
    _make_hub(made, relations, counts, rng)
    for row in range(3):
        for column in made[HUB]:
            column[-1 - row] = column[row]
    _write(path, made, relations, names)


def _make_hub(
    made: dict[str, list[Ids]], relations: dict[str, DescribedRelation], counts: dict[str, int],
    rng: np.random.Generator,
) -> None:
    """Give one anatomy exactly the published largest degree, by turning edges to it or away from it.

    The three rows that become copies of others are taken into account.
    """
    degree = np.zeros(counts["Anatomy"], np.int64)
    for name, (heads, tails) in made.items():
        for kind, column in ((relations[name].head_type, heads), (relations[name].tail_type, tails)):
            if kind == "Anatomy":
                degree += np.bincount(column, minlength=len(degree))
    heads, tails = made[HUB]
    body = slice(3, -3)
    hub = int(np.bincount(heads[3:-3]).argmax())
    want = contract.LARGEST_DEGREE - int(degree[hub]) + int((heads[-3:] == hub).sum())
    theirs = np.flatnonzero((heads[body] != hub) & ~np.isin(tails[body], tails[heads == hub])) + 3
    _, first = np.unique(tails[theirs], return_index=True)
    if want < 0 or want > len(first):
        raise ValueError(f"the hub needs {want} more edges of {len(first)}")
    heads[rng.permutation(theirs[first])[:want]] = hub


def _write(
    path: Path, made: dict[str, list[Ids]], relations: dict[str, DescribedRelation], names: dict[str, list[str]]
) -> None:
    arrays = {kind: pa.array(found) for kind, found in names.items()}
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    schema = pa.schema([(name, pa.string()) for name in ("head", "relation", "tail")])
    with csv.CSVWriter(str(path), schema, write_options=options) as writer:
        for name, (heads, tails) in made.items():
            relation = relations[name]
            left, right = arrays[relation.head_type].take(heads), arrays[relation.tail_type].take(tails)
            if name == EMPTIES:
                bare = pa.array(np.arange(len(left)) < contract.EMPTY_IDS)
                left = compute.if_else(bare, "Gene::", left)
            writer.write_table(pa.table([left, pa.repeat(name, len(left)), right], schema=schema))
