"""Evaluates a run on the drugs that its training never saw, beside chance, an untrained model and simple baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.evaluation.baselines import baselines
from embed.evaluation.classes import cosine, nearest_class
from embed.evaluation.pairs import indication_auroc, interaction_auroc
from embed.evaluation.retrieval import retrieve_both_ways
from embed.runs.checkpoint import write_atomically
from embed.runs.loaded import Embedded, Loaded, embed_drugs
from embed.training.model import build_model
from kb.output import plain
from kb.query import read as query


@dataclass(frozen=True)
class Labels:
    """What is known of the drugs and the training never saw: ATC codes, interactions, indications (row, disease)."""

    codes: list[list[str]]
    interactions: NDArray[np.int64]
    indications: NDArray[np.int64]
    core: NDArray[np.bool_]


def read_labels(engine: Engine, drug_ids: NDArray[np.int64]) -> Labels:
    """The labels of the drugs, by row number."""
    row = {int(drug_id): number for number, drug_id in enumerate(drug_ids)}
    with engine.connect() as connection:
        codes: list[list[str]] = [[] for _ in row]
        for drug_id, code in query.atc(connection):
            codes[row[drug_id]].append(code)
        found = query.interactions(connection)
        pairs = [(row[a], row[b]) for a, b in zip(found.drug_a.tolist(), found.drug_b.tolist(), strict=True)]
        core = np.zeros(len(row), bool)
        listed = core_set()
        for drug_id, value in query.identifiers(connection, "drugbank"):
            core[row[drug_id]] |= value in listed
        indications = _indications(connection, row)
    return Labels(codes, np.array(sorted(set(pairs)), np.int64).reshape(-1, 2), indications, core)


def core_set() -> set[str]:
    """The DrugBank ids of the evaluation set of 1,260 drugs."""
    lines = (files("embed") / "evaluation" / "data" / "core.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def _indications(connection: query.Connection, row: dict[int, int]) -> NDArray[np.int64]:
    triples = query.triples(connection)
    wanted = [i for i, name in enumerate(triples.relations) if any(part in name for part in query.INDICATIONS)]
    keep = np.isin(triples.relation, wanted)
    drug_of: dict[int, list[int]] = {}
    at = {int(entity): number for number, entity in enumerate(triples.entity_ids)}
    for drug_id, entity in zip(*(part.tolist() for part in query.drug_entities(connection)), strict=True):
        drug_of.setdefault(at.get(entity, -1), []).append(row[drug_id])
    pairs = {
        (r, int(tail))
        for head, tail in zip(triples.head[keep], triples.tail[keep], strict=True)
        for r in drug_of.get(int(head), ())
        if triples.entity_types[tail] == "Disease"
    }
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def evaluate(engine: Engine, loaded: Loaded) -> dict[str, Any]:
    """All figures of a run, also written to ``evaluation.json`` in its folder."""
    trained = embed_drugs(loaded.model, loaded)
    untrained = embed_drugs(build_model(loaded.config, loaded.prepared.inputs.data).eval(), loaded)
    labels = read_labels(engine, loaded.prepared.corpus.drug_ids)
    report = {
        "run": str(loaded.run_id),
        "seed": loaded.config.seed,
        "drugs": {name: len(getattr(loaded.prepared.split, name)) for name in ("train", "validation", "test")},
        "retrieval": retrieval_rows(trained, untrained, loaded),
        "classes": class_rows(trained, labels, loaded),
        "interactions": interaction_rows(trained, untrained, labels, loaded),
        "indications": indication_rows(trained, untrained, labels, loaded),
    }
    write_atomically(loaded.folder / "evaluation.json", json.dumps(plain(report), indent=1).encode())
    return report


def retrieval_rows(trained: Embedded, untrained: Embedded, loaded: Loaded, least: int = 20) -> list[dict[str, Any]]:
    """Recall@1/5/10 and MRR of each pair of modalities on held-out drugs, beside chance and an untrained model."""
    test, group = loaded.prepared.split.test, loaded.prepared.inputs.data.group.cpu().numpy()
    rows = []
    for a, b in combinations(range(len(trained.names)), 2):
        both = test[trained.present[test, a] & trained.present[test, b]]
        if len(both) < least:
            continue
        found = retrieve_both_ways(trained.z[both, a], trained.z[both, b], group[both])
        before = retrieve_both_ways(untrained.z[both, a], untrained.z[both, b], group[both])
        rows.append(
            {
                "from": trained.names[a],
                "to": trained.names[b],
                "drugs": len(both),
                **{f"recall@{k}": found.recall[k] for k in (1, 5, 10)},
                "mrr": found.mrr,
                "chance@10": found.chance[10],
                "lift@10": found.lift(10),
                "untrained recall@10": before.recall[10],
                "untrained mrr": before.mrr,
            }
        )
    return rows


def class_rows(trained: Embedded, labels: Labels, loaded: Loaded) -> list[dict[str, Any]]:
    """1-NN accuracy on ATC levels 1-3: core drugs, held-out core drugs, and drugs without SMILES."""
    corpus, inputs = loaded.prepared.corpus, loaded.prepared.inputs
    has_vector = trained.present.any(axis=1)
    coded = np.array([bool(c) for c in labels.codes])
    rows: list[dict[str, Any]] = []
    held = np.zeros(len(coded), bool)
    held[loaded.prepared.split.test] = True
    core = np.flatnonzero(labels.core & coded & has_vector)
    bare = np.array([not s for s in corpus.smiles])
    groups = [("core drugs", core, None), ("held-out core drugs", core, held[core])]
    everyone = np.flatnonzero(coded & has_vector)
    groups += [
        ("drugs without SMILES, among all", everyone, bare[everyone]),
        ("held-out drugs without SMILES, among all", everyone, (bare & held)[everyone]),
    ]
    for title, pool, asked in groups:
        if len(pool) < 20 or (asked is not None and asked.sum() < 10):
            continue
        codes, blocks = [labels.codes[i] for i in pool], [corpus.blocks[int(i)] for i in pool]
        for name, similarity in baselines(inputs, corpus.property_names, corpus.properties, pool):
            if "without SMILES" in title and ("ECFP4" in name or "properties" in name):
                continue
            rows.append(_class_row(name, title, similarity, codes, blocks, asked))
        rows.append(
            {**_class_row("mkmed, fused", title, cosine(trained.fused[pool]), codes, blocks, asked), "ours": True}
        )
    return rows


def _class_row(
    name: str,
    title: str,
    similarity: NDArray[np.floating],
    codes: Sequence[Sequence[str]],
    blocks: Sequence[str],
    asked: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    found = nearest_class(similarity, codes, blocks, queries=asked)
    return {
        "vectors": name,
        "drugs": title,
        "queries": found.queries,
        "ours": False,
        **{f"level_{level}": value for level, value in found.accuracy.items()},
    }


def interaction_rows(trained: Embedded, untrained: Embedded, labels: Labels, loaded: Loaded) -> list[dict[str, Any]]:
    """AUROC of interactions of held-out drugs, from the trained and the untrained fused vectors."""
    held, row = _held_out(loaded, trained)
    pairs = row[labels.interactions]
    pairs = pairs[(pairs >= 0).all(axis=1)]
    chosen = row >= 0
    rows = []
    for name, embedded in (("mkmed, fused", trained), ("untrained, fused", untrained)):
        score = interaction_auroc(embedded.fused[chosen], pairs, held)
        rows.append({"vectors": name, "auroc": score.auroc, "positives": score.positives, "negatives": score.negatives})
    return rows


def indication_rows(trained: Embedded, untrained: Embedded, labels: Labels, loaded: Loaded) -> list[dict[str, Any]]:
    """AUROC of indications of held-out drugs, from vectors fused without the graph, whose edges say the answer."""
    held, row = _held_out(loaded, trained)
    pairs = labels.indications[row[labels.indications[:, 0]] >= 0]
    pairs = np.stack([row[pairs[:, 0]], pairs[:, 1]], axis=1) if len(pairs) else pairs
    rows = []
    for name, model, embedded in (
        ("mkmed, fused without graph", loaded.model, trained),
        ("untrained, fused without graph", build_model(loaded.config, loaded.prepared.inputs.data).eval(), untrained),
    ):
        fused = _without_graph(model, embedded)[row >= 0]
        score = indication_auroc(fused, pairs, held)
        rows.append(
            {
                "vectors": name,
                "auroc": score.auroc,
                "positives": score.positives,
                "negatives": score.negatives,
            }
        )
    return rows


@torch.no_grad()
def _without_graph(model: Any, embedded: Embedded) -> NDArray[np.float32]:
    present = embedded.present.copy()
    if "graph" in embedded.names:
        present[:, embedded.names.index("graph")] = False
    fused: NDArray[np.float32] = model.fusion(torch.from_numpy(embedded.z), torch.from_numpy(present)).numpy()
    fused[~present.any(axis=1)] = 0
    return fused


def _held_out(loaded: Loaded, trained: Embedded) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which drugs that have a vector are held out, and each drug's number among them or -1."""
    has: NDArray[np.bool_] = np.asarray(trained.present.any(axis=1))
    held: NDArray[np.bool_] = np.zeros(len(has), dtype=np.bool_)
    held[loaded.prepared.split.test] = True
    row = np.where(has, np.cumsum(has) - 1, -1).astype(np.int64)
    return held[has], row
