"""The parents of many molecules (``kb.identity.forms``), packed for the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import rdBase

from embed.features.molecule import parse
from embed.features.packed import Packed
from kb.identity.forms import forms

VERSION = f"1-rdkit{rdBase.rdkitVersion}"


def formula_key(formula: str) -> np.ndarray[Any, Any]:
    """Eight bytes (8,) that stand for a formula."""
    return np.frombuffer(hashlib.sha256(formula.encode()).digest()[:8], np.uint8)


def block_key(block: str) -> np.ndarray[Any, Any]:
    """The first block's letters as bytes (14,); zeros where InChI has no key."""
    return np.frombuffer(block.encode().ljust(14, b"\0"), np.uint8)


def parents(smiles: Sequence[str]) -> tuple[list[int], Packed]:
    """``(done, items)``: ``block`` (n, 14), ``formula`` (n, 8), and ``text.smiles``, the parent's SMILES as bytes."""
    done, blocks, formulas, texts = [], [], [], []
    for index, text in enumerate(smiles):
        mol = parse(text)
        if mol is None:
            continue
        found = forms(mol)
        done.append(index)
        blocks.append(block_key(found.block))
        formulas.append(formula_key(found.formula))
        texts.append(np.frombuffer(found.smiles.encode(), np.uint8))
    pointer = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    columns = {
        "block": np.stack(blocks) if blocks else np.zeros((0, 14), np.uint8),
        "formula": np.stack(formulas) if formulas else np.zeros((0, 8), np.uint8),
        "text.smiles": np.concatenate([np.empty(0, np.uint8), *texts]),
    }
    return done, Packed(len(done), columns, {"text": pointer})
