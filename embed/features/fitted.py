"""Everything that training fits on its drugs before the first step, so that a later drug is treated in the same way.

Means, components and scales of frozen features, the graph's vocabulary, the entities' vectors, the properties' names,
and how far apart drugs are by each raw modality. All of it is kept with the run, by name, as arrays and JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.features.neighbourhood import GraphVocabulary
from embed.features.packed import pack_strings, unpack_strings
from embed.features.reduce import Matrix, Projection
from kb.errors import CheckpointError

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EntityVectors:
    """``matrix`` (entities, D) with a vector for each of ``names``; ``mean`` (D,) of the training drugs' vectors."""

    names: list[str]
    matrix: Matrix
    identity: dict[str, Any]
    mean: Matrix | None = None


@dataclass
class Fitted:
    """What was fitted on the training drugs; ``closed`` once training has begun: then nothing is fitted any more."""

    projections: dict[str, Projection] = field(default_factory=dict)
    vocabulary: GraphVocabulary | None = None
    entities: EntityVectors | None = None
    properties: list[str] | None = None
    spreads: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation of each raw similarity over the training drugs."""
    identities: dict[str, Any] = field(default_factory=dict)
    """Which encoder each modality goes through."""
    closed: bool = False

    def projection(self, name: str, fit: Callable[[], Projection]) -> Projection:
        """The projection of a modality, fitted now if training has not begun; raises CheckpointError otherwise."""
        if name not in self.projections:
            self._require_open(f"a projection of its {name} features")
            self.projections[name] = fit()
        return self.projections[name]

    def spread(self, name: str, fit: Callable[[], tuple[float, float]]) -> tuple[float, float]:
        """Mean and standard deviation of a raw similarity."""
        if name not in self.spreads:
            self._require_open(f"how {name} features are spread")
            self.spreads[name] = fit()
        return self.spreads[name]

    def _require_open(self, what: str) -> None:
        if self.closed:
            raise CheckpointError(f"the run did not keep {what}", hint="mkmed embed pretrain makes a run that does")

    def identify(self, name: str, identity: dict[str, Any]) -> None:
        """Record which encoder a modality goes through, or check that it is the one of training.

        Raises CheckpointError when another encoder than the run's own is installed here.
        """
        known = self.identities.setdefault(name, identity)
        if self.closed and any(known.get(key) != identity.get(key) for key in ("name", "sha256", "featuriser")):
            raise CheckpointError(
                f"the run's {name} encoder is {known.get('name')}, but here is {identity.get('name')} of other weights"
                " or settings", hint="install what the run's card names, or mkmed embed pretrain")

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Everything as arrays by name, and the rest as JSON values."""
        arrays: Arrays = {}
        flags: dict[str, Any] = {}
        for name, one in self.projections.items():
            for part in ("mean", "components", "scale"):
                value = getattr(one, part)
                if value is not None:
                    arrays[f"projection.{name}.{part}"] = value
            flags[name] = {"log": one.log, "unit_in": one.unit_in, "clip": one.clip, "gain": one.gain}
        if self.vocabulary is not None:
            arrays |= {f"graph.{name}": value for name, value in self.vocabulary.state().items()}
        meta: dict[str, Any] = {"projections": flags, "properties": self.properties, "identities": self.identities,
                                "spreads": {name: list(pair) for name, pair in self.spreads.items()}}
        if self.entities is not None:
            arrays["entities.matrix"] = self.entities.matrix
            if self.entities.mean is not None:
                arrays["entities.mean"] = self.entities.mean
            arrays |= pack_strings("entities.names", self.entities.names)
            meta["entities"] = self.entities.identity
        return arrays, meta


def fitted_of(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Fitted:
    """What ``Fitted.state`` described, closed."""
    projections = {
        name: Projection(arrays[f"projection.{name}.mean"], arrays.get(f"projection.{name}.components"),
                         arrays.get(f"projection.{name}.scale"), **flags)
        for name, flags in meta["projections"].items()
    }
    graph = {name.removeprefix("graph."): value for name, value in arrays.items() if name.startswith("graph.")}
    entities = None
    if "entities" in meta:
        entities = EntityVectors(unpack_strings("entities.names", arrays), arrays["entities.matrix"], meta["entities"],
                                 arrays.get("entities.mean"))
    return Fitted(projections, GraphVocabulary.from_state(graph) if graph else None, entities, meta["properties"],
                  {name: (float(mean), float(spread)) for name, (mean, spread) in meta["spreads"].items()},
                  dict(meta["identities"]), closed=True)


def mean_of(matrix: Matrix, rows: NDArray[np.int64]) -> Matrix:
    """The mean (D,) of these rows; zero where there are none."""
    return matrix[rows].mean(0) if len(rows) else np.zeros(matrix.shape[1], np.float32)
