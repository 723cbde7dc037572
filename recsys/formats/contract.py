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
from recsys.cohorts.cohort import KINDS, Loss

Int64 = NDArray[np.int64]

DUPLICATE = "identical duplicate in the visit"
KEPT = "kept"
_COMPACT = 1_000_000  # buffered rows; more once more pairs are distinct, so that sorting stays O(n log n)


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


class Interner:
    """Numbers for texts, in the order of their first appearance."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text, a new one where it is new."""
        return self.numbers.setdefault(text, len(self.numbers))

    @property
    def texts(self) -> list[str]:
        """The texts by number."""
        return list(self.numbers)


@dataclass(frozen=True)
class CodePairs:
    """Distinct (visit, code) pairs of one kind; ``rows`` is 1 where the pair stands for a source row, else 0.

    A row that lists several codes stands behind its first one, so the sum of ``rows`` is a number of rows.
    """

    table: str
    visits: Int64
    codes: Int64
    rows: Int64
    names: list[str]

    def keep(self, mask: NDArray[np.bool_]) -> CodePairs:
        """The pairs under the mask."""
        return CodePairs(self.table, self.visits[mask], self.codes[mask], self.rows[mask], self.names)


class PairCounter:
    """Collects (visit, code) pairs of a table of any length in bounded memory, and counts identical duplicates."""

    def __init__(self, table: str, ledger: Ledger) -> None:
        self.table, self.ledger = table, ledger
        self.codes = Interner()
        self._keys: list[Int64] = []
        self._weights: list[Int64] = []
        self._buffered = self._distinct = 0

    def add(self, visits: Int64, codes: Int64, weights: Int64) -> None:
        """Take the pairs of a batch; ``weights`` is 1 for the first code of a row, 0 for its further codes."""
        self._keys.append(visits << 32 | codes)
        self._weights.append(weights)
        self._buffered += len(visits)
        if self._buffered > max(_COMPACT, self._distinct):
            self._compact()

    def _compact(self) -> None:
        keys = np.concatenate([*self._keys, np.empty(0, np.int64)])
        weights = np.concatenate([*self._weights, np.empty(0, np.int64)])
        self._keys, self._weights = [], []
        order = np.argsort(keys, kind="stable")
        keys, weights = keys[order], weights[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        rows = np.add.reduceat(weights, first) if len(first) else weights
        self.ledger.lose(self.table, DUPLICATE, int((rows - np.minimum(rows, 1)).sum()))
        self._keys, self._weights, self._buffered = [keys[first]], [np.minimum(rows, 1)], 0
        self._distinct = len(first)

    def pairs(self) -> CodePairs:
        """The distinct pairs, sorted by visit."""
        self._compact()
        keys = self._keys[0]
        return CodePairs(self.table, keys >> 32, keys & 0xFFFFFFFF, self._weights[0], self.codes.texts)


@dataclass(frozen=True)
class Recorded:
    """What a source recorded, before any choice of a cohort: patients are numbers, in the order of their identifiers.

    A medication's code is a *medication key*: tab-separated identifiers in order of preference, such as
    ``NDC:00006494300<TAB>NAME:bisacodyl<TAB>ROUTE:PO``.
    """

    visit_patient: Int64
    visit_time: Int64
    pairs: dict[str, CodePairs]
    ledger: Ledger
    visit_table: str
    patients: int  # of the source, those without a visit included
    notes: dict[str, Any] = field(default_factory=dict)

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

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
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
