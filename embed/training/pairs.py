"""Texts of molecules that are no drugs, to learn from: what a description says of a structure carries over to drugs.

They train the transfer head and nothing else, and are no labels of anything.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

from rdkit import Chem, RDLogger

from embed.features.cache import FeatureCache
from embed.features.molecule import parse
from embed.training.split import scaffold_features
from kb.errors import DataError

Pair = tuple[str, str]
"""A SMILES and a text of it."""
COLUMNS = (("smiles",), ("description", "text"))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a tab-separated file (gzipped or not) with columns SMILES and description (or text).

    Doubled backslashes of ChEBI-20's files are undone. Raises DataError for a file without these columns.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist", hint="transfer.pairs: tab-separated, SMILES and description")
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = csv.reader(data.decode("utf-8", "replace").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    head = [name.strip().lower() for name in next(rows, [])]
    found = [next((head.index(name) for name in names if name in head), -1) for names in COLUMNS]
    if min(found) < 0:
        raise DataError(f"{path.name} has no columns SMILES and description", hint=f"it has: {', '.join(head[:10])}")
    smiles, text = found
    return [(row[smiles].replace("\\\\", "\\"), row[text].strip()) for row in rows
            if len(row) > max(found) and row[smiles] and row[text].strip()]


@lru_cache(maxsize=200_000)
def _block(smiles: str) -> str:
    """The InChIKey's first block; empty for what is no molecule."""
    mol = parse(smiles)
    return "" if mol is None else Chem.MolToInchiKey(mol)[:14]


def unknown_pairs(pairs: Sequence[Pair], blocks: Collection[str], held_out: Sequence[str],
                  cache: FeatureCache) -> list[Pair]:
    """The pairs of molecules that are no drug by InChIKey first block, one a molecule, in the file's order.

    None shares a scaffold with a molecule of ``held_out`` (SMILES): of these the head must know nothing.
    """
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    seen, distinct = set(blocks), []
    for smiles, text in pairs:
        block = _block(smiles)
        if block and block not in seen:
            seen.add(block)
            distinct.append((smiles, text))
    forbidden = {ring for ring in _rings(held_out, cache) if ring and any(ring)}
    rings = _rings([smiles for smiles, _ in distinct], cache)
    return [pair for pair, ring in zip(distinct, rings, strict=True) if ring is not None and ring not in forbidden]


def _rings(smiles: Sequence[str], cache: FeatureCache) -> list[bytes | None]:
    """The digest of each molecule's scaffold, all zero without a ring; None for what is no molecule."""
    if not smiles:
        return []
    found = scaffold_features(smiles, cache)
    items = found.all()
    return [None if items is None or place < 0 else items.columns["scaffold"][place].tobytes()
            for place in found.position.tolist()]
