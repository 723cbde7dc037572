"""What RDKit derives from a molecule, as a corpus: picture, conformer and properties of SMILES from outside."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from rdkit import Chem

from embed.source import Corpus, held
from kb.chemistry import read_smiles
from kb.compute.places import open_pool
from kb.compute.pool import Failure, PoolTask, cores, run_here
from kb.properties import PROPERTIES
from kb.sources.rdkit.compute import EMBED_SECONDS

DERIVED = ("image", "structure", "property")
_FUNCTIONS = {"image": "depict", "structure": "embed", "property": "property_payload"}
FEW = 16
"""Up to this many molecules are computed in this process."""


def derive(smiles: Sequence[str], texts: Sequence[Sequence[str]] | None = None,
           wanted: Collection[str] = DERIVED) -> Corpus:
    """Each molecule (or nothing, for an empty SMILES) with what is ``wanted`` of its derivatives, and its texts.

    The molecules must be readable (``kb.chemistry.read_smiles``). What RDKit fails at, a conformer mostly, is missing.
    """
    count = len(smiles)
    known = [row for row, text in enumerate(smiles) if text]
    made = {name: _computed(name, [smiles[row] for row in known]) for name in DERIVED if name in wanted}
    names = list(PROPERTIES)
    values = np.full((count, len(names)), np.nan)
    for row, payload in zip(known, made.get("property", []), strict=False):
        if payload is not None:
            for name, value in json.loads(payload).items():
                values[row, names.index(name)] = value
    pictures = [(row, png) for row, png in zip(known, made.get("image", []), strict=False) if png is not None]
    conformers = zip(known, made.get("structure", []), strict=False)
    shapes = [(row, one.molblock) for row, one in conformers if one is not None]
    written = [(row, text) for row, own in enumerate(texts or []) for text in own]
    blocks = [Chem.MolToInchiKey(read_smiles(text))[:14] if text else "" for text in smiles]
    return Corpus(
        -1 - np.arange(count), ["" for _ in smiles], [text or None for text in smiles], blocks,
        held([row for row, _ in written], [text for _, text in written]),
        held([row for row, _ in pictures], [png for _, png in pictures]),
        held([row for row, _ in shapes], [block for _, block in shapes]), names, values)


def _computed(name: str, smiles: Sequence[str]) -> list[Any]:
    """The derivative of each molecule, or None where there is none."""
    task = PoolTask(f"kb.sources.rdkit.compute:{_FUNCTIONS[name]}", seconds=1.5 * EMBED_SECONDS)
    out: list[Any] = [None] * len(smiles)
    if len(smiles) <= FEW:
        results = list(run_here(task, smiles))
    else:
        with open_pool("local", task, cores()) as pool:
            results = list(pool.map(smiles, 4))
    for number, result in results:
        out[number] = None if isinstance(result, Failure) else result
    return out
