"""Vectors for what is not in the knowledge base: a text or a SMILES from outside, through a run's own encoders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import PretrainConfig
from embed.data import make_table
from embed.features import fingerprint, molecule
from embed.features.packed import Packed, vectors
from embed.features.reduce import Projection, unit
from embed.loaded import load_model
from embed.model import AlignmentModel
from embed.registry import ANCHOR, TEXT_MODELS
from embed.run_folder import read_config
from kb.errors import CheckpointError, DataError, NotFound


@dataclass(frozen=True)
class Translator:
    """A run's encoders, without the knowledge base."""

    config: PretrainConfig
    model: AlignmentModel
    projections: dict[str, Projection]
    folder: Path

    def of_text(self, text: str) -> NDArray[np.float32]:
        """The fused vector [D] of a text alone."""
        if "text" not in self.model.names:
            raise NotFound("the run has no text tower", hint="mkmed embed pretrain --modalities text,…")
        if not text.strip():
            raise DataError("the text is empty")
        encoder = TEXT_MODELS[self.config.text.model](self.config.text, torch.device("cpu"))
        trained_with = json.loads((self.folder / "env.json").read_text()).get("encoders", {}).get("text")
        if trained_with is not None and trained_with != json.loads(json.dumps(encoder.identity)):
            raise CheckpointError(
                "the run was trained with another text encoder than is installed now", hint=f"it was {trained_with}"
            )
        features = self.projections["text"].apply(unit(encoder.encode([text])))
        return self._fused("text", vectors(features))

    def of_smiles(self, smiles: str) -> NDArray[np.float32]:
        """The fused vector [D] of a molecule alone; raises DataError when RDKit cannot read it."""
        return self._fused(ANCHOR, self.molecule(smiles))

    def molecule(self, smiles: str) -> Packed:
        """The features of one molecule."""
        done, items = molecule.featurise([smiles])
        if not done:
            raise DataError(f"{smiles!r} is not a molecule that RDKit reads", hint="check the SMILES")
        if ANCHOR in self.projections:
            bits = self.config.molecule.fingerprint_bits
            _, counts = fingerprint.fingerprints([smiles], bits)
            reduced = self.projections[ANCHOR].apply(counts.columns["vector"].astype(np.float32))
            items = Packed(items.n, {**items.columns, "vector": reduced}, items.indptr)
        return items

    @torch.no_grad()
    def tower(self, name: str, items: Packed) -> NDArray[np.float32]:
        """The unit vectors [n, D] of one tower for ``items``."""
        table = make_table(name, items, np.arange(items.n), torch.device("cpu"))
        _, inputs = table.inputs(torch.arange(items.n))
        encoded: NDArray[np.float32] = self.model.encode(name, inputs).numpy()
        return encoded

    @torch.no_grad()
    def _fused(self, name: str, items: Packed) -> NDArray[np.float32]:
        column = self.model.names.index(name)
        z = torch.zeros(1, len(self.model.names), self.model.width)
        z[0, column] = torch.from_numpy(self.tower(name, items)[0])
        present = torch.zeros(1, len(self.model.names), dtype=torch.bool)
        present[0, column] = True
        fused: NDArray[np.float32] = self.model.fusion(z, present)[0].numpy()
        return fused


def open_translator(folder: Path) -> Translator:
    """The encoders of the run in ``folder``."""
    model, projections = load_model(folder)
    return Translator(read_config(folder), model, projections, folder)
