"""A trained run, loaded to embed what is not in the knowledge base: a new text, a new SMILES."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import PretrainConfig, from_json
from embed.features import fingerprint, molecule, reduce
from embed.features.cache import FeatureCache, sha256
from embed.features.frozen import FrozenModel
from embed.features.packed import Packed, vectors
from embed.features.reduce import Projection
from embed.registry import ANCHOR, TEXT_MODELS
from embed.runs import checkpoint
from embed.training.data import make_table
from embed.training.model import AlignmentModel, rebuild_model
from kb.errors import DataError, UsageError

Vectors = NDArray[np.float32]


class TrainedRun:
    """The best checkpoint of a run folder, on the CPU: ``texts`` and ``smiles`` give unit vectors in its space."""

    def __init__(self, folder: Path) -> None:
        tensors, meta = checkpoint.load(folder / "best.pt")
        self.model: AlignmentModel = rebuild_model(meta["model"], tensors["model"])
        self.config: PretrainConfig = from_json(meta["config"])
        states = tensors["extra"].get("projections", {})
        self.projections: dict[str, Projection] = {name: reduce.from_state(state) for name, state in states.items()}
        self.device = torch.device("cpu")

    def _needs(self, name: str) -> None:
        if name not in self.model.names:
            raise UsageError(f"this run has no {name} tower", hint=f"it has: {', '.join(self.model.names)}")

    @torch.no_grad()
    def _embed(self, name: str, items: Packed) -> Vectors:
        table = make_table(name, items, np.arange(items.n), self.device)
        _, inputs = table.inputs(torch.arange(items.n))
        out: Vectors = self.model.encode(name, inputs).numpy()
        return out

    def texts(self, texts: Sequence[str]) -> Vectors:
        """The text tower's vectors (n, D) of free texts, of any length; raises UsageError without a text tower."""
        if not all(text.strip() for text in texts):
            raise DataError("an empty text has no vector")
        return self.aligned(self.sentences(texts))

    def sentences(self, texts: Sequence[str], cache: FeatureCache | None = None) -> Vectors:
        """The frozen sentence encoder's vectors (n, F) of texts; those that ``cache`` has are not computed again."""
        self._needs("text")
        frozen: FrozenModel = TEXT_MODELS[self.config.text.model](self.config.text, self.device)
        if cache is None:
            return frozen.encode(list(texts))

        def run(indices: list[int]) -> tuple[list[int], Packed]:
            return indices, vectors(frozen.encode([texts[i] for i in indices]))

        position, found = cache.get(f"text-{frozen.name}", frozen.version, [sha256(text) for text in texts], run)
        assert found is not None  # a text model has a vector for every text
        kept: Vectors = found.columns["vector"][position].astype(np.float32)
        return kept

    def aligned(self, sentences: Vectors) -> Vectors:
        """The text tower's vectors (n, D) of the sentence encoder's."""
        return self._embed("text", vectors(self.projections["text"].apply(sentences)))

    def smiles(self, smiles: Sequence[str]) -> Vectors:
        """The anchor's vectors (n, D); raises DataError, which names it, for a SMILES that is none."""
        return self._embed(ANCHOR, self.molecules(smiles))

    def molecules(self, smiles: Sequence[str]) -> Packed:
        """The packed inputs of the molecule tower."""
        done, items = molecule.featurise(smiles)
        if len(done) != len(smiles):
            wrong = next(text for i, text in enumerate(smiles) if i not in set(done))
            raise DataError(f"not a SMILES of 1 to {molecule.MAX_ATOMS} atoms: {wrong[:80]!r}")
        bits = self.config.molecule.fingerprint_bits
        if not bits:
            return items
        _, counts = fingerprint.fingerprints(smiles, bits)
        vector = self.projections[ANCHOR].apply(counts.columns["vector"].astype(np.float32))
        return Packed(items.n, {**items.columns, "vector": vector}, items.indptr)

    @torch.no_grad()
    def fragment_shares(self, smiles: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """``(fragment of each atom, share of each fragment)``: how much the molecule attends to its BRICS fragments.

        Raises UsageError if the run's anchor has no fragments.
        """
        items = self.molecules([smiles])
        table = make_table(ANCHOR, items, np.arange(1), self.device)
        _, inputs = table.inputs(torch.arange(1))
        _, weight = self.model.towers[ANCHOR].attend(inputs)  # type: ignore[operator]
        if weight is None:
            raise UsageError("this run's anchor has no fragments", hint="train one with molecule.fragments=true")
        return items.columns["atom.fragment"].astype(np.int64), weight.numpy()
