"""Speed of training and evaluation on cohort A: ours beside PyHealth 1.1.6 and beside a one-visit-a-step loop.

Process CPU seconds on one thread, every model in a process of its own. Quality enters only as the validation Jaccard at
each model's own best threshold: every PyHealth model trains until that Jaccard has levelled off, and the seconds that
the best of them and ours take to its plateau are compared. Ours count everything from the empty model on, validation
and tuning included; a peer's count its training and its forward pass over the validation visits.

    python benchmarks/bench_recsys.py [--peer-python peer/bin/python] [--quick]
    python benchmarks/bench_recsys.py --peer-python peer/bin/python --same SafeDrug MoleRec --most 40

The peers' environment, and what stands in for the downloads of PyHealth, is described in
benchmarks/peers/pyhealth_bench.py; without it the rows of PyHealth are left out. With it a run takes about half an hour
of one core. ``--same`` compares the quality of PyHealth's models with that of ours of the same name, both until they
level off or ``--most`` epochs are done. Nothing is scaled up from a part of an epoch, except the one-visit-a-step loop
with ``--quick``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import accumulate, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import report
from recsys_data import dump_for_peers, make_cohort, make_data

from kb.output import emit, say
from recsys.cohorts.batches import Histories
from recsys.experiments.config import from_json
from recsys.experiments.decode import tune_threshold
from recsys.experiments.evaluate import evaluate
from recsys.experiments.losses import accuracy_loss
from recsys.experiments.runs import Data, fit_recommender, peak_rss_mb

RESULTS = Path(__file__).parent / "results"
PEERS = {"MICRON": 30, "RETAIN": 30, "GAMENet": 30, "Transformer": 30, "SafeDrug": 8, "MoleRec": 8}
"""Model -> at most this many epochs; the last two take most of a minute each."""
LEAST, PATIENCE, RISE = 10, 4, 0.001
"""A model has levelled off when, after LEAST epochs, PATIENCE in a row brought no RISE of its Jaccard."""
NEAR = 0.995
"""The plateau begins at this share of the best Jaccard; the last half per cent takes long and is noise."""


def apart(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What ``work`` returns in a new process, whose peak memory is then its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def ours(epochs: int) -> dict[str, Any]:
    """Epochs with validation, evaluation of the test patients and a 1,000-draw bootstrap, timed apart."""
    torch.set_num_threads(1)
    data = make_data(make_cohort("A"))
    elapsed: list[float] = []
    torch.optim.AdamW([torch.zeros(1)], fused=True)  # the first imports for a second, before a peer's clock too
    begun = time.process_time()
    fitted = fit_recommender(from_json({"vectors": "learned", "epochs": epochs}), data,
                 log=lambda row: elapsed.append(time.process_time() - begun))
    fitted_in = time.process_time() - begun
    begun = time.process_time()
    result = evaluate(fitted.recommender, data.train, data.test, fitted.choices)
    evaluated = time.process_time() - begun
    begun = time.process_time()
    fitted.recommender.predict_proba(data.validation)
    predicted = time.process_time() - begun
    return {"seconds": [row["seconds"] for row in fitted.rows], "elapsed": elapsed,
            "jaccard": [row["jaccard"] for row in fitted.rows], "evaluate": predicted, "peak_mb": peak_rss_mb(),
            "fit": fitted_in, "evaluation": evaluated, "total": fitted_in + evaluated,
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


def prefixes(visits: Histories) -> Iterator[tuple[int, list[tuple[list[int], list[int], list[int]]]]]:
    """Every visit's row with its history: diagnoses, procedures and the visit before's medications."""
    for patient in range(visits.patients):
        prefix: list[tuple[list[int], list[int], list[int]]] = []
        before: list[int] = []
        for row in range(int(visits.starts[patient]), int(visits.starts[patient + 1])):
            prefix.append((visits.diagnosis.row(row).tolist(), visits.procedure.row(row).tolist(), before))
            before = visits.medication.row(row).tolist()
            yield row, prefix


def loop_epoch(model: VisitLoop, data: Data, most: int) -> float:
    """CPU seconds of an epoch, one Adam step a visit, DDI pairs counted in Python, scaled from ``most`` visits."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    matrix, train = data.knowledge.interactions.matrix, data.train
    begun, done = time.process_time(), 0
    for row, prefix in islice(prefixes(train), most):
        logits = model(prefix)
        loss = accuracy_loss(logits, torch.from_numpy(train.target([row])).float(), bce=0.95, margin=0.05)
        chosen = np.flatnonzero(torch.sigmoid(logits.detach())[0].numpy() >= 0.5)
        sum(matrix[a, b] for i, a in enumerate(chosen) for b in chosen[i + 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += 1
    return (time.process_time() - begun) * train.visits / done


def visit_loop(most: int) -> dict[str, Any]:
    """One epoch and one evaluation of the one-visit-a-step loop; fewer than all visits are scaled up."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = make_data(make_cohort("A"))
    model = VisitLoop(data)
    trained, held = loop_epoch(model, data, most), data.validation
    begun, probability = time.process_time(), []
    with torch.no_grad():
        for _, prefix in islice(prefixes(held), most):
            probability.append(torch.sigmoid(model(prefix)).numpy())
    evaluated = (time.process_time() - begun) * held.visits / len(probability)
    whole = most >= data.train.visits
    jaccard = [tune_threshold(np.concatenate(probability), held.target(), held.unseen)[1]] if whole else []
    return {"seconds": [trained], "elapsed": [trained + evaluated] if whole else [], "jaccard": jaccard,
            "evaluate": evaluated, "peak_mb": peak_rss_mb(), "scaled": not whole}


def levelled_off(jaccard: list[float]) -> bool:
    """Whether the last PATIENCE epochs brought no value more than RISE above the best before them."""
    return len(jaccard) >= max(LEAST, PATIENCE + 1) and max(jaccard[-PATIENCE:]) <= max(jaccard[:-PATIENCE]) + RISE


def peer(python: Path, data: Data, folder: Path, name: str, most: int) -> dict[str, Any]:
    """One PyHealth model in its own environment, until it levels off or ``most`` epochs are done."""
    script = Path(__file__).parent / "peers" / "pyhealth_bench.py"
    command = [str(python), str(script), str(folder / "dump.json"), str(folder), name, str(most)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    log = folder / f"{name}.log"
    with log.open("w") as talk, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=talk,
                                                 text=True, env=environment) as child:
        rows, peak = converse(child, data, folder, name)
    if child.returncode or peak is None:
        raise SystemExit(f"PyHealth {name} ended with {child.returncode}:\n{log.read_text()[-2000:]}")
    jaccard = [row["jaccard"] for row in rows]
    return {"seconds": [row["train"] for row in rows], "jaccard": jaccard, "levelled_off": levelled_off(jaccard),
            "elapsed": list(accumulate(row["train"] + row["evaluate"] for row in rows)), "peak_mb": peak,
            "evaluate": float(np.median([row["evaluate"] for row in rows]))}


def converse(child: subprocess.Popen[str], data: Data, folder: Path,
             name: str) -> tuple[list[dict[str, Any]], float | None]:
    """(the epochs with their Jaccard, the peak memory in MiB); tells the peer after each epoch whether to go on."""
    assert child.stdin and child.stdout
    codes = [code.removeprefix("ATC:") for code in data.knowledge.medications]
    rows: list[dict[str, Any]] = []
    place: list[int] = []
    for told in map(json.loads, child.stdout):
        if "order" in told:  # the last column, all zero, stands for a drug that the peer does not know
            place = [told["order"].index(code) if code in told["order"] else -1 for code in codes]
        elif "peak_mb" in told:
            return rows, told["peak_mb"]
        else:
            raw = np.load(folder / f"{name}-{told['epoch']}.npy")
            probability = np.column_stack([raw, np.zeros(len(raw), np.float32)])[:, place]
            told["jaccard"] = tune_threshold(probability, data.validation.target(), data.validation.unseen)[1]
            rows.append(told)
            say(f"  {name} epoch {told['epoch']}: {told['train']:.1f} s, Jaccard {told['jaccard']:.4f}")
            child.stdin.write("stop\n" if levelled_off([row["jaccard"] for row in rows]) else "on\n")
            child.stdin.flush()
    return rows, None


def time_to(model: dict[str, Any], goal: float) -> float | None:
    """CPU seconds of training and validation until the Jaccard is reached; None when it never is."""
    return next((spent for spent, value in zip(model["elapsed"], model["jaccard"], strict=True) if value >= goal), None)


def plateaus(mine: dict[str, Any], peers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The seconds to the best PyHealth model's plateau and to its best epoch, its own and ours."""
    name = max(peers, key=lambda name: max(peers[name]["jaccard"]))
    best = max(peers[name]["jaccard"])
    rows = []
    for goal, what in ((NEAR * best, f"{NEAR:.1%} of its best"), (best, "its best")):
        its, own = time_to(peers[name], goal), time_to(mine, goal)
        rows.append({"goal": f"PyHealth {name}: {what}", "Jaccard": goal, "levelled off": peers[name]["levelled_off"],
                     "its CPU s": its, "mkmed CPU s": own, "times sooner": its / own if its and own else None})
    return rows


def table(mine: dict[str, Any], loop: dict[str, Any], peers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the comparison; ratios are to ours in the same run."""
    epoch, rows = float(np.median([*mine["seconds"], *mine.get("seconds_after", [])])), []
    models = {"mkmed (network)": mine, **{f"PyHealth {name}": told for name, told in peers.items()},
              "one visit a step": loop}
    for name, told in models.items():
        second = epoch if told is mine else float(np.median(told["seconds"]))
        best = max(told["jaccard"], default=None)
        rows.append({"model": name, "epochs": len(told["seconds"]), "epoch s": second, "epoch × ours": second / epoch,
                     "evaluate s": told["evaluate"], "evaluate × ours": told["evaluate"] / mine["evaluate"],
                     "best validation Jaccard": best, "to its own plateau s": best and time_to(told, NEAR * best),
                     "levelled off": told.get("levelled_off"), "peak MB": told["peak_mb"],
                     "scaled": told.get("scaled", False)})
    return rows


def same_of_ours(name: str, most: int) -> dict[str, Any]:
    """Our recommender of a peer's name, by the peers' measure, until its own stopping rule or ``most`` epochs."""
    torch.set_num_threads(1)
    fitted = fit_recommender(from_json({"recommender": name.lower(), "epochs": most}), make_data(make_cohort("A")))
    return {"jaccard": [row["jaccard"] for row in fitted.rows], "seconds": [row["seconds"] for row in fitted.rows]}


def compare_same(python: Path, name: str, most: int) -> list[dict[str, Any]]:
    """One row a side of a model: the best validation Jaccard, each side at its own best threshold."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as beside:
        data = make_data(make_cohort("A"))
        dump_for_peers(data, Path(folder) / "dump.json")
        theirs = beside.submit(peer, python, data, Path(folder), name, most)
        mine = apart(same_of_ours, name, most)
        for side, told in ((f"PyHealth {name}", theirs.result()), (f"mkmed {name.lower()}", mine)):
            jaccard = told["jaccard"]
            rows.append({"model": side, "epochs": len(jaccard), "best validation Jaccard": max(jaccard),
                         "epoch s": float(np.median(told["seconds"])), "levelled off": levelled_off(jaccard),
                         "jaccard": [round(value, 4) for value in jaccard]})
    return rows


def run_peers(python: Path, quick: bool) -> dict[str, dict[str, Any]]:
    """Every PyHealth model of PEERS by its name; with ``quick`` one epoch of the fast ones."""
    data = make_data(make_cohort("A"))
    peers = {}
    with tempfile.TemporaryDirectory() as name:
        dump_for_peers(data, Path(name) / "dump.json")
        for model, most in PEERS.items():
            if not quick or most > LEAST:
                say(f"PyHealth {model}")
                peers[model] = peer(python, data, Path(name), model, 1 if quick else most)
    return peers


def main() -> None:
    """Run and write benchmarks/results/recsys.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--quick", action="store_true", help="three epochs, one of the fast peers, nothing written")
    parser.add_argument("--same", nargs="+", choices=sorted(PEERS), help="compare these with ours of the same name")
    parser.add_argument("--most", type=int, default=40, help="epochs of --same")
    options = parser.parse_args()
    if options.same:
        if not options.peer_python:
            parser.error("--same needs --peer-python")
        rows: list[dict[str, Any]] = []
        for name in options.same:
            rows += compare_same(options.peer_python, name, options.most)
            report("recsys_same", rows, cohort=str(make_cohort("A").fingerprint))
        return
    fingerprint = str(make_cohort("A").fingerprint)
    say(fingerprint)
    mine = apart(ours, 3 if options.quick else 25)
    say(f"{len(mine['seconds'])} epochs with validation {mine['fit']:.1f} s, evaluation with 1,000 draws "
        f"{mine['evaluation']:.1f} s, all {mine['total']:.1f} CPU s")
    loop = apart(visit_loop, 60 if options.quick else 10**6)
    peers: dict[str, dict[str, Any]] = {}
    if options.peer_python:
        peers = run_peers(options.peer_python, options.quick)
        mine["seconds_after"] = apart(ours, 4)["seconds"]  # the machine's load may have changed meanwhile
    rows, plateau = table(mine, loop, peers), plateaus(mine, peers) if peers else []
    emit(rows)
    if plateau:
        emit(plateau)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "recsys.json").write_text(json.dumps(
            {"cohort": fingerprint, "threads": 1, "load": os.getloadavg(), "rows": rows, "plateau": plateau,
             "ours": mine, "loop": loop, "peers": peers}, indent=1))


if __name__ == "__main__":
    main()
