"""An answer and its reasons as rows: three small tables for a reader, one rectangular table for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recsys.answers.recommend import Answer, Avoided, Coverage, Recommendation

if TYPE_CHECKING:
    from recsys.answers.explain import Explanation

CSV_COLUMNS = ("row", "code", "name", "probability", "given_before", "rests_on", "interactions", "reason", "change",
               "severity", "source", "coverage", "run", "warning")
"""``row`` says what a line is: recommended, avoided, alert, reason, not understood, not used or refused."""


def recommended_rows(items: Sequence[Recommendation]) -> list[dict[str, Any]]:
    """The recommended medications, lists as text."""
    return [_text(item._asdict()) for item in items]


def avoided_rows(items: Sequence[Avoided]) -> list[dict[str, Any]]:
    """The medications left out because of interactions, lists as text."""
    return [_text(item._asdict()) for item in items]


def coverage_lines(coverage: Coverage) -> list[str]:
    """How much of the patient is understood, and which codes have no influence, in sentences."""
    lines = [f"coverage {coverage.share:.0%}: {coverage.understood} of {coverage.given} codes are understood"]
    lines += [f"unknown {kind} codes, without influence: {', '.join(codes)}"
              for kind, codes in coverage.not_understood.items()]
    lines += [f"{text} was not in the training patients: read as {code}" for text, code in coverage.read_as.items()]
    return lines + [f"{kind} codes that this task does not read: {', '.join(codes)}"
                    for kind, codes in coverage.not_used.items()]


FAR = 0.95
"""The share of validation visits that are nearer, above which a reader is told."""


def drift_lines(answer: Answer) -> list[str]:
    """That the patient is unlike those of the cohort, where that is so."""
    if answer.farther_than is None or answer.farther_than < FAR:
        return []
    return [f"unlike the cohort: {answer.farther_than:.0%} of its validation visits are nearer to what was trained on"]


SHOWN_COVERAGE = 0.9


def set_lines(answer: Answer) -> list[str]:
    """The set of ``SHOWN_COVERAGE`` in a sentence; all sets are in the JSON."""
    recommended = {item.code for item in answer.recommended}
    lines = []
    for coverage, codes in answer.sets:
        if coverage == SHOWN_COVERAGE:
            others = [code for code in codes if code not in recommended]
            lines.append(f"{coverage:.0%} of what is given to such patients is on average among {len(codes)} "
                         f"medications; those not recommended: {', '.join(others) or 'none'}")
    return lines


def csv_rows(answer: Answer, reasons: Sequence[Explanation], limit: int | None = None) -> list[dict[str, Any]]:
    """Everything that the answer says, as lines with the columns CSV_COLUMNS; each carries the warning."""
    lines: list[dict[str, Any]] = []
    for taken in recommended_rows(answer.recommended[:limit]):
        lines.append({"row": "recommended", "interactions": taken.pop("accepted"), **taken})
    for left in avoided_rows(answer.avoided):
        lines.append({"row": "avoided", "interactions": left.pop("because_of"), **left})
    for alert in answer.alerts:
        lines.append({"row": "alert", "code": alert.code, "interactions": alert.other, "reason": alert.text,
                      "severity": alert.severity, "source": alert.source})
    for row, listed in (("not understood", answer.coverage.not_understood), ("not used", answer.coverage.not_used)):
        lines += [{"row": row, "code": code, "reason": f"{kind} code without influence"}
                  for kind, codes in listed.items() for code in codes]
    if answer.refused:
        lines.append({"row": "refused", "reason": answer.refused})
    for explanation in reasons:
        head = {"row": "reason", "code": explanation.code, "name": explanation.name,
                "probability": explanation.probability}
        lines += [{**head, "reason": row["because of"], "change": row["change"]} for row in explanation.rows()]
    foot = {"coverage": round(answer.coverage.share, 4), "run": answer.run, "warning": answer.warning}
    return [{**line, **foot} for line in lines] or [{"row": "nothing recommended", **foot}]


def _text(row: dict[str, Any]) -> dict[str, Any]:
    return {name: ", ".join(value) if isinstance(value, tuple) else value for name, value in row.items()}
