"""A finished run, ready to embed: any drug from whatever it has, as training's own export does.

The one way from a drug to its vectors: training's export, evaluation, explanations, queries, updates and recommenders
all go through ``Embedder``, which knows nothing but the run's artefact. No database is needed. What a structure
foretells needs no tower, and so no torch, whose import a question should not wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed import source
from embed.config import PretrainConfig
from embed.features import fingerprint, minimol, molecule
from embed.features.cache import FeatureCache
from embed.features.fitted import Fitted
from embed.features.packed import Packed
from embed.registry import ANCHOR
from embed.runs import artefact
from embed.runs.artefact import Artefact, OldArtefact
from embed.runs.drugs import content_digests
from embed.runs.schema import PREDICTED
from embed.source import Corpus
from embed.transfer import molecules
from embed.transfer.head import Foretold, TransferHead
from kb.errors import CheckpointError, DataError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from embed.training.model import AlignmentModel

Vectors = NDArray[np.float32]
CHUNK = 8192
"""Drugs that are encoded at once where there are many."""


@dataclass(frozen=True)
class Embedded:
    """N drugs through a model: ``z`` [N, 1 + M, D] as ``names`` says, ``fused`` [N, D], ``present`` [N, 1 + M]."""

    names: tuple[str, ...]
    z: Vectors
    fused: Vectors
    present: NDArray[np.bool_]


class Embedder:
    """The model of a run with everything that it takes to treat a new drug as training treated its own.

    ``cache`` keeps features between calls; without one they are computed each time.
    """

    def __init__(self, run: Artefact, cache: FeatureCache | None = None) -> None:
        self.artefact = run
        self.config: PretrainConfig = run.config()
        self._weights, self._arguments = run.weights()
        self.fitted: Fitted = run.fitted()
        self.cache = cache or FeatureCache(None)

    @cached_property
    def model(self) -> AlignmentModel:
        """The towers and the fusion."""
        import torch

        from embed.training.model import rebuild_model

        return rebuild_model(self._arguments, {name: torch.from_numpy(value) for name, value in self._weights.items()})


    @classmethod
    def open(cls, folder: Path, cache: Path | None = None) -> Embedder:
        """The embedder of the run in a folder; ``cache`` is the folder of cached features."""
        return cls(artefact.load(folder), FeatureCache(None if cache is None else cache / "features"))

    @property
    def names(self) -> tuple[str, ...]:
        """The towers, the anchor first."""
        return tuple(self._arguments["towers"])

    @property
    def width(self) -> int:
        """D."""
        return int(self._arguments["width"])

    @cached_property
    def able(self) -> tuple[str, ...]:
        """The modalities that it can encode; a run of release 0.1.0 did not keep what numbers and the graph need."""
        if not isinstance(self.artefact, OldArtefact):
            return self.names
        return tuple(name for name in self.names if name not in ("property", "graph"))

    def require_whole(self) -> None:
        """Raise CheckpointError unless every modality can be encoded."""
        missing = [name for name in self.names if name not in self.able]
        if missing:
            raise CheckpointError(
                f"run {self.artefact.folder.name[:8]} is of release 0.1.0, which did not keep what it takes to encode"
                f" {' and '.join(missing)} anew", hint="mkmed embed pretrain makes a run that does")

    def encode(self, drugs: Corpus, names: Sequence[str] | None = None) -> Embedded:
        """The vectors of drugs from whatever each one has, by all towers or only by those in ``names``.

        A drug that has nothing has zero vectors and nothing present.
        """
        if names is None:
            self.require_whole()
        import torch

        from embed.training.inputs import build_inputs
        from embed.training.model import embed_all

        inputs = build_inputs(drugs, self.config, self.cache, torch.device("cpu"), np.empty(0, np.int64), self.fitted,
                              names=self.names, only=names)
        z, fused, present = (part.numpy() for part in embed_all(self.model, inputs.data))
        return Embedded(self.names, z, fused, present)

    def encode_many(self, drugs: Corpus) -> Iterator[tuple[NDArray[np.int64], Embedded]]:
        """(rows, vectors) of chunk after chunk, so that memory does not grow with the number of drugs."""
        for start in range(0, len(drugs), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(drugs)))
            yield rows, self.encode(drugs.take(rows))

    def fuse(self, z: Vectors, present: NDArray[np.bool_]) -> Vectors:
        """The fused unit vectors [N, D] of ``z`` [N, 1 + M, D] over what is ``present``; zero where nothing is."""
        import torch

        out = np.zeros((len(z), self.width), np.float32)
        for start in range(0, len(z), CHUNK):
            rows = slice(start, start + CHUNK)
            with torch.no_grad():
                fused: Tensor = self.model.fusion(torch.from_numpy(z[rows]), torch.from_numpy(present[rows]))
            out[rows] = fused.numpy() * present[rows].any(1, keepdims=True)
        return out

    @cached_property
    def transfer(self) -> TransferHead | None:
        """What foretells a drug's vectors from its structure; None for a run that has no head.

        Raises CheckpointError where the head needs MiniMol's weights, and others or none are installed.
        """
        head = TransferHead.of(self.artefact)
        if head is not None and head.encoder is not None:
            here = minimol.identity() if minimol.available() else None
            if here is None or any(here[key] != head.encoder[key] for key in ("sha256", "featuriser")):
                raise CheckpointError(
                    f"run {self.artefact.folder.name[:8]} compares unseen molecules by {head.encoder['name']}"
                    f" {head.encoder['release']}, which is not installed here", hint=minimol.INSTALL)
        return head

    def foretell(self, smiles: Sequence[str]) -> tuple[NDArray[np.int64], Foretold]:
        """``(rows, foretold)``: the indices of the SMILES that can be read, and what the head foretells of them.

        Raises UsageError for a run that has no head.
        """
        head = self.transfer
        if head is None:
            raise UsageError(f"run {self.artefact.folder.name[:8]} does not foretell from the structure alone",
                             hint="mkmed embed pretrain makes a run that does")
        rows, found = molecules.read(smiles, self.cache, bits=head.bits, network=head.network)
        return rows, head.foretell(found)

    def predicted(self, drugs: Corpus) -> dict[str, tuple[NDArray[np.int64], Vectors]]:
        """``{"predicted": (drug ids, vectors)}`` of the drugs with a structure; nothing for a run that has no head."""
        if self.transfer is None:
            return {}
        ids, parts = [], []
        for start in range(0, len(drugs), CHUNK):
            rows = [row for row in range(start, min(start + CHUNK, len(drugs))) if drugs.smiles[row]]
            read, found = self.foretell([drugs.smiles[row] or "" for row in rows])
            ids.append(drugs.drug_ids[np.asarray(rows, np.int64)[read]])
            parts.append(found.wide)
        if not ids:
            return {}
        return {PREDICTED: (np.concatenate(ids), np.concatenate(parts))}

    def contents(self, drugs: Corpus) -> NDArray[np.uint8]:
        """A digest (N, 32) of what each drug's vector is made of; zero for a drug that has nothing."""
        g = self.config.graph
        return content_digests(drugs, self.fitted, g.second_step, g.second_weight)

    def corpus_options(self) -> dict[str, object]:
        """How the run reads a knowledge base: keyword arguments of ``embed.source.read_corpus``."""
        g = self.config.graph
        return {"notes": self.config.text.notes, "exclude_types": g.exclude_types, "exclude_relations": g.exclude}

    def _needs(self, name: str) -> None:
        if name not in self.names:
            raise UsageError(f"this run has no {name} tower", hint=f"it has: {', '.join(self.names)}")

    def texts(self, texts: Sequence[str]) -> Vectors:
        """The text tower's vectors (n, D) of free texts, of any length; raises UsageError without a text tower."""
        self._needs("text")
        if not all(text.strip() for text in texts):
            raise DataError("an empty text has no vector")
        return self.encode(source.free_texts(texts), ["text"]).z[:, self.names.index("text")]

    def smiles(self, smiles: Sequence[str]) -> Vectors:
        """The anchor's vectors (n, D); raises DataError, which names it, for a SMILES that is none."""
        return self._embed_molecules(self.molecules(smiles))

    def _embed_molecules(self, items: Packed) -> Vectors:
        import torch

        with torch.no_grad():
            out: Vectors = self.model.encode(ANCHOR, _tower_inputs(items)).numpy()
        return out

    def molecules(self, smiles: Sequence[str]) -> Packed:
        """The packed inputs of the molecule tower."""
        done, items = molecule.featurise(smiles)
        if len(done) != len(smiles):
            wrong = next(text for i, text in enumerate(smiles) if i not in set(done))
            raise DataError(f"not a SMILES of 1 to {molecule.MAX_ATOMS} atoms: {wrong[:80]!r}")
        bits = self.config.molecule.fingerprint_bits
        if not bits:
            return items
        _, prints = fingerprint.fingerprints(smiles, bits)
        projection = self.fitted.projections[ANCHOR]
        vector = projection.apply(fingerprint.log_counts(prints, bits) if projection.sparse
                                  else fingerprint.counts(prints, bits))
        return Packed(items.n, {**items.columns, "vector": vector}, items.indptr)

    def fragment_shares(self, smiles: str) -> tuple[NDArray[np.int64], Vectors]:
        """``(fragment of each atom, share of each fragment)``: how much the molecule attends to its BRICS fragments.

        Raises UsageError if the run's anchor has no fragments.
        """
        import torch

        items = self.molecules([smiles])
        with torch.no_grad():
            _, weight = self.model.towers[ANCHOR].attend(_tower_inputs(items))  # type: ignore[operator]
        if weight is None:
            raise UsageError("this run's anchor has no fragments", hint="train one with molecule.fragments=true")
        return items.columns["atom.fragment"].astype(np.int64), weight.numpy()


def _tower_inputs(items: Packed) -> dict[str, torch.Tensor]:
    """What the molecule tower reads of all items."""
    import torch

    from embed.training.data import make_table

    table = make_table(ANCHOR, items, np.arange(items.n), torch.device("cpu"))
    _, inputs = table.inputs(torch.arange(items.n))
    return dict(inputs)
