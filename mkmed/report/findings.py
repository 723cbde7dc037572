"""The three findings that a report opens with, each a sentence of figures and what they do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkmed.report.collect import Findings


def three(findings: Findings) -> list[dict[str, str]]:
    """What the knowledge base holds, what training the vectors added, and how the recommender stands to its rivals.

    Each has ``about`` and ``text``. One that cannot be said yet names the command that makes it.
    """
    return [{"about": "Knowledge", "text": _knowledge(findings)}, {"about": "Vectors", "text": _vectors(findings)},
            {"about": "Recommender", "text": _recommender(findings)}]


def empty_drugs(findings: Findings) -> int:
    """Drugs of which nothing is known in any modality: names and identifiers alone."""
    return sum(bucket.drugs for bucket in findings.found if bucket.modalities == 0)


def _knowledge(findings: Findings) -> str:
    total, empty = sum(bucket.drugs for bucket in findings.found), empty_drugs(findings)
    known = total - empty
    if not known:
        return "Nothing is known of any drug yet: mkmed kb ingest --source corpus."
    whole = sum(bucket.drugs for bucket in findings.found if bucket.modalities == len(bucket.has))
    apart = f" {empty:,} more are names without any modality, and are counted apart." if empty else ""
    return (f"{known:,} drugs have at least one modality; {whole:,} of them ({whole / known:.1%}) have all five, which"
            f" is what a system that needs everything would keep.{apart}")


def _vectors(findings: Findings) -> str:
    rows = [row for row in (findings.evaluation or {}).get("classes", []) if isinstance(row.get("level_3"), float)]
    ours = [row for row in rows if row.get("ours")]
    if not ours:
        return "The vectors are not evaluated yet: mkmed embed evaluate."
    drugs = ours[0]["drugs"]
    mine = max((row for row in ours if row["drugs"] == drugs), key=lambda row: row["level_3"])
    rivals = [row for row in rows if row["drugs"] == drugs and not row.get("ours")]
    said = (f"The nearest neighbour of a drug by {mine['vectors']} is of its ATC level 3 class for"
            f" {mine['level_3']:.1%} of {mine['queries']:,} drugs ({drugs})")
    if not rivals:
        return f"{said}; nothing was set beside it."
    best = max(rivals, key=lambda row: row["level_3"])
    low, high = best.get("low"), best.get("high")
    verdict = f"; the best untrained rival, {best['vectors']}, has {best['level_3']:.1%}"
    if isinstance(low, float) and isinstance(high, float):
        verdict += f" (difference {low:+.3f} to {high:+.3f}, {_direction(low, high)})"
    return f"{said}{verdict}."


def _direction(low: float, high: float) -> str:
    if low > 0:
        return "ours is better"
    return "ours is worse" if high < 0 else "no difference is shown"


def _recommender(findings: Findings) -> str:
    rows = findings.recommenders
    if not rows:
        return "No recommender was trained yet: mkmed recsys train."
    mine: Any = next((row for row in rows if row["recommender"].startswith("mkmed")), None)
    others = [row for row in rows if row is not mine]
    if mine is None or not others:
        only = rows[0]
        return f"{only['recommender']} alone was trained: a Jaccard of {_interval(only)}, with nothing beside it."
    best = max(others, key=lambda row: row["per_visit"]["jaccard"])
    (low, high), (other_low, other_high) = mine["intervals"]["jaccard"], best["intervals"]["jaccard"]
    apart = low > other_high or high < other_low
    verdict = ("the intervals lie apart" if apart else
               "the intervals overlap: mkmed recsys compare tells by the same patients whether one is better")
    return (f"{mine['recommender']} has a Jaccard of {_interval(mine)}, the best other, {best['recommender']},"
            f" {_interval(best)}, on {mine['patients']:,} test patients; {verdict}.")


def _interval(row: dict[str, Any]) -> str:
    low, high = row["intervals"]["jaccard"]
    return f"{row['per_visit']['jaccard']:.3f} ({low:.3f} to {high:.3f})"
