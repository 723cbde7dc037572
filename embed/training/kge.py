"""Knowledge graph embeddings through PyKEEN: trained on the ingested triples, or imported from published vectors.

What costs time at DRKG's scale is the number of optimiser steps over a dense table: large batches and the fused Adam
together are several times faster than PyKEEN's defaults at the same quality (``benchmarks/bench_transe.py``).
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import GraphConfig, PretrainConfig
from embed.features.cache import version_of
from embed.features.fitted import EntityVectors, mean_of
from embed.features.frozen import file_sha256
from embed.features.neighbourhood import Linked
from embed.features.reduce import FIT_SEED, Matrix, unit
from kb.errors import ConfigError, DataError, TrainingDiverged
from kb.files import replace_file
from kb.output import say
from kb.query.read import Triples

CPU = torch.device("cpu")
EVALUATED = 1000
"""At most this many held-out triples are ranked; each costs a pass over all entities, twice."""


def mapped(triples: Triples) -> NDArray[np.int64]:
    """The triples as (n, 3) indices."""
    return np.stack([triples.head, triples.relation, triples.tail], 1).astype(np.int64)


def hold_out(triples: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(train, test)``: a seeded share of the triples whose entities and relation also occur in another one."""
    order = np.random.default_rng(seed).permutation(len(triples))
    if not len(triples):
        return triples, triples
    entity = np.bincount(triples[:, [0, 2]].ravel())
    relation = np.bincount(triples[:, 1])
    test = np.zeros(len(triples), bool)
    wanted = int(share * len(triples))
    for row in order:
        if wanted == 0:
            break
        h, r, t = triples[row]
        if entity[h] > 1 and entity[t] > 1 and relation[r] > 1:
            test[row] = True
            entity[h] -= 1
            entity[t] -= 1
            relation[r] -= 1
            wanted -= 1
    return triples[~test], triples[test]


@contextmanager
def quietly() -> Iterator[None]:
    """PyKEEN without three habits: warnings about pinned memory and memory search, and a full collection each epoch.

    The collection scans everything that the imported packages hold, for up to a second; what exists now is frozen out
    of it meanwhile.
    """
    search = logging.getLogger("torch_max_mem.api")
    level = search.level
    search.setLevel(logging.ERROR)
    gc.collect()
    gc.freeze()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'pin_memory' argument", category=UserWarning)
            yield
    finally:
        gc.unfreeze()
        search.setLevel(level)


def train_entities(triples: NDArray[np.int64], entities: int, relations: int, g: GraphConfig, seed: int,
                   device: torch.device = CPU) -> Any:
    """The trained PyKEEN model, on ``device``; raises TrainingDiverged if its loss is not finite."""
    from pykeen.models import model_resolver
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory

    factory = CoreTriplesFactory.create(torch.from_numpy(triples), num_entities=entities, num_relations=relations)
    kind: Any = model_resolver.lookup(g.model)
    special = {"scoring_fct_norm": 2, "entity_constrainer": None} if kind.__name__ == "TransE" else {}
    model = kind(triples_factory=factory, embedding_dim=g.dimension, random_seed=seed, loss=g.loss, **special)
    model = model.to(device)
    optimizer = torch.optim.Adam(model.get_grad_params(), lr=g.learning_rate, fused=True)
    loop = SLCWATrainingLoop(model=model, triples_factory=factory, optimizer=optimizer,
                             negative_sampler_kwargs={"num_negs_per_pos": g.negatives})
    with quietly():
        losses = loop.train(factory, num_epochs=g.epochs, batch_size=min(g.batch_size, len(triples)), use_tqdm=False,
                            drop_last=False)
    if losses and not np.isfinite(losses).all():
        raise TrainingDiverged(f"{g.model} on the triples gave a loss that is not finite",
                               hint="lower graph.learning_rate")
    return model


def link_prediction(model: Any, train: NDArray[np.int64], test: NDArray[np.int64], seed: int) -> dict[str, float]:
    """Filtered MRR and hits@1/3/10 (both ends, realistic ranks) on (a seeded sample of) the held-out triples."""
    from pykeen.evaluation import RankBasedEvaluator

    if not len(test):
        return {}
    rows = np.random.default_rng(seed).permutation(len(test))[:EVALUATED]
    evaluator = RankBasedEvaluator(filtered=True)
    with quietly():
        result = evaluator.evaluate(
            model, torch.from_numpy(test[rows]), batch_size=64, use_tqdm=False,
            additional_filter_triples=[torch.from_numpy(train), torch.from_numpy(test)],
        )
    names = {"mrr": "inverse_harmonic_mean_rank", "hits@1": "hits_at_1", "hits@3": "hits_at_3", "hits@10": "hits_at_10"}
    return {**{short: float(result.get_metric(f"both.realistic.{name}")) for short, name in names.items()},
            "ranked": float(len(rows))}


def entity_vectors(triples: Triples, config: PretrainConfig, cache: Path | None,
                   device: torch.device = CPU) -> EntityVectors:
    """The vectors of all entities: imported if ``graph.vectors`` names a file, else trained once and cached."""
    g = config.graph
    if g.vectors:
        return import_vectors(Path(g.vectors), triples.entities)
    rows = mapped(triples)
    digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes() + "\n".join(triples.entities).encode()).hexdigest()
    version = version_of(triples=digest, seed=FIT_SEED, model=g.model, dimension=g.dimension, epochs=g.epochs,
                         batch=g.batch_size, rate=g.learning_rate, held_out=g.held_out, loss=g.loss,
                         negatives=g.negatives, torch=torch.__version__)
    folder = None if cache is None else cache / "kge" / version
    kept = None if folder is None else _kept(folder, triples.entities)
    if kept is not None:
        return kept
    say(f"{g.model} on {len(rows):,} triples, {g.epochs} epochs")
    train, test = hold_out(rows, g.held_out, FIT_SEED)
    model = train_entities(train, len(triples.entities), len(triples.relations), g, FIT_SEED, device)
    matrix = model.entity_representations[0](indices=None).detach().cpu().numpy().astype(np.float32)
    if np.iscomplexobj(matrix) or matrix.ndim != 2:
        matrix = np.ascontiguousarray(matrix).reshape(len(matrix), -1).view(np.float32)
    identity = {"name": g.model, "version": version, "trained": "here", "triples": len(rows),
                "held_out": link_prediction(model, train, test, FIT_SEED)}
    if folder is not None:
        _keep(folder, matrix, identity)
    return EntityVectors(list(triples.entities), matrix, identity)


def _kept(folder: Path, entities: Sequence[str]) -> EntityVectors | None:
    """The vectors of an earlier run; None where there are none, or not as they were written, which is said."""
    file, facts = folder / "entities.npy", folder / "identity.json"
    if not facts.exists():
        return None
    try:
        identity = json.loads(facts.read_text())
        sound = file_sha256(file) == identity["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        say(f"{file} was altered; the graph embedding is trained again")
        return None
    matrix = np.load(file, allow_pickle=False)
    return EntityVectors(list(entities), matrix, identity)


def _keep(folder: Path, matrix: Matrix, identity: dict[str, Any]) -> None:
    import io

    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, matrix, allow_pickle=False)
    identity["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    replace_file(folder / "entities.npy", buffer.getvalue())
    replace_file(folder / "identity.json", json.dumps(identity, indent=1).encode())


def import_vectors(path: Path, entities: list[str]) -> EntityVectors:
    """Published vectors (an ``.npy`` beside ``<name>.tsv`` or ``entities.tsv``: name, row) laid out by entity name.

    This is the layout in which DRKG's TransE_l2 vectors are published. Raises ConfigError or DataError.
    """
    names_path = next((p for p in (path.with_suffix(".tsv"), path.with_name("entities.tsv")) if p.exists()), None)
    if not path.exists() or names_path is None:
        raise ConfigError(f"graph.vectors: {path} and a .tsv of its entities' names are needed",
                          hint=f"put entities.tsv (name, tab, row number) beside {path.name}")
    published = np.load(path, allow_pickle=False, mmap_mode="r")
    row: dict[str, int] = {}
    for line in names_path.read_text().splitlines():
        name, _, number = line.partition("\t")
        row[name] = int(number) if number else len(row)
    if published.ndim != 2 or (row and max(row.values()) >= len(published)):
        last = max(row.values(), default=0)
        raise DataError(f"{path} has shape {published.shape}, and {names_path} names row {last}")
    at = np.array([row.get(name, -1) for name in entities], np.int64)
    known = at >= 0
    matrix = np.asarray(published[at[known]], np.float32)
    if not np.isfinite(matrix).all():
        raise DataError(f"{path} holds numbers that are not finite")
    identity = {"name": path.name, "sha256": file_sha256(path), "trained": "published", "entities": int(known.sum())}
    return EntityVectors([name for name, there in zip(entities, known, strict=True) if there], matrix, identity)


def drug_vectors(vectors: EntityVectors, entities: Sequence[str], linked: Linked, drugs: int,
                 train: NDArray[np.int64]) -> tuple[Matrix, NDArray[np.int64], EntityVectors]:
    """``(matrix, position, vectors)``: the mean of each drug's entities, centred, to length sqrt(D); -1 without any.

    The centre is that of the training drugs; it is kept in the vectors that are returned, and used if they have one.
    """
    row, entity = linked
    place = {name: number for number, name in enumerate(vectors.names)}
    at = np.array([place.get(entities[i], -1) for i in entity], np.int64)
    row, at = row[at >= 0], at[at >= 0]
    known, owner = np.unique(row, return_inverse=True)
    total = np.zeros((len(known), vectors.matrix.shape[1]), np.float32)
    np.add.at(total, owner, vectors.matrix[at])
    total /= np.maximum(np.bincount(owner, minlength=len(known)), 1)[:, None]
    position = np.full(drugs, -1, np.int64)
    position[known] = np.arange(len(known))
    mean = vectors.mean
    if mean is None:
        fit = position[train]
        mean = mean_of(total, fit[fit >= 0])
        vectors = replace(vectors, mean=mean)
    return unit(total - mean) * np.float32(np.sqrt(total.shape[1])), position, vectors
