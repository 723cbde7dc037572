"""Held-out drugs by scaffold: no test drug shares a Bemis-Murcko scaffold or a substance with a training drug."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.config import PretrainConfig
from embed.features.cache import FeatureCache, Features, sha256
from embed.features.molecule import parse
from embed.features.packed import Packed
from embed.features.work import molecule_chunks
from embed.source import Corpus

VERSION = "2"


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
    from rdkit import RDLogger
    from rdkit.Chem.Scaffolds import MurckoScaffold

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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

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


def family_digests(family: NDArray[np.int64], scaffold: Sequence[bytes | None], block: Sequence[str],
                   identity: Sequence[str]) -> list[bytes]:
    """What names each family (in the order of its number): its smallest scaffold, else first block, else identity."""
    best: dict[int, tuple[int, bytes]] = {}
    for row, number in enumerate(family.tolist()):
        ring = scaffold[row]
        if ring is not None and any(ring):
            name = (0, ring)
        else:
            name = (1, block[row].encode()) if block[row] else (2, identity[row].encode())
        if number not in best or name < best[number]:
            best[number] = name
    return [best[number][1] for number in range(len(best))]


def hashed_share(name: bytes, seed: int) -> float:
    """A number in [0, 1) that a name and a seed always give."""
    digest = hashlib.sha256(seed.to_bytes(8, "big", signed=True) + name).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def split_by_family(family: NDArray[np.int64], names: Sequence[bytes], has: NDArray[np.bool_], seed: int,
                    validation: float = 0.1, test: float = 0.1) -> DrugSplit:
    """A split of whole families by the hash of each one's name: a family stays where it is as drugs are added.

    ``has`` (N,) says which drugs have anything; the others are in no part. Families with more than a twentieth of those
    drugs always train: one of them alone would be most of a held-out part.
    """
    sizes = np.bincount(family[has], minlength=len(names))
    share = np.array([hashed_share(name, seed) for name in names])
    part = np.where(share < test, 2, np.where(share < test + validation, 1, 0))
    part[sizes > max(1, int(has.sum()) // 20)] = 0
    side_of = np.where(has, part[family], -1)
    rows = [np.flatnonzero(side_of == k).astype(np.int64) for k in range(3)]
    return DrugSplit(rows[0], rows[1], rows[2])


def sides(split: DrugSplit, drugs: int) -> NDArray[np.int8]:
    """The side of each drug (N,): 0 train, 1 validation, 2 test, -1 none."""
    side = np.full(drugs, -1, np.int8)
    for number, rows in enumerate((split.train, split.validation, split.test)):
        side[rows] = number
    return side


def from_sides(side: NDArray[np.int8]) -> DrugSplit:
    """The split that gives these sides."""
    return DrugSplit(*(np.flatnonzero(side == k).astype(np.int64) for k in range(3)))


def scaffold_features(smiles: Sequence[str], cache: FeatureCache) -> Features:
    """The digest of each molecule's scaffold, through the cache."""
    chunks = molecule_chunks("embed.training.split:scaffolds", {}, lambda indices: [smiles[i] for i in indices])
    return cache.open("scaffold", VERSION, [sha256(text) for text in smiles], chunks)


def split_corpus(corpus: Corpus, config: PretrainConfig, cache: FeatureCache) -> DrugSplit:
    """The scaffold split of a corpus under the configuration's split and shares, of the drugs that have anything."""
    rows = [row for row, text in enumerate(corpus.smiles) if text]
    found = scaffold_features([corpus.smiles[row] or "" for row in rows], cache)
    items = found.all()
    scaffold: list[bytes | None] = [None] * len(corpus)
    if items is not None:
        for row, place in zip(rows, found.position, strict=True):
            scaffold[row] = items.columns["scaffold"][place].tobytes() if place >= 0 else None
    family = families(scaffold, corpus.blocks)
    identity = corpus.identities or [f"drug:{i}" for i in corpus.drug_ids]
    names = family_digests(family, scaffold, corpus.blocks, identity)
    share = config.train
    return split_by_family(family, names, corpus.has_anything(), share.split, share.validation, share.test)
