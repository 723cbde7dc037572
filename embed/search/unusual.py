"""How unusual a question is: how far from what the run was trained on, as a share of its own training drugs.

For a molecule: the largest Tanimoto similarity (Morgan, radius 2) to a training drug of another substance, with the
bits of an average drug added to the union, since a few atoms say little however much they match. For a text: the
largest cosine of the frozen sentence encoder to a training drug's texts. The share of training drugs that are nearer to
the others than the question is says how unusual it is: 50 is ordinary, from ``FAR`` on the question is called far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from embed.runs.artefact import Artefact

FILE = "reference.safetensors"
MOST = 50_000
"""Training drugs that are kept to compare with."""
ASKED = 2_000
"""Training drugs whose distance to the others is taken."""
CHUNK = 256
FAR = 95.0
"""Per cent from which an answer says that the question is far from everything that the run was trained on."""


@dataclass(frozen=True)
class Reference:
    """Packed bits [n, F / 8] of training molecules, unit text vectors [m, F], and ascending nearest similarities."""

    bits: NDArray[np.uint8]
    near_molecule: NDArray[np.float32]
    texts: NDArray[np.float32]
    near_text: NDArray[np.float32]
    shrink: float = 0.0
    """Bits that are added to the union of two molecules'; 0 in runs that were made before it was."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The reference as arrays."""
        return {"bits": self.bits, "near_molecule": self.near_molecule, "texts": self.texts.astype(np.float16),
                "near_text": self.near_text, "shrink": np.array([self.shrink], np.float32)}

    @classmethod
    def of(cls, run: Artefact) -> Reference | NoReference:
        """The reference that a run kept, or one that knows nothing, for a run of release 0.1.0."""
        if not run.has(FILE):
            return NoReference()
        arrays, _ = run.arrays(FILE)
        shrink = float(arrays["shrink"][0]) if "shrink" in arrays else 0.0
        return cls(arrays["bits"], arrays["near_molecule"], arrays["texts"].astype(np.float32), arrays["near_text"],
                   shrink)

    def molecule(self, bits: NDArray[np.uint8]) -> float | None:
        """How unusual a molecule with these packed bits is, in per cent; None where nothing was kept."""
        if not len(self.bits) or not len(self.near_molecule):
            return None
        return share_nearer(self.near_molecule, float(tanimoto(bits[None], self.bits, self.shrink).max()))

    def text(self, vector: NDArray[np.float32]) -> float | None:
        """How unusual a text with this sentence vector is, in per cent; None where nothing was kept."""
        if not len(self.texts) or not len(self.near_text):
            return None
        unit = vector / max(float(np.linalg.norm(vector)), 1e-9)
        return share_nearer(self.near_text, float((self.texts @ unit).max()))


class NoReference:
    """What stands in for the reference of a run that kept none."""

    def molecule(self, bits: NDArray[np.uint8]) -> None:
        """Nothing is known."""

    def text(self, vector: NDArray[np.float32]) -> None:
        """Nothing is known."""


def share_nearer(near: NDArray[np.float32], own: float) -> float:
    """The share (per cent) of ``near``, ascending, that is above ``own``."""
    return round(100.0 * (1.0 - float(np.searchsorted(near, own, side="right")) / len(near)), 1)


def sizes(bits: NDArray[np.uint8]) -> NDArray[np.int32]:
    """How many bits are set in each row [n] of packed bits."""
    return np.bitwise_count(bits).sum(1, dtype=np.int32)


def tanimoto(a: NDArray[np.uint8], b: NDArray[np.uint8], shrink: float = 0.0) -> NDArray[np.float32]:
    """The Tanimoto similarities [n, m] of packed bit vectors, with ``shrink`` bits added to each union."""
    size_a, size_b = sizes(a), sizes(b)
    wide = np.uint64 if a.shape[1] % 8 == 0 else np.uint8
    words, others = (np.ascontiguousarray(bits).view(wide) for bits in (a, b))
    both = np.stack([np.bitwise_count(row & others).sum(1, dtype=np.int32) for row in words])
    union = np.maximum(size_a[:, None] + size_b[None, :] - both, 1) + np.float32(shrink)
    out: NDArray[np.float32] = (both / union).astype(np.float32)
    return out


def is_far(unusual: float | None) -> bool | None:
    """Whether a question this unusual is far from all that the run was trained on; None where nothing is known."""
    return None if unusual is None else unusual >= FAR


def nearest_others(similarity: Any, rows: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.float32]:
    """The largest similarity of each of ``rows`` to a row of another group, ascending.

    ``similarity(rows)`` is a function that gives [len(rows), n].
    """
    found: list[float] = []
    for start in range(0, len(rows), CHUNK):
        part = rows[start:start + CHUNK]
        table = np.where(group[part][:, None] == group[None, :], -np.inf, similarity(part))
        found += table.max(1).tolist() if table.shape[1] else []
    kept = np.array(found, np.float32)
    return np.sort(kept[np.isfinite(kept)])


def make(bits: NDArray[np.uint8], bit_group: NDArray[np.int64], texts: NDArray[np.float32],
         sentences: NDArray[np.float32], owner: Sequence[int]) -> Reference:
    """The reference of training molecules with their substances, drugs' text vectors, and single sentences of drugs.

    A question is a sentence, not a description: how near texts are is taken from sentences, each with the row of
    ``texts`` that it is a part of (``owner``), which does not count.
    """
    rows = np.random.default_rng(0).permutation(len(bits))[:ASKED]
    shrink = float(sizes(bits).mean()) if len(bits) else 0.0
    near = nearest_others(lambda part: tanimoto(bits[part], bits, shrink), np.sort(rows), bit_group)
    alone = np.asarray(owner, np.int64)
    close: NDArray[np.float32] = np.empty(0, np.float32)
    if len(sentences) and len(texts) > 1:
        table = sentences @ texts.T
        table[np.arange(len(alone)), alone] = -np.inf
        close = np.sort(table.max(1)).astype(np.float32)
    return Reference(bits, near, texts, close, shrink)
