"""What a run is measured on, taken when it ends and kept with it: whatever the knowledge base becomes, figures stay.

Vectors of the trained and of an untrained model, the rivals' raw features, the split and the labels of up to ``MOST``
drugs. Nothing of it is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.evaluation.labels import EvaluationLabels, coded
from embed.features.packed import pack_strings, unpack_strings

MOST = 20_000
"""Drugs that are kept; of a larger corpus those with labels, then held-out ones, then the first."""

PLAIN = ("z", "fused", "untrained_z", "untrained_fused", "untrained_without_graph", "without_graph", "present", "side",
         "group", "bare", "drug_id", "properties")


@dataclass(frozen=True)
class EvaluationData:
    """N drugs: vectors ``z`` [N, 1 + M, D] and ``fused`` [N, D] of the trained and the untrained model, and the rest.

    ``side`` is 0 for train, 1 for validation, 2 for test; ``group`` numbers substances; ``bare`` marks drugs without a
    structure. ``raw[name]`` is (features [N, F] or packed bits, known [N]).
    """

    names: tuple[str, ...]
    z: NDArray[np.float32]
    fused: NDArray[np.float32]
    untrained_z: NDArray[np.float32]
    untrained_fused: NDArray[np.float32]
    untrained_without_graph: NDArray[np.float32]
    without_graph: NDArray[np.float32]
    present: NDArray[np.bool_]
    side: NDArray[np.int8]
    group: NDArray[np.int64]
    bare: NDArray[np.bool_]
    drug_id: NDArray[np.int64]
    raw: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]
    property_names: list[str]
    properties: NDArray[np.float32]
    labels: EvaluationLabels

    @property
    def test(self) -> NDArray[np.int64]:
        """The rows of the test drugs."""
        return np.flatnonzero(self.side == 2)

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which drugs are test drugs."""
        return self.side == 2

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays."""
        plain = {name: getattr(self, name) for name in PLAIN}
        for name, (matrix, known) in self.raw.items():
            plain |= {f"raw.{name}": matrix, f"known.{name}": known}
        labels = self.labels
        plain |= {"interactions": labels.interactions, "indications": labels.indications, "core": labels.core}
        return {**plain, **pack_strings("codes", [" ".join(own) for own in labels.codes])}

    def meta(self) -> dict[str, Any]:
        """The names that go with the arrays."""
        return {"names": list(self.names), "property_names": self.property_names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> EvaluationData:
        """The snapshot that ``arrays`` and ``meta`` described."""
        labels = EvaluationLabels([own.split() for own in unpack_strings("codes", arrays)], arrays["interactions"],
                        arrays["indications"], arrays["core"])
        raw = {name.removeprefix("raw."): (value, arrays[f"known.{name.removeprefix('raw.')}"])
               for name, value in arrays.items() if name.startswith("raw.")}
        plain = {name: arrays[name] for name in PLAIN}
        return cls(tuple(meta["names"]), raw=raw, property_names=list(meta["property_names"]), labels=labels, **plain)


def chosen_rows(present: NDArray[np.bool_], side: NDArray[np.int8], labels: EvaluationLabels) -> NDArray[np.int64]:
    """The rows to keep, ascending: all drugs that have a vector and a side, or the most telling ``MOST`` of them."""
    rows = np.flatnonzero(present.any(1) & (side >= 0))
    if len(rows) <= MOST:
        return rows
    told = coded(labels.codes)[rows] | labels.core[rows]
    order = np.lexsort((rows, -side[rows], ~told))
    return np.sort(rows[order[:MOST]])
