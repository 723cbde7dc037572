"""Does one modality of a drug find another one of the same drug among the held-out drugs?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Recall@k and mean reciprocal rank over ``drugs`` queries in both directions, beside chance."""

    drugs: int
    recall: dict[int, float]
    mrr: float
    chance: dict[int, float]

    def lift(self, k: int) -> float:
        """How many times better than chance recall@k is."""
        return self.recall[k] / self.chance[k] if self.chance[k] else float("nan")


def ranks(a: NDArray[np.floating], b: NDArray[np.floating], substance: NDArray) -> NDArray[np.float64]:
    """The rank (1 is best) of each row's partner among all rows of ``b``; ties count half.

    Rows of the same substance (salts, duplicates) are neither right nor wrong and are left out.
    """
    scores = a @ b.T
    own = np.diag(scores)[:, None]
    rival = substance[:, None] != substance[None, :]
    better = ((scores > own) & rival).sum(axis=1)
    equal = ((scores == own) & rival).sum(axis=1)
    found: NDArray[np.float64] = 1.0 + better + equal / 2
    return found


def retrieve(
    a: NDArray[np.floating], b: NDArray[np.floating], substance: Sequence[int] | NDArray, ks: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Retrieval between paired unit vectors ``a`` and ``b`` [N, D], the mean of a→b and b→a.

    ``substance`` [N] numbers the substances. Chance is k over the number of candidates (rivals plus the partner).
    """
    groups = np.asarray(substance)
    drugs = len(groups)
    if drugs == 0:
        nothing = {k: float("nan") for k in ks}
        return Retrieval(0, nothing, float("nan"), nothing)
    both = np.concatenate([ranks(a, b, groups), ranks(b, a, groups)])
    candidates = 1 + (groups[:, None] != groups[None, :]).sum(axis=1)
    return Retrieval(
        drugs=drugs,
        recall={k: float((both <= k).mean()) for k in ks},
        mrr=float((1 / both).mean()),
        chance={k: float(np.minimum(1.0, k / candidates).mean()) for k in ks},
    )
