"""A cohort: patients' visits in time order as three ragged tables of codes, its loss accounting and its fingerprint.

Shapes: ``P`` patients, ``T`` visits of the whole cohort, ``K`` medications. A patient is a number from 0 to ``P - 1``:
no identifier of the source is kept anywhere in a cohort.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kb.errors import DataError, NotFound

KINDS = ("diagnosis", "procedure", "medication")
DOOR = "door"
"""The kind of what is known when a patient arrives, as ``SEX:female``."""
KNOWN_AT_THE_DOOR = ("age", "sex", "race", "ethnicity", "admission_type", "visit_type", "admission_diagnosis")
"""The attributes that a visit begins with; what is told at its end (discharge, death, readmission) is none of them."""
LEAST = 5
"""Training patients that a code must have to be named outside the cohort's folder."""



def shown(count: int) -> int | None:
    """A count that may be told outside the cohort's folder: None from 1 to LEAST − 1."""
    return count if count == 0 or count >= LEAST else None


UNKNOWN_TIME = np.iinfo(np.int64).min
"""The end of a visit whose source does not say it."""

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of code indices of unequal length: row ``i`` is ``values[indptr[i]:indptr[i + 1]]``, sorted and distinct."""

    indptr: Int64
    values: Int32

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ragged):
            return NotImplemented
        return np.array_equal(self.indptr, other.indptr) and np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]

    @property
    def lengths(self) -> Int64:
        """The number of codes of each row."""
        return np.diff(self.indptr)

    def row(self, index: int) -> Int32:
        """The codes of one row, a view."""
        return self.values[self.indptr[index] : self.indptr[index + 1]]

    def rows(self) -> Int64:
        """The row number of every value."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """The given rows, in the given order; a negative row number gives an empty row."""
        rows = np.asarray(rows, dtype=np.int64)
        known = rows >= 0
        lengths = np.where(known, self.lengths[np.where(known, rows, 0)], 0) if len(self) else np.zeros(len(rows), int)
        indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        starts = np.where(known, self.indptr[np.where(known, rows, 0)], 0)
        offsets = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        return Ragged(indptr, self.values[np.repeat(starts, lengths) + offsets])

    def dense(self, width: int, kind: Any = np.float32) -> NDArray[Any]:
        """The rows as a 0/1 matrix of shape [rows, width]."""
        matrix = np.zeros((len(self), width), dtype=kind)
        matrix[self.rows(), self.values] = 1
        return matrix

    def sparse(self, width: int) -> sparse.csr_matrix:
        """The rows as a sparse 0/1 matrix float32[rows, width]."""
        ones = np.ones(len(self.values), np.float32)
        return sparse.csr_matrix((ones, self.values, self.indptr), shape=(len(self), width))

    def shifted(self, by: int) -> Ragged:
        """The same rows with every value greater by ``by``."""
        return Ragged(self.indptr, self.values + np.int32(by))

    def joined(self, other: Ragged) -> Ragged:
        """Row by row the values of both."""
        rows = np.concatenate((self.rows(), other.rows()))
        return Ragged.from_pairs(rows, np.concatenate((self.values, other.values)), len(self))

    @classmethod
    def from_pairs(cls, rows: NDArray[np.integer], values: NDArray[np.integer], height: int) -> Ragged:
        """The ragged table of (row, value) pairs, each pair once, values sorted within a row."""
        # In place, because a large cohort has more pairs than fit into memory several times over.
        shift = int(values.max()).bit_length() if len(values) else 0
        pairs = np.array(rows, dtype=np.int64)
        pairs <<= shift
        np.add(pairs, values, out=pairs, casting="unsafe")
        again = pairs[1:] <= pairs[:-1]
        if again.any():
            pairs.sort()
            np.equal(pairs[1:], pairs[:-1], out=again)
            if again.any():
                pairs = pairs[np.append(True, ~again)]
        del again
        codes = np.empty(len(pairs), np.int32)
        np.bitwise_and(pairs, (1 << shift) - 1, out=codes, casting="unsafe")
        pairs >>= shift
        return cls(_row_starts(pairs, height), codes)

    @classmethod
    def from_lists(cls, lists: Sequence[Iterable[int]]) -> Ragged:
        """The ragged table of Python lists."""
        pairs = [(row, value) for row, values in enumerate(lists) for value in values]
        rows, values = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True)) if pairs else ([], [])
        return cls.from_pairs(np.asarray(rows), np.asarray(values), len(lists))


def _row_starts(rows: Int64, height: int) -> Int64:
    """The first place of every row among sorted row numbers, and the end of the last."""
    starts = np.zeros(height + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=height), out=starts[1:])
    return starts


def time_order(patient: NDArray[np.integer], time: NDArray[np.integer]) -> Int64:
    """The order of visits by patient and time; those of one time stay as they come."""
    if not len(patient):
        return np.empty(0, np.int64)
    low, span = int(time.min()), int(time.max()) - int(time.min()) + 1
    if (int(patient.max()) + 1) * span >= 1 << 62:
        return np.lexsort((time, patient))
    key = patient.astype(np.int64)  # both in one number
    key *= span
    key += time - low
    if (key[1:] >= key[:-1]).all():
        return np.arange(len(key))
    return np.argsort(key, kind="stable")


@dataclass(frozen=True)
class Vocabulary:
    """The codes of one kind, each with its index."""

    codes: tuple[str, ...]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {code: index for index, code in enumerate(self.codes)}

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, code: object) -> bool:
        return code in self._index

    def index(self, code: str) -> int:
        """The index of a code; raises NotFound."""
        if code not in self._index:
            raise NotFound(f"code {code!r} is not in the vocabulary", hint="codes carry their system, e.g. ICD9CM:4280")
        return self._index[code]

    def indices(self, codes: Iterable[str]) -> tuple[list[int], list[str]]:
        """The indices of the known codes, and the codes that are not known, both in the given order."""
        known: list[int] = []
        unknown: list[str] = []
        for code in codes:
            (known.append(self._index[code]) if code in self._index else unknown.append(code))
        return known, unknown


@dataclass(frozen=True, eq=False)
class Attribute:
    """One fact of every visit: ``values`` int16 [T] are places in the sorted ``levels``; -1 is not known."""

    levels: tuple[str, ...]
    values: Int16

    def take(self, visits: NDArray[np.integer] | None = None) -> Attribute:
        """The attribute of the given visits, of all where none are given, with those levels that they have."""
        values = self.values if visits is None else self.values[visits]
        used = np.flatnonzero(np.bincount(values + np.int16(1), minlength=len(self.levels) + 1)[1:])
        if len(used) == len(self.levels):
            return Attribute(self.levels, values)
        new = np.full(len(self.levels) + 1, -1, np.int16)
        new[used] = np.arange(len(used))
        return Attribute(tuple(self.levels[i] for i in used), new[values])

    def counts(self, least: int = 5) -> dict[str, int]:
        """How many visits have each level; levels of fewer than ``least`` visits are left out."""
        found = np.bincount(self.values[self.values >= 0], minlength=len(self.levels))
        return {level: int(n) for level, n in zip(self.levels, found, strict=True) if n >= least}

    @classmethod
    def from_texts(cls, texts: Sequence[str | None]) -> Attribute:
        """The attribute of a text a visit; None and the empty text are not known."""
        levels = tuple(sorted({text for text in texts if text}))
        place = {level: i for i, level in enumerate(levels)}
        return cls(levels, np.asarray([place[text] if text else -1 for text in texts], np.int16))


@dataclass(frozen=True)
class Loss:
    """One line of the accounting: of a table's rows, how many were kept or left out for this reason."""

    table: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Fingerprint:
    """What a cohort is, in numbers that are printed with every result computed on it."""

    patients: int
    visits: int
    max_visits: int
    vocabulary: dict[str, int]
    per_visit: dict[str, float]
    sha256: str

    def __str__(self) -> str:
        codes = ", ".join(f"{size} {kind} codes ({self.per_visit[kind]:.2f} a visit)"
                          for kind, size in self.vocabulary.items())
        return f"{self.patients} patients, {self.visits} visits (max {self.max_visits}), {codes}, {self.sha256[:12]}"


@dataclass(frozen=True, eq=False)
class Cohort:
    """Visits sorted by (patient, time), their codes by kind, and how they were come by.

    ``visit_patient`` int32 [T] counts patients from 0; ``visit_time`` int64 [T] is in seconds since 1970;
    ``codes[kind]`` has one row a visit; ``accounting`` sums to the rows read, table by table; ``provenance`` says
    which format, level and mapping made it. ``visit_end`` int64 [T] is ``UNKNOWN_TIME`` where the source does not say;
    ``attributes`` are what the source says of patient and visit (``recsys.formats.contract`` names them).
    """

    name: str
    visit_patient: Int32
    visit_time: Int64
    codes: dict[str, Ragged]
    vocabularies: dict[str, Vocabulary]
    accounting: tuple[Loss, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    ordered: Ragged | None = None
    """One row a visit: which ingredients were ordered under which label, as indices into ``ordered_pairs``."""
    ordered_pairs: tuple[tuple[str, str], ...] = ()
    """(label, ingredient key), e.g. (``ATC:B01A``, ``DRUG:inchikey:…``)."""
    visit_end: Int64 | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        visits = len(self.visit_patient)
        beside = [len(attribute.values) for attribute in self.attributes.values()]
        beside += [] if self.visit_end is None else [len(self.visit_end)]
        if any(length != visits for length in beside):
            raise DataError(f"cohort {self.name!r}: its attributes have unequal numbers of visits")
        if visits != len(self.visit_time) or any(len(self.codes[kind]) != visits for kind in KINDS):
            raise DataError(f"cohort {self.name!r}: its tables have unequal numbers of visits")
        step = np.diff(self.visit_patient)
        if visits and (self.visit_patient[0] != 0 or step.min(initial=0) < 0 or step.max(initial=0) > 1):
            raise DataError(f"cohort {self.name!r}: visits are not grouped by patient")
        if (np.diff(self.visit_time)[step == 0] < 0).any():
            raise DataError(f"cohort {self.name!r}: visits of a patient are not in time order")

    @property
    def patients(self) -> int:
        """The number of patients, P."""
        return int(self.visit_patient[-1]) + 1 if len(self.visit_patient) else 0

    @property
    def visits(self) -> int:
        """The number of visits, T."""
        return len(self.visit_patient)

    @property
    def length_of_stay(self) -> NDArray[np.float64]:
        """Days from start to end of each visit, [T]; NaN where the end is not known or before the start."""
        if self.visit_end is None:
            return np.full(self.visits, np.nan)
        known = (self.visit_end != UNKNOWN_TIME) & (self.visit_end >= self.visit_time)
        return np.where(known, np.where(known, self.visit_end - self.visit_time, 0) / 86400, np.nan)

    def listed_attributes(self, least: int = LEAST) -> list[dict[str, int | str | None]]:
        """Each attribute's levels with their patients and visits; a level of fewer than ``least`` patients is summed.

        The sum over such levels is None where fewer than ``least`` patients are behind it, and so is the number of
        visits of which an attribute is not known.
        """
        rows: list[dict[str, int | str | None]] = []
        for name, attribute in sorted(self.attributes.items()):
            few = np.zeros(len(attribute.levels), bool)
            for i, level in enumerate(attribute.levels):
                visits = attribute.values == i
                patients = len(np.unique(self.visit_patient[visits]))
                few[i] = patients < least
                if not few[i]:
                    rows.append({"attribute": name, "level": level, "patients": patients, "visits": int(visits.sum())})
            unknown = attribute.values < 0
            rest = few[attribute.values] & ~unknown if few.any() else np.zeros(self.visits, bool)
            for level, visits in ((f"({int(few.sum())} others)", rest), ("(not known)", unknown)):
                patients = len(np.unique(self.visit_patient[visits]))
                if patients:
                    enough = patients >= least
                    rows.append({"attribute": name, "level": level, "patients": patients if enough else None,
                                 "visits": int(visits.sum()) if enough else None})
        return rows

    @cached_property
    def patient_indptr(self) -> Int64:
        """The first visit of every patient and T at the end: patient p has visits ``[p]`` to ``[p + 1]``."""
        return np.searchsorted(self.visit_patient, np.arange(self.patients + 1)).astype(np.int64)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The cohort's sizes and the SHA-256 of its arrays and vocabularies (name and accounting left out)."""
        digest = hashlib.sha256()
        digest.update(np.ascontiguousarray(self.visit_patient, dtype="<i4").tobytes())
        digest.update(np.ascontiguousarray(self.visit_time, dtype="<i8").tobytes())
        for kind in KINDS:
            digest.update(np.ascontiguousarray(self.codes[kind].indptr, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(self.codes[kind].values, dtype="<i4").tobytes())
            digest.update("\n".join(self.vocabularies[kind].codes).encode())
        if self.ordered is not None:
            digest.update(np.ascontiguousarray(self.ordered.indptr, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(self.ordered.values, dtype="<i4").tobytes())
            digest.update("\n".join("\t".join(pair) for pair in self.ordered_pairs).encode())
        if self.visit_end is not None:
            digest.update(np.ascontiguousarray(self.visit_end, dtype="<i8").tobytes())
        for name, attribute in sorted(self.attributes.items()):
            digest.update("\n".join((name, *attribute.levels)).encode())
            digest.update(np.ascontiguousarray(attribute.values, dtype="<i2").tobytes())
        return Fingerprint(
            patients=self.patients,
            visits=self.visits,
            max_visits=int(np.diff(self.patient_indptr).max(initial=0)),
            vocabulary={kind: len(self.vocabularies[kind]) for kind in KINDS},
            per_visit={kind: len(self.codes[kind].values) / max(self.visits, 1) for kind in KINDS},
            sha256=digest.hexdigest(),
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of patient indices (int32) and the rule that made them."""

    train: Int32
    validation: Int32
    test: Int32
    rule: str = "given"

    def __post_init__(self) -> None:
        everyone = np.concatenate((self.train, self.validation, self.test))
        if len(np.unique(everyone)) != len(everyone):
            raise DataError("a patient is on two sides of the split")

    def side(self, name: str) -> Int32:
        """The patients of ``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A cohort on vocabularies that were fitted on the training patients alone.

    ``codes[kind]`` has one row a visit of the whole cohort; ``unknown[kind]`` int32 [T] counts each visit's codes
    outside the vocabulary, because the training side has them too rarely or never: they cannot be predicted, and an
    honest recall counts them as missed. ``rare[kind]`` is how many codes the training side has, but too rarely.
    """

    cohort: Cohort
    split: Split
    codes: dict[str, Ragged]
    vocabularies: dict[str, Vocabulary]
    unknown: dict[str, Int32]
    rare: dict[str, int] = field(default_factory=dict)

    def visits_of(self, side: str) -> Int64:
        """The visits of one side of the split, in cohort order."""
        wanted = np.zeros(self.cohort.patients, dtype=bool)
        wanted[self.split.side(side)] = True
        return np.flatnonzero(wanted[self.cohort.visit_patient])

    def unknown_of(self, side: str) -> dict[str, int]:
        """How many code occurrences of one side are outside the vocabularies, by kind."""
        visits = self.visits_of(side)
        return {kind: int(self.unknown[kind][visits].sum()) for kind in KINDS}


def encode(cohort: Cohort, split: Split, *, top: Mapping[str, int] | None = None, least: int = 1,
           unseen: Sequence[str] = ()) -> Encoded:
    """The cohort re-indexed on vocabularies of the training patients' visits only, codes in sorted order.

    ``top[kind]`` keeps that many most frequent codes of a kind (the literature: 2,000 diagnoses); ties go by code.
    ``least`` leaves out codes that fewer training patients have.
    The kinds in ``unseen`` keep every code, those of other patients too: for a model that reads a code by its title.
    """
    training = np.zeros(cohort.patients, dtype=bool)
    training[split.train] = True
    in_training = training[cohort.visit_patient]
    codes: dict[str, Ragged] = {}
    vocabularies: dict[str, Vocabulary] = {}
    unknown: dict[str, Int32] = {}
    rare: dict[str, int] = {}
    tables = {kind: (cohort.codes[kind], cohort.vocabularies[kind].codes) for kind in KINDS} | {DOOR: door(cohort)}
    for kind, (table, names) in tables.items():
        rows = table.rows()
        inside = in_training[rows]
        frequency = np.bincount(table.values[inside], minlength=len(names))
        width = max(len(names), 1)
        pairs = np.unique(cohort.visit_patient[rows[inside]].astype(np.int64) * width + table.values[inside])
        held_by = np.bincount(pairs % width, minlength=len(names))
        often = [int(i) for i in np.flatnonzero(held_by >= max(least, 1))]
        seen = list(range(len(names))) if kind in unseen else often
        rare[kind] = int((held_by > 0).sum()) - len(often)
        if top and kind in top:
            seen = sorted(seen, key=lambda i: (-frequency[i], names[i]))[: top[kind]]
        seen.sort(key=names.__getitem__)
        new = np.full(len(names), -1, dtype=np.int64)
        new[seen] = np.arange(len(seen))
        values = new[table.values]
        known = values >= 0
        codes[kind] = Ragged.from_pairs(rows[known], values[known], cohort.visits)
        vocabularies[kind] = Vocabulary(tuple(names[i] for i in seen))
        unknown[kind] = np.bincount(rows[~known], minlength=cohort.visits).astype(np.int32)
    return Encoded(cohort, split, codes, vocabularies, unknown, rare)


def encode_on(cohort: Cohort, split: Split, vocabularies: Mapping[str, Sequence[str]]) -> Encoded:
    """The cohort on a stored recommender's input vocabularies, where what is known at the door follows diagnoses."""
    heads = tuple(door_code(name, "") for name in KNOWN_AT_THE_DOOR)
    wanted = {kind: [code for code in vocabularies[kind] if not code.startswith(heads)] for kind in KINDS}
    wanted[DOOR] = [code for code in vocabularies["diagnosis"] if code.startswith(heads)]
    codes, unknown = {}, {}
    for kind, (table, names) in ({kind: (cohort.codes[kind], cohort.vocabularies[kind].codes) for kind in KINDS}
                                 | {DOOR: door(cohort)}).items():
        place = {code: number for number, code in enumerate(wanted[kind])}
        new = np.array([place.get(name, -1) for name in names], np.int64)
        rows = table.rows()
        values = new[table.values] if len(new) else table.values.astype(np.int64)
        known = values >= 0
        codes[kind] = Ragged.from_pairs(rows[known], values[known], cohort.visits)
        unknown[kind] = np.bincount(rows[~known], minlength=cohort.visits).astype(np.int32)
    return Encoded(cohort, split, codes, {kind: Vocabulary(tuple(names)) for kind, names in wanted.items()}, unknown)


def door(cohort: Cohort) -> tuple[Ragged, tuple[str, ...]]:
    """What is known when a patient arrives, one row a visit, and its names: nothing where the source has nothing."""
    rows, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    names: list[str] = []
    for name in KNOWN_AT_THE_DOOR:
        if name in cohort.attributes:
            attribute = cohort.attributes[name]
            known = np.flatnonzero(attribute.values >= 0)
            rows.append(known)
            values.append(attribute.values[known].astype(np.int64) + len(names))
            names += [door_code(name, level) for level in attribute.levels]
    return Ragged.from_pairs(np.concatenate(rows), np.concatenate(values), cohort.visits), tuple(names)


def door_code(name: str, level: str) -> str:
    """The code of an attribute's level: ``SEX:female``."""
    return f"{name.upper()}:{level}"
