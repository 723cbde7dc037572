"""The passes that every format is made of: people, visits, tables of codes.

Rows come from the engine a batch at a time, each with a hash of the cells that its code depends on. Only a row whose
hash has not been seen is looked at in Python; all others are numbers, which numpy sorts and counts. Two different rows
of a table are taken for one where their hashes of 64 bits are equal: by chance once in 3 · 10⁷ tables of a million
distinct rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cohorts.cohort import KINDS, UNKNOWN_TIME, Attribute, time_order
from recsys.formats.contract import DIED, DUPLICATE, READMITTED, CodePairs, Recorded
from recsys.formats.tables import Export

Coded = tuple[str, ...] | str
"""The codes of a row, or the reason why it has none."""
CELL = "\x1f"
"""What separates the cells of a row in a staged key; inside a cell it is a blank."""
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

READMISSION_DAYS = 30
NO_VISIT, STRANGE_VISIT = -2, -1
_BLANK = np.iinfo(np.int64).min
AGE_AT_START = "age_band((v.start - p.birth) / 31556952)"
"""SQL of the age at the start of a visit, of patients with ``birth`` (seconds)."""
_PERSONAL = re.compile(r"p\.\w+")
_OF_VISIT = re.compile(r"v\.\w+")
_FAULTS = ("", "no visit or patient identifier", "no admission time")


@dataclass(frozen=True)
class People:
    """A temporary table of patients: ``id`` and columns of attributes."""

    sql: str
    columns: tuple[str, ...] = ()


def read_people(export: Export, table: str, staged: str, columns: Iterable[str] = ()) -> People:
    """The patients of a staged table with ``id`` and these columns; one that is listed again is a loss.

    Of two rows of one patient the first in the order of their cells counts, whatever their order in the file.
    """
    columns = tuple(columns)
    name = export.fresh("people")
    export.run(f"CREATE TEMP TABLE {name} AS SELECT DISTINCT ON (id) * FROM {staged} WHERE id <> '' ORDER BY ALL")
    blank = export.count(f"SELECT count(*) FROM {staged} WHERE id = ''")
    total, kept = (export.count(f"SELECT count(*) FROM {one}") for one in (staged, name))
    export.ledger.lose(table, "no patient identifier", blank)
    export.ledger.lose(table, "patient listed again", total - blank - kept)
    export.drop(staged)
    return People(name, columns)


NO_PEOPLE = People("")


class Distinct:
    """The distinct rows of a table's cells, numbered as they come."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self._hashes = np.empty(0, np.uint64)  # sorted
        self._numbers = np.empty(0, np.int32)
        self._index()

    def _index(self) -> None:
        """Put each hash into the slot that its last bits name: most rows are found there, the others by their order."""
        size = 1 << max(12, (8 * len(self._hashes)).bit_length())
        self._mask = np.uint64(size - 1)
        self._slots, self._slot_numbers = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        slots = self._hashes & self._mask
        self._slots[slots], self._slot_numbers[slots] = self._hashes, self._numbers

    def numbers(self, hashes: NDArray[np.uint64], columns: Sequence[Any]) -> Int32:
        """The number of each row, given its hash and the Arrow columns of its cells."""
        slots = hashes & self._mask
        numbers = np.where(self._slots[slots] == hashes, self._slot_numbers[slots], np.int32(-1))
        others = np.flatnonzero(numbers < 0)
        if not len(others):
            return numbers
        unseen = hashes[others]
        if len(self._hashes):
            place = np.minimum(np.searchsorted(self._hashes, unseen), len(self._hashes) - 1)
            known = self._hashes[place] == unseen
            numbers[others[known]] = self._numbers[place[known]]
            others, unseen = others[~known], unseen[~known]
        if len(others):
            new, first, again = np.unique(unseen, return_index=True, return_inverse=True)
            texts = [column.take(as_arrow(others[first])).to_pylist() for column in columns]
            given = np.arange(len(self.rows), len(self.rows) + len(new), dtype=np.int32)
            self.rows += zip(*texts, strict=True) if columns else [()] * len(new)
            numbers[others] = given[again]
            at = np.searchsorted(self._hashes, new)
            self._hashes, self._numbers = np.insert(self._hashes, at, new), np.insert(self._numbers, at, given)
            self._index()
        return numbers


def as_arrow(indices: NDArray[np.integer[Any]]) -> Any:
    """Row numbers as Arrow takes them."""
    import pyarrow as pa

    return pa.array(indices, pa.int64())


def _sorted(values: Int64) -> Int64:
    """The distinct values in their order."""
    again = values[1:] <= values[:-1]
    if not again.any():
        return values
    if not np.array_equal(again, values[1:] == values[:-1]):
        values = np.sort(values)
        np.equal(values[1:], values[:-1], out=again)
    return values[np.append(True, ~again)] if again.any() else values


def ranks_among(keys: Int64, values: Int64) -> Int32:
    """The place of each value among the sorted distinct ``keys``; -1 for one that is not among them."""
    if not len(keys):
        return np.full(len(values), -1, np.int32)
    low, span = int(keys[0]), int(keys[-1]) - int(keys[0]) + 1
    if span > 4 * len(keys) + (1 << 20):
        place = np.searchsorted(keys, values).astype(np.int32)
        place[place == len(keys)] = 0
        return np.where(keys[place] == values, place, np.int32(-1))
    inside = (values >= low) & (values <= low + span - 1)
    offset = np.where(inside, values, low) - low
    if span == len(keys):  # without a gap the place is the distance
        return np.where(inside, offset, -1).astype(np.int32)
    table = np.full(span, -1, np.int32)
    table[keys - low] = np.arange(len(keys), dtype=np.int32)
    return np.where(inside, table[offset], np.int32(-1))


@dataclass(frozen=True)
class Visits:
    """Visits in the order of their identifiers, and the engine's table of them.

    ``table`` is its name in the ledger; ``keys`` int64 are the sorted identifiers where they are numbers, else None.
    """

    export: Export
    table: str
    patients: int
    patient: Int32
    start: Int64
    stop: Int64
    attributes: dict[str, Attribute]
    keys: Int64 | None
    named: str = ""

    @cached_property
    def sql(self) -> str:
        """The engine's table of ``id`` (a text) and ``number``."""
        if self.keys is None:
            return self.named
        numbers = self.export.take({"id": self.keys, "number": np.arange(len(self.keys), dtype=np.int32)})
        name = self.export.fresh("visit")
        self.export.run(f"CREATE TEMP TABLE {name} AS SELECT CAST(id AS VARCHAR) AS id, number FROM {numbers}")
        self.export.drop(numbers)
        return name


@dataclass(frozen=True)
class Listing:
    """Rows of visits with ``id``, ``patient``, ``start``, ``stop`` (seconds) and columns of attributes.

    They are what ``select`` makes of the rows ``s`` of a table of the export, or where it is empty the rows of a
    temporary table. ``cells`` names the columns that ``id`` and ``patient`` are, but for blanks and ``.0``. ``facts``
    names those that the columns of attributes are made of, and they of nothing else: what is said of a visit is then
    worked out once for each distinct row of them.
    """

    table: str
    wanted: Mapping[str, bool] = field(default_factory=dict)
    select: str = ""
    cells: tuple[str, str] | None = None
    facts: tuple[str, ...] = ()


class TextIdentifiers(Exception):
    """Identifiers that are not numbers, or not written in the usual form of one."""


_FAULT = "CASE WHEN v.id = '' OR v.patient = '' THEN 1 WHEN v.start IS NULL THEN 2 ELSE 0 END"
_COLUMNS = ("id", "patient", "start", "stop", "row")


class VisitRows:
    """The rows of visits as they come: arrays, and the distinct texts of their attributes.

    ``attributes`` is SQL over ``v`` (a visit) and ``p`` (its patient, of ``people``). ``readmission`` is SQL over ``v``
    that tells which visits count for readmission within 30 days; None where the source has no calendar. ``numbered``
    are tables that number the identifiers of visits and patients where those are no numbers.
    """

    def __init__(
        self, export: Export, people: People, attributes: Mapping[str, str], readmission: str | None,
        numbered: tuple[str, str] | None = None,
    ) -> None:
        self.export, self.people, self.attributes = export, people, dict(attributes)
        self.readmission, self.numbered = readmission, numbered
        # What is a fact of the patient alone is not fetched once a visit.
        self._personal = [name for name, sql in attributes.items() if _PERSONAL.fullmatch(sql)]
        self._aged = [name for name, sql in attributes.items() if sql == AGE_AT_START]
        self._visitly = [name for name in attributes if name not in (*self._personal, *self._aged)]
        self._texts: list[tuple[str | None, ...]] = []
        self._found: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
        self._faults = np.zeros(len(_FAULTS), np.int64)
        self._join = (f"LEFT JOIN {numbered[0]} n ON n.id = v.id LEFT JOIN {numbered[1]} q ON q.id = v.patient"
                      if numbered else "")
        if any("p." in attributes[name] for name in self._visitly):
            self._join += f" LEFT JOIN {people.sql} p ON p.id = v.patient"

    def _said(self) -> dict[str, str]:
        """SQL of what is said of a visit, by name: the texts of its attributes, and whether it counts (1 or 0)."""
        return {**{name: f"CAST({self.attributes[name]} AS VARCHAR)" for name in self._visitly},
                "": f"CAST(CAST({self.readmission or 'false'} AS TINYINT) AS VARCHAR)"}

    def _early(self, one: Listing) -> list[str]:
        """The names of ``_said`` that the facts of a listing do not tell alone: the engine does it row by row."""
        return [name for name in self._said() if not one.facts or (name and not _OF_VISIT.fullmatch(
            self.attributes[name]))]

    def _query(self, one: Listing) -> Callable[[str], str]:
        """The query that gives what ``_take`` wants of a listing, from the SQL of its table."""
        source = "{}"
        if self.numbered:
            number, blank = ("n.number::BIGINT", "q.number::BIGINT"), "v.id = '' OR v.patient = ''"
        elif one.cells:
            number, blank = ("v.id_number", "v.patient_number"), "v.blank"
            first, second = (f"s.{cell}" for cell in one.cells)
            source = (f"(SELECT s.*, number_of({first}) AS id_number, number_of({second}) AS patient_number"
                      " FROM {} s)")
        else:
            number, blank = ("plain_number(v.id)", "plain_number(v.patient)"), "v.id = '' OR v.patient = ''"
        cells = [f"v.{name}" for name in self._facts(one)] + [self._said()[name] for name in self._early(one)]
        columns = (*number, "v.start::BIGINT", f"coalesce(v.stop::BIGINT, {UNKNOWN_TIME})",
                   f"CAST(CASE WHEN {blank} THEN 1 WHEN v.start IS NULL THEN 2 ELSE 0 END AS TINYINT)",
                   f"hash({', '.join(cells) or '0'})", *cells)
        select = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(columns))
        if one.select:
            beside = "".join(f", s.{name}" for name in self._facts(one))
            if one.cells and not self.numbered:
                beside += (", s.id_number, s.patient_number, CASE WHEN s.id_number IS NOT NULL AND s.patient_number IS"
                           f" NOT NULL THEN false ELSE whole({first}) = '' OR whole({second}) = '' END AS blank")
            source = f"(SELECT {one.select}{beside} FROM {source.replace('{}', '({})')} s)"
        return lambda sql: f"SELECT {select} FROM {source.replace('{}', sql)} v {self._join}"

    def _facts(self, one: Listing) -> list[str]:
        """The facts of a listing that some part of its table has."""
        there = self.export.somewhere(one.table) if one.facts else set()
        return [name for name in one.facts if name in there]

    def take(self, one: Listing) -> None:
        """Take the rows of a listing; raises TextIdentifiers unless its identifiers are numbers, or numbered."""
        query, distinct = self._query(one), Distinct()
        batches = (self.export.rows(one.table, one.wanted, query) if one.select
                   else self.export.batches(query(one.table)))
        with closing(batches):
            for batch in batches:
                self._take(batch, distinct, len(self._texts))
        self._texts += self._told(one, distinct.rows) if one.facts else distinct.rows

    def _take(self, batch: Any, distinct: Distinct, before: int) -> None:
        fault = batch.column(4).to_numpy()
        if fault.any():
            self._faults += np.bincount(fault, minlength=len(_FAULTS))
            batch = batch.take(as_arrow(np.flatnonzero(fault == 0)))
        if batch.column(0).null_count or batch.column(1).null_count:
            raise TextIdentifiers
        for i, name in enumerate(("id", "patient", "start", "stop")):
            self._found[name].append(batch.column(i).to_numpy())
        row = distinct.numbers(batch.column(5).to_numpy(), batch.columns[6:])
        self._found["row"].append(row + np.int32(before) if before else row)

    def _told(self, one: Listing, rows: Sequence[tuple[str, ...]]) -> list[tuple[str | None, ...]]:
        """What is said of visits with these facts, in the order of the rows."""
        facts, early = self._facts(one), self._early(one)
        place = {name: i for i, name in enumerate(early, start=len(facts))}
        absent = [name for name in one.wanted if name not in facts]
        loaded = self.export.load((*facts, "place", *absent),
                                  ((*row[:len(facts)], str(i), *[""] * len(absent)) for i, row in enumerate(rows)))
        late = [f"{sql} AS t{i}" for i, (name, sql) in enumerate(self._said().items()) if name not in place]
        found = self.export.fetch(f"SELECT {', '.join((*late, 'v.place'))} FROM (SELECT {one.select}, s.place FROM"
                                  f" {loaded} s) v ORDER BY CAST(v.place AS INT)")
        self.export.drop(loaded)
        told: list[tuple[str | None, ...]] = []
        for row, texts in zip(rows, found, strict=True):
            rest = iter(texts)
            told.append(tuple(row[place[name]] if name in place else next(rest) for name in self._said()))
        return told

    def _array(self, name: str, kind: type[np.generic]) -> NDArray[Any]:
        """A column; its parts are let go."""
        parts = [np.concatenate(self._found[name]).astype(kind, copy=False)] if self._found[name] else []
        self._found[name] = parts
        return parts[0] if parts else np.empty(0, kind)

    def keys(self) -> Int64:
        """The identifiers so far, sorted and distinct."""
        ids = self._array("id", np.int64)
        return _sorted(ids)

    def table(self) -> str:
        """A temporary table of the rows so far: ``id`` and ``patient`` (texts), ``start``, ``stop``."""
        numbers = self.export.take({name: self._array(name, np.int64) for name in ("id", "patient", "start", "stop")})
        name = self.export.fresh("spans")
        self.export.run(f"CREATE TEMP TABLE {name} AS SELECT CAST(id AS VARCHAR) AS id, CAST(patient AS VARCHAR) AS"
                        f" patient, start, CASE WHEN stop <> {UNKNOWN_TIME} THEN stop END AS stop FROM {numbers}")
        self.export.drop(numbers)
        return name

    def _people(self) -> tuple[Int64, Int64, Distinct, Int32]:
        """Of the listed patients: identifiers, births, the distinct rows of their facts, and the row of each.

        Raises TextIdentifiers unless their identifiers are numbers, or numbered.
        """
        distinct = Distinct()
        parts: list[tuple[NDArray[Any], ...]] = []
        if self.people.sql:
            facts = [self.attributes[name] for name in self._personal]
            born = f"coalesce(p.birth::BIGINT, {UNKNOWN_TIME})" if self._aged else "0::BIGINT"
            number, join = "plain_number(p.id)", ""
            if self.numbered:
                number, join = "q.number::BIGINT", f"JOIN {self.numbered[1]} q ON q.id = p.id"
            columns = ", ".join((number, born, f"hash({', '.join(facts) or '0'})", *facts))
            with closing(self.export.batches(f"SELECT {columns} FROM {self.people.sql} p {join}")) as batches:
                for batch in batches:
                    if batch.column(0).null_count:
                        raise TextIdentifiers
                    rows = distinct.numbers(batch.column(2).to_numpy(), batch.columns[3:])
                    parts.append((batch.column(0).to_numpy(), batch.column(1).to_numpy(), rows))
        known, births, places = (_joined([part[i] for part in parts], np.int64) for i in range(3))
        return known, births, distinct, places.astype(np.int32)

    def arranged(self, table: str) -> Visits:
        """The visits in the order of their identifiers, each once; ``table`` is their name in the ledger.

        A visit that is listed again is a loss; of its rows the earliest counts.
        """
        ledger = self.export.ledger
        known, births, facts, fact_of = self._people()
        for reason, count in zip(_FAULTS[1:], self._faults[1:].tolist(), strict=True):
            ledger.lose(table, reason, count)
        keys, patient, start, stop = (self._array(name, np.int64) for name in ("id", "patient", "start", "stop"))
        row = self._array("row", np.int32)
        self._found = {}
        if (keys[1:] <= keys[:-1]).any():
            order = np.argsort(keys, kind="stable")
            again = np.append(False, keys[order[1:]] == keys[order[:-1]])
            if again.any():
                last = np.where(stop == UNKNOWN_TIME, np.iinfo(np.int64).max, stop)
                order = np.lexsort((_text_ranks(self._texts)[row], last, patient, start, keys))[~again]
                ledger.lose(table, "visit listed again", int(again.sum()))
            keys, patient, start, stop, row = (column[order] for column in (keys, patient, start, stop, row))
        persons = _sorted(np.concatenate((_sorted(known), _sorted(patient))))
        if self.numbered:
            persons = np.arange(self.export.count(f"SELECT count(*) FROM {self.numbered[1]}"), dtype=np.int64)
        patients, listed = ranks_among(persons, patient), ranks_among(persons, known)
        attributes: dict[str, Attribute] = {}
        for name in self.attributes:
            if name in self._aged:
                birth = np.full(len(persons), UNKNOWN_TIME)
                birth[listed] = births
                found = _ages(birth[patients], start)
            elif name in self._personal:
                places = np.full(len(persons), -1, np.int32)
                places[listed] = fact_of
                found = _attribute(self.export, table, name, facts.rows, self._personal.index(name), places[patients])
            else:
                found = _attribute(self.export, table, name, self._texts, self._visitly.index(name), row)
            if found.levels:
                attributes[name] = found
        counts = np.asarray([texts[-1] == "1" for texts in self._texts], np.bool_)[row]
        if self.readmission and (found := _readmitted(patients, start, stop, counts, attributes.get(DIED))).levels:
            attributes[READMITTED] = found
        return Visits(self.export, table, len(persons), patients, start, stop, attributes,
                      None if self.numbered else keys, self.numbered[0] if self.numbered else "")


def read_visits(
    export: Export, table: str, listed: str | Listing, people: People = NO_PEOPLE,
    attributes: Mapping[str, str] | None = None, *, readmission: str | None = "true",
) -> Visits:
    """The visits of a listing, or of a temporary table that has its columns and is dropped.

    Visits and patients are numbered in the order of their identifiers, whatever the rows' order, so that ties of time
    have a fixed order. The other parameters are those of ``VisitRows``.
    """
    listing = Listing(listed) if isinstance(listed, str) else listed
    before = export.ledger.copy()
    try:
        rows = VisitRows(export, people, attributes or {}, readmission)
        rows.take(listing)
        visits = rows.arranged(table)
    except TextIdentifiers:
        export.ledger.restore(before)
        if listing.select:
            listing = Listing(export.stage(listing.table, listing.wanted, listing.select))
        numbered = _numbered(export, listing.table, people)
        rows = VisitRows(export, people, attributes or {}, readmission, numbered)
        rows.take(listing)
        visits = rows.arranged(table)
    if not listing.select:
        export.drop(listing.table)
    return visits


def _numbered(export: Export, staged: str, people: People) -> tuple[str, str]:
    """Tables that number the identifiers of visits and of patients in their order."""
    order = "CAST(row_number() OVER (ORDER BY TRY_CAST(id AS BIGINT) NULLS LAST, id) - 1 AS INT) AS number"
    fine = f"FROM {staged} v WHERE {_FAULT} = 0"
    known = f"UNION SELECT id FROM {people.sql}" if people.sql else ""
    named, persons = export.fresh("visit"), export.fresh("person")
    export.run(f"CREATE TEMP TABLE {named} AS SELECT id, {order} FROM (SELECT DISTINCT v.id AS id {fine})")
    export.run(f"CREATE TEMP TABLE {persons} AS SELECT id, {order} FROM (SELECT DISTINCT v.patient AS id {fine}"
               f" {known})")
    return named, persons


def _text_ranks(rows: Sequence[tuple[str | None, ...]]) -> Int64:
    """The place of each row in the order of their texts."""
    order = sorted(range(len(rows)), key=lambda i: tuple(text or "" for text in rows[i]))
    found = np.empty(len(rows), np.int64)
    found[order] = np.arange(len(rows))
    return found


def _attribute(
    export: Export, table: str, name: str, rows: Sequence[tuple[str | None, ...]], column: int, row: Int32
) -> Attribute:
    """A column of distinct rows as an attribute of visits with these rows, of which a negative one is none.

    It has no levels where no visit has it, or nearly each its own.
    """
    used = np.bincount(row[row >= 0] if (row < 0).any() else row, minlength=len(rows)) > 0
    texts = [one[column] if there else None for one, there in zip(rows, used, strict=True)]
    levels = tuple(sorted({text for text in texts if text}))
    if len(levels) > np.iinfo(np.int16).max:
        export.ledger.note(table, f"distinct values of {name}, too many to keep", len(levels))
        levels = ()
    place = {level: i for i, level in enumerate(levels)}
    values = np.asarray([*(place.get(text, -1) if text else -1 for text in texts), -1], np.int16)
    return Attribute(levels, values[row])


def _ages(birth: Int64, start: Int64) -> Attribute:
    """The age at the start of each visit, in bands of ten years."""
    known = birth != UNKNOWN_TIME
    years = (start - np.where(known, birth, start)) / 31_556_952
    bands = np.where(known & (years >= 0), np.minimum(years // 10, 9), -1).astype(np.int16)
    return Attribute((*(f"{ten}0-{ten}9" for ten in range(9)), "90+"), bands).take()


def _readmitted(patient: Int32, start: Int64, stop: Int64, counts: NDArray[np.bool_],
                died: Attribute | None) -> Attribute:
    """Whether the patient's next counted visit begins within 30 days; whoever died in hospital cannot come back."""
    answered = counts & (stop != UNKNOWN_TIME) & (stop >= start)
    if died is not None and "yes" in died.levels:
        answered &= died.values != died.levels.index("yes")
    counted = np.flatnonzero(counts)
    order = counted[time_order(patient[counted], start[counted])]
    later = np.full(len(start), UNKNOWN_TIME)
    same = patient[order[1:]] == patient[order[:-1]]
    later[order[:-1][same]] = start[order[1:][same]]
    again = answered & (later >= stop) & (later - np.where(answered, stop, 0) <= READMISSION_DAYS * 86400)
    values = np.where(answered, again.astype(np.int16), np.int16(-1))
    return Attribute(("no", "yes"), values).take()


def cells(columns: Sequence[str], of: str = "s") -> str:
    """SQL that puts the columns of a row into one text, which ``coded`` takes apart again."""
    return f"concat_ws(chr(31), {', '.join(f'replace({of}.{column}, chr(31), chr(32))' for column in columns)})"


class Collected:
    """The rows of a table of codes: the visit of each, negative for a reason of ``lost``, and its distinct cells."""

    def __init__(
        self, export: Export, table: str, lost: Mapping[int, str] | None = None, *, columns: Sequence[str] = (),
    ) -> None:
        """``columns`` are the columns of a row; where there are none its cells come as one text (``cells``)."""
        self.export, self.table, self.columns = export, table, tuple(columns)
        there = export.somewhere(table) if columns else set()
        self.names = [name for name in columns if name in there]  # what no part has is not fetched
        self.reasons = {NO_VISIT: "no visit identifier", STRANGE_VISIT: "visit not in the visit table", **(lost or {})}
        self.distinct = Distinct()
        self._visits: list[Int32] = []
        self._rows: list[Int32] = []

    def add(self, visits: Int32, hashes: NDArray[np.uint64], columns: Sequence[Any]) -> None:
        """Take a batch of rows."""
        self._visits.append(visits.astype(np.int32, copy=False))
        self._rows.append(self.distinct.numbers(hashes, columns))

    def renumber(self, number: Int32) -> None:
        """Give the visits, places so far, their numbers."""
        self._visits = [np.where(part >= 0, number[part], part) for part in self._visits]

    def cells(self) -> Iterator[tuple[str, ...]]:
        """The distinct rows, each cell without blanks around it."""
        for row in self.distinct.rows:
            if self.columns:
                texts = dict(zip(self.names, row, strict=True))
                yield tuple(texts.get(name, "").strip() for name in self.columns)
            else:
                yield tuple(cell.strip() for cell in row[0].split(CELL))

    def select(self, of: str) -> str:
        """SQL of a hash and the columns that are fetched, of a row ``of``."""
        names = ", ".join(f"{of}.{name}" for name in self.names)
        return f"hash({names}) AS hash, {names}"

    def pairs(self, code: Callable[[tuple[str, ...]], Coded]) -> CodePairs:
        """The distinct (visit, code) pairs, and the losses; every distinct row is given to ``code`` once."""
        ledger = self.export.ledger
        visits, rows = _joined(self._visits, np.int32), _joined(self._rows, np.int32)
        self._visits, self._rows = [], []
        placed = visits >= 0
        if not placed.all():
            for number, count in enumerate(np.bincount(-visits[~placed]).tolist()):
                if count:
                    ledger.lose(self.table, self.reasons[-number], count)
            visits, rows = visits[placed], rows[placed]
        times = np.bincount(rows, minlength=len(self.distinct.rows)).tolist()
        numbers: dict[str, int] = {}
        lists: list[list[int]] = []
        for row, count in zip(self.cells(), times, strict=True):
            found = code(row) if count else ()
            if isinstance(found, str):
                ledger.lose(self.table, found, count)
                found = ()
            lists.append([numbers.setdefault(text, len(numbers)) for text in dict.fromkeys(found)])
        names = sorted(numbers)
        rank = np.empty(len(names), np.int64)
        rank[[numbers[name] for name in names]] = np.arange(len(names))
        lengths = np.asarray([len(codes) for codes in lists], np.int64)
        codes = rank[np.asarray([one for codes in lists for one in codes], np.int64)]
        shift = len(names).bit_length()
        pairs, of = _distinct_pairs(visits, rows, lengths, codes, shift)
        ledger.lose(self.table, DUPLICATE, int((of - np.minimum(of, 1)).sum()) if of is not None else
                    int(lengths[rows].sum()) - len(pairs))
        kept = np.ones(len(pairs), np.int8) if of is None else np.minimum(of, 1).astype(np.int8)
        low = np.empty(len(pairs), np.int32)
        np.bitwise_and(pairs, (1 << shift) - 1, out=low, casting="unsafe")
        pairs >>= shift
        return CodePairs(self.table, pairs.astype(np.int32), low, kept, names)


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _distinct_pairs(visits: Int32, rows: Int32, lengths: Int64, codes: Int64, shift: int) -> tuple[Int64, Int64 | None]:
    """The sorted distinct ``(visit << shift) + code`` of rows with ``lengths[row]`` codes each, one after another.

    The second array counts the rows of which a pair is the first code; None where no row has more than one code.
    """
    first = np.cumsum(lengths) - lengths
    if lengths.max(initial=0) <= 1:
        code = np.full(len(lengths), -1, np.int32)
        code[lengths == 1] = codes
        if (code < 0).any():
            has = code[rows] >= 0
            visits, rows = visits[has], rows[has]
        pairs = visits.astype(np.int64)
        pairs <<= shift
        pairs += code[rows]
        return _sorted(pairs), None
    repeat = lengths[rows]
    turn = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    pairs = np.repeat(visits.astype(np.int64) << shift, repeat) + codes[np.repeat(first[rows], repeat) + turn]
    order = np.argsort(pairs, kind="stable")
    pairs, stands = pairs[order], (turn[order] == 0).astype(np.int64)
    begins = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1])) if len(pairs) else np.empty(0, np.int64)
    return pairs[begins], np.add.reduceat(stands, begins) if len(begins) else np.empty(0, np.int64)


def read_codes(
    export: Export, table: str, visit_column: str, columns: Mapping[str, bool],
    code: Callable[[tuple[str, ...]], Coded], visits: Visits,
) -> CodePairs:
    """The (visit, code) pairs of a table; ``code`` turns the given columns of a row into codes or a reason.

    ``columns`` tells of each whether it must be there. A table that is not there gives no pairs.
    """
    if not export.has(table):
        return no_pairs(table)
    collected = Collected(export, table, columns=tuple(columns))
    place, join = f"whole(s.{visit_column})", ""
    number = numbered(f"s.{visit_column}")
    if visits.keys is None:
        join = f"LEFT JOIN {visits.sql} v ON v.id = {place}"
        number = f"CASE WHEN {place} = '' THEN {NO_VISIT} ELSE coalesce(v.number, {STRANGE_VISIT}) END"
    select = f"SELECT {number} AS visit, {collected.select('s')} FROM"
    for batch in export.rows(table, {visit_column: True, **columns}, lambda sql: f"{select} ({sql}) s {join}"):
        found = batch.column(0).to_numpy()
        collected.add(found if visits.keys is None else places(visits.keys, found),
                      batch.column(1).to_numpy(), batch.columns[2:])
    return collected.pairs(code)


def numbered(cell: str) -> str:
    """SQL of the number that an identifier is, for ``places``."""
    return (f"CASE WHEN CAST(TRY_CAST({cell} AS BIGINT) AS VARCHAR) = {cell} THEN TRY_CAST({cell} AS BIGINT)"
            f" WHEN whole({cell}) = '' THEN {_BLANK} ELSE coalesce(plain_number(whole({cell})), {_BLANK + 1}) END")


def places(keys: Int64, found: Int64) -> Int32:
    """The place of each identifier among the sorted ones of the visits, or why it has none."""
    number = ranks_among(keys, found)
    if (number < 0).any():
        number[found == _BLANK] = NO_VISIT
    return number


def no_pairs(table: str) -> CodePairs:
    """No pairs of a table that an export does not have."""
    empty = np.empty(0, np.int32)
    return CodePairs(table, empty, empty, empty, [])


def distinct_pairs(
    export: Export, table: str, staged: str, code: Callable[[tuple[str, ...]], Coded], *,
    lost: Mapping[int, str] | None = None,
) -> CodePairs:
    """The distinct (visit, code) pairs of a staged table with ``visit`` and ``key`` (``cells``), and its losses.

    A negative visit is none, for a reason of ``lost``. Every distinct row is given to ``code`` once. The staged table
    is dropped.
    """
    collected = Collected(export, table, lost)
    for batch in export.batches(f"SELECT CAST(visit AS INT), hash(key), key FROM {staged}"):
        collected.add(batch.column(0).to_numpy(), batch.column(1).to_numpy(), batch.columns[2:])
    export.drop(staged)
    return collected.pairs(code)


def recorded(
    export: Export, visits: Visits, pairs: Mapping[str, CodePairs], notes: Mapping[str, Any] | None = None
) -> Recorded:
    """Everything that was read, as arrays: visits in the order of their numbers."""
    filled = {kind: pairs[kind] if kind in pairs else no_pairs(kind) for kind in KINDS}
    known = bool((visits.stop != UNKNOWN_TIME).any())
    return Recorded(visits.patient, visits.start, filled, export.ledger, visits.table, visits.patients,
                    dict(notes or {}), visits.stop if known else None, visits.attributes)
