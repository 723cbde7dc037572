"""Rivals of other kinds, each with the same number of settings tried on validation patients, beside the pair model.

    python benchmarks/bench_rivals.py --cohort eicu --seeds 8 --first-seed 600

    python benchmarks/bench_rivals.py --cohort mimic4 --peer-python peer/bin/python

Needs a filled knowledge base, published vectors and the prepared cohort; with an interpreter that has PyHealth 2.1
(``benchmarks/peers/pyhealth_rivals.py``), two of its models are rivals, too. ``BUDGET`` settings of each are tried on
every split, chosen by validation PRAUC; what was tried is written beside the table. Test patients see only what was
chosen. Differences are from ``pairs``, over seeds and patients (crossed bootstrap). The file is written after every
split.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from peer_rivals import Peer
from record import report

from kb.db.engine import open_engine
from kb.output import say
from kb.settings import load_settings
from recsys.experiments.bootstrap import NAMES, patient_sums
from recsys.experiments.config import from_json
from recsys.experiments.crossed import difference, gather_units
from recsys.experiments.decode import select
from recsys.experiments.evaluate import choose_rule
from recsys.experiments.metrics import average_precision, visit_metrics
from recsys.experiments.runs import Data, fitted_batch, load_data
from recsys.recommenders.contract import Recommender
from recsys.recommenders.rivals import RIVALS
from recsys.registry import recommender_of

BUDGET = 6
NETWORKS = [{"learning_rate": rate, "code_dropout": dropout} for rate in (1e-3, 2e-3, 5e-3) for dropout in (0.3, 0.5)]
NULL = {"vectors": "learned", "titles": "off"}
GRIDS: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "pairs": ("pairs", {}, [{}]),
    "pairs, no knowledge": ("pairs", NULL, [{}]),
    "boosted trees": ("boosted_pairs", {}, [{}]),
    "boosted trees, no knowledge": ("boosted_pairs", NULL, [{}]),
    "nearest visits": ("nearest_visits", NULL, [{}]),
    "logistic with history": ("logistic_history", NULL, [{"l2": 10.0**-power} for power in range(BUDGET)]),
    "Transformer": ("transformer", NULL, NETWORKS),
    "RETAIN": ("retain", NULL, NETWORKS),
    "ARMR": ("armr", NULL, NETWORKS),
}
"""Rival → recommender, settings, and the settings tried; where there is one, it tries ``BUDGET`` or more by itself."""
PEERS = {"PyHealth 2.1 RETAIN": "RETAIN", "PyHealth 2.1 Transformer": "Transformer"}
PEER_SETTINGS = [{"learning_rate": one["learning_rate"], "dropout": one["code_dropout"]} for one in NETWORKS]
METRICS = ("jaccard", "prauc")


def made(name: str, settings: dict[str, Any], data: Data, cohort: str, seed: int, peer: Path | None) -> Recommender:
    """A recommender, untrained."""
    known = "transformer" if name in PEERS.values() else name if name not in RIVALS else "pairs"
    config = from_json({"recommender": known, "cohort": cohort, "seed": seed, **settings})
    config = fitted_batch(config, data.train.patients)
    if peer is not None and name in PEERS.values():
        return Peer(name, peer, PEER_SETTINGS, data.test, data.sizes, data.knowledge, config)
    kind = RIVALS[name] if name in RIVALS else recommender_of(config)
    return kind(data.sizes, data.knowledge, config)


def one_split(cohort: str, seed: int, names: list[str], peer: Path | None = None) -> dict[str, Any]:
    """For each rival (units, sums, counts) on the test patients, and what was tried."""
    settings = load_settings()
    engine, found = open_engine(settings), {}
    try:
        for rival in names:
            name, fixed, grid = (PEERS[rival], NULL, [{}]) if rival in PEERS else GRIDS[rival]
            known = "transformer" if rival in PEERS else "pairs" if name in RIVALS else name
            base = from_json({"recommender": known, "cohort": cohort, "seed": seed, **fixed})
            data, begun, tried = load_data(base, settings, engine), time.process_time(), []
            held = np.flatnonzero(data.validation.scored)
            truth = data.validation.target(held).astype(np.float32)
            for wanted in grid:
                model = made(name, {**fixed, **wanted}, data, cohort, seed, peer)
                model.fit(data.train, data.validation)
                quality = float(average_precision(model.predict_proba(data.validation)[held], truth).mean())
                tried.append((quality, wanted, model))
            quality, wanted, model = max(tried, key=lambda one: one[0])
            keep = data.test.scored
            rows = np.flatnonzero(keep)
            probability, matrix = model.predict_proba(data.test)[rows], data.knowledge.interactions.matrix
            chosen = select(probability, choose_rule(model, data.validation).free, matrix)
            table = visit_metrics(probability, chosen, data.test.target(rows), matrix, data.test.unseen[keep])
            of = data.test.patient_of[keep]
            sums = patient_sums(table, of)
            own = getattr(model, "tried", None) or [{**setting, "prauc": score} for score, setting, _ in tried]
            found[rival] = {"units": data.encoded.split.test[np.unique(of)].astype(np.int64),
                            "sums": sums.sums[:, [NAMES.index(metric) for metric in METRICS]], "counts": sums.visits,
                            "tried": own, "chosen": wanted,
                            "cpu_seconds": time.process_time() - begun + getattr(model, "cpu_seconds", 0.0)}
    finally:
        engine.dispose()
    return found


def rows_of(splits: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The table, best PRAUC first."""
    units = 1 + max(int(one[rival]["units"].max()) for one in splits for rival in names)
    arms = {rival: gather_units([(one[rival]["units"], one[rival]["sums"], one[rival]["counts"]) for one in splits],
                                units) for rival in names}
    rows = []
    for rival, tests in arms.items():
        row: dict[str, Any] = {"rival": rival, "splits": len(splits), **dict(zip(METRICS, tests.means(), strict=True)),
                               "cpu_seconds": float(np.mean([one[rival]["cpu_seconds"] for one in splits]))}
        if rival != "pairs":
            for metric, gap in zip(METRICS, difference(arms["pairs"], tests), strict=True):
                row[f"pairs − it, {metric}"] = f"{gap.difference:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
        rows.append(row)
    return sorted(rows, key=lambda row: -row["prauc"])


def main() -> None:
    """Run, and write after every split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=600)
    parser.add_argument("--only", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--peer-python", type=Path, help="an interpreter with PyHealth 2.1")
    parser.add_argument("--name", default="rivals", help="name of the file below benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in GRIDS if name in options.only or name == "pairs"]
    names += list(PEERS) if options.peer_python else []
    splits = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        splits.append(one_split(options.cohort, seed, names, options.peer_python))
        say(f"split {seed} is done")
        tried = {rival: [{"chosen": one[rival]["chosen"], "tried": one[rival]["tried"]} for one in splits]
                 for rival in names}
        report(options.name, rows_of(splits, names), shown=len(splits) == options.seeds, cohort=options.cohort,
               seeds=[options.first_seed, options.seeds], budget=BUDGET, tried=tried,
               command=f"python benchmarks/bench_rivals.py --cohort {options.cohort} --seeds {options.seeds} "
                       f"--first-seed {options.first_seed}" + " --peer-python PYTHON" * bool(options.peer_python))


if __name__ == "__main__":
    main()
