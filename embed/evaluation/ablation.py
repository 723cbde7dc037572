"""The two questions of the bucket effect: do more modalities help, and does training on all drugs beat training only
on those that have everything?

Each arm is trained anew from the same features, several seeds each; every seed has its own split. Arms are equal in
width, steps, warm-up, patience and settings, however many drugs they train on: none stops before its last epoch. What
is compared is measured on held-out drugs, by the class of the nearest neighbour: of the molecule's vector and of the
equally wide vector that the arm's transfer head predicts (what a recommender that knows only structures would use),
beside circular fingerprints; and of the fused vector, beside the untrained concatenation of the same modalities, of
core drugs and of drugs that lack a modality, whose like an arm that trains on complete drugs only never saw. In the
second column texts say no class.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.config import PretrainConfig
from embed.evaluation.classes import cosine, nearest_class, tanimoto
from embed.evaluation.columns import MASKED, PLAIN, column_config
from embed.evaluation.intervals import over_seeds
from embed.evaluation.kept import KeptTrainings, corpus_digest
from embed.evaluation.labels import EvaluationLabels, coded, read_labels
from embed.evaluation.rivals import concatenation, substructures
from embed.evaluation.training import trained
from embed.features.cache import FeatureCache
from embed.registry import ANCHOR
from embed.source import Corpus, read_corpus
from embed.training.data import Dataset
from embed.training.foretell import BITS, take_head
from embed.training.inputs import Inputs
from embed.training.job import PreparedTraining, pick_device, prepare_training, training_rows
from embed.training.model import embed_all
from embed.training.split import sides, split_corpus
from embed.transfer import molecules
from embed.transfer.head import TransferHead
from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, PoolTask
from kb.errors import DataError, UsageError
from kb.files import replace_file
from kb.output import plain
from kb.pictures import save_figure
from kb.settings import Settings

Arm = tuple[str, str, tuple[str, ...]]
"""The column, ``all`` or ``intersection``, and the modalities."""

METRICS = ("molecule level 3", "predicted level 3", "ECFP4 level 3", "fused level 3", "untrained level 3",
           "fused level 1", "incomplete level 3", "untrained incomplete level 3", "score")
"""1-NN accuracy at an ATC level of held-out core drugs, or of held-out drugs that lack a modality among all that have a
code, and the score on validation drugs that chose the epoch."""
PANELS = ("molecule level 3", "predicted level 3", "fused level 3", "incomplete level 3")
UNTRAINED = {"molecule level 3": "ECFP4 level 3", "predicted level 3": "ECFP4 level 3",
             "fused level 3": "untrained level 3", "incomplete level 3": "untrained incomplete level 3"}
"""What is drawn beside a panel's figures."""


def arms(modalities: Sequence[str], subsets: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(arm, modalities) of every training: 1..5 modalities on all drugs, and all five on the intersection.

    ``cumulative`` adds modalities in the given order; ``ends`` trains the first and all; ``all`` trains every
    combination of every size.
    """
    if subsets not in ("cumulative", "ends", "all"):
        raise UsageError(f"subsets is {subsets!r}", hint="cumulative, ends or all")
    sizes = range(1, len(modalities) + 1)
    for size in dict.fromkeys((1, len(modalities))) if subsets == "ends" else sizes:
        for chosen in combinations(modalities, size) if subsets == "all" else [tuple(modalities[:size])]:
            yield "all", tuple(chosen)
    yield "intersection", tuple(modalities)


def restrict(prepared: PreparedTraining, config: PretrainConfig) -> PreparedTraining:
    """The same inputs with only the configured modalities, in the tables, the late fusion and the raw features."""
    names = (ANCHOR, *config.modalities)
    inputs = prepared.inputs
    data = Dataset(inputs.data.drug_ids, {n: t for n, t in inputs.data.tables.items() if n in names}, inputs.data.group)
    taught = [n for n in (config.loss.relation_of if config.loss.relation else ())
              if n in inputs.raw and n in inputs.data.tables]
    relations = [r for n, r in zip(taught, inputs.relations, strict=True) if n in names]
    raw = {n: one for n, one in inputs.raw.items() if n in names}
    return PreparedTraining(prepared.corpus, prepared.split, Inputs(data, relations, inputs.fitted, raw))


@dataclasses.dataclass
class Shared:
    """What the arms of one split have in common, from the first that needed it."""

    molecules: NDArray[np.float32] | None = None
    head: TransferHead | None = None


def train_arm(prepared: PreparedTraining, config: PretrainConfig, labels: EvaluationLabels, cache: FeatureCache,
              shared: Shared, known: NDArray[np.bool_]) -> dict[str, float]:
    """The metrics of one training, in a folder that is thrown away; ``known`` [N, 1 + M] is who has what at all."""
    model, at = trained(prepared, config)
    z, fused, present = (part.numpy() for part in embed_all(model, prepared.inputs.data))
    side = sides(prepared.split, len(fused))
    held = side == 2
    lacking = held & ~known.all(1)
    every = np.flatnonzero(known.any(1) & coded(labels.codes))
    pool = every[labels.core[every] & present[every, 0]]
    asked = np.union1d(every, prepared.split.train)
    raw = prepared.inputs.raw_of(asked)
    if shared.molecules is None:
        shared.molecules = substructures(raw, np.flatnonzero(side[asked] == 0))
    whole = concatenation(raw, shared.molecules) if raw else None

    def accuracy(similarity: NDArray[np.floating] | None, rows: NDArray[np.int64] = pool, level: int = 3,
                 queries: NDArray[np.bool_] = held) -> float:
        if similarity is None:
            return float("nan")
        found = nearest_class(similarity, [labels.codes[i] for i in rows],
                              [prepared.corpus.blocks[int(i)] for i in rows], queries=queries[rows])
        return found.accuracy[level]

    def untrained(rows: NDArray[np.int64]) -> NDArray[np.floating] | None:
        return None if whole is None else cosine(whole[np.searchsorted(asked, rows)])

    rows, wide, bits = _from_structure(prepared, config, fused, side, cache, pool, shared)
    return {
        "molecule level 3": accuracy(cosine(z[pool, 0])),
        "predicted level 3": accuracy(None if wide is None else cosine(wide), rows),
        "ECFP4 level 3": accuracy(tanimoto(bits), rows),
        "fused level 3": accuracy(cosine(fused[pool])),
        "untrained level 3": accuracy(untrained(pool)),
        "fused level 1": accuracy(cosine(fused[pool]), level=1),
        "incomplete level 3": accuracy(cosine(fused[every]), every, queries=lacking),
        "untrained incomplete level 3": accuracy(untrained(every), every, queries=lacking),
        "incomplete": float(lacking[every].sum()),
        "score": at.best,
        "train": float(len(training_rows(prepared, config))),
        "steps": float(at.step),
    }


def _from_structure(prepared: PreparedTraining, config: PretrainConfig, fused: NDArray[np.float32],
                    side: NDArray[np.int8], cache: FeatureCache, pool: NDArray[np.int64], shared: Shared,
                    ) -> tuple[NDArray[np.int64], NDArray[np.float32] | None, NDArray[np.float32]]:
    """``(rows, predicted, bits)`` of the drugs of ``pool`` that every featuriser can read.

    The predicted vector has as many numbers as the molecule's; it is None where the arm has no transfer head.
    """
    smiles = [prepared.corpus.smiles[int(i)] or "" for i in pool]
    narrow = dataclasses.replace(config.transfer, width=min(config.transfer.width, config.width))
    narrowed = dataclasses.replace(config, transfer=narrow)
    head = take_head(prepared.corpus, prepared.inputs, fused, side, narrowed, cache, shared.head)
    shared.head = head or shared.head
    read, found = molecules.read(smiles, cache, bits=BITS, network=head is not None and head.network)
    bits = np.asarray((found.counts > 0).todense(), np.float32)
    return pool[read], None if head is None else head.foretell(found).wide, bits


def modalities_of(corpus: Corpus) -> set[str]:
    """The modalities that any drug of the corpus has."""
    has = {"text": len(corpus.texts), "image": len(corpus.images), "structure": len(corpus.conformers),
           "property": int(np.isfinite(corpus.properties).sum()),
           "graph": 0 if corpus.triples is None else len(corpus.triples.head)}
    return {name for name, count in has.items() if count}


Job = tuple[int, str]
"""The seed and the column whose arms are trained one after the other."""
SECONDS_A_SHARE = 24 * 3600.0
"""Of CPU, after which a worker's arms are given up."""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What is trained, the same for every seed."""

    config: PretrainConfig
    subsets: str
    fresh: bool = False


def open_worker(settings: Settings, study: Ablation) -> Callable[[Job], list[tuple[Arm, dict[str, float]]]]:
    """A function that measures the arms of a seed in a column, for a process of a pool, on one thread."""
    from threadpoolctl import threadpool_limits

    from kb.db.engine import open_engine

    threadpool_limits(1)  # twenty processes with a thread for each core wait for one another for minutes
    worker = Worker(open_engine(settings), settings, study)
    return lambda job: list(worker.arms_of(job))


class Worker:
    """A process's view of the knowledge base, read once for all seeds."""

    def __init__(self, engine: Engine, settings: Settings, study: Ablation) -> None:
        config = study.config
        self.engine, self.study = engine, study
        self.cache = FeatureCache(settings.cache / "features")
        self.corpus = read_corpus(engine, notes=config.text.notes, exclude_types=config.graph.exclude_types,
                                  exclude_relations=config.graph.exclude)
        self.labels = read_labels(engine, self.corpus.drug_ids)
        self.known = [m for m in config.modalities if m in modalities_of(self.corpus)]
        self.kept = KeptTrainings(settings.runs / "ablation" / "trainings", corpus_digest(self.corpus, self.labels),
                                  study.fresh)

    def arms_of(self, job: Job) -> Iterator[tuple[Arm, dict[str, float]]]:
        """(arm, metrics) of every arm of a seed in a column; all train for the same steps, none stops early."""
        seed, column = job
        config = self.study.config
        train = dataclasses.replace(config.train, split=seed)
        seeded = dataclasses.replace(config, seed=seed, train=train)
        usual = max(1, len(split_corpus(self.corpus, seeded, self.cache).train) // train.batch_size)
        equal = dataclasses.replace(train, epoch_steps=train.epoch_steps or usual, patience=train.epochs)
        whole = LazyTraining(self.engine, column_config(seeded, column), self.cache)
        for arm, chosen in arms(self.known, self.study.subsets):
            own = dataclasses.replace(seeded, modalities=chosen, arm=arm, train=equal)
            if "text" in chosen:  # without texts there is nothing to mask: the training is the plain one
                own = column_config(own, column)
            yield (column, arm, chosen), self.kept.measured(own, ("ablation 2", str(sorted(self.known))),
                                                            functools.partial(_measured_arm, whole, own, self.labels))


def ablate(
    engine: Engine,
    settings: Settings,
    config: PretrainConfig,
    *,
    seeds: Sequence[int] = range(5),
    subsets: str = "cumulative",
    columns: Sequence[str] = (PLAIN, MASKED),
    name: str = "ablation",
    fresh: bool = False,
    on: str = LOCAL,
    workers: int = 1,
    on_arm: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train every arm with every seed in every column; ``name``'s table and picture under ``<home>/runs/ablation``.

    A training that was measured before, on the same knowledge base under the same configuration, is not repeated
    unless ``fresh``. Several ``workers`` each take the arms of one seed in one column, which share their inputs; they
    need the home's folder and the database.
    """
    if not seeds:
        raise UsageError("an ablation needs at least one seed", hint="--seeds 5")
    study = Ablation(config, subsets, fresh)
    results: dict[Arm, dict[int, dict[str, float]]] = {}

    def collect(job: Job, arm: Arm, found: dict[str, float]) -> None:
        results.setdefault(arm, {})[job[0]] = found
        on_arm({"seed": job[0], "column": arm[0], "arm": arm[1], "modalities": ", ".join(arm[2]), **found})

    jobs = [(seed, column) for seed in seeds for column in columns]
    if on == LOCAL and workers == 1:
        worker = Worker(engine, settings, study)
        for number, job in enumerate(jobs, 1):
            for arm, found in worker.arms_of(job):
                collect(job, arm, found)
            if number % len(columns) == 0:
                report = _write(settings, name, results, subsets)
        return report
    task = PoolTask("embed.evaluation.ablation:open_worker", {"settings": settings, "study": study},
                    seconds=SECONDS_A_SHARE, memory=None)
    with open_pool(on, task, min(workers, len(jobs))) as pool:
        for number, rows in pool.map(jobs, share=1):
            if isinstance(rows, Failure):
                raise DataError(f"seed {jobs[number][0]}, {jobs[number][1]}: {rows.reason}")
            for arm, found in rows:
                collect(jobs[number], arm, found)
            report = _write(settings, name, results, subsets)
    return report


class LazyTraining:
    """The inputs of all modalities, made when the first training asks for them, and what its arms share."""

    def __init__(self, engine: Engine, config: PretrainConfig, cache: FeatureCache) -> None:
        self.engine, self.config, self.cache, self.shared = engine, config, cache, Shared()

    @functools.cached_property
    def training(self) -> PreparedTraining:
        """Corpus, split and inputs."""
        return prepare_training(self.engine, self.config, self.cache, pick_device(self.config.device))


def _measured_arm(whole: LazyTraining, config: PretrainConfig, labels: EvaluationLabels) -> dict[str, float]:
    known = whole.training.inputs.data.present.numpy()
    return train_arm(restrict(whole.training, config), config, labels, whole.cache, whole.shared, known)


def _write(settings: Settings, name: str, found: Mapping[Arm, Mapping[int, dict[str, float]]],
           subsets: str) -> dict[str, Any]:
    """The report so far, kept after every seed, so that a stopped ablation has its table and picture."""
    results = {arm: [of[seed] for seed in sorted(of)] for arm, of in sorted(found.items(), key=_place)}
    folder = settings.runs / "ablation"
    report = {
        "metrics": list(METRICS),
        "rows": [_summary(arm, found) for arm, found in results.items()],
        "subsets": subsets,
        "each": [{"column": c, "arm": a, "modalities": list(m), **f}
                 for (c, a, m), found in results.items() for f in found],
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{name}.json", json.dumps(plain(report), indent=1), mode=None)
    draw_ablation(report, folder / f"{name}.svg")
    return report


def _place(one: tuple[Arm, Any]) -> tuple[bool, bool, int, tuple[str, ...]]:
    """Where an arm stands in the table, whichever worker was ready first."""
    column, arm, modalities = one[0]
    return column != PLAIN, arm != "all", len(modalities), modalities


def _summary(named: Arm, found: Sequence[dict[str, float]]) -> dict[str, Any]:
    column, arm, modalities = named
    row: dict[str, Any] = {
        "column": column,
        "arm": arm,
        "modalities": list(modalities),
        "size": len(modalities),
        "seeds": len(found),
        "train": int(np.mean([f["train"] for f in found])),
        "steps": int(np.mean([f["steps"] for f in found])),
    }
    for name in METRICS:
        row[name], row[f"{name}_low"], row[f"{name}_high"] = over_seeds([f[name] for f in found])
    return row


def readable_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with each metric and its interval in one cell; without an interval where one seed gives none."""
    table = []
    for row in rows:
        cells: dict[str, Any] = {name: row[name] for name in ("column", "arm", "modalities", "train", "steps", "seeds")}
        for name in METRICS:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            interval = f" ({low:.3f}–{high:.3f})" if np.isfinite([low, high]).all() else ""
            cells[name] = f"{row[name]:.3f}{interval}"
        table.append(cells)
    return table


STYLES = ((PLAIN, "all", "#33658a", "o"), (MASKED, "all", "#7a9e7e", "^"), (PLAIN, "intersection", "#b3541e", "s"),
          (MASKED, "intersection", "#d9a441", "D"))


def draw_ablation(report: dict[str, Any], path: Path) -> None:
    """The picture: quality over the number of modalities with 95 % intervals, and what is not trained as dashes."""
    from matplotlib.figure import Figure

    panels = [metric for metric in PANELS if metric in report["metrics"]]
    figure = Figure(figsize=(3.3 * len(panels), 3.2), layout="constrained")
    sizes = sorted({row["size"] for row in report["rows"]})
    for axes, metric in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        for number, (column, arm, colour, marker) in enumerate(STYLES):
            shift, named = 0.08 * (number - 1.5), False
            for size in sizes:
                rows = [r for r in report["rows"] if (r["column"], r["arm"], r["size"]) == (column, arm, size)]
                if not rows:
                    continue
                mean, low, high, plain_ = (float(np.mean([r[key] for r in rows])) for key in (
                    metric, f"{metric}_low", f"{metric}_high", UNTRAINED[metric]))
                half = (high - low) / 2
                axes.errorbar(size + shift, mean, yerr=half if np.isfinite(half) else None, fmt=marker, color=colour,
                              capsize=3, markersize=4, label=None if named else f"{arm}, {column}")
                axes.plot([size + shift - 0.1, size + shift + 0.1], [plain_, plain_], color=colour, linewidth=0.8,
                          linestyle=":")
                named = True
        axes.set_title(f"{metric}, held-out drugs", fontsize=9)
        axes.set_xlabel(f"modalities (dots: {UNTRAINED[metric].removesuffix(' level 3')})", fontsize=8)
        axes.set_xticks(sizes)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)
    save_figure(figure, path)
