"""Free-text search on judged questions: precision at ten of each part, of their fusion, and of the best part.

``data/questions.tsv`` has the questions, the ATC prefixes that answer each, and the reason; it was written before any
answer was looked at. Settings are chosen on its dev half; figures are of its test half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.search.texts import PARTS, WEIGHTS, TextSearch, fused_ranks
from kb.query import read as query

K = 10
DRAWS = 10_000


@dataclass(frozen=True)
class Question:
    """A question, its half (``dev`` or ``test``), and the ATC prefixes of the drugs that answer it."""

    number: int
    half: str
    text: str
    answers: tuple[str, ...]


def questions() -> list[Question]:
    """The judged questions."""
    lines = (files("embed") / "evaluation" / "data" / "questions.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [Question(int(number), half, text, tuple(answers.split())) for number, half, text, answers, _ in rows]


def precision(ids: Sequence[int], right: set[int], k: int = K) -> float:
    """The share of the first ``k`` answers that are right; a missing answer is wrong."""
    return sum(drug in right for drug in ids[:k]) / k


def judged(engine: Engine, asked: Sequence[Question]) -> list[set[int]]:
    """The drugs that answer each question."""
    with engine.connect() as connection:
        codes = query.atc(connection)
    return [{drug for drug, code in codes if code.startswith(one.answers)} for one in asked]


def measure(search: TextSearch, asked: Sequence[Question], right: Sequence[set[int]],
            weights: Mapping[str, float] = WEIGHTS) -> dict[str, NDArray[np.float64]]:
    """Precision at ten of each part and of their fusion (``hybrid``), one value a question."""
    found: dict[str, list[float]] = {name: [] for name in (*PARTS, "hybrid")}
    for one, answers in zip(asked, right, strict=True):
        rankings, _ = search.rankings(one.text)
        for name, ids in rankings.items():
            found[name].append(precision(ids, answers))
        found["hybrid"].append(precision(list(fused_ranks(rankings, weights)), answers))
    return {name: np.array(values) for name, values in found.items()}


def question_rows(engine: Engine, search: TextSearch, half: str = "test") -> list[dict[str, Any]]:
    """P@10 of each part and of the hybrid, with the hybrid's difference to each and its 95 % bootstrap interval."""
    asked = [one for one in questions() if one.half == half]
    found = measure(search, asked, judged(engine, asked))
    draws = np.random.default_rng(0).integers(0, len(asked), (DRAWS, len(asked)))
    rows = []
    for name, values in found.items():
        gain = found["hybrid"] - values
        low, high = np.quantile(gain[draws].mean(1), [0.025, 0.975])
        rows.append({"search": name, "questions": len(asked), "P@10": float(values.mean()),
                     "hybrid minus this": float(gain.mean()), "low": float(low), "high": float(high)})
    return rows
