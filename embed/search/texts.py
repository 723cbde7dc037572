"""Free text: a drug's own name first, then three searches as one.

``sentence`` compares the frozen sentence encoder's vectors of the question and of each text, ``words`` is PostgreSQL's
full-text search with rare words counting more, ``aligned`` compares the run's text tower's vector with the fused ones.
Their rankings are joined by reciprocal rank fusion (Cormack et al. 2009), weighted by what did best on the dev
questions (``embed/evaluation/data/questions.tsv``, ``mkmed embed evaluate --part questions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, select, text

from embed import source
from embed.features.reduce import unit
from embed.runs import store
from embed.runs.textual import TextEmbedder
from embed.search.unusual import Reference, is_far
from kb.errors import DataError
from kb.query import read as query

PARTS = ("sentence", "words", "aligned")
WEIGHTS: Mapping[str, float] = {"sentence": 1.0, "words": 1.0, "aligned": 1.0}
DAMPING = 60
"""What is added to a rank before it is inverted."""
DEPTH = 200
"""Drugs of each ranking that are joined."""
WORDS = text("""
    WITH asked AS (
        SELECT lexeme, quote_literal(lexeme)::tsquery AS word FROM unnest(to_tsvector('english', :question))),
    hit AS (
        SELECT a.lexeme, t.drug_id, max(ts_rank(to_tsvector('english', left(t.content, 250000)), a.word, 1)) AS rank
        FROM asked a JOIN mkmed.text t ON to_tsvector('english', left(t.content, 250000)) @@ a.word
        GROUP BY a.lexeme, t.drug_id),
    rare AS (SELECT lexeme, ln(1 + (SELECT count(DISTINCT drug_id) FROM mkmed.text)::float8 / count(*)) AS weight
             FROM hit GROUP BY lexeme)
    SELECT drug_id, sum(weight * (0.2 + rank)) AS score FROM hit JOIN rare USING (lexeme)
    GROUP BY drug_id ORDER BY score DESC, drug_id LIMIT :depth""")


class TextSearch:
    """Questions in words, to one run over one knowledge base."""

    def __init__(self, engine: Engine, run: TextEmbedder) -> None:
        self.engine, self.run = engine, run
        self.reference = Reference.of(run.artefact)

    @cached_property
    def fused(self) -> store.Vectors:
        """The stored fused vectors."""
        return store.read(self.engine, self.run.artefact.run_id)

    @cached_property
    def _texts(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(drug id, unit sentence vector) of every text."""
        with self.engine.connect() as connection:
            ids = query.drugs(connection).ids
        items = source.read_payloads(self.engine, "text", ids, notes=self.run.config.text.notes)
        return ids[items.row], unit(self.run.sentence_features(items))

    def rankings(self, question: str) -> tuple[dict[str, list[int]], NDArray[np.float32]]:
        """``({part: drug ids, best first}, the question's sentence vector)``; raises DataError for an empty one."""
        if not question.strip():
            raise DataError("an empty text has no vector")
        sentence = unit(self.run.sentences([question]))
        ids, vectors = self._texts
        by_text = _best_each(ids, vectors @ sentence[0])
        aligned = self.fused.matrix @ self.run.aligned(sentence)[0]
        with self.engine.connect() as connection:
            words = [int(row.drug_id) for row in connection.execute(WORDS, {"question": question, "depth": DEPTH})]
        order = np.argsort(-aligned, kind="stable")[:DEPTH]
        found = {"sentence": by_text[:DEPTH], "words": words, "aligned": self.fused.drug_ids[order].tolist()}
        return found, sentence[0]

    def ask(self, question: str, k: int = 10) -> list[dict[str, Any]]:
        """The ``k`` drugs that answer best; a drug with this very name comes first, marked ``identical``.

        Each row has ``drug_id``, ``name``, ``relation``, ``score``, its rank in each part, ``unusual`` and ``far``.
        """
        found, sentence = self.rankings(question)
        score = fused_ranks(found, WEIGHTS)
        with self.engine.connect() as connection:
            own = connection.scalar(select(func.mkmed.find_drug(question.strip())))
            drugs = query.drugs(connection)
        name = dict(zip(drugs.ids.tolist(), drugs.names, strict=True))
        order = [i for i in score if i != own and i in name]
        order = [int(own), *order] if own is not None else order
        place = {part: {drug: rank for rank, drug in enumerate(ids, 1)} for part, ids in found.items()}
        unusual = self.reference.text(sentence)
        far = is_far(unusual)
        return [{
            "drug_id": i, "name": name[i], "relation": "identical" if i == own else "",
            "score": round(score.get(i, 0.0), 5), **{part: place[part].get(i) for part in PARTS}, "unusual": unusual,
            "far": far,
        } for i in order[:k]]


def fused_ranks(rankings: Mapping[str, list[int]], weights: Mapping[str, float],
                damping: int = DAMPING) -> dict[int, float]:
    """Reciprocal rank fusion: drug id to score, best first; ties go to the smaller id."""
    score: dict[int, float] = {}
    for part, ids in rankings.items():
        for rank, drug in enumerate(ids, 1):
            score[drug] = score.get(drug, 0.0) + weights.get(part, 0.0) / (damping + rank)
    return dict(sorted(score.items(), key=lambda pair: (-pair[1], pair[0])))


def _best_each(ids: NDArray[np.int64], similarity: NDArray[np.float32]) -> list[int]:
    """The drugs by their best text, best first."""
    order = np.argsort(-similarity, kind="stable")
    _, first = np.unique(ids[order], return_index=True)
    return [int(i) for i in ids[order][np.sort(first)]]
