"""What it costs, and what it gives, to let medication vectors or their encoder go on learning: cohort A, one seed each.

    python benchmarks/bench_unfrozen.py [--seeds 1] [--epochs 25] [--design A]

Needs a filled knowledge base and published vectors with their run on this disk. ``frozen`` is the yardstick: the ratio
is to its seconds an epoch, the difference is paired over test patients (free rule) with a 95 % bootstrap interval.
CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import report
from recsys_data import bare_knowledge, make_cohort, make_data

from embed.runs.folder import pretrain_folder
from kb.db.engine import open_engine
from kb.output import say
from kb.settings import load_settings
from recsys.cohorts.cohort import Cohort, encode
from recsys.cohorts.tasks import patient_split
from recsys.experiments.bootstrap import PatientSums, paired_difference
from recsys.experiments.config import from_json
from recsys.experiments.evaluate import evaluate
from recsys.experiments.runs import Data, fit_recommender
from recsys.knowledge.gather import read_knowledge

ARMS: dict[str, dict[str, Any]] = {"frozen": {}, "vectors unfrozen": {"frozen": False},
                                   "encoder and fusion unfrozen": {"frozen": False, "encoder": True}}


def data_of(cohort: Cohort, seed: int) -> Data:
    """The cohort with the published vectors, their parts and the encoder, and the generator's own interactions."""
    encoded = encode(cohort, patient_split(cohort, seed))
    settings = load_settings()
    known = read_knowledge(open_engine(settings), encoded.vocabularies["medication"].codes,
                           runs=pretrain_folder(settings), encoder=True)
    return make_data(cohort, seed, replace(known, interactions=bare_knowledge(encoded).interactions))


def main() -> None:
    """Run and write benchmarks/results/unfrozen.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--design", default="A", choices=["A", "B"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = make_cohort(options.design)
    found: dict[str, list[tuple[float, float, PatientSums]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        data = data_of(cohort, seed)
        parts = data.knowledge.composition
        if parts is None or parts.tower is None or parts.tower.items is None:
            raise SystemExit("the published run is not on this disk")
        say(f"seed {seed}: {parts.tower.items.n} molecules of {len(parts.z)} drugs in {parts.size} medications")
        for arm, settings in ARMS.items():
            config = from_json({"seed": seed, "epochs": options.epochs, **settings})
            begun = time.process_time()
            fitted = fit_recommender(config, data)
            sums = evaluate(fitted.recommender, data.train, data.test, fitted.choices,
                            decision=fitted.choices.free).sums
            seconds = float(np.median([row["seconds"] for row in fitted.rows]))
            found[arm].append((seconds, time.process_time() - begun, sums))
            say(f"seed {seed} {arm}: {seconds:.2f} s an epoch")
    report("unfrozen", table(found), command="python benchmarks/bench_unfrozen.py", cohort=str(cohort.fingerprint),
           load=os.getloadavg())


def table(found: dict[str, list[tuple[float, float, PatientSums]]]) -> list[dict[str, Any]]:
    """One row an arm."""
    def pooled(arm: str) -> PatientSums:
        parts = [(s.visits, s.sums, s.interacting, s.pairs) for *_, s in found[arm]]
        return PatientSums(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    rows, base = [], pooled("frozen")
    floor = float(np.mean([seconds for seconds, *_ in found["frozen"]]))
    for arm, results in found.items():
        sums, seconds = pooled(arm), float(np.mean([seconds for seconds, *_ in results]))
        gap = paired_difference(sums, base)["jaccard"]
        rows.append({"arm": arm, "seeds": len(results), "epoch_s": round(seconds, 2),
                     "ratio": round(seconds / floor, 1),
                     "fit_s": round(float(np.mean([fit_s for _, fit_s, _ in results])), 1),
                     "jaccard": round(float(sums.means(np.ones((1, len(sums.visits))))[0][0]), 4),
                     "− frozen": f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"})
    return rows


if __name__ == "__main__":
    main()
