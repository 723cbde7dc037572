"""Unseen molecules by what their structure foretells: predictions are compared with predictions.

A known drug's predicted vector is what the run would foretell of it without having seen it, so that an unseen molecule
meets its like. Texts and places in the graph are searched by the prediction itself, hubs corrected; among predicted
vectors that correction brought nothing on held-out drugs.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.features.reduce import unit
from embed.runs import store
from embed.runs.embedder import Embedder
from embed.runs.schema import PREDICTED
from embed.source import read_corpus
from embed.transfer.head import Foretold, TransferHead
from kb.errors import NotFound, UsageError

BASIS = "predicted from structure"
FOUND_IN = ("text", "graph")


class Predictions:
    """The stored predicted vectors of a run, to be searched by molecules."""

    def __init__(self, engine: Engine, run: Embedder, head: TransferHead) -> None:
        self.engine, self.run, self.head = engine, run, head
        self._facts: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

    @classmethod
    def of(cls, engine: Engine, run: Embedder) -> Predictions | None:
        """The predictions of a run that has a head and stored vectors of it; None for others."""
        head = run.transfer
        if head is None:
            return None
        found = cls(engine, run, head)
        try:
            return found if len(found.stored.matrix) else None
        except NotFound:
            return None

    @cached_property
    def stored(self) -> store.Vectors:
        """The drugs' predicted vectors."""
        return store.read(self.engine, self.run.artefact.run_id, PREDICTED)

    def nearest(self, wide: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """``(rows of stored, similarity)`` of the ``k`` drugs nearest to one wide vector (W,)."""
        similarity = self.stored.matrix @ wide
        few = min(k, len(similarity))
        rows = np.argpartition(-similarity, few - 1)[:few] if few else np.empty(0, np.int64)
        order = rows[np.argsort(-similarity[rows], kind="stable")]
        return order, similarity[order].astype(np.float32)

    def facts(self, kind: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """``(drug ids, vectors)``: what is known of the drugs, as the head foretells it; UsageError for other kinds."""
        if kind not in self.head.targets or kind not in FOUND_IN:
            raise UsageError(f"no {kind} is foretold from a structure",
                             hint=f"one of: {', '.join(name for name in FOUND_IN if name in self.head.targets)}")
        if kind not in self._facts:
            import torch

            from embed.training.inputs import build_inputs

            corpus = read_corpus(self.engine, **self.run.corpus_options())  # type: ignore[arg-type]
            inputs = build_inputs(corpus, self.run.config, self.run.cache, torch.device("cpu"), np.empty(0, np.int64),
                                  self.run.fitted, names=self.run.names, only=[kind])
            matrix, place = inputs.raw[kind]
            has = np.flatnonzero(place >= 0)
            self._facts[kind] = corpus.drug_ids[has], unit(matrix[place[has]].astype(np.float32))
        return self._facts[kind]

    def across(self, foretold: Foretold, kind: str, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """``(drug ids, match)`` of the ``k`` drugs whose ``kind`` fits one molecule's prediction best."""
        ids, vectors = self.facts(kind)
        match = self.head.match(kind, foretold.vectors[kind], vectors)[0]
        order = np.argsort(-match, kind="stable")[:k]
        return ids[order], match[order]

    def sure(self, foretold: Foretold, row: int = 0) -> float:
        """How near to the truth a molecule's predictions are expected to be: the mean cosine over texts and graph."""
        known = [foretold.agreement[name][row] for name in FOUND_IN if name in foretold.agreement]
        known = known or [foretold.agreement[name][row] for name in foretold.agreement]
        return round(float(np.mean(known)), 3)
