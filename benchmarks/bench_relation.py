"""Relation targets of the batch beside each drug's own neighbours among all that train, on validation drugs.

    python benchmarks/bench_relation.py --splits 3     # on the knowledge base of MKMED_HOME

Every split is prepared once and trained with each kind of targets; the same seed, so the same batches. Measured is what
chooses settings, not what is reported of a recipe: the class (ATC level 3) of the nearest core drug of each validation
drug by the fused vector, no test drug among them, and the validation score of the epoch that is kept. Intervals are
Student's t over splits of the paired difference.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np
from record import report

from embed.config import PretrainConfig, load_config
from embed.evaluation.classes import cosine, nearest_class
from embed.evaluation.intervals import over_seeds
from embed.evaluation.labels import EvaluationLabels, coded, read_labels
from embed.evaluation.training import trained
from embed.features.cache import FeatureCache
from embed.training.job import PreparedTraining, pick_device, prepare_training
from embed.training.model import embed_all
from embed.training.split import sides
from kb.output import say

FIGURES = ("1-NN", "1-NN level 1", "score", "epochs", "cpu_s")


def measured(prepared: PreparedTraining, config: PretrainConfig, labels: EvaluationLabels) -> dict[str, float]:
    """One training: 1-NN of validation drugs at ATC levels 3 and 1, the score, epochs, and seconds of CPU."""
    began = time.process_time()
    model, at = trained(prepared, config)
    seconds = time.process_time() - began
    fused = embed_all(model, prepared.inputs.data)[1].numpy()
    side = sides(prepared.split, len(fused))
    rows = np.flatnonzero(labels.core & coded(labels.codes) & np.isin(side, (0, 1)))
    found = nearest_class(cosine(fused[rows]), [labels.codes[i] for i in rows],
                          [prepared.corpus.blocks[int(i)] for i in rows], queries=side[rows] == 1)
    return {"queries": found.queries, "1-NN": found.accuracy[3], "1-NN level 1": found.accuracy[1], "score": at.best,
            "epochs": at.epoch, "cpu_s": seconds}


def main() -> None:
    """Train, measure, print."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[20], help="how many, one arm each")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="a setting, key=value")
    parser.add_argument("--name", default="relation", help="of the file under benchmarks/results")
    arguments = parser.parse_args()
    settings = load_settings()
    engine, cache = open_engine(settings), FeatureCache(settings.cache / "features")
    base = load_config(None, arguments.sets)
    arms = {"batch": {}, **{f"{k} neighbours": {"relation_targets": "neighbours", "relation_neighbours": k}
                            for k in arguments.neighbours}}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for split in range(arguments.splits):
        config = dataclasses.replace(base, seed=split, train=dataclasses.replace(base.train, split=split))
        prepared = prepare_training(engine, config, cache, pick_device(config.device))
        labels = read_labels(engine, prepared.corpus.drug_ids)
        for name, own in arms.items():
            arm = dataclasses.replace(config, loss=dataclasses.replace(config.loss, **own))
            found[name].append({"split": split, **measured(prepared, arm, labels)})
            say(f"{name}: {found[name][-1]}")
    rows: list[dict[str, Any]] = []
    for name, of in found.items():
        row: dict[str, Any] = {"targets": name, "queries": sum(one["queries"] for one in of)}
        for figure in FIGURES:
            row[figure] = round(float(np.mean([one[figure] for one in of])), 4)
        for figure in ("1-NN", "score") if name != "batch" and len(of) > 1 else ():
            mean, low, high = over_seeds([a[figure] - b[figure] for a, b in zip(of, found["batch"], strict=True)])
            row[f"{figure} − batch"] = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
        rows.append(row)
    report(arguments.name, rows, title="Relation targets", splits=arguments.splits, settings=arguments.sets,
           trainings=found)


if __name__ == "__main__":
    main()
