"""A small made-up corpus for the embedding tests: real molecules, vectors that share a hidden cause."""

from __future__ import annotations

import numpy as np
import torch

from embed.features.molecule import featurise
from embed.features.packed import Packed, vectors
from embed.training.data import Dataset, make_table

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "CN(C)C(=N)N=C(N)N",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "COc1ccc2cc(ccc2c1)C(C)C(=O)O", "OC(=O)c1ccccc1O",
    "CC12CCC3C(CCC4=CC(=O)CCC34C)C1CCC2O",
    "CN1CCC23C4Oc5c3c(CC1C2C=CC4O)ccc5O", "C1CCCCC1", "CCO", "NCCc1ccc(O)c(O)c1", "CC(N)Cc1ccccc1",
    "OCC1OC(O)C(O)C(O)C1O", "C[C@H](N)C(=O)O", "C/C=C/C", "[Na+].[Cl-]", "c1ccc2c(c1)cccc2", "O=C(O)CCC(=O)O",
    "CS(=O)C",
]


def molecules(count: int = 20) -> Packed:
    """The packed graphs of the first molecules."""
    done, items = featurise(SMILES[:count])
    assert done == list(range(count))
    return items


def dataset(n: int = 20, *, seed: int = 0, missing: float = 0.0, device: str = "cpu") -> Dataset:
    """``n`` drugs (at most 20 distinct molecules) with a molecule, a text and a graph vector, some of them missing."""
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=(n, 12))
    where = torch.device(device)
    tables = {"molecule": make_table("molecule", molecules(min(n, 20)), np.arange(n) % 20, where)}
    for name, width in (("text", 24), ("graph", 16)):
        values = cause @ rng.normal(size=(12, width)) + 0.1 * rng.normal(size=(n, width))
        position = np.arange(n)
        position[rng.random(n) < missing] = -1
        tables[name] = make_table(name, vectors(values.astype(np.float32)), position, where)
    return Dataset(np.arange(100, 100 + n), tables, torch.arange(n))
