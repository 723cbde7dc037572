"""The one door from the knowledge base to the embedding: everything that pretraining reads, as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from kb.query import read as query
from kb.query.read import Triples

PREFERENCE = ("pubchem", "ccd", "corpus", "rdkit")
"""Where several sources have a picture or conformer of a drug, the first of these wins; computed comes last."""


@dataclass(frozen=True)
class Item:
    """One payload: the row number of its drug, the sha256 (32 bytes) of its content, and the content."""

    row: int
    sha256: bytes
    content: str | bytes


@dataclass(frozen=True)
class Corpus:
    """The drugs of a knowledge base, by row number 0..N-1 in the order of their ids, and what is known of them.

    ``images`` and ``conformers`` are read when called, at most one per drug. ``properties`` is (N, F) with NaN.
    ``linked`` are (row, entity index of ``triples``) pairs.
    """

    drug_ids: NDArray[np.int64]
    names: Sequence[str]
    smiles: Sequence[str | None]
    blocks: Sequence[str]
    texts: Sequence[Item] = ()
    images: Callable[[], Iterator[Item]] = lambda: iter(())
    conformers: Callable[[], Iterator[Item]] = lambda: iter(())
    property_names: Sequence[str] = ()
    properties: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    triples: Triples | None = None
    linked: tuple[NDArray[np.int64], NDArray[np.int64]] = field(
        default_factory=lambda: (np.empty(0, np.int64), np.empty(0, np.int64)))


def _rank(source: str) -> int:
    return next((k for k, name in enumerate(PREFERENCE) if source.lower().startswith(name)), len(PREFERENCE))


def _best(items: Iterator[tuple[int, str, str, str | bytes]], rows: dict[int, int]) -> Iterator[Item]:
    """One item per drug of a stream of (drug id, source, sha256 hex, content) that is ordered by drug."""
    current: tuple[int, int, str, str | bytes] | None = None
    for drug_id, source, digest, content in items:
        if drug_id not in rows:
            continue
        if current is not None and current[0] != drug_id:
            yield Item(rows[current[0]], bytes.fromhex(current[2]), current[3])
            current = None
        if current is None or _rank(source) < current[1]:
            current = (drug_id, _rank(source), digest, content)
    if current is not None:
        yield Item(rows[current[0]], bytes.fromhex(current[2]), current[3])


def read_corpus(engine: Engine, *, notes: bool = True, exclude_types: Sequence[str] = (),
                exclude_relations: Sequence[str] = ()) -> Corpus:
    """The knowledge base as a corpus; relations whose name holds one of ``exclude_relations`` are left out."""
    with engine.connect() as connection:
        drugs = query.drugs(connection)
        rows = {int(drug_id): row for row, drug_id in enumerate(drugs.ids)}
        texts = [Item(rows[t.drug_id], bytes.fromhex(t.sha256), t.text) for t in query.texts(connection, notes=notes)]
        known = query.properties(connection)
        values = np.full((len(drugs.ids), len(known.names)), np.nan)
        values[[rows[int(i)] for i in known.drug_ids]] = known.values
        triples, linked = _graph(connection, rows, exclude_types, exclude_relations)

    def images() -> Iterator[Item]:
        with engine.connect() as connection:
            yield from _best(((i.drug_id, i.source, i.sha256, i.png) for i in query.images(connection)), rows)

    def conformers() -> Iterator[Item]:
        with engine.connect() as connection:
            yield from _best(((c.drug_id, c.source, c.sha256, c.molblock) for c in query.conformers(connection)), rows)

    blocks = [(key or "")[:14] for key in drugs.inchikeys]
    return Corpus(drugs.ids, drugs.names, drugs.smiles, blocks, texts, images, conformers, known.names, values, triples,
                  linked)


def _graph(connection: query.Connection, rows: dict[int, int], exclude_types: Sequence[str],
           exclude_relations: Sequence[str]) -> tuple[Triples, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    every = query.triples(connection, exclude_entity_types=exclude_types)
    named = np.array([any(part in name for part in exclude_relations) for name in every.relations], bool)
    kept = ~named[every.relation] if len(every.relation) else np.empty(0, bool)
    triples = Triples(every.head[kept], every.relation[kept], every.tail[kept], every.entities, every.entity_types,
                      every.entity_ids, every.relations)
    drug_ids, entity_ids = query.drug_entities(connection)
    at = np.searchsorted(triples.entity_ids, entity_ids)
    inside = at < len(triples.entity_ids)
    inside[inside] = triples.entity_ids[at[inside]] == entity_ids[inside]
    row = np.array([rows[int(i)] for i in drug_ids[inside]], np.int64)
    return triples, (row, at[inside].astype(np.int64))
