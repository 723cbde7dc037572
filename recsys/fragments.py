"""Which BRICS fragments of a medication's molecules the molecule encoder of its vectors' run attends to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from kb.errors import CheckpointError
from kb.output import say
from kb.settings import Settings

FragmentReader = Callable[[Sequence[str]], list[tuple[str, float]]]
"""From the SMILES of a medication to (fragment as SMILES, mean attention), strongest first."""


def fragment_reader(settings: Settings, vectors_run: str) -> FragmentReader | None:
    """A reader for the molecule encoder of that embedding run; None where its checkpoint is not on this disk."""
    found = sorted(settings.runs.glob(f"*/{vectors_run}/best.pt")) if vectors_run.count("-") == 4 else []
    if not found:
        return None
    return lambda smiles: fragment_attention(found[0], tuple(smiles))


@lru_cache(maxsize=512)
def fragment_attention(path: Path, smiles: tuple[str, ...]) -> list[tuple[str, float]]:
    """The fragments of these molecules with the mean attention of their molecule; shares of one molecule sum to 1."""
    import torch
    from rdkit import Chem

    from embed.data import PackedTensors, both_directions, collate_molecules
    from embed.features.molecule import featurise

    encoder = _encoder(path)
    done, items = featurise(list(smiles))
    if encoder is None or not done:
        return []
    packed = PackedTensors(both_directions(items), torch.device("cpu"))
    inputs = collate_molecules(packed, torch.arange(len(done)))
    with torch.inference_mode():
        _, weight = encoder.attend(inputs)
    if weight is None:
        return []
    total: dict[str, float] = defaultdict(float)
    for atoms, share in zip(_members(inputs["fragment"].tolist(), len(weight)), weight.tolist(), strict=True):
        number = int(inputs["molecule"][atoms[0]])
        first = int((inputs["molecule"] < number).sum())
        molecule = Chem.MolFromSmiles(smiles[done[number]])
        total[Chem.MolFragmentToSmiles(molecule, [atom - first for atom in atoms])] += share / len(done)
    return sorted(total.items(), key=lambda item: -item[1])


def _members(labels: Sequence[int], count: int) -> list[list[int]]:
    members: list[list[int]] = [[] for _ in range(count)]
    for atom, label in enumerate(labels):
        members[label].append(atom)
    return members


@lru_cache(maxsize=2)
def _encoder(path: Path) -> Any:
    from embed.checkpoint import load
    from embed.model import rebuild_model
    from embed.schema import ANCHOR

    try:
        tensors, meta = load(path)
    except CheckpointError as error:
        say(f"fragments are left out: {error.message}")
        return None
    towers = dict(rebuild_model(meta["model"], tensors["model"]).towers.items())
    return towers.get(ANCHOR)
