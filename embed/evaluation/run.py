"""Evaluates a run on the drugs that its training never saw, beside chance, an untrained model and simple baselines.

Everything comes from the run's own snapshot (``embed.evaluation.snapshot``): no database is asked, and what happens to
the knowledge base after the run ended changes no figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.evaluation.baselines import baselines
from embed.evaluation.classes import cosine, nearest_class
from embed.evaluation.labels import coded
from embed.evaluation.pairs import indication_auroc, interaction_auroc
from embed.evaluation.retrieval import retrieve_both_ways
from embed.evaluation.snapshot import Snapshot
from embed.runs.artefact import Artefact
from embed.runs.checkpoint import write_atomically
from kb.output import plain


def read_snapshot(run: Artefact) -> Snapshot:
    """What the run is measured on; raises CheckpointError for a run that did not keep it."""
    return Snapshot.from_arrays(*run.arrays("evaluation.safetensors"))


def evaluate(run: Artefact) -> dict[str, Any]:
    """All figures of a run, also written to ``evaluation.json`` in its folder."""
    kept = read_snapshot(run)
    report = {
        "run": str(run.run_id),
        "seed": run.config().seed,
        "drugs": {name: int((kept.side == k).sum()) for k, name in enumerate(("train", "validation", "test"))},
        "retrieval": retrieval_rows(kept),
        "classes": class_rows(kept),
        "interactions": interaction_rows(kept),
        "indications": indication_rows(kept),
    }
    write_atomically(run.folder / "evaluation.json", json.dumps(plain(report), indent=1).encode())
    return report


def retrieval_rows(kept: Snapshot, least: int = 20) -> list[dict[str, Any]]:
    """Recall@1/5/10 and MRR of each pair of modalities on held-out drugs, beside chance and an untrained model."""
    test, group = kept.test, kept.group
    rows = []
    for a, b in combinations(range(len(kept.names)), 2):
        both = test[kept.present[test, a] & kept.present[test, b]]
        if len(both) < least:
            continue
        found = retrieve_both_ways(kept.z[both, a], kept.z[both, b], group[both])
        before = retrieve_both_ways(kept.untrained_z[both, a], kept.untrained_z[both, b], group[both])
        rows.append(
            {
                "from": kept.names[a],
                "to": kept.names[b],
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


def class_rows(kept: Snapshot) -> list[dict[str, Any]]:
    """1-NN accuracy on ATC levels 1-3: core drugs, held-out core drugs, and drugs without SMILES."""
    labels, held, bare = kept.labels, kept.held, kept.bare
    has_code = coded(labels.codes)
    rows: list[dict[str, Any]] = []
    core = np.flatnonzero(labels.core & has_code)
    groups = [("core drugs", core, None), ("held-out core drugs", core, held[core])]
    everyone = np.flatnonzero(has_code)
    groups += [
        ("drugs without SMILES, among all", everyone, bare[everyone]),
        ("held-out drugs without SMILES, among all", everyone, (bare & held)[everyone]),
    ]
    for title, pool, asked in groups:
        if len(pool) < 20 or (asked is not None and asked.sum() < 10):
            continue
        codes, blocks = [labels.codes[i] for i in pool], [str(kept.group[i]) for i in pool]
        for name, similarity in baselines(kept.raw, kept.property_names, kept.properties, pool):
            if "without SMILES" in title and ("ECFP4" in name or "properties" in name):
                continue
            rows.append(_class_row(name, title, similarity, codes, blocks, asked))
        rows.append(
            {**_class_row("mkmed, fused", title, cosine(kept.fused[pool]), codes, blocks, asked), "ours": True}
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


def interaction_rows(kept: Snapshot) -> list[dict[str, Any]]:
    """AUROC of interactions of held-out drugs, from the trained and the untrained fused vectors."""
    rows = []
    for name, fused in (("mkmed, fused", kept.fused), ("untrained, fused", kept.untrained_fused)):
        score = interaction_auroc(fused, kept.labels.interactions, kept.held)
        rows.append({"vectors": name, "auroc": score.auroc, "positives": score.positives, "negatives": score.negatives})
    return rows


def indication_rows(kept: Snapshot) -> list[dict[str, Any]]:
    """AUROC of indications of held-out drugs, from vectors fused without the graph, whose edges say the answer."""
    rows = []
    for name, fused in (
        ("mkmed, fused without graph", kept.without_graph),
        ("untrained, fused without graph", kept.untrained_without_graph),
    ):
        score = indication_auroc(fused, kept.labels.indications, kept.held)
        rows.append({"vectors": name, "auroc": score.auroc, "positives": score.positives, "negatives": score.negatives})
    return rows
