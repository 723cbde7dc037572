"""The passes that every format is made of: people, visits, tables of codes.

Rows come from the engine a batch at a time, each with a hash of the cells that its code depends on. Only a row whose hash
has not been seen is looked at in Python; all others are numbers, which numpy sorts and counts. Two different rows of a
table are taken for one where their hashes of 64 bits are equal: by chance once in 3 · 10⁷ tables of a million distinct rows.
"""

from __future__ import annotations

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
        self._hashes = np.empty(0, np.uint64)
        self._numbers = np.empty(0, np.int32)

    def numbers(self, hashes: NDArray[np.uint64], columns: Sequence[Any]) -> Int32:
        """The number of each row, given its hash and the Arrow columns of its cells."""
        if not len(hashes):
            return np.empty(0, np.int32)
        if len(self._hashes):
            place = np.searchsorted(self._hashes, hashes)
            place[place == len(self._hashes)] = 0
            new = np.flatnonzero(self._hashes[place] != hashes)
        else:
            place, new = np.empty(0, np.intp), np.arange(len(hashes))
        if len(new):
            unseen, first = np.unique(hashes[new], return_index=True)
            texts = [column.take(as_arrow(new[first])).to_pylist() for column in columns]
            self.rows += [tuple(row) for row in zip(*texts, strict=True)] if columns else [()] * len(first)
            at = np.searchsorted(self._hashes, unseen)
            numbers = np.arange(len(self.rows) - len(first), len(self.rows), dtype=np.int32)
            self._hashes = np.insert(self._hashes, at, unseen)
            self._numbers = np.insert(self._numbers, at, numbers)
            place = np.searchsorted(self._hashes, hashes)
        return self._numbers[place]


def as_arrow(indices: NDArray[np.integer[Any]]) -> Any:
    """Row numbers as Arrow takes them."""
    import pyarrow as pa

    return pa.array(indices, pa.int64())


def ranks(keys: Int64, values: Int64) -> Int32:
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
    temporary table.
    """

    table: str
    wanted: Mapping[str, bool] = field(default_factory=dict)
    select: str = ""


class TextIdentifiers(Exception):
    """Identifiers that are not numbers, or not written in the usual form of one."""


_FAULT = "CASE WHEN v.id = '' OR v.patient = '' THEN 1 WHEN v.start IS NULL THEN 2 ELSE 0 END"
_COLUMNS = ("id", "patient", "start", "stop", "counts", "row")


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
        self.export, self.people, self.attributes = export, people, tuple(attributes)
        self.readmission, self.numbered = readmission, numbered
        self._distinct = Distinct()
        self._found: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
        self._faults = np.zeros(len(_FAULTS), np.int64)
        texts = [f"CAST({sql} AS VARCHAR)" for sql in attributes.values()]
        if numbered:
            number = {"id": "n.number::BIGINT", "patient": "q.number::BIGINT"}
            self._join = f"LEFT JOIN {numbered[0]} n ON n.id = v.id LEFT JOIN {numbered[1]} q ON q.id = v.patient"
        else:
            number = {name: f"plain_number(v.{name})" for name in ("id", "patient")}
            self._join = ""
        if people.sql:
            self._join += f" LEFT JOIN {people.sql} p ON p.id = v.patient"
        columns = {**number, "start": "v.start::BIGINT", "stop": f"coalesce(v.stop::BIGINT, {UNKNOWN_TIME})",
                   "fault": f"CAST({_FAULT} AS TINYINT)", "counts": f"CAST({readmission or 'false'} AS TINYINT)",
                   "hash": f"hash({', '.join(texts) or '0'})", **{f"text{i}": text for i, text in enumerate(texts)}}
        self._select = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())

    def take(self, one: Listing) -> None:
        """Take the rows of a listing; raises TextIdentifiers unless its identifiers are numbers, or numbered."""
        query = f"SELECT {self._select} FROM {{}} v {self._join}"
        batches = (self.export.rows(one.table, one.wanted, lambda sql: query.format(f"(SELECT {one.select} FROM ({sql})"
                                                                                    f" s)"))
                   if one.select else self.export.batches(query.format(one.table)))
        with closing(batches):
            for batch in batches:
                self._take(batch)

    def _take(self, batch: Any) -> None:
        fault = batch.column(4).to_numpy()
        counted = np.bincount(fault, minlength=len(_FAULTS))
        self._faults += counted
        if counted[1:].any():
            batch = batch.take(as_arrow(np.flatnonzero(fault == 0)))
        if batch.column(0).null_count or batch.column(1).null_count:
            raise TextIdentifiers
        for i, name in enumerate(("id", "patient", "start", "stop")):
            self._found[name].append(batch.column(i).to_numpy())
        self._found["counts"].append(batch.column(5).to_numpy().astype(bool))
        self._found["row"].append(self._distinct.numbers(batch.column(6).to_numpy(), batch.columns[7:]))

    def _array(self, name: str, kind: type[np.generic]) -> NDArray[Any]:
        """A column; its parts are let go."""
        parts = [np.concatenate(self._found[name]).astype(kind, copy=False)] if self._found[name] else []
        self._found[name] = parts
        return parts[0] if parts else np.empty(0, kind)

    def keys(self) -> Int64:
        """The identifiers so far, sorted and distinct."""
        ids = self._array("id", np.int64)
        return ids if (ids[1:] > ids[:-1]).all() else np.unique(ids)

    def table(self) -> str:
        """A temporary table of the rows so far: ``id`` and ``patient`` (texts), ``start``, ``stop``."""
        numbers = self.export.take({name: self._array(name, np.int64) for name in ("id", "patient", "start", "stop")})
        name = self.export.fresh("spans")
        self.export.run(f"CREATE TEMP TABLE {name} AS SELECT CAST(id AS VARCHAR) AS id, CAST(patient AS VARCHAR) AS"
                        f" patient, start, CASE WHEN stop <> {UNKNOWN_TIME} THEN stop END AS stop FROM {numbers}")
        self.export.drop(numbers)
        return name

    def _known(self) -> Int64:
        """The identifiers of all listed patients; raises TextIdentifiers unless they are numbers."""
        table = self.numbered[1] if self.numbered else self.people.sql
        if not table:
            return np.empty(0, np.int64)
        number = "number::BIGINT" if self.numbered else "plain_number(id)"
        if self.export.count(f"SELECT count(*) FROM {table} WHERE {number} IS NULL"):
            raise TextIdentifiers
        return _joined([batch.column(0).to_numpy() for batch in self.export.batches(f"SELECT {number} FROM {table}")],
                       np.int64)

    def arranged(self, table: str) -> Visits:
        """The visits in the order of their identifiers, each once; ``table`` is their name in the ledger.

        A visit that is listed again is a loss; of its rows the earliest counts.
        """
        ledger, known = self.export.ledger, self._known()
        for reason, count in zip(_FAULTS[1:], self._faults[1:].tolist(), strict=True):
            ledger.lose(table, reason, count)
        keys, patient, start, stop = (self._array(name, np.int64) for name in ("id", "patient", "start", "stop"))
        counts, row = self._array("counts", np.bool_), self._array("row", np.int32)
        self._found = {}
        if (keys[1:] <= keys[:-1]).any():
            order = np.argsort(keys, kind="stable")
            again = np.append(False, keys[order[1:]] == keys[order[:-1]])
            if again.any():
                last = np.where(stop == UNKNOWN_TIME, np.iinfo(np.int64).max, stop)
                order = np.lexsort((_text_ranks(self._distinct.rows)[row], last, patient, start, keys))[~again]
                ledger.lose(table, "visit listed again", int(again.sum()))
            keys, patient, start, stop, counts, row = (
                column[order] for column in (keys, patient, start, stop, counts, row))
        persons = np.unique(np.concatenate((known, patient)))
        patients = ranks(persons, patient)
        used = np.bincount(row, minlength=len(self._distinct.rows)) > 0
        attributes: dict[str, Attribute] = {}
        for i, name in enumerate(self.attributes):
            texts = [row[i] if there else None for row, there in zip(self._distinct.rows, used, strict=True)]
            if (found := _attribute(self.export, table, name, texts, row)).levels:
                attributes[name] = found
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


def _text_ranks(rows: Sequence[tuple[str, ...]]) -> Int64:
    """The place of each row in the order of their texts."""
    order = sorted(range(len(rows)), key=lambda i: tuple(text or "" for text in rows[i]))
    found = np.empty(len(rows), np.int64)
    found[order] = np.arange(len(rows))
    return found


def _attribute(export: Export, table: str, name: str, texts: Sequence[str | None], row: Int32) -> Attribute:
    """The attribute whose text each distinct row has; without levels where no visit has it, or nearly each its own."""
    levels = tuple(sorted({text for text in texts if text}))
    if len(levels) > np.iinfo(np.int16).max:
        export.ledger.note(table, f"distinct values of {name}, too many to keep", len(levels))
        levels = ()
    place = {level: i for i, level in enumerate(levels)}
    values = np.asarray([place.get(text, -1) if text else -1 for text in texts], np.int16)
    return Attribute(levels, values[row])


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
    return Attribute(("no", "yes"), values).take(np.arange(len(values)))


def cells(columns: Sequence[str], of: str = "s") -> str:
    """SQL that puts the columns of a row into one text, which ``coded`` takes apart again."""
    return f"concat_ws(chr(31), {', '.join(f'replace({of}.{column}, chr(31), chr(32))' for column in columns)})"


class Collected:
    """The rows of a table of codes: the visit of each, negative for a reason of ``lost``, and its distinct cells."""

    def __init__(
        self, export: Export, table: str, lost: Mapping[int, str] | None = None, *, joined: bool = False
    ) -> None:
        """``joined`` says that the cells of a row come as one text (``cells``)."""
        self.export, self.table, self.joined = export, table, joined
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
            yield tuple(cell.strip() for text in row for cell in (text.split(CELL) if self.joined else (text,)))

    def pairs(self, code: Callable[[tuple[str, ...]], Coded]) -> CodePairs:
        """The distinct (visit, code) pairs, and the losses; every distinct row is given to ``code`` once."""
        ledger = self.export.ledger
        visits, rows = _joined(self._visits, np.int32), _joined(self._rows, np.int32)
        self._visits, self._rows = [], []
        placed = visits >= 0
        if not placed.all():
            for number, count in zip(*np.unique(visits[~placed], return_counts=True), strict=True):
                ledger.lose(self.table, self.reasons[int(number)], int(count))
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
        pairs, of = _distinct_pairs(visits, rows, lengths, codes, max(len(names), 1))
        ledger.lose(self.table, DUPLICATE, int((of - np.minimum(of, 1)).sum()) if of is not None else
                    int(lengths[rows].sum()) - len(pairs))
        kept = np.ones(len(pairs), np.int8) if of is None else np.minimum(of, 1).astype(np.int8)
        width = max(len(names), 1)
        return CodePairs(self.table, (pairs // width).astype(np.int32), (pairs % width).astype(np.int32), kept, names)


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _distinct_pairs(visits: Int32, rows: Int32, lengths: Int64, codes: Int64, width: int) -> tuple[Int64, Int64 | None]:
    """The sorted distinct ``visit * width + code`` of rows with ``lengths[row]`` codes each, listed one after another.

    The second array counts the rows of which a pair is the first code; None where no row has more than one code.
    """
    first = np.cumsum(lengths) - lengths
    if lengths.max(initial=0) <= 1:
        code = np.full(len(lengths), -1, np.int64)
        code[lengths == 1] = codes
        has = code[rows] >= 0 if (code < 0).any() else slice(None)
        pairs = visits[has].astype(np.int64)
        pairs *= width
        pairs += code[rows[has]]
        pairs.sort()
        return pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs, None
    repeat = lengths[rows]
    turn = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    pairs = np.repeat(visits.astype(np.int64) * width, repeat) + codes[np.repeat(first[rows], repeat) + turn]
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
    names = ", ".join(f"s.{column}" for column in columns)
    place, join = f"whole(s.{visit_column})", ""
    if visits.keys is None:
        join = f"LEFT JOIN {visits.sql} v ON v.id = {place}"
        number = f"CASE WHEN {place} = '' THEN {NO_VISIT} ELSE coalesce(v.number, {STRANGE_VISIT}) END"
    else:
        number = numbered(place)
    collected = Collected(export, table)
    select = f"SELECT {number} AS visit, hash({names}) AS hash, {names} FROM"
    for batch in export.rows(table, {visit_column: True, **columns}, lambda sql: f"{select} ({sql}) s {join}"):
        found = batch.column(0).to_numpy()
        collected.add(found if visits.keys is None else places(visits.keys, found),
                      batch.column(1).to_numpy(), batch.columns[2:])
    return collected.pairs(code)


def numbered(place: str) -> str:
    """SQL of the number that an identifier (a text) is, for ``places``."""
    return f"CASE WHEN {place} = '' THEN {_BLANK} ELSE coalesce(plain_number({place}), {_BLANK + 1}) END"


def places(keys: Int64, found: Int64) -> Int32:
    """The place of each identifier among the sorted ones of the visits, or why it has none."""
    number = ranks(keys, found)
    if (number < 0).any():
        number[found == _BLANK] = NO_VISIT
    return number


def no_pairs(table: str) -> CodePairs:
    """No pairs of a table that an export does not have."""
    empty = np.empty(0, np.int32)
    return CodePairs(table, empty, empty, empty, [])


def coded(
    export: Export, table: str, staged: str, code: Callable[[tuple[str, ...]], Coded], *,
    lost: Mapping[int, str] | None = None,
) -> CodePairs:
    """The distinct (visit, code) pairs of a staged table with ``visit`` and ``key`` (``cells``), and its losses.

    A negative visit is none, for a reason of ``lost``. Every distinct row is given to ``code`` once. The staged table
    is dropped.
    """
    collected = Collected(export, table, lost, joined=True)
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
