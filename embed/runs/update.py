"""Vectors for drugs that are new or changed, by a run that is already trained: nothing is trained again.

What each stored vector was made of is kept as a digest, so only drugs whose own knowledge changed are encoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.features.cache import FeatureCache, sha256
from embed.features.parents import VERSION as PARENT_VERSION
from embed.features.work import molecule_chunks
from embed.runs import store
from embed.runs.embedder import Embedder
from embed.runs.store import store_form
from embed.source import Corpus, read_corpus
from kb.errors import Busy, NotFound
from kb.ledger import entries as runs


@dataclass(frozen=True)
class Updated:
    """What an update did: drugs that were new, changed, gone, and left as they were."""

    run: str
    new: int
    changed: int
    gone: int
    kept: int


def update(engine: Engine, run: Embedder) -> Updated:
    """Give every drug that is new or changed its vectors in the stored run, in one transaction.

    A run that was imported, and has no vectors here yet, gets those of all drugs. Raises CheckpointError for a run of
    release 0.1.0, and Busy when somebody else changed the run's vectors meanwhile.
    """
    run.require_whole()
    corpus = read_corpus(engine, **run.corpus_options())  # type: ignore[arg-type]
    contents = run.contents(corpus)
    has: NDArray[np.bool_] = np.asarray(contents.any(1))
    try:
        before = store.contents(engine, run.artefact.run_id)
        stored = store.read(engine, run.artefact.run_id).drug_ids
    except NotFound:
        return _store_all(engine, run, corpus, contents, has)
    there = set(stored.tolist())
    todo = [row for row in np.flatnonzero(has)
            if before.get(int(corpus.drug_ids[row])) != contents[row].tobytes()]
    rows = np.array(todo, np.int64)
    present = set(corpus.drug_ids[has].tolist())
    gone = np.array(sorted(there - present), np.int64)
    new = sum(int(corpus.drug_ids[row]) not in there for row in todo)
    vectors, rests_on, encoded = _encoded(run, corpus, rows)
    origin = store.VectorOrigin(run.artefact.digest, corpus.drug_ids[encoded], contents[encoded])
    if store.contents(engine, run.artefact.run_id) != before:
        raise Busy("the run's vectors were changed by another process meanwhile", hint="run the update again")
    if len(rows) or len(gone):
        store.patch_run(engine, run.artefact.run_id, vectors, rests_on, origin, gone)
    remember_parents(corpus, run.cache)
    return Updated(str(run.artefact.run_id), new, len(todo) - new, len(gone), int(has.sum()) - len(todo))


def _encoded(run: Embedder, corpus: Corpus, rows: NDArray[np.int64],
             ) -> tuple[dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]], NDArray[np.bool_], NDArray[np.int64]]:
    """``(vectors, rests_on, rows that have any)`` of the drugs at ``rows``."""
    parts = list(run.encode_many(corpus.take(rows)))
    shape = (0, len(run.names), run.width)
    z = np.concatenate([np.zeros(shape, np.float32), *(one.z for _, one in parts)])
    fused = np.concatenate([np.zeros((0, run.width), np.float32), *(one.fused for _, one in parts)])
    present = np.concatenate([np.zeros(shape[:2], bool), *(one.present for _, one in parts)])
    vectors, rests_on = store_form(run.names, corpus.drug_ids[rows], z, fused, present)
    return {**vectors, **run.predicted(corpus.take(rows))}, rests_on, rows[present.any(1)]


def _store_all(engine: Engine, run: Embedder, corpus: Corpus, contents: NDArray[np.uint8],
               has: NDArray[np.bool_]) -> Updated:
    vectors, rests_on, rows = _encoded(run, corpus, np.flatnonzero(has))
    origin = store.VectorOrigin(run.artefact.digest, corpus.drug_ids[rows], contents[rows])
    run_id = run.artefact.run_id
    with engine.begin() as connection:
        if not runs.reopen_run(connection, run_id):
            config = run.artefact.json("config.json")
            runs.start_run(connection, "pretrain", name="imported", config=config, run_id=run_id)
    store.write_run(engine, run_id, vectors, rests_on, precision=run.artefact.config().index,
                    metrics=run.artefact.json("metrics.json"), origin=origin)
    with engine.begin() as connection:
        runs.finish_run(connection, run_id, "complete", counts={k: len(v[0]) for k, v in vectors.items()})
    remember_parents(corpus, run.cache)
    return Updated(str(run_id), len(rows), 0, 0, 0)


def remember_parents(corpus: Corpus, cache: FeatureCache) -> None:
    """Compute the parents of all structures now, so that the first question by molecule need not."""
    texts = [text for text in corpus.smiles if text]
    chunks = molecule_chunks("embed.features.parents:parents", {}, lambda indices: [texts[i] for i in indices])
    cache.open("parent", PARENT_VERSION, [sha256(text) for text in texts], chunks)
