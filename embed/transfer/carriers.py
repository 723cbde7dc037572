"""What carries a prediction: which known drugs, and which fragments of the molecule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.transfer.head import Foretold, TransferHead


@dataclass(frozen=True)
class Carrier:
    """A known drug that a prediction rests on: its similarity, and its share of the move away from the mean."""

    drug: str
    similarity: float
    share: float


def carriers(head: TransferHead, foretold: Foretold, kind: str, row: int = 0, most: int = 5) -> list[Carrier]:
    """The training drugs that move a molecule's predicted vector most in its direction; all shares add up to 1."""
    target = head.targets[kind]
    move = foretold.vectors[kind][row] - target.mean
    length = float(np.linalg.norm(move))
    if length < 1e-9:
        return []
    share = foretold.landmark[row] * (target.alpha @ move) / length**2
    order = np.argsort(-share, kind="stable")[:most]
    return [Carrier(head.names[k], float(foretold.landmark[row, k]), float(share[k])) for k in order if share[k] > 0]


def kept(head: TransferHead, whole: Foretold, rest: Foretold, kind: str) -> NDArray[np.float32]:
    """For each molecule of ``rest`` the part of ``whole``'s (one molecule's) move from the mean that it still makes."""
    target = head.targets[kind]
    move = whole.vectors[kind][0] - target.mean
    out: NDArray[np.float32] = (rest.vectors[kind] - target.mean) @ move / max(float(move @ move), 1e-12)
    return out
