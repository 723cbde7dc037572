"""Latency of answers on one core after loading: one patient at a time, a thousand at once, explanations, memory.

    python benchmarks/bench_latency.py

Marks: one recommendation p50 ≤ 2 ms and p95 ≤ 5 ms, 1,000 patients in one call ≤ 100 ms. Beside ours: logistic
regression with history and SafeDrug through the same service, so that the ratio is that of the models alone.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from recsys_data import make_cohort, make_data

from kb.output import emit
from recsys.answers.explain import explain
from recsys.answers.patient import Patient, Visit
from recsys.answers.recommend import RecommenderService
from recsys.experiments.checkpoint import Trained
from recsys.experiments.config import from_json
from recsys.experiments.runs import Data, fit_recommender, peak_rss_mb

RESULTS = Path(__file__).parent / "results"


def patients_of(data: Data, count: int) -> list[Patient]:
    """Test patients as requests: all their visits, the last one without its medications."""
    names = {kind: data.encoded.vocabularies[kind].codes for kind in ("diagnosis", "procedure", "medication")}
    out = []
    for patient in range(min(count, data.test.patients)):
        rows = range(int(data.test.starts[patient]), int(data.test.starts[patient + 1]))
        visits = []
        for row in rows:
            codes = {kind: tuple(names[kind][i] for i in getattr(data.test, kind).row(row)) for kind in names}
            visits.append(Visit(**codes | ({"medication": ()} if row == rows[-1] else {})))
        out.append(Patient(tuple(visits)))
    return out


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"p{q} ms": float(np.quantile(seconds, q / 100) * 1000) for q in (50, 95, 99)}


def measure(service: RecommenderService, patients: list[Patient]) -> dict[str, Any]:
    """Wall and CPU time of single answers and of 1,000 answers in one call."""
    wall, cpu = [], []
    for patient in patients[:20]:
        service.recommend(patient)
    for patient in patients:
        begun, used = time.perf_counter(), time.process_time()
        service.recommend(patient)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    thousand, spent = (patients * (1000 // len(patients) + 1))[:1000], []
    for _ in range(5):
        begun = time.process_time()
        service.recommend_many(thousand)
        spent.append(time.process_time() - begun)
    return {**quantiles(wall), "CPU p50 ms": float(np.median(cpu) * 1000),
            "CPU p95 ms": float(np.quantile(cpu, 0.95) * 1000), "1,000 at once ms": min(spent) * 1000}


def main() -> None:
    """Run and write benchmarks/results/latency.json."""
    torch.set_num_threads(1)
    data = make_data(make_cohort("A"))
    patients = patients_of(data, 1000)
    vocabularies = {kind: v.codes for kind, v in data.encoded.vocabularies.items()}
    rows: list[dict[str, Any]] = []
    for name in ("mkmed", "logistic_history", "safedrug"):
        fitted = fit_recommender(from_json({"recommender": name, "epochs": 1, "vectors": "learned", "l2": 3e-3}), data)
        service = RecommenderService(Trained(fitted.recommender, vocabularies, fitted.choices.safe,
                                             fitted.choices.platt, {"task": "stay"}))
        before = peak_rss_mb()
        row = {"recommender": name, **measure(service, patients)}
        begun = time.perf_counter()
        for patient in patients[:20]:
            explain(service, patient)
        row["explain one patient ms"] = (time.perf_counter() - begun) / 20 * 1000
        rows.append({**row, "peak MB": max(before, peak_rss_mb())})
    for row in rows:
        row["× ours"] = row["CPU p50 ms"] / rows[0]["CPU p50 ms"]
    emit(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.json").write_text(json.dumps({"load": os.getloadavg(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
