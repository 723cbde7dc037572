"""The drugs that a run was trained and measured on: who they were, what was known of them, and on which side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.features.cache import sha256
from embed.features.fitted import Fitted
from embed.features.neighbourhood import neighbourhoods
from embed.source import Corpus
from embed.training.split import DrugSplit, from_sides

Digests = NDArray[np.uint8]


@dataclass(frozen=True)
class RunDrugs:
    """N drugs by ``drug_id`` of the knowledge base ``lineage`` and by ``identity`` (N, 32), the sha256 of its text.

    ``content`` (N, 32) is a digest of everything that the drug's vector is made of, ``side`` (N,) is 0 for train, 1 for
    validation, 2 for test and -1 for a drug that has nothing.
    """

    lineage: str
    drug_id: NDArray[np.int64]
    identity: Digests
    content: Digests
    side: NDArray[np.int8]

    def match(self, corpus: Corpus, lineage: str) -> NDArray[np.int64]:
        """The row of each of the corpus' drugs among these, or -1.

        A drug is the same when its identity is, or, in the knowledge base that the run was trained on, its id: a drug
        that gained a structure has another identity, but was seen all the same.
        """
        by_name = {digest.tobytes(): row for row, digest in enumerate(self.identity)}
        by_id = dict(zip(self.drug_id.tolist(), range(len(self.drug_id)), strict=True)) if (
            lineage == self.lineage) else {}
        return np.array([by_name.get(name.tobytes(), by_id.get(int(drug), -1))
                         for name, drug in zip(identity_digests(corpus), corpus.drug_ids, strict=True)], np.int64)

    def split(self, corpus: Corpus, lineage: str) -> DrugSplit:
        """The run's own split over the drugs of the corpus; one that came later is in no part."""
        row = self.match(corpus, lineage)
        return from_sides(np.where(row >= 0, self.side[row], -1).astype(np.int8))

    def fingerprint(self) -> str:
        """A digest of all drugs and all that was known of them, whatever their order."""
        order = np.lexsort(self.identity.T[::-1])
        return hashlib.sha256(self.identity[order].tobytes() + self.content[order].tobytes()).hexdigest()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The drugs as arrays."""
        return {"drug_id": self.drug_id, "identity": self.identity, "content": self.content, "side": self.side}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], lineage: str) -> RunDrugs:
        """The drugs that ``arrays`` described."""
        return cls(lineage, arrays["drug_id"], arrays["identity"], arrays["content"], arrays["side"])


def identity_digests(corpus: Corpus) -> Digests:
    """The sha256 (N, 32) of each drug's identity."""
    names = corpus.identities or [f"drug:{i}" for i in corpus.drug_ids]
    return np.frombuffer(b"".join(map(sha256, names)), np.uint8).reshape(-1, 32)


def content_digests(corpus: Corpus, fitted: Fitted, second_step: tuple[str, ...], second_weight: float) -> Digests:
    """The sha256 (N, 32) of everything that each drug's vector is made of, as the run reads it; zero for nothing.

    Of the graph only what the run's vocabulary and entity vectors know counts, and of the numbers only the properties
    that it was trained with: whatever else is added to the knowledge base changes no vector.
    """
    parts: list[list[bytes]] = [[] for _ in range(len(corpus))]
    for row, text in enumerate(corpus.smiles):
        if text:
            parts[row].append(b"smiles" + text.encode())
    for name, payloads in (("text", corpus.texts), ("image", corpus.images), ("structure", corpus.conformers)):
        order = np.lexsort((*payloads.sha256.T[::-1], payloads.row)) if len(payloads) else ()
        for k in order:
            parts[payloads.row[k]].append(name.encode() + payloads.sha256[k].tobytes())
    _add_numbers(corpus, fitted, parts)
    _add_graph(corpus, fitted, second_step, second_weight, parts)
    digests = [hashlib.sha256(b"\0".join(own)).digest() if own else bytes(32) for own in parts]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def _add_numbers(corpus: Corpus, fitted: Fitted, parts: list[list[bytes]]) -> None:
    wanted = list(corpus.property_names) if fitted.properties is None else fitted.properties
    column = {name: k for k, name in enumerate(corpus.property_names)}
    known = [(k, name) for k, name in enumerate(wanted) if name in column]
    if not known or not corpus.properties.size:
        return
    values = np.full((len(corpus), len(wanted)), np.nan, np.float32)
    for k, name in known:
        values[:, k] = corpus.properties[:, column[name]]
    for row in np.flatnonzero(np.isfinite(values).any(1)):
        parts[row].append(b"property" + values[row].tobytes())


def _add_graph(corpus: Corpus, fitted: Fitted, second_step: tuple[str, ...], second_weight: float,
               parts: list[list[bytes]]) -> None:
    if corpus.triples is None or not len(corpus.triples.head):
        return
    if fitted.vocabulary is not None:
        found = neighbourhoods(fitted.vocabulary, corpus.triples, corpus.linked, len(corpus), second=second_step,
                               second_weight=second_weight)
        matrix = found.matrix
        matrix.sort_indices()
        for row in np.flatnonzero(found.position >= 0):
            at = found.position[row]
            own = matrix.indices[matrix.indptr[at]:matrix.indptr[at + 1]]
            parts[row].append(b"graph" + own.astype(np.int32).tobytes())
    if fitted.entities is not None:
        known = set(fitted.entities.names)
        for row, entity in zip(*corpus.linked, strict=True):
            name = corpus.triples.entities[entity]
            if name in known:
                parts[row].append(b"entity" + name.encode())
