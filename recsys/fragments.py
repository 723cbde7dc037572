"""Which BRICS fragments of a medication's molecules matter: each is deleted, and the molecule encoded again.

The encoder is that of the embedding run which the recommender's vectors come from; without its folder on this disk,
or without molecules, there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kb.errors import CheckpointError
from kb.output import say
from kb.settings import Settings

if TYPE_CHECKING:
    from embed.inference import TrainedRun

FragmentReader = Callable[[Sequence[str]], list[tuple[str, np.ndarray]]]
"""From a medication's SMILES to (fragment as SMILES, float[D]: the change of its molecule vector without it)."""
MOLECULES = 3
"""A class of dozens of drugs is explained by its first few molecules."""


def fragment_reader(settings: Settings, vectors_run: str) -> FragmentReader | None:
    """A reader for the molecule encoder of that embedding run; None where its checkpoint is not on this disk."""
    from embed.inference import TrainedRun
    from embed.run_folder import pretrain_folder

    folder = pretrain_folder(settings) / vectors_run
    if not (folder / "best.pt").exists():
        return None
    try:
        encoder = TrainedRun(folder)
    except CheckpointError as error:
        say(f"fragments are left out: {error.message}")
        return None
    return lambda smiles: fragment_changes(encoder, smiles)


def fragment_changes(encoder: TrainedRun, smiles: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """(fragment, change of the mean molecule vector without it) for every fragment that can be deleted."""
    from rdkit import Chem

    from embed.explain import fragment_atoms, without_atoms

    total: dict[str, np.ndarray] = {}
    kept = [text for text in smiles[:MOLECULES] if Chem.MolFromSmiles(text) is not None]
    for text in kept:
        molecule = Chem.MolFromSmiles(text)
        whole = encoder.smiles([text])[0]
        for atoms in fragment_atoms(molecule):
            rest = without_atoms(molecule, atoms)
            if rest is None:
                continue
            left = encoder.smiles([rest])[0]
            name = str(Chem.MolFragmentToSmiles(molecule, list(atoms)))
            total[name] = total.get(name, 0.0) + np.asarray(left - whole) / len(kept)
    return list(total.items())
