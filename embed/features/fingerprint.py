"""Morgan fingerprints (Rogers and Hahn 2010): how often each circular substructure occurs, folded to a fixed length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import RDLogger
from rdkit.Chem import rdFingerprintGenerator
from scipy.sparse import csr_array

from embed.features.molecule import parse
from embed.features.packed import Packed


def version(bits: int, radius: int = 2) -> str:
    """The cache's version of fingerprints of this length."""
    return f"2-{radius}-{bits}"


def fingerprints(smiles: Sequence[str], bits: int, radius: int = 2) -> tuple[list[int], Packed]:
    """``(done, items)``: ``on.bit`` uint16 and ``on.count`` uint8 (at most 255) of the bits that are set."""
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    done, on, counts = [], [], []
    for index, text in enumerate(smiles):
        mol = parse(text)
        if mol is None:
            continue
        table = generator.GetCountFingerprintAsNumPy(mol)
        set_ = np.flatnonzero(table)
        on.append(set_.astype(np.uint16))
        counts.append(np.minimum(table[set_], 255).astype(np.uint8))
        done.append(index)
    pointer = np.concatenate([[0], np.cumsum([len(row) for row in on])]).astype(np.int64)
    columns = {"on.bit": np.concatenate([np.empty(0, np.uint16), *on]),
               "on.count": np.concatenate([np.empty(0, np.uint8), *counts])}
    return done, Packed(len(done), columns, {"on": pointer})


def log_counts(items: Packed, bits: int) -> csr_array:
    """The rows (n, bits) of log(1 + count), scaled to length 1."""
    pointer = items.indptr["on"]
    value = np.log1p(items.columns["on.count"].astype(np.float32))
    length = np.sqrt(np.add.reduceat(np.append(value * value, 0), pointer[:-1])) if items.n else np.empty(0)
    length = np.where(np.diff(pointer) > 0, length, 1.0)
    scaled = (value / np.repeat(length, np.diff(pointer))).astype(np.float32)
    return csr_array((scaled, items.columns["on.bit"].astype(np.int32), pointer), shape=(items.n, bits))


def counts(items: Packed, bits: int) -> NDArray[np.float32]:
    """The counts as a dense matrix (n, bits)."""
    out = np.zeros((items.n, bits), np.float32)
    row = np.repeat(np.arange(items.n), np.diff(items.indptr["on"]))
    out[row, items.columns["on.bit"].astype(np.int64)] = items.columns["on.count"]
    return out


def packed_bits(items: Packed, bits: int) -> NDArray[np.uint8]:
    """Which bits are set, eight a byte: (n, bits / 8)."""
    out = np.zeros((items.n, -(-bits // 8)), np.uint8)
    row = np.repeat(np.arange(items.n), np.diff(items.indptr["on"]))
    bit = items.columns["on.bit"].astype(np.int64)
    np.bitwise_or.at(out, (row, bit // 8), (128 >> (bit % 8)).astype(np.uint8))
    return out


def unpacked(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The bits as numbers (n, bits)."""
    return np.unpackbits(packed, axis=1).astype(np.float32)
