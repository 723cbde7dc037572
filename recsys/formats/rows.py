"""The passes that every format is made of: people, visits, tables of codes; distinct and counted in the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.cohorts.cohort import KINDS, UNKNOWN_TIME, Attribute
from recsys.formats.contract import DIED, DUPLICATE, READMITTED, CodePairs, Recorded
from recsys.formats.tables import Export

Coded = tuple[str, ...] | str
"""The codes of a row, or the reason why it has none."""
CELL = "\x1f"
"""What separates the cells of a row in the engine; inside a cell it is a blank."""

READMISSION_DAYS = 30


@dataclass(frozen=True)
class People:
    """A temporary table of patients: ``id`` and columns of attributes."""

    sql: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Visits:
    """A temporary table of visits: ``number``, ``id``, ``patient`` (a number), ``start``, ``stop``, attributes.

    ``table`` is its name in the ledger; ``attributes`` are the names of its further columns.
    """

    table: str
    sql: str
    patients: int
    attributes: tuple[str, ...] = ()


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


def read_visits(
    export: Export, table: str, staged: str, people: People = NO_PEOPLE, attributes: Mapping[str, str] | None = None,
    *, readmission: str | None = "true",
) -> Visits:
    """The visits of a staged table with ``id``, ``patient``, ``start``, ``stop`` (seconds) and columns of attributes.

    A visit that is listed again is a loss; of its rows the earliest counts. Visits and patients are numbered in the
    order of their identifiers, whatever the rows' order, so that ties of time have a fixed order. ``attributes`` is SQL
    over ``v`` (a visit) and ``p`` (its patient, of ``people``). ``readmission`` is SQL over ``v`` that tells which
    visits
    count for readmission within 30 days; None where the source has no calendar.
    """
    attributes = dict(attributes or {})
    ledger = export.ledger
    faults = "CASE WHEN id = '' OR patient = '' THEN 'no visit or patient identifier' WHEN start IS NULL THEN " \
             "'no admission time' END"
    for reason, rows in export.fetch(f"SELECT {faults} AS why, count(*) FROM {staged} GROUP BY 1"):
        if reason:
            ledger.lose(table, reason, rows)
    fine = f"(SELECT * FROM {staged} WHERE {faults} IS NULL)"
    listed, distinct = export.fetch(f"SELECT count(*), count(DISTINCT id) FROM {fine}")[0]
    ledger.lose(table, "visit listed again", listed - distinct)
    good = export.fresh("good")
    if listed == distinct:
        export.run(f"CREATE TEMP VIEW {good} AS SELECT * FROM {staged} WHERE {faults} IS NULL")
    else:
        export.run(f"CREATE TEMP TABLE {good} AS SELECT * EXCLUDE turn FROM (SELECT *, row_number() OVER (PARTITION"
                   f" BY id ORDER BY start, patient, stop) AS turn FROM {fine}) WHERE turn = 1")
    patient = export.fresh("patient")
    known = f"UNION SELECT id FROM {people.sql}" if people.sql else ""
    export.run(f"CREATE TEMP TABLE {patient} AS SELECT id, CAST(row_number() OVER (ORDER BY TRY_CAST(id AS BIGINT)"
               f" NULLS LAST, id) - 1 AS INT) AS number FROM (SELECT DISTINCT patient AS id FROM {good} {known})")
    chosen = "".join(f", {sql} AS {name}" for name, sql in attributes.items())
    joined = f"LEFT JOIN {people.sql} p ON p.id = v.patient" if people.sql else ""
    place = export.fresh("place")
    export.run(f"CREATE TEMP TABLE {place} AS SELECT id, CAST(row_number() OVER (ORDER BY TRY_CAST(id AS BIGINT) NULLS"
               f" LAST, id) - 1 AS INT) AS number FROM {good}")
    inner = (f"SELECT n.number, v.id, q.number AS patient, v.start, v.stop, {readmission or 'false'} AS counts {chosen}"
             f" FROM {good} v JOIN {place} n ON n.id = v.id JOIN {patient} q ON q.id = v.patient {joined}")
    visit = export.fresh("visit")
    if readmission is None:
        export.run(f"CREATE TEMP TABLE {visit} AS SELECT * EXCLUDE counts FROM ({inner})")
    else:
        # Within a patient, counted visits look at the next counted one; whoever died in hospital cannot come back.
        alive = f"{DIED} IS DISTINCT FROM 'yes'" if DIED in attributes else "true"
        raw, again = export.fresh("raw"), export.fresh("again")
        export.run(f"CREATE TEMP TABLE {raw} AS {inner}")
        export.run(f"CREATE TEMP TABLE {again} AS SELECT number, lead(start) OVER (PARTITION BY patient ORDER BY start,"
                   f" number) AS later FROM {raw} WHERE counts")
        export.run(f"CREATE TEMP TABLE {visit} AS SELECT v.* EXCLUDE counts, CASE WHEN NOT counts OR stop IS NULL OR"
                   f" stop < start OR NOT {alive} THEN NULL WHEN later BETWEEN stop AND stop +"
                   f" {READMISSION_DAYS * 86400} THEN 'yes' ELSE 'no' END AS {READMITTED} FROM {raw} v"
                   f" LEFT JOIN {again} a USING (number)")
        export.drop(raw, again)
    export.run(f"DROP {'VIEW' if listed == distinct else 'TABLE'} {good}")
    export.drop(staged, place)
    names = (*attributes, *([READMITTED] if readmission is not None else []))
    return Visits(table, visit, export.count(f"SELECT count(*) FROM {patient}"), names)


def cells(columns: Sequence[str], of: str = "s") -> str:
    """SQL that puts the columns of a row into one text, which ``coded`` takes apart again."""
    return f"concat_ws(chr(31), {', '.join(f'{of}.{column}' for column in columns)})"


def read_codes(
    export: Export, table: str, visit_column: str, columns: Mapping[str, bool], code: Callable[[tuple[str, ...]],
    Coded],
    visits: Visits,
) -> CodePairs:
    """The (visit, code) pairs of a table; ``code`` turns the given columns of a row into codes or a reason.

    ``columns`` tells of each whether it must be there. A table that is not there gives no pairs.
    """
    if not export.has(table):
        return no_pairs(table)
    staged = export.stage(
        table, {visit_column: True, **columns},
        "CASE WHEN s.visit = '' THEN -2 ELSE coalesce(v.number, -1) END AS visit, s.key",
        first=f"whole(s.{visit_column}) AS visit, {cells(tuple(columns))} AS key",
        join=f"LEFT JOIN {visits.sql} v ON v.id = s.visit")
    return code_rows(export, table, staged, code)


def no_pairs(table: str) -> CodePairs:
    """No pairs of a table that an export does not have."""
    empty = np.empty(0, np.int32)
    return CodePairs(table, empty, empty, empty, [])


def code_rows(
    export: Export, table: str, staged: str, code: Callable[[tuple[str, ...]], Coded], *, kind: str = "",
    lost: Mapping[int, str] | None = None,
) -> CodePairs:
    """The distinct (visit, code) pairs of a staged table with ``visit`` and ``key`` (``cells``), and its losses.

    A negative visit is none, for a reason of ``lost``. Every distinct row is given to ``code`` once. The staged table
    is
    dropped.
    """
    ledger = export.ledger
    reasons = {-2: "no visit identifier", -1: "visit not in the visit table", **(lost or {})}
    for visit, rows in export.fetch(f"SELECT visit, count(*) FROM {staged} WHERE visit < 0 GROUP BY visit"):
        ledger.lose(table, reasons[visit], rows)
    names: dict[str, int] = {}
    refused: dict[str, int] = {}
    # Held as a list, because the connection answers one query at a time.
    seen = list(export.batches(f"SELECT key, count(*) FROM {staged} WHERE visit >= 0 GROUP BY key ORDER BY key"))
    found = export.fresh("code")
    export.run(f"CREATE TEMP TABLE {found} (key VARCHAR, code INT, first TINYINT)")
    for batch in seen:
        _code_batch(export, found, batch, code, names, refused)
    for reason, rows in refused.items():
        ledger.lose(table, reason, rows)
    pairs = export.fresh("pairs")
    export.run(f"CREATE TEMP TABLE {pairs} AS SELECT s.visit, c.code, sum(c.first) AS rows FROM {staged} s"
               f" JOIN {found} c USING (key) WHERE s.visit >= 0 GROUP BY ALL")
    ledger.lose(table, DUPLICATE, export.count(f"SELECT sum(rows - least(rows, 1)) FROM {pairs}"))
    export.drop(staged, found)
    order = np.asarray(sorted(range(len(names)), key=list(names).__getitem__), np.int64)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    texts = sorted(names)
    total = export.count(f"SELECT count(*) FROM {pairs}")
    visit_of, code_of = np.empty(total, np.int32), np.empty(total, np.int32)
    row_of = np.empty(total, np.int8)
    at = 0
    for batch in export.batches(f"SELECT CAST(visit AS INT), code, CAST(least(rows, 1) AS TINYINT) FROM {pairs}"
                                " ORDER BY visit, code"):
        end = at + batch.num_rows
        visit_of[at:end] = batch.column(0).to_numpy()
        code_of[at:end] = rank[batch.column(1).to_numpy()] if len(rank) else 0
        row_of[at:end] = batch.column(2).to_numpy()
        at = end
    export.drop(pairs)
    return CodePairs(table, visit_of, code_of, row_of, texts)


def _code_batch(
    export: Export, found: str, batch: Any, code: Callable[[tuple[str, ...]], Coded], names: dict[str, int],
    refused: dict[str, int],
) -> None:
    import pyarrow as pa

    keys: list[str] = []
    codes: list[int] = []
    first: list[int] = []
    for key, rows in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
        result = code(tuple(cell.strip() for cell in key.split(CELL)))
        if isinstance(result, str):
            refused[result] = refused.get(result, 0) + rows
            continue
        for place, text in enumerate(dict.fromkeys(result)):
            keys.append(key)
            codes.append(names.setdefault(text, len(names)))
            first.append(place == 0)
    table = pa.table({"key": pa.array(keys, pa.string()), "code": pa.array(codes, pa.int32()),
                      "first": pa.array([int(one) for one in first], pa.int8())})
    export.connection.register("arrow_codes", table)
    export.run(f"INSERT INTO {found} SELECT * FROM arrow_codes")
    export.connection.unregister("arrow_codes")


def recorded(
    export: Export, visits: Visits, pairs: Mapping[str, CodePairs], notes: Mapping[str, Any] | None = None
) -> Recorded:
    """Everything that was read, as arrays: visits in the order of their numbers."""
    total = export.count(f"SELECT count(*) FROM {visits.sql}")
    patient, start = np.empty(total, np.int32), np.empty(total, np.int64)
    stop = np.empty(total, np.int64)
    for batch in export.batches(f"SELECT number, patient, start, coalesce(stop, {UNKNOWN_TIME}) FROM {visits.sql}"):
        where = batch.column(0).to_numpy()
        patient[where], start[where], stop[where] = (batch.column(i).to_numpy() for i in (1, 2, 3))
    attributes = {name: found for name in visits.attributes
                  if len((found := _attribute(export, visits, name, total)).levels)}
    filled = {kind: pairs[kind] if kind in pairs else no_pairs(kind) for kind in KINDS}
    known = bool(total) and bool((stop != UNKNOWN_TIME).any())
    return Recorded(patient, start, filled, export.ledger, visits.table, visits.patients, dict(notes or {}),
                    stop if known else None, attributes)


def _attribute(export: Export, visits: Visits, name: str, total: int) -> Attribute:
    """The column of the visits as an attribute; without levels where no visit has it, or nearly each its own."""
    rows = export.fetch(f"SELECT DISTINCT {name} FROM {visits.sql} WHERE coalesce({name}, '') <> ''")
    levels = sorted(row[0] for row in rows)
    values = np.full(total, -1, np.int16)
    if len(levels) > np.iinfo(np.int16).max:
        export.ledger.note(visits.table, f"distinct values of {name}, too many to keep", len(levels))
        return Attribute((), values)
    if levels:
        places = export.load(("place", "level"), [(str(i), level) for i, level in enumerate(levels)])
        for batch in export.batches(f"SELECT v.number, CAST(l.place AS SMALLINT) FROM {visits.sql} v JOIN {places} l"
                                    f" ON l.level = v.{name}"):
            values[batch.column(0).to_numpy()] = batch.column(1).to_numpy()
        export.drop(places)
    return Attribute(tuple(levels), values)
