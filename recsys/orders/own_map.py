"""The user's own map of orders: a CSV file with columns ``order`` and ``means``, which wins over everything else.

``order`` is a drug text as the source writes it (letter case and white space do not matter) or a code as
``NDC:00536338101``, ``GSN:001234``, ``HICL:2812``, ``RXCUI:1191``, ``CODE:…``. ``means`` is a drug's name, several
joined by ``+``, an ATC class as ``ATC:B05BA02``, or ``none`` for what is no drug.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kb.errors import DataError
from kb.inputs import read_text
from kb.normalise import normalise_ndc, tidy
from recsys.orders.order import Order

_CODES = ("ndc", "gsn", "hicl", "rxcui", "atc", "code")
_REMEMBERED = 10_000  # hashes kept, so that an order asked for again is not hashed again
FIRST_LINE = "the first line must be order,means; a row is e.g. hydrocerin,ATC:D02A"


@dataclass(frozen=True)
class OwnMap:
    """What a user says orders mean; stored with the cohort as it is, with a model as a ``SealedMap``."""

    rows: Mapping[str, str] = field(default_factory=dict)
    """What an order means, by its text in lower case or by its code."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the rows, sorted; empty for no rows."""
        text = "\n".join(f"{order}\t{means}" for order, means in sorted(self.rows.items()))
        return hashlib.sha256(text.encode()).hexdigest() if text else ""

    def find(self, order: Order) -> str | None:
        """What the map says of an order: by its codes, then by its names; None where it says nothing."""
        return next((self.rows[key] for key in _keys(order) if key in self.rows), None) if self.rows else None


Meant = str | tuple[int, ...]
"""What an order means: as a map says it, or base drugs."""


@dataclass(frozen=True)
class SealedMap:
    """A user's map whose texts cannot be read: what an order means, by a salted scrypt hash of its text or code.

    A text may be a patient's. To learn whether one is in the map it has to be guessed, at about 2 ms a guess.
    """

    salt: bytes = b""
    rows: Mapping[str, Meant] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def seal(self, key: str) -> str:
        """The hash of a text or code."""
        if key not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            found = hashlib.scrypt(key.encode("utf-8", "surrogatepass"), salt=self.salt, n=1 << 10, r=8, p=1, dklen=16)
            self._seen[key] = found.hex()
        return self._seen[key]

    def find(self, order: Order) -> Meant | None:
        """What the map says of an order: by its codes, then by its names; None where it says nothing."""
        if not self.rows:
            return None
        return next((self.rows[sealed] for key in _keys(order) if (sealed := self.seal(key)) in self.rows), None)


def _keys(order: Order) -> Iterator[str]:
    """The keys that a map may have an order under, those that win first."""
    for name in _CODES:
        value = getattr(order, name)
        for one in value if isinstance(value, tuple) else (value,) if value else ():
            yield _code(name, one)
    for name in order.name:
        yield tidy(name).lower()


def _code(namespace: str, value: str) -> str:
    value = (normalise_ndc(value) or value) if namespace == "ndc" else value.zfill(6) if namespace == "gsn" else value
    return f"{namespace}:{value.lower()}"


def parse_map(text: str, name: str) -> OwnMap:
    """The map of a CSV text; raises DataError naming the line that is wrong."""
    reader = csv.reader(io.StringIO(text.removeprefix("﻿")))
    header = [cell.strip().lower() for cell in next(reader, [])]
    if not {"order", "means"} <= set(header):
        raise DataError(f"{name} has columns {', '.join(header) or '(none)'}", hint=FIRST_LINE)
    left, right = header.index("order"), header.index("means")
    rows: dict[str, str] = {}
    for number, row in enumerate(reader, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(left, right) or not row[left].strip() or not row[right].strip():
            raise DataError(f"{name}, line {number}: a row needs an order and what it means", hint=FIRST_LINE)
        order, means = tidy(row[left]).lower(), tidy(row[right])
        namespace, colon, value = order.partition(":")
        key = _code(namespace, value.strip()) if colon and namespace in _CODES else order
        if rows.get(key, means) != means:
            raise DataError(f"{name}, line {number}: {row[left]!r} means {rows[key]!r} above and {means!r} here")
        rows[key] = means
    return OwnMap(rows)


def read_map_file(path: Path) -> OwnMap:
    """The map of a CSV file; raises UsageError when it cannot be read, DataError for a line that is wrong."""
    return parse_map(read_text(path, "--map"), path.name)
