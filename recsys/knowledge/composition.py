"""What medications' vectors are made of: their drugs' vectors in each modality, and the fusion that joins them.

A published vector is ``fusion(z, present)`` of one drug, a medication's the normalised mean over its drugs. With the
parts at hand a modality or a fragment can be left out of exactly that, and the fusion can go on learning.
Letters: U drugs, M modalities (the molecule among them), D their width, K medications.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed.registry import ANCHOR, FUSIONS
from kb.errors import CheckpointError, NotFound
from kb.output import say

if TYPE_CHECKING:
    import uuid

    import torch
    from sqlalchemy import Engine
    from torch import Tensor

    from embed.alignment.fusion import WeightedFusion
    from embed.features.packed import Packed

CLOSE = 2e-3
"""Half-precision vectors of the store differ by this much at most from what the fusion gives again."""


@dataclass(frozen=True, eq=False)
class Tower:
    """The embedding run's molecule encoder, ready to go on learning."""

    kwargs: dict[str, Any]
    weights: Mapping[str, np.ndarray]
    drugs: np.ndarray
    """int64[n]: rows of the composition's ``z`` whose molecules ``items`` are."""
    items: Packed | None
    """The molecules' features; not stored with a recommender, which needs them no more."""


@dataclass(frozen=True, eq=False)
class Composition:
    """The drugs of K medications, each with its vector in every modality that it has."""

    size: int
    """K."""
    names: tuple[str, ...]
    """The modalities in the fusion's order."""
    medication: np.ndarray
    """int64[pairs], with ``drug``: which medication has which drug."""
    drug: np.ndarray
    """int64[pairs]: rows of ``z``, in rising order within a medication."""
    z: np.ndarray
    """float32[U, M, D], zero where absent."""
    present: np.ndarray
    """bool[U, M]."""
    smiles: tuple[str, ...]
    """Each drug's molecule, empty without one."""
    fusion: str
    """A name in embed.registry.FUSIONS."""
    weights: Mapping[str, np.ndarray]
    """The fusion's trained state."""
    tower: Tower | None = None
    """The molecule encoder, where it is to go on learning."""

    @cached_property
    def module(self) -> WeightedFusion:
        """The trained fusion, in evaluation mode; not to be changed."""
        return self.fresh_fusion()

    @cached_property
    def whole(self) -> np.ndarray:
        """float32[K, D]: the medications' vectors with everything that their drugs have."""
        return self.vectors()

    def fresh_fusion(self) -> WeightedFusion:
        """A copy of the trained fusion, in evaluation mode."""
        import torch

        module: WeightedFusion = FUSIONS[self.fusion](len(self.names), self.z.shape[2])
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in self.weights.items()})
        return module.eval()

    def vectors(self, present: np.ndarray | None = None) -> np.ndarray:
        """float32[K, D]: the medications' vectors; ``present`` bool[U, M] leaves out more than is missing."""
        import torch

        z, has = torch.from_numpy(self.z), torch.from_numpy(self.present if present is None else present)
        with torch.no_grad():
            return joined_vectors(self.module, z, has, torch.from_numpy(self.medication), torch.from_numpy(self.drug),
                        self.size).numpy()

    def without(self, name: str) -> np.ndarray:
        """float32[K, D]: the medications' vectors without one modality; zero where nothing is left.

        A modality that the run was not trained with is in no vector, and leaving it out changes nothing.
        """
        if name not in self.names:
            return self.vectors()
        present = self.present.copy()
        present[:, self.names.index(name)] = False
        return self.vectors(present=present)

    def molecules(self, medication: int, limit: int) -> np.ndarray:
        """int64: the first ``limit`` drugs of a medication whose vector rests on a molecule."""
        drugs = self.drug[self.medication == medication]
        if ANCHOR not in self.names:
            return drugs[:0]
        return drugs[self.present[drugs, self.names.index(ANCHOR)]][:limit]

    def with_molecules(self, medication: int, drugs: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """float32[D]: a medication's vector after the molecule vectors of some of its drugs moved by ``changes``."""
        import torch

        own = self.drug[self.medication == medication]
        z = torch.from_numpy(self.z[own])
        z[np.searchsorted(own, drugs), self.names.index(ANCHOR)] += torch.from_numpy(changes)
        rows = torch.arange(len(own))
        with torch.no_grad():
            present = torch.from_numpy(self.present[own])
            moved: np.ndarray = joined_vectors(self.module, z, present, rows * 0, rows, 1)[0].numpy()
        return moved


def joined_vectors(
    fusion: torch.nn.Module, z: Tensor, present: Tensor, medication: Tensor, drug: Tensor, size: int
) -> Tensor:
    """[K, D]: the normalised mean over each medication's drugs of their fused vectors; zero where none has any."""
    some = present.any(1)
    fused = fusion(z, present) * some[:, None]
    total = z.new_zeros(size, z.shape[2]).index_add(0, medication, fused[drug])
    count = z.new_zeros(size).index_add(0, medication, some[drug].to(z.dtype))
    mean = total / count.clamp(min=1)[:, None]
    return mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-6)


def read_composition(engine: Engine, run: uuid.UUID, folder: Path, drugs: Sequence[Sequence[int]],
                     smiles_of: Mapping[int, str | None], published: np.ndarray, *,
                     encoder: bool = False) -> Composition | None:
    """The composition of the medications' published vectors; None, with a word why, when it cannot be had.

    ``folder`` is the run's; ``published`` float32[K, D] is what the parts must give; ``encoder`` adds the tower.
    """
    from embed.runs import artefact

    try:
        weights, arguments = artefact.load(folder).weights()
    except (CheckpointError, NotFound) as error:
        why = "is not on this disk" if isinstance(error, NotFound) else f"cannot be read ({error.message})"
        say(f"embedding run {str(run)[:8]} {why}: explanations will average its modalities instead of fusing them as it"
            " does")
        return None
    fusion = {name.removeprefix("fusion."): value for name, value in weights.items() if name.startswith("fusion.")}
    made = _composed(engine, run, arguments, fusion, drugs, smiles_of)
    gap = float(np.abs(made.vectors() - published).max(initial=0.0))
    if gap > CLOSE:
        say(f"the weights of embedding run {str(run)[:8]} do not give its published vectors (off by {gap:.3f}):"
            " explanations will average its modalities")
        return None
    return replace(made, tower=_tower(folder, made)) if encoder else made


def _tower(folder: Path, parts: Composition) -> Tower:
    """The run's molecule encoder with the features of all molecules that the vectors rest on."""
    from embed.runs.embedder import Embedder

    run = Embedder.open(folder)
    drugs = np.flatnonzero(parts.present[:, parts.names.index(ANCHOR)])
    weights = {name: tensor.numpy() for name, tensor in run.model.towers[ANCHOR].state_dict().items()}
    kwargs = {"width": run.width, **run.model.kwargs["towers"][ANCHOR]}
    return Tower(kwargs, weights, drugs, run.molecules([parts.smiles[drug] for drug in drugs]))


def _composed(engine: Engine, run: uuid.UUID, model: Mapping[str, Any], weights: Mapping[str, np.ndarray],
              drugs: Sequence[Sequence[int]], smiles_of: Mapping[int, str | None]) -> Composition:
    from embed.runs.store import read

    names = tuple(model["towers"])
    ids = np.array(sorted({drug for members in drugs for drug in members}), np.int64)
    z = np.zeros((len(ids), len(names), model["width"]), np.float32)
    present = np.zeros((len(ids), len(names)), bool)
    for column, name in enumerate(names):
        try:
            part = read(engine, run, name)
        except NotFound:
            continue  # no drug of the run has this modality
        _, here, there = np.intersect1d(ids, part.drug_ids, assume_unique=True, return_indices=True)
        z[here, column], present[here, column] = part.matrix[there], True
    pairs = [(medication, drug) for medication, members in enumerate(drugs) for drug in sorted(members)]
    medication, drug = np.array(pairs, np.int64).reshape(-1, 2).T
    return Composition(len(drugs), names, medication.copy(), np.searchsorted(ids, drug), z, present,
                       tuple(smiles_of.get(int(i)) or "" for i in ids), str(model["fusion"]), weights)
