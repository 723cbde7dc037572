"""The fitted head: from molecules to the text, graph and fused vectors that their drugs would have, and how sure.

Kernel ridge regression on the training drugs. A molecule that is a training drug's is predicted without that drug, by
the closed form of leaving one out: what is compared with an unseen molecule is itself the prediction of an unseen one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from embed.features.packed import pack_strings, unpack_strings
from embed.features.reduce import one_thread, unit
from embed.transfer.kernel import Kernel, bit_tanimoto
from embed.transfer.molecules import Matrix, Molecules
from kb.errors import CheckpointError

if TYPE_CHECKING:
    from embed.runs.artefact import Artefact

FILE = "transfer.safetensors"
SAME = 1 - 1e-5
"""Above this similarity a molecule is a landmark's own."""
NEAR = 10
"""Nearest training vectors that say how much of a hub a vector is."""
TANIMOTO = "tanimoto"
"""The first part of the wide vector."""


@dataclass(frozen=True)
class Target:
    """What predicts one kind of vector: ``mean`` (D,), ``alpha`` (m, D), zero for landmarks that have none.

    ``shift`` (m,) is what leaving a landmark out changes, as a factor of its ``alpha``. ``truth`` (t, D) are the unit
    vectors of the training drugs and ``foretold`` (t, D) the unit predictions of each from the others. ``far`` and
    ``agrees`` are the points of a rising function, fitted on validation drugs, from how far a prediction is from the
    mean (it stays there when nothing is alike) to the cosine between prediction and truth.
    """

    mean: Matrix
    alpha: Matrix
    shift: Matrix
    truth: Matrix
    foretold: Matrix
    far: Matrix
    agrees: Matrix


@dataclass(frozen=True)
class Wide:
    """The vector of a structure: four parts, each centred, to length 1 and weighted, on W principal components.

    The parts are the Tanimoto kernel's principal components (``tanimoto`` (m, r) takes similarities there), MiniMol's
    fingerprint, and the foretold text and graph vectors. ``spread`` is each part's standard deviation of similarities
    among well-described training drugs.
    """

    tanimoto: Matrix
    parts: list[str]
    mean: dict[str, Matrix]
    weight: dict[str, float]
    spread: dict[str, float]
    centre: Matrix
    components: Matrix

    @property
    def width(self) -> int:
        """W."""
        return int(self.components.shape[1])


@dataclass(frozen=True)
class Traits:
    """What n molecules are compared by: ``counts`` (n, bits) of substructures, and other ``parts`` (n, P).

    The parts are the wide vector's before it is reduced, without its first. That vector is a linear stand-in for this
    comparison, which an index can search; the Tanimoto similarity does not fit into it whole.
    """

    counts: csr_array
    parts: Matrix

    def __len__(self) -> int:
        return len(self.parts)

    def take(self, rows: NDArray[np.int64]) -> Traits:
        """Those at ``rows``."""
        return Traits(self.counts[rows], self.parts[rows])

    def joined(self, other: Traits) -> Traits:
        """These and the other's behind them."""
        return Traits(csr_array(vstack([self.counts, other.counts], format="csr")),
                      np.concatenate([self.parts, other.parts]))


@dataclass(frozen=True)
class Foretold:
    """n molecules: predicted vectors by kind (n, D), the cosine with the truth to expect of each, and ``wide`` (n, W).

    ``landmark`` (n, m) are the similarities to the training drugs, which say who carries the prediction; ``traits`` are
    what two molecules are compared by.
    """

    vectors: dict[str, Matrix]
    agreement: dict[str, Matrix]
    wide: Matrix
    landmark: Matrix
    traits: Traits

    def take(self, rows: NDArray[np.int64]) -> Foretold:
        """The molecules at ``rows``."""
        vectors, agreement = ({name: one[rows] for name, one in of.items()} for of in (self.vectors, self.agreement))
        return Foretold(vectors, agreement, self.wide[rows], self.landmark[rows], self.traits.take(rows))


class TransferHead:
    """A fitted head, made by ``embed.transfer.fit`` and kept with the run."""

    def __init__(self, kernel: Kernel, targets: Mapping[str, Target], wide: Wide, names: list[str],
                 encoder: dict[str, Any] | None, chosen: Mapping[str, Any]) -> None:
        self.kernel, self.targets, self.wide = kernel, dict(targets), wide
        self.names, self.encoder, self.chosen = names, encoder, dict(chosen)

    @property
    def bits(self) -> int:
        """The length of the counted fingerprint."""
        return int(self.kernel.landmarks.counts.shape[1])

    @property
    def network(self) -> bool:
        """Whether molecules need MiniMol's fingerprint."""
        return self.kernel.network is not None

    @one_thread
    def foretell(self, molecules: Molecules) -> Foretold:
        """The predictions for molecules."""
        similarity = self.kernel(molecules)
        own = similarity.argmax(1)
        same = similarity[np.arange(len(own)), own] > SAME
        vectors, agreement = {}, {}
        for name, target in self.targets.items():
            out = similarity @ target.alpha + target.mean
            out[same] += target.alpha[own[same]] * target.shift[own[same], None]
            vectors[name] = out.astype(np.float32)
            far = np.linalg.norm(out - target.mean, axis=1)
            agreement[name] = np.interp(far, target.far, target.agrees).astype(np.float32)
        parts = unit_parts(self, molecules, vectors)
        moved: Matrix = side_by_side(parts, self.wide.weight) - self.wide.centre
        shares = {name: spread**-0.5 for name, spread in self.wide.spread.items() if name != TANIMOTO}
        traits = Traits(molecules.counts, side_by_side(parts, shares))
        return Foretold(vectors, agreement, unit(moved @ self.wide.components), similarity, traits)

    @one_thread
    def alike(self, asked: Traits, known: Traits) -> Matrix:
        """How alike molecules (n) and others (c) are, (n, c), 1 where they are the same.

        The mean of the Tanimoto similarity of their substructures and of the cosines of the wide vector's other parts,
        each weighted by one over its standard deviation among well-described training drugs.
        """
        spread = self.wide.spread
        out: Matrix = bit_tanimoto(asked.counts, known.counts) / spread[TANIMOTO] + asked.parts @ known.parts.T
        return (out / sum(1 / one for one in spread.values())).astype(np.float32)

    def match(self, kind: str, foretold: Matrix, candidates: Matrix) -> Matrix:
        """How well predictions (n, D) fit true vectors (c, D) of one kind, hubs corrected (CSLS, Conneau et al. 2018).

        A hub is near to everything: each vector's mean similarity to its nearest training vectors is taken off.
        """
        target, a, b = self.targets[kind], unit(foretold), unit(candidates)
        return csls(a @ b.T, hubness(a, target.truth), hubness(b, target.foretold))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The head as arrays."""
        out = {**self.kernel.arrays(), "wide.tanimoto": self.wide.tanimoto, "wide.centre": self.wide.centre,
               "wide.components": self.wide.components, **pack_strings("names", self.names)}
        out |= {f"wide.mean.{name}": value for name, value in self.wide.mean.items()}
        for name, target in self.targets.items():
            for part in ("mean", "alpha", "shift", "far", "agrees"):
                out[f"target.{name}.{part}"] = getattr(target, part)
            for part in ("truth", "foretold"):
                out[f"target.{name}.{part}"] = getattr(target, part).astype(np.float16)
        return out

    def meta(self) -> dict[str, Any]:
        """What goes with the arrays as JSON."""
        return {"targets": list(self.targets), "encoder": self.encoder, "chosen": self.chosen,
                "wide": {"parts": self.wide.parts, "weight": self.wide.weight, "spread": self.wide.spread}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> TransferHead:
        """The head that ``arrays`` and ``meta`` described."""
        targets = {name: Target(**{part: arrays[f"target.{name}.{part}"].astype(np.float32)
                                   for part in Target.__dataclass_fields__}) for name in meta["targets"]}
        parts = list(meta["wide"]["parts"])
        wide = Wide(arrays["wide.tanimoto"], parts, {name: arrays[f"wide.mean.{name}"] for name in parts},
                    dict(meta["wide"]["weight"]), dict(meta["wide"]["spread"]), arrays["wide.centre"],
                    arrays["wide.components"])
        return cls(Kernel.from_arrays(dict(arrays)), targets, wide, unpack_strings("names", arrays), meta["encoder"],
                   meta["chosen"])

    @classmethod
    def of(cls, run: Artefact) -> TransferHead | None:
        """The head that a run kept; None for a run that has none.

        Raises CheckpointError for one of a version before the release, which lacks what molecules are compared by.
        """
        if not run.has(FILE):
            return None
        arrays, meta = run.arrays(FILE)
        if "spread" not in meta["wide"]:
            raise CheckpointError(f"run {run.folder.name[:8]} was made by a version of mkmed before 0.2.0",
                                  hint="mkmed embed pretrain makes one anew")
        return cls.from_arrays(arrays, meta)


def raw_parts(head: TransferHead, molecules: Molecules, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """What the parts of the wide vector are made of, with foretold ``vectors`` that it may lack."""
    raw = {TANIMOTO: bit_tanimoto(molecules.counts, head.kernel.landmarks.counts) @ head.wide.tanimoto, **vectors}
    if head.kernel.network is not None:
        raw["network"] = head.kernel.network.apply(molecules.network)
    return raw


def unit_parts(head: TransferHead, molecules: Molecules, vectors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """The parts of the wide vector, each centred and to length 1."""
    raw = raw_parts(head, molecules, vectors)
    return {name: unit(raw[name] - head.wide.mean[name]) for name in head.wide.parts}


def side_by_side(parts: Mapping[str, Matrix], factor: Mapping[str, float]) -> Matrix:
    """The parts that have a factor, times it, (n, sum of their widths)."""
    none = next(iter(parts.values()))[:, :0]
    return np.concatenate([none, *(factor[name] * parts[name] for name in factor)], 1)


def csls(similarity: Matrix, a: Matrix, b: Matrix) -> Matrix:
    """Similarities (n, c) with the hubness of both sides, (n,) and (c,), taken off."""
    out: Matrix = 2 * similarity - a[:, None] - b[None, :]
    return out


@one_thread
def hubness(vectors: Matrix, reference: Matrix) -> Matrix:
    """The mean similarity of unit vectors (n, D) to the ``NEAR`` nearest of the reference's."""
    if not len(reference):
        return np.zeros(len(vectors), np.float32)
    similarity, k = vectors @ reference.T, min(NEAR, len(reference))
    out: Matrix = np.partition(similarity, -k, axis=1)[:, -k:].mean(1).astype(np.float32)
    return out
