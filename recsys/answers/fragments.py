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
from recsys.experiments.threads import one_thread

if TYPE_CHECKING:
    from embed.runs.embedder import Embedder

FragmentReader = Callable[[Sequence[str]], list[tuple[str, np.ndarray]]]
"""From SMILES to (fragment as SMILES, float32[len(smiles), D]: how each molecule's vector changes without it)."""
MOLECULES = 8
"""A class of dozens of drugs is explained by its first few molecules."""


def fragment_reader(settings: Settings, vectors_run: str) -> FragmentReader | None:
    """A reader for the molecule encoder of that embedding run; None where its checkpoint is not on this disk."""
    from embed.runs.folder import pretrain_folder

    folder = pretrain_folder(settings) / vectors_run
    from embed.runs.artefact import is_run

    if not is_run(folder):
        return None
    from embed.runs.embedder import Embedder

    try:
        encoder = Embedder.open(folder)
    except CheckpointError as error:
        say(f"fragments are left out: {error.message}")
        return None
    return lambda smiles: fragment_changes(encoder, smiles)


def fragment_changes(encoder: Embedder, smiles: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """(fragment, float32[len(smiles), D]: how each molecule's vector changes without it), all encoded in one pass."""
    pieces = [(place, name, rest) for place, text in enumerate(smiles) for name, rest in _without_fragments(text)]
    if not pieces:
        return []
    whole = sorted({place for place, _, _ in pieces})
    with one_thread():
        encoded = encoder.smiles([*(smiles[place] for place in whole), *(rest for _, _, rest in pieces)])
    of = dict(zip(whole, encoded, strict=False))
    total: dict[str, np.ndarray] = {}
    for (place, name, _), left in zip(pieces, encoded[len(whole):], strict=True):
        change = total.setdefault(name, np.zeros((len(smiles), encoded.shape[1]), np.float32))
        change[place] += left - of[place]
    return list(total.items())


def _without_fragments(smiles: str) -> list[tuple[str, str]]:
    """(fragment, the molecule without it) for every BRICS fragment that can be deleted; empty for what is no SMILES."""
    from rdkit import Chem

    from embed.explain import fragment_atoms, without_atoms
    from embed.features.molecule import parse

    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        return []
    parts = [(str(Chem.MolFragmentToSmiles(molecule, list(atoms))), without_atoms(molecule, atoms))
             for atoms in fragment_atoms(molecule)]
    return [(name, rest) for name, rest in parts if rest is not None and parse(rest) is not None]
