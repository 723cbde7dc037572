"""Choosing what a listing shows: which columns, in which order, which rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kb.errors import UsageError
from kb.output import plain

_CONDITION = re.compile(r"(?P<name>[\w. %-]+?)\s*(?P<sign>!=|>=|<=|=|>|<)\s*(?P<value>.*)")
SHORT = 8
"""Letters of an id that a table shows; a command takes any beginning of an id that is one run's."""


def arrange(rows: Sequence[Mapping[str, Any]], shown: Sequence[str], *, columns: str = "", sort: str = "",
            where: Sequence[str] = ()) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The rows that meet all conditions, sorted, and the columns to show: ``shown`` unless ``columns`` names others.

    ``columns`` are names with commas between; ``sort`` is a name, ``-name`` the largest first; rows without that value
    come last. A condition is ``name=value``, also with ``!=``, ``<``, ``<=``, ``>`` and ``>=``; numbers are compared
    as numbers. Raises UsageError for a name that no row has.
    """
    known = list(dict.fromkeys([*shown, *(name for row in rows for name in row)]))
    chosen = tuple(_known(name.strip(), known) for name in columns.split(",")) if columns else tuple(shown)
    kept = [dict(row) for row in rows]
    for condition in where:
        found = _CONDITION.fullmatch(condition.strip())
        if found is None:
            raise UsageError(f"--where {condition!r} is no condition", hint="e.g. --where recommender=mkmed")
        name, sign, value = _known(found["name"], known), found["sign"], found["value"].strip()
        kept = [row for row in kept if _meets(row.get(name), sign, value)]
    if sort:
        name = _known(sort.removeprefix("-"), known)
        there = [row for row in kept if row.get(name) is not None]
        there.sort(key=lambda row: _order(row[name]), reverse=sort.startswith("-"))
        kept = [*there, *(row for row in kept if row.get(name) is None)]
    return kept, chosen


def shortened(rows: Sequence[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """The rows as a table shows them: ids of these columns cut to SHORT letters, times to the minute."""
    return [{name: _short(value, name in names) for name, value in row.items()} for row in rows]


def _short(value: Any, is_id: bool) -> Any:
    text = plain(value)
    if is_id and isinstance(text, str):
        return text[:SHORT]
    if isinstance(text, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:", text):
        return text[:16].replace("T", " ")
    return value


def _known(name: str, known: Sequence[str]) -> str:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(f"there is no column {name!r}",
                         hint=f"{f'did you mean {near[0]}? ' if near else ''}known: {', '.join(known)}")
    return name


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _order(value: Any) -> tuple[bool, float, str]:
    number = _number(value)
    return (number is None, number or 0.0, str(plain(value)))


def _meets(value: Any, sign: str, wanted: str) -> bool:
    if value is None:
        return sign == "!=" or (sign == "=" and wanted == "")
    own, other = _number(value), _number(wanted)
    if own is not None and other is not None:
        compared = (own > other) - (own < other)
    else:
        text = str(plain(value)).lower()
        compared = (text > wanted.lower()) - (text < wanted.lower())
    return {"=": compared == 0, "!=": compared != 0, "<": compared < 0, "<=": compared <= 0, ">": compared > 0,
            ">=": compared >= 0}[sign]
