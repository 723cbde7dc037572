"""The one door from the knowledge base to the embedding: everything that pretraining reads, as one value.

What is heavy (texts, pictures, conformers) comes as digests first; contents are read when a feature is missing. The
same value describes drugs that are in no knowledge base: ``molecules`` and ``texts`` make it from SMILES or free texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.features.cache import sha256
from kb.query import read as query
from kb.query.read import Triples

PREFERENCE = ("pubchem", "ccd", "corpus", "rdkit")
"""Where several sources have a picture or conformer of a drug, the first of these wins; computed comes last."""

Rows = NDArray[np.int64]
Content = str | bytes


@dataclass(frozen=True)
class Payloads:
    """Texts, pictures or conformers: ``row`` (n,) of each one's drug, ascending, ``sha256`` (n, 32), and its content.

    ``load`` gives the contents at the given indices.
    """

    row: Rows
    sha256: NDArray[np.uint8]
    load: Callable[[Sequence[int]], list[Content]]

    def __len__(self) -> int:
        return len(self.row)

    def keys(self) -> list[bytes]:
        """Each one's digest."""
        return [digest.tobytes() for digest in self.sha256]

    def take(self, number: Rows) -> Payloads:
        """Those of the drugs with ``number[row]`` >= 0, renumbered by it."""
        kept = np.flatnonzero(number[self.row] >= 0)
        kept = kept[np.argsort(number[self.row[kept]], kind="stable")]
        return Payloads(number[self.row[kept]], self.sha256[kept], partial(_through, self.load, kept))

    def first(self, count: int) -> Payloads:
        """The first ``count`` of them."""
        return Payloads(self.row[:count], self.sha256[:count], self.load)


def _through(load: Callable[[Sequence[int]], list[Content]], kept: Rows, indices: Sequence[int]) -> list[Content]:
    return load(kept[list(indices)].tolist())


def held(rows: Sequence[int], contents: Sequence[Content]) -> Payloads:
    """Payloads whose contents are in memory."""
    digests = np.frombuffer(b"".join(sha256(c) for c in contents), np.uint8).reshape(-1, 32)
    return Payloads(np.asarray(rows, np.int64), digests, lambda indices: [contents[i] for i in indices])


def _none() -> Payloads:
    return held((), ())


@dataclass(frozen=True)
class Corpus:
    """The drugs of a knowledge base, by row number 0..N-1 in the order of their ids, and what is known of them.

    ``blocks`` are InChIKey first blocks ("" without one). ``properties`` is (N, F) with NaN. ``linked`` are pairs of a
    row and an entity's index in ``triples``.
    """

    drug_ids: Rows
    names: Sequence[str]
    smiles: Sequence[str | None]
    blocks: Sequence[str]
    texts: Payloads = field(default_factory=_none)
    images: Payloads = field(default_factory=_none)
    conformers: Payloads = field(default_factory=_none)
    property_names: Sequence[str] = ()
    properties: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    triples: Triples | None = None
    linked: tuple[Rows, Rows] = field(default_factory=lambda: (np.empty(0, np.int64), np.empty(0, np.int64)))
    identities: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.drug_ids)

    def has_anything(self) -> NDArray[np.bool_]:
        """Which drugs (N,) have a structure, a text, a picture, a conformer, a number or a place in the graph."""
        has = np.array([bool(text) for text in self.smiles], bool)
        for part in (self.texts, self.images, self.conformers):
            has[part.row] = True
        if self.properties.size:
            has |= np.isfinite(self.properties).any(1)
        if self.triples is not None and len(self.triples.head):
            inside = np.zeros(len(self.triples.entities), bool)
            inside[self.triples.head] = inside[self.triples.tail] = True
            has[self.linked[0][inside[self.linked[1]]]] = True
        return has

    def take(self, rows: Rows) -> Corpus:
        """The drugs at ``rows``, numbered anew in that order."""
        number = np.full(len(self), -1, np.int64)
        number[rows] = np.arange(len(rows))
        kept = np.flatnonzero(number[self.linked[0]] >= 0)
        return replace(
            self, drug_ids=self.drug_ids[rows], names=[self.names[i] for i in rows],
            smiles=[self.smiles[i] for i in rows], blocks=[self.blocks[i] for i in rows],
            texts=self.texts.take(number), images=self.images.take(number), conformers=self.conformers.take(number),
            properties=self.properties[rows] if self.properties.size else self.properties,
            linked=(number[self.linked[0][kept]], self.linked[1][kept]),
            identities=[self.identities[i] for i in rows] if self.identities else (),
        )


def _rank(source: str) -> int:
    return next((k for k, name in enumerate(PREFERENCE) if source.lower().startswith(name)), len(PREFERENCE))


def read_payloads(engine: Engine, payload: str, ids: Rows, *, notes: bool, only: bool = False) -> Payloads:
    """The texts of the drugs with these ids, or the best picture or conformer of each; ``only`` when they are few."""
    with engine.connect() as connection:
        found = query.digests(connection, payload, notes=notes, drug_ids=ids if only else None)
    drug = np.array([d.drug_id for d in found], np.int64)
    rows = np.searchsorted(ids, drug)
    inside = rows < len(ids)
    inside[inside] = ids[rows[inside]] == drug[inside]
    kept = np.flatnonzero(inside)
    if payload == "text":  # what two records say in the same words counts once
        said = {(int(rows[i]), found[i].sha256): int(i) for i in reversed(kept)}
        kept = np.array(sorted(said.values()), np.int64)
    elif len(kept):
        rank = np.array([_rank(found[i].source) for i in kept], np.int64)
        order = np.lexsort((kept, rank, rows[kept]))
        kept = kept[order][np.unique(rows[kept][order], return_index=True)[1]]
    digests = np.frombuffer(b"".join(found[i].sha256 for i in kept), np.uint8).reshape(-1, 32)
    return Payloads(rows[kept], digests, partial(_load, engine, payload, drug[kept], digests, notes))


def _load(engine: Engine, payload: str, drug: Rows, digests: NDArray[np.uint8], notes: bool,
          indices: Sequence[int]) -> list[Content]:
    """The contents at these indices, found by drug and digest."""
    wanted: dict[tuple[int, bytes], list[int]] = {}
    for place, i in enumerate(indices):
        wanted.setdefault((int(drug[i]), digests[i].tobytes()), []).append(place)
    out: list[Content] = [b""] * len(indices)
    ids = np.unique(drug[list(indices)])
    with engine.connect() as connection:
        if payload == "text":
            every = ((t.drug_id, t.sha256, t.text) for t in query.texts(connection, notes=notes, drug_ids=ids))
        elif payload == "image":
            every = ((i.drug_id, i.sha256, i.png) for i in query.images(connection, drug_ids=ids))  # type: ignore[misc]
        else:
            every = ((c.drug_id, c.sha256, c.molblock) for c in query.conformers(connection, drug_ids=ids))
        for drug_id, digest, content in every:
            for place in wanted.get((drug_id, bytes.fromhex(digest)), ()):
                out[place] = content
    return out


def read_corpus(engine: Engine, *, notes: bool = True, exclude_types: Sequence[str] = (),
                exclude_relations: Sequence[str] = ()) -> Corpus:
    """The knowledge base as a corpus; relations whose name holds one of ``exclude_relations`` are left out."""
    with engine.connect() as connection:
        drugs = query.drugs(connection)
        known = query.properties(connection)
        values = np.full((len(drugs.ids), len(known.names)), np.nan)
        values[np.searchsorted(drugs.ids, known.drug_ids)] = known.values
        triples, linked = _graph(connection, drugs.ids, exclude_types, exclude_relations)
    blocks = [(key or "")[:14] for key in drugs.inchikeys]
    return Corpus(drugs.ids, drugs.names, drugs.smiles, blocks, read_payloads(engine, "text", drugs.ids, notes=notes),
                  read_payloads(engine, "image", drugs.ids, notes=notes),
                  read_payloads(engine, "conformer", drugs.ids, notes=notes), known.names, values, triples, linked,
                  drugs.identities)


def read_sample(engine: Engine, size: int, *, notes: bool = True) -> Corpus:
    """About ``size`` drugs with a structure and as many of all, from all over the knowledge base; without the graph."""
    with engine.connect() as connection:
        ids = np.union1d(query.sample_ids(connection, size, smiles=True), query.sample_ids(connection, size))
        drugs = query.drugs(connection, drug_ids=ids)
    text, image, conformer = (read_payloads(engine, name, ids, notes=notes, only=True)
                              for name in ("text", "image", "conformer"))
    blocks = [(key or "")[:14] for key in drugs.inchikeys]
    return Corpus(drugs.ids, drugs.names, drugs.smiles, blocks, text, image, conformer)


def _graph(connection: query.Connection, ids: Rows, exclude_types: Sequence[str],
           exclude_relations: Sequence[str]) -> tuple[Triples, tuple[Rows, Rows]]:
    every = query.triples(connection, exclude_entity_types=exclude_types)
    named = np.array([any(part in name for part in exclude_relations) for name in every.relations], bool)
    kept = ~named[every.relation] if len(every.relation) else np.empty(0, bool)
    triples = Triples(every.head[kept], every.relation[kept], every.tail[kept], every.entities, every.entity_types,
                      every.entity_ids, every.relations)
    drug_ids, entity_ids = query.drug_entities(connection)
    at = np.searchsorted(triples.entity_ids, entity_ids)
    inside = at < len(triples.entity_ids)
    inside[inside] = triples.entity_ids[at[inside]] == entity_ids[inside]
    return triples, (np.searchsorted(ids, drug_ids[inside]).astype(np.int64), at[inside].astype(np.int64))


def free_texts(contents: Sequence[str]) -> Corpus:
    """One drug for each free text, of which nothing else is known."""
    rows = np.arange(len(contents))
    return Corpus(-1 - rows, ["" for _ in contents], [None for _ in contents], ["" for _ in contents],
                  texts=held(rows.tolist(), contents), properties=np.empty((len(contents), 0)))
