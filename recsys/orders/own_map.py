"""The user's own map of orders: a CSV file with columns ``order`` and ``means``, which wins over everything else.

``order`` is a drug text as the source writes it (letter case and white space do not matter) or a code as
``NDC:00536338101``, ``GSN:001234``, ``HICL:2812``, ``RXCUI:1191``, ``CODE:…``. ``means`` is a drug's name, several
joined by ``+``, an ATC class as ``ATC:B05BA02``, or ``none`` for what is no drug.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kb.errors import DataError
from kb.identity.identifiers import normalise_ndc
from kb.inputs import read_text
from kb.normalise import tidy
from recsys.orders.order import Order

_CODES = ("ndc", "gsn", "hicl", "rxcui", "atc", "code")
FIRST_LINE = "the first line must be order,means; a row is e.g. hydrocerin,ATC:D02A"


@dataclass(frozen=True)
class OwnMap:
    """What a user says orders mean; stored with the cohort, and in no model, since its texts may be a patient's."""

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
        if not self.rows:
            return None
        for name in _CODES:
            value = getattr(order, name)
            for one in value if isinstance(value, tuple) else (value,) if value else ():
                if (means := self.rows.get(_code(name, one))) is not None:
                    return means
        return next((self.rows[text] for name in order.name if (text := tidy(name).lower()) in self.rows), None)


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
