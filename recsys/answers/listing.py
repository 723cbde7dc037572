"""An answer and its reasons as rows: three small tables for a reader, one rectangular table for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recsys.answers.recommend import Answer, Avoided, Recommendation

if TYPE_CHECKING:
    from recsys.answers.explain import Explanation

CSV_COLUMNS = ("row", "code", "name", "probability", "given_before", "rests_on", "interactions", "reason", "change",
               "run", "warning")
"""``row`` says what a line is: recommended, avoided, reason or unknown."""


def recommended_rows(items: Sequence[Recommendation]) -> list[dict[str, Any]]:
    """The recommended medications, lists as text."""
    return [_text(item._asdict()) for item in items]


def avoided_rows(items: Sequence[Avoided]) -> list[dict[str, Any]]:
    """The medications left out because of interactions, lists as text."""
    return [_text(item._asdict()) for item in items]


def csv_rows(answer: Answer, reasons: Sequence[Explanation], limit: int | None = None) -> list[dict[str, Any]]:
    """Everything that the answer says, as lines with the columns CSV_COLUMNS; each carries the warning."""
    lines: list[dict[str, Any]] = []
    for taken in recommended_rows(answer.recommended[:limit]):
        lines.append({"row": "recommended", "interactions": taken.pop("accepted"), **taken})
    for left in avoided_rows(answer.avoided):
        lines.append({"row": "avoided", "interactions": left.pop("because_of"), **left})
    for kind, codes in answer.unknown.items():
        lines += [{"row": "unknown", "code": code, "reason": f"{kind} code without influence"} for code in codes]
    for explanation in reasons:
        head = {"row": "reason", "code": explanation.code, "name": explanation.name,
                "probability": explanation.probability}
        lines += [{**head, "reason": row["because of"], "change": row["change"]} for row in explanation.rows()]
    return [{**line, "run": answer.run, "warning": answer.warning} for line in lines] or [
        {"row": "nothing recommended", "run": answer.run, "warning": answer.warning}]


def _text(row: dict[str, Any]) -> dict[str, Any]:
    return {name: ", ".join(value) if isinstance(value, tuple) else value for name, value in row.items()}
