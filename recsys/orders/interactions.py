"""Interactions: of pairs of drugs as their sources state them, rolled up to medications where a matrix is needed.

A statement is about two drugs. A medication that stands for several drugs (an ATC class) interacts with another when a
drug of the one is listed with a *different* drug of the other; a drug never interacts with itself. What is rolled up is
kept in two forms: ``matrix``, whether any such pair is listed (the literature's), and ``expected``, the chance that
one drug of each, drawn as they are ordered, are a listed pair. For ingredients both are the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kb.errors import DataError
from kb.inputs import read_text

if TYPE_CHECKING:
    from sqlalchemy import Connection

SEVERITIES = ("high", "moderate", "low", "unknown")
"""The grades of an interaction, gravest first."""
_GRADE = {"critical": "high", "significant": "moderate", "contraindicated": "high", "major": "high", "severe": "high",
          "high": "high", "moderate": "moderate", "minor": "low", "mild": "low", "low": "low"}
_LISTS = {"ONC-HighPriority": ("high", "on the ONC list of pairs that should always alert"),
          "ONC-NonInteruptive": ("low", "on the ONC list of pairs that need not interrupt")}
"""What being on a list means where its rows have no severity of their own (Phansalkar et al. 2012 and 2013)."""


class Interaction(NamedTuple):
    """One source's statement about two ingredients, ``first`` before ``second`` in the order of their keys."""

    first: str
    second: str
    first_name: str
    second_name: str
    severity: str
    """One of SEVERITIES."""
    said: str
    """The severity in the source's own words, or what being on its list means; empty where it says nothing."""
    source: str
    """Who states it: NDF-RT, ONC-HighPriority, …"""
    licence: str
    text: str
    """A sentence for a reader."""


def grade(said: str, source: str) -> tuple[str, str]:
    """The grade of a statement, and its words: those of the source or, failing that, what its list means."""
    if said:
        return _GRADE.get(said.strip().lower(), "unknown"), said
    return _LISTS.get(source, ("unknown", ""))

_MATRIX = 64 << 20  # bytes of a matrix in a file


@dataclass(frozen=True, eq=False)
class DrugInteractions:
    """What sources state of pairs of ingredients; stored with every model, so that alerts need no database."""

    statements: tuple[Interaction, ...] = ()

    @cached_property
    def _by_pair(self) -> Mapping[frozenset[str], tuple[Interaction, ...]]:
        found: dict[frozenset[str], list[Interaction]] = defaultdict(list)
        for statement in self.statements:
            found[frozenset((statement.first, statement.second))].append(statement)
        order = SEVERITIES.index
        return {pair: tuple(sorted(some, key=lambda s: (order(s.severity), s.source))) for pair, some in found.items()}

    @cached_property
    def _partners(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for statement in self.statements:
            found[statement.first].add(statement.second)
            found[statement.second].add(statement.first)
        return {key: frozenset(others) for key, others in found.items()}

    @property
    def sources(self) -> str:
        """Who states them, joined by +."""
        return "+".join(sorted({statement.source for statement in self.statements}))

    def of(self, first: str, second: str) -> tuple[Interaction, ...]:
        """The statements about two ingredients, gravest first."""
        return self._by_pair.get(frozenset((first, second)), ()) if first != second else ()

    def between(self, ingredients: Iterable[str]) -> list[Interaction]:
        """The statements about any two of these ingredients, gravest first; one with itself is never among them."""
        given = sorted(set(ingredients))
        wanted = set(given)
        pairs = ((a, b) for a in given for b in sorted(self._partners.get(a, frozenset()) & wanted) if a < b)
        found = [statement for pair in pairs for statement in self.of(*pair)]
        return sorted(found, key=lambda s: (SEVERITIES.index(s.severity), s.first, s.second, s.source))

    def across(self, some: Iterable[str], others: Iterable[str]) -> list[Interaction]:
        """The statements about one ingredient of ``some`` and one of ``others``, gravest first."""
        wanted = set(others)
        pairs = {frozenset((a, b)) for a in some for b in self._partners.get(a, frozenset()) & wanted if a != b}
        found = [statement for pair in pairs for statement in self._by_pair.get(pair, ())]
        return sorted(found, key=lambda s: (SEVERITIES.index(s.severity), s.first, s.second, s.source))

    def among(self, ingredients: Iterable[str]) -> DrugInteractions:
        """Only what is said about pairs of these ingredients."""
        return DrugInteractions(tuple(self.between(ingredients)))

    def matrix(self, ingredients: Sequence[str]) -> np.ndarray:
        """bool[I, I]: which pairs of these ingredients are listed, with an empty diagonal."""
        place = {key: row for row, key in enumerate(ingredients)}
        listed = np.zeros((len(place), len(place)), bool)
        for a, b in ((place.get(s.first), place.get(s.second)) for s in self.statements):
            if a is not None and b is not None and a != b:
                listed[a, b] = listed[b, a] = True
        return listed


def interactions_between(known: DrugInteractions, ingredients: Iterable[str]) -> list[Interaction]:
    """What ``known`` says about any two of the ingredients (keys as in a cohort's vocabulary), gravest first."""
    return known.between(ingredients)


def read_interactions(connection: Connection, base_of: Mapping[int, int] | None = None) -> DrugInteractions:
    """Every interaction of the knowledge base, between ingredients: ``base_of`` gives a salt's parent drug.

    Statements of one source about several salts of the same two drugs become one, the gravest.
    """
    from kb.query import read as query

    base_of = base_of or {}
    listed = query.drugs(connection)
    names = dict(zip(listed.ids.tolist(), listed.names, strict=True))
    keys = {drug: f"DRUG:{identity}" for drug, identity in zip(listed.ids.tolist(), listed.identities, strict=True)}
    pairs = query.interactions(connection)
    gravest: dict[tuple[str, str, str], Interaction] = {}
    for a, b, said, source, licence, text in zip(pairs.drug_a.tolist(), pairs.drug_b.tolist(), pairs.severity,
                                                 pairs.provider, pairs.licence, pairs.text, strict=True):
        a, b = base_of.get(a, a), base_of.get(b, b)
        if a == b:
            continue
        (first, a), (second, b) = sorted([(keys[a], a), (keys[b], b)])
        severity, words = grade(said, source)
        sentence = text or f"{names[a]} with {names[b]}: {words or 'listed'} ({source})"
        new = Interaction(first, second, names[a], names[b], severity, words, source, licence, sentence)
        old = gravest.get((first, second, source))
        if old is None or SEVERITIES.index(severity) < SEVERITIES.index(old.severity):
            gravest[first, second, source] = new
    return DrugInteractions(tuple(gravest[key] for key in sorted(gravest)))


@dataclass(frozen=True)
class Interactions:
    """Which pairs of medications interact; stored with every model, because a DDI rate means nothing without it."""

    matrix: np.ndarray
    """bool[K, K], symmetric, with an empty diagonal."""
    source: str
    expected: np.ndarray | None = field(default=None, compare=False)
    """float32[K, K]: the probability that drugs of the two, drawn as ordered, are a listed pair; None: the matrix."""

    def __post_init__(self) -> None:
        matrix = self.matrix
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise DataError(f"an interaction matrix must be square, not {matrix.shape}")
        if not np.array_equal(matrix, matrix.T) or matrix.diagonal().any():
            raise DataError("an interaction matrix must be symmetric with an empty diagonal")
        if self.expected is not None and self.expected.shape != matrix.shape:
            raise DataError(f"expected interactions of shape {self.expected.shape} beside a matrix of {matrix.shape}")

    @property
    def version(self) -> str:
        """The first 12 hex digits of the matrix's SHA-256."""
        return hashlib.sha256(np.packbits(self.matrix).tobytes() + str(self.matrix.shape).encode()).hexdigest()[:12]

    @property
    def density(self) -> float:
        """The share of all pairs that interact."""
        size = len(self.matrix)
        return float(self.matrix.sum() / max(size * (size - 1), 1))

    @property
    def by_drug(self) -> np.ndarray:
        """[K, K]: ``expected`` where it is known, else the matrix."""
        return self.matrix if self.expected is None else self.expected


def rolled_up(listed: np.ndarray, shares: np.ndarray, source: str) -> Interactions:
    """The interactions of K medications from those of their I drugs.

    ``listed`` bool[I, I] are pairs of drugs; ``shares`` float[K, I] says how a medication's orders divide over drugs
    (rows sum to 1, or to 0 where its drugs are not known).
    """
    shares = shares.astype(np.float32)
    expected = shares @ listed.astype(np.float32) @ shares.T
    np.fill_diagonal(expected, 0.0)
    return Interactions(expected > 0, source, np.clip(np.maximum(expected, expected.T), 0.0, 1.0))


def read_matrix(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """A matrix bool[K, K] and its codes from a CSV file: codes in the first line and the first column, cells 0 or 1.

    Raises DataError where it is no square of zeros and ones, symmetric, with an empty diagonal.
    """
    text = read_text(path, "--matrix", limit=_MATRIX)
    rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"))) if row]
    codes = tuple(cell.strip() for cell in rows[0][1:]) if rows else ()
    hint = "a line of codes after an empty cell, then for each code a line: the code, and 0 or 1 for each"
    square = bool(codes) and all(len(row) == len(rows[0]) for row in rows)
    if not square or tuple(row[0].strip() for row in rows[1:]) != codes:
        raise DataError(f"{path.name} is no square matrix with the same codes in its first line and column", hint=hint)
    values = [[cell.strip() for cell in row[1:]] for row in rows[1:]]
    if strange := next((i for i, row in enumerate(values, 2) if set(row) - {"0", "1", "0.0", "1.0"}), 0):
        raise DataError(f"{path.name}, line {strange}: a cell is neither 0 nor 1", hint=hint)
    matrix = np.array([[cell.startswith("1") for cell in row] for row in values], bool)
    return Interactions(matrix, path.name).matrix, codes


def compared(given: Interactions, rebuilt: Interactions) -> dict[str, int | str]:
    """How many pairs of medications a supplied matrix has beside one that is made of interactions between drugs."""
    mine, made = np.triu(given.matrix), np.triu(rebuilt.matrix)
    return {"matrix": given.source, "medications": len(mine), "pairs in it": int(mine.sum()),
            "pairs rebuilt": int(made.sum()), "in both": int((mine & made).sum()),
            "only in it": int((mine & ~made).sum()), "only rebuilt": int((made & ~mine).sum()),
            "version": given.version, "rebuilt version": rebuilt.version}


def supplied(matrix: np.ndarray, codes: Sequence[str], medications: Sequence[str], source: str) -> Interactions:
    """A user's matrix over ``codes``, put into the order of ``medications``.

    Raises DataError when it does not name every medication, which is a matrix of another vocabulary.
    """
    if len(codes) != len(matrix) or len(set(codes)) != len(codes):
        raise DataError(f"the interaction matrix has {len(matrix)} rows for {len(set(codes))} different codes")
    place = {code: row for row, code in enumerate(codes)}
    lacking = [code for code in medications if code not in place]
    if lacking:
        raise DataError(
            f"the interaction matrix is of another vocabulary: it lacks {len(lacking)} of {len(medications)} "
            f"medications, {', '.join(lacking[:3])} first",
            hint="leave it out, and it is made of the knowledge base's interactions between these medications' drugs",
        )
    rows = [place[code] for code in medications]
    return Interactions(np.asarray(matrix, bool)[np.ix_(rows, rows)], source)


def from_pairs(pairs: Iterable[tuple[int, int]], size: int, source: str) -> Interactions:
    """The interactions of K = ``size`` medications from pairs of medication numbers; pairs of one with itself drop."""
    matrix = np.zeros((size, size), bool)
    for first, second in pairs:
        if first != second:
            matrix[first, second] = matrix[second, first] = True
    return Interactions(matrix, source)


def pair_counts(selected: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(interacting pairs, all pairs) of each visit's selection bool[N, K], two float64[N]."""
    chosen = selected.astype(np.float32)
    interacting = np.einsum("nk,nk->n", chosen @ matrix.astype(np.float32), chosen, dtype=np.float64) / 2
    count = chosen.sum(1, dtype=np.float64)
    return interacting, count * (count - 1) / 2


def ddi_rate(selected: np.ndarray, matrix: np.ndarray) -> float:
    """Interacting pairs over all pairs, pooled over visits; 0 when no visit has two medications."""
    interacting, pairs = pair_counts(selected, matrix)
    return float(interacting.sum() / pairs.sum()) if pairs.sum() else 0.0
