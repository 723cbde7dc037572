"""Quality on the synthetic cohorts A (latent clusters) and B (guidelines), every recommender with the same care.

Same splits, same training loop, same tuning of the threshold and of the interaction rule on validation patients; each
recommender has its own default settings, chosen on validation patients of A, seed 0. For each seed another split and
other weights; intervals are of a paired bootstrap over the test patients of all seeds together.

    python benchmarks/bench_quality.py [--designs A B] [--seeds 5] [--jobs 2] [--recommenders mkmed retain ...]
    python benchmarks/bench_quality.py --ablate      # vectors, and 0 to all modalities

``mkmed`` has the published vectors of the home that MKMED_HOME names (``mkmed demo``). Both rules are shown: ``free``
takes the threshold with the best Jaccard, ``safe`` the best rule whose DDI rate on validation patients is at most the
target.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from recsys_data import bare_knowledge, make_cohort, make_data

from kb.output import emit, say
from recsys.cohorts.cohort import Cohort, encode
from recsys.cohorts.tasks import patient_split
from recsys.experiments.bootstrap import PatientSums, paired_difference, together
from recsys.experiments.config import from_json
from recsys.experiments.evaluate import evaluate
from recsys.experiments.runs import fit_recommender
from recsys.knowledge.table import Knowledge, mean_vector, with_modalities, with_random_vectors

RESULTS = Path(__file__).parent / "results"
ARMS: dict[str, dict[str, Any]] = {
    "mkmed": {}, "mkmed, no vectors": {"recommender": "mkmed"},
    "mkmed reference": {"recommender": "mkmed", "mode": "reference"},
    **{name: {} for name in ("popularity", "repeat_last", "logistic", "logistic_history", "retain", "gamenet", "micron",
                             "safedrug", "molerec")}}
"""What is compared, each with the recommender's own default settings."""
SLOW = {"safedrug", "molerec"}


@lru_cache(maxsize=2)
def _cohort(design: str) -> Cohort:
    return make_cohort(design)


def job(design: str, seed: int, name: str, settings: dict[str, Any], knowledge: Knowledge | None = None
        ) -> dict[str, Any]:
    """One training with its two evaluations, as plain values."""
    torch.set_num_threads(1)
    if name in SLOW:
        from recsys.recommenders import molecules

        molecules.MOLECULES_PER_MEDICATION = 1
    data = make_data(_cohort(design), seed, knowledge)
    config = from_json({"recommender": name, "seed": seed, "vectors": "learned", **settings})
    fitted = fit_recommender(config, data)
    out: dict[str, Any] = {"design": design, "seed": seed, "recommender": name,
                           "seconds": fitted.cpu_seconds}
    for rule, decision in (("free", fitted.choices.free), ("safe", fitted.choices.safe)):
        result = evaluate(fitted.recommender, data.train, data.test, fitted.choices, decision=decision)
        out[rule] = {**{key: result.report[key] for key in ("per_visit", "by_visits", "by_rarity", "by_bucket")},
                     "calibration_error": result.report["calibration"]["error"],
                     "sums": [result.sums.visits.tolist(), result.sums.sums.tolist(),
                              result.sums.interacting.tolist(), result.sums.pairs.tolist()]}
    return out


def pooled(results: list[dict[str, Any]], rule: str) -> PatientSums:
    """The per-patient sums of all seeds, one after another."""
    return together([PatientSums(*(np.asarray(part) for part in result[rule]["sums"]))
                     for result in sorted(results, key=lambda r: r["seed"])])


def summarise(results: list[dict[str, Any]], reference: str = "mkmed") -> list[dict[str, Any]]:
    """One row a recommender and rule: means over seeds, spread, and ours minus it with a paired 95 % interval."""
    rows = []
    for rule in ("free", "safe"):
        mine = [r for r in results if r["recommender"] == reference]
        for name in dict.fromkeys(r["recommender"] for r in results):
            some = [r for r in results if r["recommender"] == name]
            keys = some[0][rule]["per_visit"]
            means = {key: float(np.mean([r[rule]["per_visit"][key] for r in some])) for key in keys}
            row = {"recommender": name, "rule": rule, "seeds": len(some), "jaccard": means["jaccard"],
                   "± seeds": float(np.std([r[rule]["per_visit"]["jaccard"] for r in some])),
                   "prauc": means["prauc"], "f1": means["f1"], "ddi_rate": means["ddi_rate"],
                   "medications": means["medications"],
                   "first visit": _mean(some, rule, "by_visits", "first", "jaccard"),
                   "rare AP": _mean(some, rule, "by_rarity", "rare", "average_precision"),
                   "calibration": float(np.mean([r[rule]["calibration_error"] for r in some])),
                   "CPU s": float(np.mean([r["seconds"] for r in some]))}
            shared = {r["seed"] for r in mine} & {r["seed"] for r in some}
            if name != reference and shared:
                first, second = ([r for r in group if r["seed"] in shared] for group in (mine, some))
                gap = paired_difference(pooled(first, rule), pooled(second, rule))["jaccard"]
                row["ours − it"] = f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
            rows.append(row)
    return rows


def _mean(some: list[dict[str, Any]], rule: str, table: str, start: str, metric: str) -> float | None:
    values = [row[metric] for r in some for name, row in r[rule][table].items() if name.startswith(start)]
    return float(np.mean(values)) if values else None


def published(design: str, seed: int) -> tuple[Knowledge, Knowledge]:
    """``(store, bare)``: what the published store knows of the cohort's medications, and the same without vectors."""
    from kb.db.engine import open_engine
    from recsys.knowledge.gather import read_knowledge

    encoded = encode(_cohort(design), patient_split(_cohort(design), seed))
    bare = bare_knowledge(encoded)
    found = read_knowledge(open_engine(), encoded.vocabularies["medication"].codes)
    return replace(found, interactions=bare.interactions), bare


def ablations(design: str, seed: int) -> dict[str, Knowledge]:
    """Arms of knowledge from the published store: fused, learned, random, 1 to all modalities, and one removed."""
    store, bare = published(design, seed)
    full = replace(store, vectors=mean_vector(store.modality_vectors, store.rests_on))  # the arms' own yardstick
    arms = {"fused (published)": store, "random": with_random_vectors(store, seed + 1), "learned only": bare,
            "mean of all": full}
    names = store.modalities
    for count in range(1, len(names)):
        arms[f"{count} modalities ({'+'.join(names[:count])})"] = with_modalities(store, names[:count])
    for name in names:
        arms[f"without {name}"] = with_modalities(store, tuple(n for n in names if n != name))
    return arms


def run(jobs: Iterable[tuple], workers: int) -> list[dict[str, Any]]:
    """All jobs in ``workers`` processes, each said as it is done."""
    results = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for result in pool.map(_call, list(jobs)):
            means = result["free"]["per_visit"]
            say(f"{result['design']} seed {result['seed']} {result['recommender']}: Jaccard {means['jaccard']:.4f}, "
                f"{result['seconds']:.0f} s")
            results.append(result)
    return results


def _call(arguments: tuple) -> dict[str, Any]:
    return job(*arguments)


def main() -> None:
    """Run and write benchmarks/results/quality.json, or quality_ablation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", nargs="+", default=["A", "B"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--recommenders", nargs="+", default=list(ARMS))
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--out", help="Name of the file in benchmarks/results.")
    options = parser.parse_args()
    name = options.out or ("quality_ablation.json" if options.ablate else "quality.json")
    reference = "fused (published)" if options.ablate else "mkmed"
    done: dict[str, list[dict[str, Any]]] = {design: [] for design in options.designs}
    for seed in range(options.seeds):  # seed by seed, so that an interrupted run leaves whole seeds
        for design in options.designs:
            if options.ablate:
                jobs = [(design, seed, arm, {"recommender": "mkmed"}, knowledge)
                        for arm, knowledge in ablations(design, seed).items()]
            else:
                store = published(design, seed)[0] if "mkmed" in options.recommenders else None
                jobs = [(design, seed, arm, ARMS[arm], store if arm == "mkmed" else None)
                        for arm in options.recommenders]
            done[design] += run(jobs, options.jobs)
            write(done, reference, RESULTS / name)
    for design, results in done.items():
        emit(summarise(results, reference), title=f"cohort {design}: {_cohort(design).fingerprint}")


def write(done: dict[str, list[dict[str, Any]]], reference: str, path: Path) -> None:
    """Write what there is so far: the table, and every job's report without its sums."""
    document: dict[str, Any] = {"command": "python benchmarks/bench_quality.py", "load": os.getloadavg()}
    for design, results in done.items():
        if results:
            slim = [{key: {k: v for k, v in value.items() if k != "sums"} if isinstance(value, dict) else value
                     for key, value in result.items()} for result in results]
            document[design] = {"cohort": str(_cohort(design).fingerprint), "rows": summarise(results, reference),
                                "results": slim}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
