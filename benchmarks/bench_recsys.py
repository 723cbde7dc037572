"""Speed of training and evaluation on cohort A: ours beside PyHealth 1.1.6 and beside a one-visit-a-step loop.

Process CPU seconds on one thread. Quality enters only as the validation Jaccard at each model's own best threshold.

    python benchmarks/bench_recsys.py [--peer-python peer/bin/python] [--quick]

The peer's environment is described in benchmarks/peers/pyhealth_bench.py; without it the rows of PyHealth are left out.
Models that take a minute or more an epoch are timed on a part of it and scaled, which the table says.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from recsys_data import dump_for_peers, make_cohort, make_data

from kb.output import emit, say
from recsys.config import from_json
from recsys.decode import tune_threshold
from recsys.evaluate import evaluate
from recsys.losses import accuracy_loss
from recsys.runs import Data, fit, peak_rss_mb

RESULTS = Path(__file__).parent / "results"
PEERS = {"MICRON": (15, 0), "RETAIN": (15, 0), "GAMENet": (10, 0), "Transformer": (10, 0), "SafeDrug": (1, 320),
         "MoleRec": (1, 320)}
"""Model -> (epochs, training visits; 0 is all)."""


def ours(data: Data, **settings: Any) -> dict[str, Any]:
    """25 epochs with validation, evaluation of the test patients and a 1,000-draw bootstrap, timed apart."""
    config = from_json({"vectors": "learned", **settings})
    begun = time.process_time()
    fitted = fit(config, data)
    fitted_in = time.process_time() - begun
    begun = time.process_time()
    result = evaluate(fitted.recommender, data.train, data.test, fitted.choices)
    evaluated = time.process_time() - begun
    begun = time.process_time()
    fitted.recommender.predict_proba(data.test)
    predicted = time.process_time() - begun
    seconds = [row["seconds"] for row in fitted.rows]
    # what an epoch costs with its validation pass, for the time to a Jaccard
    share = fitted_in / len(fitted.rows)
    return {"seconds": seconds, "fit": fitted_in, "evaluate": evaluated, "predict": predicted,
            "total": fitted_in + evaluated,
            "jaccard": [row["jaccard"] for row in fitted.rows], "per_epoch_all": share, "peak_mb": peak_rss_mb(),
            "test": result.report["per_visit"]}


class VisitLoop(torch.nn.Module):
    """The same reference network, fed one prefix at a time as public code does."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        sizes = data.sizes
        self.tables = torch.nn.ModuleList(torch.nn.Embedding(size, 64) for size in sizes)
        self.recurrent = torch.nn.ModuleList(torch.nn.GRU(64, 64) for _ in range(3))
        self.head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(192, sizes.medication))

    def forward(self, prefix: list[tuple[list[int], list[int], list[int]]]) -> torch.Tensor:
        states = []
        for kind in range(3):
            rows = [self.tables[kind](torch.tensor(visit[kind], dtype=torch.int64)).sum(0) for visit in prefix]
            states.append(self.recurrent[kind](torch.stack(rows)[:, None])[0][-1, 0])
        return self.head(torch.cat(states))[None]


def visit_loop(data: Data, visits: int) -> float:
    """CPU seconds of an epoch, one Adam step a visit, DDI pairs counted in Python, scaled from ``visits``."""
    torch.manual_seed(0)
    model = VisitLoop(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    matrix, train = data.knowledge.interactions.matrix, data.train
    begun, done = time.process_time(), 0
    for patient in range(train.patients):
        rows = range(int(train.starts[patient]), int(train.starts[patient + 1]))
        prefix: list[tuple[list[int], list[int], list[int]]] = []
        before: list[int] = []
        for row in rows:
            prefix.append((train.diagnosis.row(row).tolist(), train.procedure.row(row).tolist(), before))
            before = train.medication.row(row).tolist()
            logits = model(prefix)
            loss = accuracy_loss(logits, torch.from_numpy(train.target[row])[None], bce=0.95, margin=0.05)
            chosen = np.flatnonzero(torch.sigmoid(logits.detach())[0].numpy() >= 0.5)
            sum(matrix[a, b] for i, a in enumerate(chosen) for b in chosen[i + 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        if done >= visits:
            break
    return (time.process_time() - begun) * train.visits / done


def peer(python: Path, data: Data, folder: Path, name: str, epochs: int, limit: int) -> dict[str, Any]:
    """One PyHealth model in its own environment: seconds an epoch, an evaluation, Jaccard by epoch, peak memory."""
    script = Path(__file__).parent / "peers" / "pyhealth_bench.py"
    command = [str(python), str(script), str(folder / "dump.json"), str(folder), name, str(epochs)]
    subprocess.run([*command, *([str(limit)] if limit else [])], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""})
    told = json.loads((folder / f"{name}.json").read_text())
    rows = told["rows"]
    jaccard = []
    if not limit:
        codes = [code.removeprefix("ATC:") for code in data.knowledge.medications]
        place = [told["order"].index(code) if code in told["order"] else -1 for code in codes]
        for row in rows:
            raw = np.load(folder / f"{name}-{row['epoch']}.npy")
            probability = np.column_stack([raw, np.zeros(len(raw), np.float32)])[:, place]
            jaccard.append(tune_threshold(probability, data.validation.target, data.validation.unseen)[1])
    return {"seconds": [row["train"] / row["share"] for row in rows], "jaccard": jaccard, "peak_mb": told["peak_mb"],
            "evaluate": float(np.median([row["evaluate"] / row["held_share"] for row in rows])), "scaled": bool(limit)}


def time_to(seconds: list[float], each: float, jaccard: list[float], goal: float) -> float | None:
    """CPU seconds of training and validation until the Jaccard is reached; None when it never is."""
    spent = 0.0
    if not jaccard:  # timed on a part of an epoch only
        return None
    for second, value in zip(seconds, jaccard, strict=True):
        spent += second + each
        if value >= goal:
            return spent
    return None


def table(mine: dict[str, Any], loop: float, peers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the comparison; ratios are to ours in the same run."""
    epoch = float(np.median([*mine["seconds"], *mine.get("seconds_after", [])]))
    best = max((p for p in peers.values() if p["jaccard"]), key=lambda p: max(p["jaccard"]), default=None)
    goal = 0.995 * max(best["jaccard"]) if best else None
    each = mine["per_epoch_all"] - epoch
    reached = time_to(mine["seconds"], each, mine["jaccard"], goal) if goal else None
    rows = [{"model": "mkmed (corrected)", "epoch s": epoch, "× ours": 1.0, "evaluate s": mine["predict"],
             "× ours ": 1.0, "best validation Jaccard": max(mine["jaccard"]), "peak MB": mine["peak_mb"],
             "to the plateau s": reached, "how": "full"}]
    for name, p in peers.items():
        second = float(np.median(p["seconds"]))
        rows.append({"model": f"PyHealth {name}", "epoch s": second, "× ours": second / epoch,
                     "evaluate s": p["evaluate"], "× ours ": p["evaluate"] / mine["predict"],
                     "best validation Jaccard": max(p["jaccard"], default=None), "peak MB": p["peak_mb"],
                     "to the plateau s": time_to(p["seconds"], p["evaluate"], p["jaccard"], goal) if goal else None,
                     "how": "part of an epoch, scaled" if p["scaled"] else f"{len(p['seconds'])} epochs"})
    rows.append({"model": "one visit a step", "epoch s": loop, "× ours": loop / epoch, "how": "part, scaled"})
    return rows


def main() -> None:
    """Run and write benchmarks/results/recsys.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--quick", action="store_true", help="three epochs and no slow peers")
    parser.add_argument("--peer-epochs", type=int, default=99, help="At most this many epochs of each peer.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = make_cohort("A")
    say(str(cohort.fingerprint))
    data = make_data(cohort)
    mine = ours(data, epochs=3 if options.quick else 25)
    say(f"{len(mine['seconds'])} epochs with validation {mine['fit']:.1f} s, evaluation with 1,000 draws "
        f"{mine['evaluate']:.1f} s, all {mine['total']:.1f} CPU s")
    loop = visit_loop(data, 60 if options.quick else 400)
    peers: dict[str, dict[str, Any]] = {}
    if options.peer_python:
        with tempfile.TemporaryDirectory() as name:
            dump_for_peers(data, Path(name) / "dump.json")
            for model, (epochs, limit) in PEERS.items():
                say(f"PyHealth {model}")
                many = min(1 if options.quick else epochs, options.peer_epochs)
                peers[model] = peer(options.peer_python, data, Path(name), model, many, limit)
        mine["seconds_after"] = ours(data, epochs=4)["seconds"]  # the machine's load may have changed meanwhile
    rows = table(mine, loop, peers)
    emit(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recsys.json").write_text(json.dumps(
        {"cohort": str(cohort.fingerprint), "threads": 1, "load": os.getloadavg(), "ours": mine, "loop": loop,
         "peers": peers, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
