"""Held-out drugs by scaffold: no test drug shares a Bemis-Murcko scaffold or a substance with a training drug."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import RDLogger
from rdkit.Chem.Scaffolds import MurckoScaffold
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from embed.features.molecule import parse
from embed.features.packed import Packed

VERSION = "1"


@dataclass(frozen=True)
class DrugSplit:
    """Row numbers of drugs: three disjoint, sorted int64 arrays."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def among(self, known: NDArray[np.bool_]) -> DrugSplit:
        """The same split without the drugs that ``known`` (N,) leaves out."""
        return DrugSplit(*(rows[known[rows]] for rows in (self.train, self.validation, self.test)))


def scaffolds(smiles: Sequence[str]) -> tuple[list[int], Packed]:
    """``(done, items)``: one column ``scaffold`` (n, 32) of sha256 digests; all zero for a molecule without rings."""
    from embed.features.cache import sha256

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    done, digests = [], []
    for index, text in enumerate(smiles):
        mol = parse(text)
        if mol is None:
            continue
        name = MurckoScaffold.MurckoScaffoldSmiles(mol=mol)
        digests.append(sha256(name) if name else bytes(32))
        done.append(index)
    column = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return done, Packed(len(done), {"scaffold": column})


def families(scaffold: Sequence[bytes | None], block: Sequence[str]) -> NDArray[np.int64]:
    """A family number per drug: drugs are of one family if scaffold or InChIKey first block ties them, even in steps.

    A drug without a ring or without a structure has no scaffold, and is tied by its substance alone.
    """
    n = len(block)
    left: list[int] = []
    right: list[int] = []
    first: dict[object, int] = {}
    for row in range(n):
        names: list[object] = []
        ring = scaffold[row]
        if ring is not None and any(ring):
            names.append(ring)
        if block[row]:
            names.append(block[row])
        for name in names:
            other = first.setdefault(name, row)
            if other != row:
                left.append(row)
                right.append(other)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    return label.astype(np.int64)


def split_by_family(family: NDArray[np.int64], seed: int, validation: float = 0.1, test: float = 0.1) -> DrugSplit:
    """A seeded split of whole families; each held-out part gets families until it holds its share of the drugs.

    Families larger than a twentieth of all drugs always train: one of them alone would be most of a held-out part.
    """
    n = len(family)
    sizes = np.bincount(family)
    order = np.random.default_rng(seed).permutation(len(sizes))
    part = np.zeros(len(sizes), np.int8)
    held = {1: 0, 2: 0}
    wanted = {1: validation * n, 2: test * n}
    for name in order:
        if sizes[name] > max(1, n // 20):
            continue
        for side in (2, 1):
            if held[side] + sizes[name] <= wanted[side]:
                part[name] = side
                held[side] += int(sizes[name])
                break
    side_of = part[family]
    rows = [np.flatnonzero(side_of == k).astype(np.int64) for k in range(3)]
    return DrugSplit(rows[0], rows[1], rows[2])
