"""Evaluates a run on the drugs that its training never saw, beside chance, an untrained model and simple baselines.

Everything comes from the run's own snapshot (``embed.evaluation.snapshot``): no database is asked, and what happens to
the knowledge base after the run ended changes no figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.config import LossConfig
from embed.evaluation.baselines import baselines
from embed.evaluation.classes import ClassAccuracy, cosine, nearest_class
from embed.evaluation.intervals import paired
from embed.evaluation.labels import coded
from embed.evaluation.pairs import indication_auroc, interaction_auroc
from embed.evaluation.retrieval import retrieve_both_ways
from embed.evaluation.rivals import concatenation, reduced, substructures, teacher_similarity
from embed.evaluation.snapshot import EvaluationData
from embed.registry import ANCHOR
from embed.runs.artefact import Artefact
from kb.files import replace_file
from kb.output import plain


def read_evaluation_snapshot(run: Artefact) -> EvaluationData:
    """What the run is measured on; raises CheckpointError for a run that did not keep it."""
    return EvaluationData.from_arrays(*run.arrays("evaluation.safetensors"))


def evaluate_run(run: Artefact) -> dict[str, Any]:
    """All figures of a run, also written to ``evaluation.json`` in its folder."""
    kept = read_evaluation_snapshot(run)
    rivals = Rivals(kept, run.config().loss)
    report = {
        "run": str(run.run_id),
        "seed": run.config().seed,
        "drugs": {name: int((kept.side == k).sum()) for k, name in enumerate(("train", "validation", "test"))},
        "retrieval": retrieval_rows(kept),
        "classes": class_rows(kept, rivals),
        "interactions": interaction_rows(kept, rivals),
        "indications": indication_rows(kept, rivals),
    }
    replace_file(run.folder / "evaluation.json", json.dumps(plain(report), indent=1), mode=None)
    return report


def retrieval_rows(kept: EvaluationData, least: int = 20) -> list[dict[str, Any]]:
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


def class_rows(kept: EvaluationData, rivals: Rivals) -> list[dict[str, Any]]:
    """1-NN accuracy on ATC levels 1-3: core drugs, held-out core drugs, and drugs without SMILES."""
    labels, held, bare = kept.labels, kept.held, kept.bare
    has_code = coded(labels.codes)
    rows: list[dict[str, Any]] = []
    core = np.flatnonzero(labels.core & has_code)
    trained = kept.side == 0
    everyone = np.flatnonzero(has_code)
    groups = [
        ("core drugs", core, None, None),
        ("held-out core drugs", core, held[core], None),
        ("held-out core drugs, among those that trained", core, held[core], trained[core]),
        ("drugs without SMILES, among all", everyone, bare[everyone], None),
        ("held-out drugs without SMILES, among those that trained", everyone, (bare & held)[everyone],
         trained[everyone]),
    ]
    for title, pool, asked, among in groups:
        if len(pool) < 20 or (asked is not None and asked.sum() < 10):
            continue
        codes, blocks = [labels.codes[i] for i in pool], [str(kept.group[i]) for i in pool]
        ours = nearest_class(cosine(kept.fused[pool]), codes, blocks, queries=asked, candidates=among)
        for name, similarity in (*baselines(kept.raw, kept.property_names, kept.properties, pool),
                                 *rivals.similarities(pool)):
            if "without SMILES" in title and ("ECFP4" in name or "properties" in name or "pictures" in name):
                continue
            found = nearest_class(similarity, codes, blocks, queries=asked, candidates=among)
            gain, low, high = paired(ours.hits[3], found.hits[3])
            rows.append({**_class_row(name, title, found), "mkmed minus this": gain, "low": low, "high": high})
        rows.append({**_class_row("mkmed, fused", title, ours), "ours": True})
    return rows


class Rivals:
    """What puts the same raw features together without training, fitted once on the training drugs."""

    def __init__(self, kept: EvaluationData, loss: LossConfig) -> None:
        train = np.flatnonzero(kept.side == 0)
        self.kept, self.loss, self.width = kept, loss, kept.fused.shape[1]
        self.molecules = substructures(kept.raw, train)
        self.whole = concatenation(kept.raw, self.molecules)
        self.components = reduced(self.whole, train, self.width)

    def without(self, *parts: str) -> NDArray[np.float32]:
        """The concatenation without some of its parts."""
        return concatenation(self.kept.raw, None if ANCHOR in parts else self.molecules, parts)

    def similarities(self, pool: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Name and similarity matrix of each over the drugs at ``pool``."""
        yield f"untrained concatenation, {self.whole.shape[1]} numbers", cosine(self.whole[pool])
        yield f"its {self.width} principal components", cosine(self.components[pool])
        taught = teacher_similarity(self.kept.raw, self.loss, pool)
        if taught is not None:
            yield "the teacher of the loss, untrained", taught


def _class_row(name: str, title: str, found: ClassAccuracy) -> dict[str, Any]:
    return {
        "vectors": name,
        "drugs": title,
        "queries": found.queries,
        "ours": False,
        **{f"level_{level}": value for level, value in found.accuracy.items()},
    }


def interaction_rows(kept: EvaluationData, rivals: Rivals) -> list[dict[str, Any]]:
    """AUROC of interactions of held-out drugs; ``matched`` has negatives of the same partners as the positives."""
    rows = []
    for name, matrix in (
        ("mkmed, fused", kept.fused),
        ("untrained, fused", kept.untrained_fused),
        (f"{kept.fused.shape[1]} principal components, untrained", rivals.components),
        ("how many interactions the drugs have", None),
    ):
        plain_, matched = (interaction_auroc(matrix, kept.labels.interactions, kept.held, matched=m)
                           for m in (False, True))
        rows.append({"vectors": name, "auroc": plain_.auroc, "auroc, matched": matched.auroc,
                     "positives": plain_.positives, "negatives": plain_.negatives, "ours": name.startswith("mkmed")})
    return rows


def indication_rows(kept: EvaluationData, rivals: Rivals) -> list[dict[str, Any]]:
    """AUROC of indications of held-out drugs, from vectors fused without the graph, whose edges say the answer.

    ``matched`` is the mean AUROC within one indication, so that being a common one says nothing.
    """
    rows = []
    for name, fused in (
        ("mkmed, fused without graph", kept.without_graph),
        ("untrained, fused without graph", kept.untrained_without_graph),
        ("untrained concatenation without graph", rivals.without("graph")),
        ("texts alone, untrained", rivals.without("graph", ANCHOR)),
        ("how many drugs have the indication", None),
    ):
        score = indication_auroc(fused, kept.labels.indications, kept.held)
        rows.append({"vectors": name, "auroc": score.auroc, "auroc, matched": score.matched,
                     "positives": score.positives, "negatives": score.negatives, "ours": name.startswith("mkmed")})
    return rows
