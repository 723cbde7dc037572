"""Unseen molecules by what their structure foretells: predictions are compared with predictions.

A known drug's predicted vector is what the run would foretell of it without having seen it, so that an unseen molecule
meets its like. The stored vectors find the nearest hundred, which are then compared part by part
(``TransferHead.alike``): on validation drugs that found a drug of the class oftener by .013. Texts and places in the
graph are searched by the prediction itself, hubs corrected; among predicted vectors that correction brought nothing on
held-out drugs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.features.reduce import unit
from embed.runs import store
from embed.runs.embedder import Embedder
from embed.runs.schema import PREDICTED
from embed.source import read_corpus
from embed.transfer.head import Foretold, Traits, TransferHead
from kb.errors import NotFound, UsageError
from kb.query.read import Drugs

BASIS = "predicted from structure"
FOUND_IN = ("text", "graph")
CANDIDATES = 100
"""Drugs that the stored vectors propose at least, to be compared part by part."""


@dataclass(frozen=True)
class Compared:
    """Drugs whose structures were looked at: rows of the store, each with its place in ``traits``, −1 if unreadable."""

    place: dict[int, int]
    traits: Traits


class Predictions:
    """The stored predicted vectors of a run over known ``drugs``, to be searched by molecules."""

    def __init__(self, engine: Engine, run: Embedder, head: TransferHead, drugs: Drugs) -> None:
        self.engine, self.run, self.head, self.drugs = engine, run, head, drugs
        self._facts: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        self._compared: Compared | None = None

    @classmethod
    def of(cls, engine: Engine, run: Embedder, drugs: Drugs) -> Predictions | None:
        """The predictions of a run that has a head and stored vectors of it; None for others."""
        head = run.transfer
        if head is None:
            return None
        found = cls(engine, run, head, drugs)
        try:
            return found if len(found.stored.matrix) else None
        except NotFound:
            return None

    @cached_property
    def stored(self) -> store.Vectors:
        """The drugs' predicted vectors."""
        return store.read(self.engine, self.run.artefact.run_id, PREDICTED)

    def nearest(self, foretold: Foretold, k: int,
                also: Sequence[int] = ()) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """For each molecule ``(rows of stored, similarity)`` of the ``k`` nearest drugs and those ``also`` named.

        ``also`` are rows of ``stored`` that are compared in any case.
        """
        few = min(max(k, CANDIDATES), len(self.stored.matrix))
        found = [np.union1d(np.argpartition(-(self.stored.matrix @ wide), few - 1)[:few], np.asarray(also, np.int64))
                 for wide in foretold.wide]
        rows, traits = self._compare(np.unique(np.concatenate([np.empty(0, np.int64), *found])))
        similarity = self.head.alike(foretold.traits, traits)
        out = []
        for number, own in enumerate(found):
            own = np.intersect1d(own, rows)
            score = similarity[number, np.searchsorted(rows, own)]
            order = np.argsort(-score, kind="stable")
            kept = order[(np.arange(len(order)) < k) | np.isin(own[order], also)]
            out.append((own[kept], score[kept]))
        return out

    def _compare(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Traits]:
        """Those of the ascending ``rows`` of ``stored`` whose structure is readable, and what they are compared by.

        It is kept for the next question.
        """
        compared = self._compared
        new = [row for row in rows.tolist() if compared is None or row not in compared.place]
        if compared is None or new:
            smiles = [self._smiles.get(int(self.stored.drug_ids[row])) or "" for row in new]
            written = [k for k, text in enumerate(smiles) if text]
            read, more = self.run.foretell([smiles[k] for k in written])
            first, places = (0, {}) if compared is None else (len(compared.traits), dict(compared.place))
            places |= dict.fromkeys(new, -1) | {new[written[at]]: first + k for k, at in enumerate(read.tolist())}
            traits = more.traits if compared is None else compared.traits.joined(more.traits)
            compared = self._compared = Compared(places, traits)  # as a whole: another thread may be asking
        place = np.array([compared.place[row] for row in rows.tolist()], np.int64)
        return rows[place >= 0], compared.traits.take(place[place >= 0])

    @cached_property
    def _smiles(self) -> dict[int, str | None]:
        return dict(zip(self.drugs.ids.tolist(), self.drugs.smiles, strict=True))

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
