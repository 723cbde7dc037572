"""What training adds over several splits: trained anew on each, beside rivals that are not trained.

Every split is measured in three columns. ``plain`` is the recipe as it is; in ``class words masked`` no text says a
therapeutic class (``embed.features.masking``); in ``without treatment edges`` the graph does not know what a drug is
given for. Rivals get the same inputs. Differences are taken in each split and their interval is over splits
(Student's t), so it holds the luck of the split and of the training.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from embed.config import PretrainConfig, to_json
from embed.evaluation.columns import COLUMNS, PLAIN, column_config
from embed.evaluation.intervals import over_seeds
from embed.evaluation.kept import KeptTrainings, corpus_digest
from embed.evaluation.labels import EvaluationLabels, read_labels
from embed.evaluation.run import Rivals, class_rows, indication_rows, interaction_rows, retrieval_rows
from embed.evaluation.snapshot import EvaluationData
from embed.evaluation.training import trained
from embed.features.cache import FeatureCache
from embed.source import read_corpus
from embed.training.job import pick_device, prepare_training, take_evaluation_snapshot, training_rows
from kb.errors import UsageError
from kb.files import replace_file
from kb.output import plain
from kb.settings import Settings

LEVEL = "level_3"


def evaluate_splits(engine: Engine, settings: Settings, config: PretrainConfig, *, splits: Sequence[int] = range(5),
                    columns: Sequence[str] = COLUMNS, fresh: bool = False,
                    on_training: Callable[[dict[str, Any]], None] = lambda row: None) -> dict[str, Any]:
    """Train on every split in every column and measure; nothing is stored in the database.

    The report is also written to ``<home>/runs/splits/splits.json``, after each training. A training that was measured
    before, on the same knowledge base under the same configuration, is not repeated unless ``fresh``.
    """
    if len(splits) < 1:
        raise UsageError("there is no split to train on", hint="--splits 5")
    configs = {column: column_config(config, column) for column in columns}
    folder, cache = settings.runs / "splits", FeatureCache(settings.cache / "features")
    corpus = read_corpus(engine, notes=config.text.notes, exclude_types=config.graph.exclude_types,
                         exclude_relations=config.graph.exclude)
    labels = read_labels(engine, corpus.drug_ids)
    kept, found = KeptTrainings(folder / "trainings", corpus_digest(corpus, labels), fresh), []
    del corpus
    report: dict[str, Any] = {}
    for split in splits:
        for column, own in configs.items():
            seeded = dataclasses.replace(own, seed=split, train=dataclasses.replace(own.train, split=split))
            one = kept.measured(seeded, ("splits", column), functools.partial(
                _trained_and_measured, engine, seeded, cache, labels, column))
            found.append({"split": split, "column": column, **one})
            on_training({"split": split, "column": column,
                         **{name: one[name] for name in TOLD}, **_ours(one["classes"])})
            report = {"splits": list(splits), "columns": list(columns), "config": to_json(config),
                      "trainings": [{k: v for k, v in one.items() if not isinstance(v, list)} for one in found],
                      **{part: summarise_splits(found, part) for part in PARTS}}
            _write(folder, report)
    return report


TOLD = ("epochs", "best_epoch", "score", "train")


def _trained_and_measured(engine: Engine, config: PretrainConfig, cache: FeatureCache, labels: EvaluationLabels,
                          column: str) -> dict[str, Any]:
    """Facts and figures of one training, whose folder is thrown away."""
    prepared = prepare_training(engine, config, cache, pick_device(config.device))
    model, at = trained(prepared, config)
    told = (at.epoch, at.best_epoch, at.best, len(training_rows(prepared, config)))
    snapshot = take_evaluation_snapshot(config, model, prepared, labels)
    return {**dict(zip(TOLD, told, strict=True)), **_measured(snapshot, config, column)}


def _measured(kept: EvaluationData, config: PretrainConfig, column: str) -> dict[str, Any]:
    rivals = Rivals(kept, config.loss)
    found: dict[str, Any] = {"classes": class_rows(kept, rivals), "indications": indication_rows(kept, rivals)}
    # Neither knows anything of texts' words or treatments that plain does not tell.
    return found if column != PLAIN else {**found, "retrieval": retrieval_rows(kept),
                                          "interactions": interaction_rows(kept, rivals)}


def _ours(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {str(row["drugs"]): round(row[LEVEL], 3) for row in rows if row["ours"]}


PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "classes": (("column", "drugs", "vectors"), ("queries", "level_1", "level_2", LEVEL)),
    "indications": (("column", "vectors"), ("positives", "auroc", "auroc, matched")),
    "interactions": (("column", "vectors"), ("positives", "auroc", "auroc, matched")),
    "retrieval": (("from", "to"), ("drugs", "recall@1", "recall@10", "mrr", "chance@10", "lift@10",
                                   "untrained recall@10")),
}
"""What names a row of each part, and its figures; the last but for retrieval is what differences are of."""


def summarise_splits(found: Sequence[Mapping[str, Any]], part: str) -> list[dict[str, Any]]:
    """One row a name: the mean of each figure over splits, and mkmed's lead with its interval."""
    keys, figures = PARTS[part]
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    ours: dict[tuple[Any, ...], float] = {}
    for one in found:
        for row in one.get(part, ()):
            whole = {**row, "column": one["column"], "split": one["split"]}
            grouped.setdefault(tuple(str(whole[key]) for key in keys), []).append(whole)
            if row.get("ours"):
                ours[(one["split"], *(str(whole[key]) for key in keys[:-1]))] = row[figures[-1]]
    rows = []
    for name, members in grouped.items():
        line: dict[str, Any] = dict(zip(keys, name, strict=True))
        line |= {"splits": len(members)}
        line |= {figure: over_seeds([m[figure] for m in members])[0] for figure in figures}
        gains = [ours[(m["split"], *name[:-1])] - m[figures[-1]] for m in members
                 if (m["split"], *name[:-1]) in ours and not m.get("ours")]
        if gains:
            line["mkmed minus this"], line["low"], line["high"] = over_seeds(gains)
        rows.append(line)
    return rows


def _write(folder: Path, report: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "splits.json", json.dumps(plain(report), indent=1), mode=None)
