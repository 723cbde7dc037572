"""The two questions of the bucket effect: do more modalities help, and does training on all drugs beat training only
on those that have everything?

Each arm is trained anew from the same features, several seeds each; every seed has its own split. Arms are equal in
steps, warm-up, patience and settings, however many drugs they train on. What is compared is
measured on held-out drugs: the class of the nearest neighbour of the molecule's vector (what a recommender that knows
only structures would use) and of the fused vector.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import Engine

from embed.config import PretrainConfig
from embed.evaluation.classes import cosine, nearest_class
from embed.evaluation.intervals import over_seeds
from embed.evaluation.labels import EvaluationLabels, read_labels
from embed.evaluation.training import trained
from embed.features.cache import FeatureCache
from embed.registry import ANCHOR
from embed.training.data import Dataset
from embed.training.inputs import Inputs
from embed.training.job import PreparedTraining, prepare_training, training_rows
from embed.training.model import embed_all
from kb.errors import UsageError
from kb.files import replace_file
from kb.output import plain
from kb.pictures import save_figure
from kb.settings import Settings

Arm = tuple[str, tuple[str, ...]]
"""``all`` or ``intersection``, and the modalities."""

METRICS = ("molecule level 3", "fused level 3", "fused level 1", "score")
"""1-NN accuracy on held-out core drugs at an ATC level, and the validation retrieval score."""


def arms(modalities: Sequence[str], subsets: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(arm, modalities) of every training: 1..5 modalities on all drugs, and all five on the intersection.

    ``cumulative`` adds modalities in the given order; ``all`` trains every combination of every size.
    """
    if subsets not in ("cumulative", "all"):
        raise UsageError(f"subsets is {subsets!r}", hint="cumulative or all")
    for size in range(1, len(modalities) + 1):
        for chosen in [tuple(modalities[:size])] if subsets == "cumulative" else combinations(modalities, size):
            yield "all", tuple(chosen)
    yield "intersection", tuple(modalities)


def restrict(prepared: PreparedTraining, config: PretrainConfig) -> PreparedTraining:
    """The same inputs with only the configured modalities, in the tables and in the late fusion."""
    names = (ANCHOR, *config.modalities)
    inputs = prepared.inputs
    data = Dataset(inputs.data.drug_ids, {n: t for n, t in inputs.data.tables.items() if n in names}, inputs.data.group)
    taught = [n for n in config.loss.relation_of if n in inputs.raw and n in inputs.data.tables]
    relations = [r for n, r in zip(taught, inputs.relations, strict=True) if n in names]
    return PreparedTraining(prepared.corpus, prepared.split, Inputs(data, relations, inputs.fitted, inputs.raw))


def train_arm(prepared: PreparedTraining, config: PretrainConfig, labels: EvaluationLabels) -> dict[str, float]:
    """The metrics of one training, in a folder that is thrown away."""
    model, at = trained(prepared, config)
    z, fused, present = (part.numpy() for part in embed_all(model, prepared.inputs.data))
    held = np.zeros(len(fused), bool)
    held[prepared.split.test] = True
    pool = np.flatnonzero(labels.core & present[:, 0] & np.array([bool(c) for c in labels.codes]))
    codes, blocks = [labels.codes[i] for i in pool], [prepared.corpus.blocks[int(i)] for i in pool]
    by_fused = nearest_class(cosine(fused[pool]), codes, blocks, queries=held[pool])
    by_molecule = nearest_class(cosine(z[pool, 0]), codes, blocks, queries=held[pool])
    return {
        "molecule level 3": by_molecule.accuracy[3],
        "fused level 3": by_fused.accuracy[3],
        "fused level 1": by_fused.accuracy[1],
        "score": at.best,
        "train": float(len(training_rows(prepared, config))),
    }


def ablate(
    engine: Engine,
    settings: Settings,
    config: PretrainConfig,
    *,
    seeds: Sequence[int] = range(5),
    subsets: str = "cumulative",
    on_arm: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train every arm with every seed; table and picture under ``<home>/runs/ablation``."""
    if not seeds:
        raise UsageError("an ablation needs at least one seed", hint="--seeds 5")
    cache, device = FeatureCache(settings.cache / "features"), torch.device("cpu")
    results: dict[Arm, list[dict[str, float]]] = {}
    labels: EvaluationLabels | None = None
    for seed in seeds:
        seeded = dataclasses.replace(config, seed=seed, train=dataclasses.replace(config.train, split=seed))
        whole = prepare_training(engine, seeded, cache, device)
        labels = labels or read_labels(engine, whole.corpus.drug_ids)
        known = [m for m in config.modalities if m in whole.inputs.data.tables]
        steps = max(1, len(whole.split.train) // config.train.batch_size)
        equal = dataclasses.replace(seeded.train, epoch_steps=config.train.epoch_steps or steps)
        for arm, chosen in arms(known, subsets):
            own = dataclasses.replace(seeded, modalities=chosen, arm=arm, train=equal)
            found = train_arm(restrict(whole, own), own, labels)
            results.setdefault((arm, chosen), []).append(found)
            on_arm({"seed": seed, "arm": arm, "modalities": ", ".join(chosen), **found})
        report = _write(settings.runs / "ablation", results, subsets)
    return report


def _write(folder: Path, results: Mapping[Arm, Sequence[dict[str, float]]], subsets: str) -> dict[str, Any]:
    """The report so far, kept after every seed, so that a stopped ablation has its table and picture."""
    report = {
        "metrics": list(METRICS),
        "rows": [_summary(arm, chosen, found) for (arm, chosen), found in results.items()],
        "subsets": subsets,
        "each": [{"arm": a, "modalities": list(m), **f} for (a, m), found in results.items() for f in found],
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "ablation.json", json.dumps(plain(report), indent=1), mode=None)
    draw_ablation(report, folder / "ablation.svg")
    return report


def _summary(arm: str, modalities: tuple[str, ...], found: Sequence[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "arm": arm,
        "modalities": list(modalities),
        "size": len(modalities),
        "seeds": len(found),
        "train": int(np.mean([f["train"] for f in found])),
    }
    for name in METRICS:
        row[name], row[f"{name}_low"], row[f"{name}_high"] = over_seeds([f[name] for f in found])
    return row


def readable_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with each metric and its interval in one cell; without an interval where one seed gives none."""
    table = []
    for row in rows:
        cells: dict[str, Any] = {name: row[name] for name in ("arm", "modalities", "train", "seeds")}
        for name in METRICS:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            interval = f" ({low:.3f}–{high:.3f})" if np.isfinite([low, high]).all() else ""
            cells[name] = f"{row[name]:.3f}{interval}"
        table.append(cells)
    return table


def draw_ablation(report: dict[str, Any], path: Path) -> None:
    """The picture: quality over the number of modalities, with 95 % intervals, and the intersection beside it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    sizes = sorted({row["size"] for row in report["rows"]})
    for axes, name in zip(figure.subplots(1, 3), METRICS[:3], strict=True):
        for arm, colour, marker in (("all", "#33658a", "o"), ("intersection", "#b3541e", "s")):
            for size in sizes:
                rows = [r for r in report["rows"] if r["arm"] == arm and r["size"] == size]
                if rows:
                    mean = float(np.mean([r[name] for r in rows]))
                    half = float(np.mean([(r[f"{name}_high"] - r[f"{name}_low"]) / 2 for r in rows]))
                    axes.errorbar(
                        size,
                        mean,
                        yerr=half if np.isfinite(half) else None,
                        fmt=marker,
                        color=colour,
                        capsize=3,
                        label=arm if size == sizes[-1] else None,
                    )
        axes.set_title(f"{name}, held-out drugs", fontsize=9)
        axes.set_xlabel("modalities", fontsize=8)
        axes.set_xticks(sizes)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    save_figure(figure, path)
