"""What every EHR format gives: visits with a patient and a time, distinct (visit, code) pairs, and an exact ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError
from recsys.cohorts.cohort import KINDS, Attribute, Loss
from recsys.formats.scan import Bounds

Int64 = NDArray[np.int64]
Whole = NDArray[np.integer[Any]]

AGE, SEX, RACE, ETHNICITY = "age", "sex", "race", "ethnicity"
ADMISSION, DISCHARGE, VISIT_TYPE, HOSPITAL = "admission_type", "discharge", "visit_type", "hospital"
ADMITTED_FOR = "admission_diagnosis"
READMITTED, DIED = "readmitted_30d", "died_in_hospital"
"""Names of attributes: age is a band of ten years at the start of the visit, the last two are yes or no, others are as
the source records them."""

DUPLICATE = "identical duplicate in the visit"
KEPT = "kept"


@dataclass(frozen=True)
class Limits:
    """What reading may use: the engine's memory, a folder to spill to (None: the temporary one), bounds of files."""

    memory: str = "4GB"
    spill: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)


class Ledger:
    """How many rows of each table were read, and for what reason any was left out; notes do not enter the sum."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.losses: Counter[tuple[str, str]] = Counter()
        self.notes: Counter[tuple[str, str]] = Counter()

    def read(self, table: str, rows: int) -> None:
        """Count rows that came from a file, good or bad."""
        self.rows[table] += int(rows)

    def lose(self, table: str, reason: str, rows: int) -> None:
        """Count rows that are left out for a reason."""
        if rows:
            self.losses[table, reason] += int(rows)

    def note(self, table: str, remark: str, rows: int) -> None:
        """Count rows that are kept but worth a word."""
        if rows:
            self.notes[table, remark] += int(rows)

    def copy(self) -> Ledger:
        """The counts so far."""
        other = Ledger()
        other.restore(self)
        return other

    def restore(self, other: Ledger) -> None:
        """Take the counts of another."""
        self.rows, self.losses, self.notes = other.rows.copy(), other.losses.copy(), other.notes.copy()

    def settled(self, kept: Mapping[str, int]) -> tuple[Loss, ...]:
        """The accounting; raises DataError unless every row that was read is kept or lost, once."""
        lines: list[Loss] = []
        for table, rows in self.rows.items():
            lost = [Loss(table, reason, count) for (name, reason), count in self.losses.items() if name == table]
            total = kept.get(table, 0) + sum(loss.rows for loss in lost)
            if total != rows:
                raise DataError(f"{table}: {rows} rows were read, but {total} are accounted for")
            lines += [Loss(table, KEPT, kept.get(table, 0)), *sorted(lost, key=lambda loss: -loss.rows)]
        return tuple(lines)


@dataclass(frozen=True)
class CodePairs:
    """Distinct (visit, code) pairs of one kind; ``rows`` is 1 where the pair stands for a source row, else 0.

    A row that lists several codes stands behind its first one, so the sum of ``rows`` is a number of rows.
    """

    table: str
    visits: Whole
    codes: Whole
    rows: Whole
    names: list[str]

    def keep(self, mask: NDArray[np.bool_]) -> CodePairs:
        """The pairs under the mask."""
        return CodePairs(self.table, self.visits[mask], self.codes[mask], self.rows[mask], self.names)


@dataclass(frozen=True)
class Recorded:
    """What a source recorded, before any choice of a cohort: patients are numbers, in the order of their identifiers.

    A medication's code is the key of an order (``recsys.orders.order.Order``). ``visit_end`` is ``UNKNOWN_TIME`` where
    the source does not say; ``attributes`` are facts of patient and visit, by the names that this module lists.
    """

    visit_patient: Whole
    visit_time: Int64
    pairs: dict[str, CodePairs]
    ledger: Ledger
    visit_table: str
    patients: int  # of the source, those without a visit included
    notes: dict[str, Any] = field(default_factory=dict)
    visit_end: Int64 | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in KINDS:
            if len(self.pairs[kind].visits) and self.pairs[kind].visits.max() >= len(self.visit_patient):
                raise DataError(f"{self.pairs[kind].table}: a row refers to a visit that was not read")


class EhrFormat(Protocol):
    """One EHR format."""

    name: str
    requires: tuple[str, ...]
    """The kinds that a visit must have by default."""
    published: Mapping[str, Mapping[str, int]]
    """The exact row counts of the full sets, by set and table."""

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """Everything that the files under ``root`` record; raises NotFound or DataError, naming table and column."""
        ...


@dataclass(frozen=True)
class Check:
    """One published row count and what was found."""

    dataset: str
    table: str
    published: int
    found: int

    @property
    def verdict(self) -> str:
        """PASSED or FAILED."""
        return "PASSED" if self.published == self.found else "FAILED"


def check_counts(published: Mapping[str, Mapping[str, int]], rows: Mapping[str, int]) -> list[Check]:
    """The published counts beside the rows found, for the sets that these files look like: half of some table or more.

    A demo or any other small extract looks like no full set and gives an empty list.
    """
    checks: list[Check] = []
    for dataset, tables in published.items():
        if any(2 * rows.get(table, 0) >= count for table, count in tables.items()):
            checks += [Check(dataset, table, count, rows.get(table, 0)) for table, count in tables.items()]
    return checks
