"""The three passes that most formats are made of: patients, visits, and tables of codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from recsys.formats.contract import CodePairs, Int64, Interner, Ledger, PairCounter
from recsys.formats.tables import stream, together

Coded = tuple[str, ...] | str
"""The codes of a row, or the reason why it has none."""


@dataclass(frozen=True)
class Visits:
    """The visits of an export: their numbers by identifier, their patients and times, and the ledger's table name."""

    table: str
    numbers: Interner
    patients: Int64
    times: Int64
    patients_in_source: int


def read_patients(path: Path | None, column: str, ledger: Ledger, table: str = "patients") -> Interner:
    """The patients of a table that lists them, 0-visit patients included; empty where there is no such table."""
    known = Interner()
    if path is None:
        return known
    for rows, batch in stream(path, table, {column: True}, ledger):
        before = len(known.numbers)
        numbers = batch[column].map(lambda text: known.number(text) if text else -1)
        missing = int((numbers < 0).sum())
        ledger.lose(table, "no patient identifier", missing)
        ledger.lose(table, "patient listed again", rows - missing - (len(known.numbers) - before))
    return known


class VisitReader:
    """Collects visits row by row-batch: first come counts, a visit that is listed again is a loss."""

    def __init__(self, table: str, ledger: Ledger, patients: Interner) -> None:
        self.table, self.ledger = table, ledger
        self.patients = patients
        self.visits = Interner()
        self._patient: list[int] = []
        self._time: list[int] = []

    def add(self, visit: str, patient: str, time: int | None, rows: int) -> None:
        """Take ``rows`` identical rows of one visit."""
        if not visit or not patient:
            self.ledger.lose(self.table, "no visit or patient identifier", rows)
        elif time is None:
            self.ledger.lose(self.table, "no admission time", rows)
        elif visit in self.visits.numbers:
            self.ledger.lose(self.table, "visit listed again", rows)
        else:
            self.visits.number(visit)
            self._patient.append(self.patients.number(patient))
            self._time.append(time)
            self.ledger.lose(self.table, "visit listed again", rows - 1)

    def finish(self) -> Visits:
        """The visits; they and the patients are numbered in the order of their identifiers, whatever the rows' order.

        Identifiers order nothing but patients and visits of one patient at the very same time.
        """
        order, _ = _ranks(self.visits.texts)
        _, patient_rank = _ranks(self.patients.texts)
        texts = self.visits.texts
        numbers = Interner()
        for i in order:
            numbers.number(texts[i])
        patient = patient_rank[np.asarray(self._patient, np.int64)[order]]
        times = np.asarray(self._time, np.int64)[order]
        return Visits(self.table, numbers, patient, times, len(patient_rank))


def _ranks(names: list[str]) -> tuple[Int64, Int64]:
    """The order of identifiers, as numbers where all are numbers, and the rank of each."""
    numeric = all(name.isdigit() for name in names)
    keys = [(int(name), name) if numeric else (0, name) for name in names]
    order = np.asarray(sorted(range(len(names)), key=keys.__getitem__), np.int64)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return order, rank


def read_visits(
    path: Path, table: str, columns: tuple[str, str, str], ledger: Ledger, patients: Interner,
    clock: Callable[[str], int | None],
) -> Visits:
    """The visits of a table with the columns (visit, patient, time)."""
    reader = VisitReader(table, ledger, patients)
    for _, batch in stream(path, table, dict.fromkeys(columns, True), ledger):
        rows, which = together([batch[name] for name in columns])
        first = np.unique(which, return_index=True)[1]
        counts = np.bincount(which, minlength=len(rows))
        for i in np.argsort(first, kind="stable"):
            visit, patient, time = rows[i]
            reader.add(visit, patient, clock(time), int(counts[i]))
    return reader.finish()


def read_codes(
    path: Path | None, table: str, visit_column: str, columns: Sequence[tuple[str, bool]],
    code: Callable[[tuple[str, ...]], Coded], visits: Visits, ledger: Ledger,
) -> CodePairs:
    """The (visit, code) pairs of a table; ``code`` turns the given columns of a row into codes or a reason.

    ``columns`` are (name, must be there). A table that is not there gives no pairs.
    """
    counter = PairCounter(table, ledger)
    if path is None:
        return counter.pairs()
    wanted = {visit_column: True, **dict(columns)}
    code = lru_cache(maxsize=500_000)(code)  # the same rows come back in every batch
    known = visits.numbers.numbers
    for _, batch in stream(path, table, wanted, ledger):
        visit = batch[visit_column].map(lambda text: known.get(text, -1 if text else -2))
        ledger.lose(table, "no visit identifier", int((visit == -2).sum()))
        ledger.lose(table, "visit not in the visit table", int((visit == -1).sum()))
        here = np.flatnonzero(visit >= 0)
        distinct, which = together([batch[name] for name, _ in columns])
        used, place = np.unique(which[here], return_inverse=True)
        add_coded(counter, visit[here], [code(distinct[i]) for i in used], place)
    return counter.pairs()


def add_coded(counter: PairCounter, visits: Int64, coded: Sequence[Coded], which: Int64) -> None:
    """Give the rows of a batch to the counter: row ``i`` is of visit ``visits[i]`` and has ``coded[which[i]]``."""
    frequency = np.bincount(which, minlength=len(coded))
    for i, result in enumerate(coded):
        if isinstance(result, str):
            counter.ledger.lose(counter.table, result, int(frequency[i]))
    lists = [() if isinstance(result, str) else result for result in coded]
    lengths = np.asarray([len(codes) for codes in lists], np.int64)
    flat = np.asarray([counter.codes.number(text) for codes in lists for text in codes], np.int64)
    start = np.cumsum(lengths) - lengths
    repeat = lengths[which]
    offset = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    codes = flat[np.repeat(start[which], repeat) + offset]
    counter.add(np.repeat(visits, repeat), codes, (offset == 0).astype(np.int64))
