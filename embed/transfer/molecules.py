"""Molecules as the head reads them: counted circular substructures, MiniMol's fingerprint, and RDKit's descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from embed.features import descriptors, fingerprint, minimol
from embed.features.cache import FeatureCache, Features, sha256
from embed.features.work import molecule_chunks

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]
MOST_COUNT = 6
"""A substructure that occurs more often counts as often as this."""


@dataclass(frozen=True)
class Molecules:
    """n molecules: ``counts`` (n, bits), ``network`` (n, 512) or (n, 0) without it, ``numbers`` (n, F), NaN as 0."""

    counts: csr_array
    network: Matrix
    numbers: Matrix

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    def take(self, rows: Rows) -> Molecules:
        """The molecules at ``rows``."""
        return Molecules(self.counts[rows], self.network[rows], self.numbers[rows])


def joined_molecules(first: Molecules, second: Molecules) -> Molecules:
    """The molecules of both, one after the other."""
    return Molecules(csr_array(vstack([first.counts, second.counts], format="csr")),
                     np.concatenate([first.network, second.network]), np.concatenate([first.numbers, second.numbers]))


def read(smiles: Sequence[str], cache: FeatureCache, *, bits: int, network: bool) -> tuple[Rows, Molecules]:
    """``(rows, molecules)``: the indices of the SMILES that every featuriser could read, and their molecules."""
    keys = [sha256(text) for text in smiles]

    def features(encoder: str, version: str, function: str, settings: dict[str, int]) -> Features:
        chunks = molecule_chunks(function, settings, lambda indices: [smiles[i] for i in indices])
        return cache.open(encoder, version, keys, chunks)

    prints = features("morgan", fingerprint.version(bits), "embed.features.fingerprint:fingerprints", {"bits": bits})
    table = features("descriptors", descriptors.VERSION, "embed.features.descriptors:descriptors", {})
    found = [prints, table]
    if network:
        found.append(features("minimol", minimol.minimol_version(), "embed.features.minimol:minimol_vectors", {}))
    rows = np.flatnonzero(np.all([one.position >= 0 for one in found], axis=0))
    if not len(rows):
        width = minimol.WIDTH if network else 0
        return rows, Molecules(csr_array((0, bits), dtype=np.float32), np.zeros((0, width), np.float32),
                               np.zeros((0, len(descriptors.descriptor_names())), np.float32))
    vector = [_vectors(one, rows) for one in found[1:]]
    numbers = np.nan_to_num(vector[0])
    return rows, Molecules(_counts(prints, rows, bits), vector[1] if network else np.zeros((len(rows), 0), np.float32),
                           (np.sign(numbers) * np.log1p(np.abs(numbers))).astype(np.float32))


def _vectors(found: Features, rows: Rows) -> Matrix:
    items = found.all()
    assert items is not None  # some row has one
    out: Matrix = items.columns["vector"][found.position[rows]].astype(np.float32)
    return out


def _counts(found: Features, rows: Rows, bits: int) -> csr_array:
    items = found.all()
    assert items is not None  # some row has one
    picked = items.take(found.position[rows])
    value = np.minimum(picked.columns["on.count"], MOST_COUNT).astype(np.float32)
    return csr_array((value, picked.columns["on.bit"].astype(np.int32), picked.indptr["on"]), shape=(len(rows), bits))
