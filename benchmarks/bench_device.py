"""What a card does for pretraining, frozen encoders, TransE and the recommender, beside two CPU threads.

    python benchmarks/bench_device.py [--parts agree,steps,frozen,transe,recsys,command] [--sizes 100000 1000000]

Steps are those of ``embed pretrain`` over all five modalities, on the bundled drugs' real features, repeated to the
size asked for. Each part is run on the CPU and on the card, with the same inputs; ``agree`` compares the two devices'
vectors of the same weights. Without a card the CPU's rows are printed alone. A pair is a drug's molecule with one of
its other modalities.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_align import corpus, drawing, pairs_in
from record import report, scratch_home

from embed.alignment.objective import Relation
from embed.config import GraphConfig, PretrainConfig, load_config
from embed.features.cache import FeatureCache
from embed.features.packed import Packed
from embed.registry import IMAGE_MODELS, TEXT_MODELS
from embed.training import kge
from embed.training.data import Dataset, PackedTensors, Table
from embed.training.inputs import Inputs, build_inputs
from embed.training.loop import Progress, TrainingJob, step
from embed.training.model import build_model, embed_all
from kb.output import emit, say

CPU, CARD = torch.device("cpu"), torch.device("cuda")
REAL = 1200
"""Drugs of the bundled core, whose features are repeated."""
THREADS = 2
PARTS = ("agree", "steps", "frozen", "transe", "recsys", "command")


def devices() -> list[torch.device]:
    """The CPU, and the card where there is one."""
    return [CPU, CARD] if torch.cuda.is_available() else [CPU]


def settle(device: torch.device) -> None:
    """Wait for what the card still does."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: torch.device, seconds: float, most: int = 10_000) -> tuple[float, int]:
    """(seconds a call, calls) after one that warms up."""
    work()
    settle(device)
    started, done = time.perf_counter(), 0
    while done == 0 or (done < most and time.perf_counter() - started < seconds):
        work()
        done += 1
    settle(device)
    return (time.perf_counter() - started) / done, done


@contextmanager
def utilisation(found: list[float]) -> Iterator[None]:
    """The card's utilisation in per cent, as nvidia-smi says it, every half second."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            told = subprocess.run(["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
                                  capture_output=True, text=True, check=False)
            if told.returncode == 0:
                found.append(float(told.stdout.split()[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def real_inputs(folder: Path, config: PretrainConfig, device: torch.device) -> Inputs:
    """The bundled drugs' inputs on a device; features come from the folder's cache the second time."""
    return build_inputs(corpus(REAL), config, FeatureCache(folder), device, np.arange(REAL))


def repeated(inputs: Inputs, size: int, device: torch.device) -> tuple[Dataset, list[Relation]]:
    """``size`` drugs, each a copy of a real one by its rows: what is repeated takes memory as new drugs would."""
    return copied(inputs, np.random.default_rng(0).integers(REAL, size=size), device)


def copied(inputs: Inputs, drug: np.ndarray, device: torch.device) -> tuple[Dataset, list[Relation]]:
    """The real drugs at the rows ``drug`` on a device."""
    size, tables = len(drug), {}
    for name, table in inputs.data.tables.items():
        own = table.position.numpy()[drug]
        has = np.flatnonzero(own >= 0)
        position = np.full(size, -1, np.int64)
        position[has] = np.arange(len(has))
        tables[name] = Table(_repeat(table.items, own[has], device), torch.from_numpy(position), table.collate, device)
    relations = []
    for one in inputs.relations:
        own = one.position.cpu().numpy()[drug]
        position = np.where(own >= 0, np.cumsum(own >= 0) - 1, -1)
        picked = torch.from_numpy(own[own >= 0])
        vectors = one.vectors.cpu()[picked].to(device)
        relations.append(replace(one, vectors=vectors, position=torch.from_numpy(position).to(device)))
    return Dataset(np.arange(size), tables, torch.arange(size, device=device)), relations


def _repeat(items: PackedTensors, rows: np.ndarray, device: torch.device) -> PackedTensors:
    whole = Packed(items.n, {name: column.cpu().numpy() for name, column in items.columns.items()},
                   {axis: pointer.cpu().numpy() for axis, pointer in items.indptr.items()})
    return PackedTensors.of(whole.take(rows)).to(device)


def steps(folder: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Pairs a second of training steps, by device, size, batch and precision."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for batch in (256, 4096):
            for device in devices():
                if device == CPU and size != sizes[0]:
                    continue  # a step reads no more of a larger set
                for precision in ("fp32",) if device == CPU else ("fp32", "bf16"):
                    rows.append(_steps(folder, size, batch, device, precision))
                    say(str(rows[-1]))
    slow = {r["batch"]: r["pairs/s"] for r in rows if r["device"] == "cpu"}
    for row in rows:
        row["x CPU"] = round(row["pairs/s"] / slow[row["batch"]], 1)
    return rows


KEPT: dict[tuple[int, str], tuple[Dataset, list[Relation]]] = {}


def _steps(folder: Path, size: int, batch: int, device: torch.device, precision: str) -> dict[str, Any]:
    config = load_config(sets=[f"train.batch_size={batch}", f"precision={precision}"])
    if (size, device.type) not in KEPT:
        KEPT.clear()
        torch.cuda.empty_cache()
        KEPT[size, device.type] = repeated(real_inputs(folder, config, CPU), size, device)
    data, relations = KEPT[size, device.type]
    model = build_model(config, data).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    job = TrainingJob(model, data, config, np.arange(size), np.arange(10), folder, relations)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    at, turn, pairs = Progress(), iter(range(10**9)), 0

    def once() -> None:
        nonlocal pairs
        start = (next(turn) * batch) % (size - batch)
        rows = order[start:start + batch]
        pairs += pairs_in(data, rows)
        step(job, optimizer, rows, at)

    used: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        with utilisation(used):
            once()
            pairs = 0
            seconds, done = timed(once, device, 4.0)
        memory = torch.cuda.max_memory_allocated() >> 20
    else:
        seconds, done = timed(once, device, 4.0, most=20)
        memory = 0
    each = pairs / (done + 1)  # the warm-up's pairs are counted too
    return {"what": "step", "device": device.type, "drugs": size, "batch": batch, "precision": precision,
            "ms a step": round(1e3 * seconds, 2), "pairs/s": round(each / seconds), "steps": done,
            "card MiB": memory, "utilisation %": round(float(np.median(used)), 0) if used else None}


def agree(folder: Path) -> list[dict[str, Any]]:
    """The largest difference between the devices' vectors of the same weights; how often a step waits for the card."""
    config = load_config(sets=["train.batch_size=1024"])
    here = real_inputs(folder, config, CPU)
    model = build_model(config, here.data)
    z, fused, _ = embed_all(model, here.data)
    if not torch.cuda.is_available():
        return [{"what": "agree", "drugs": REAL, "largest difference": None}]
    there, model = real_inputs(folder, config, CARD), model.to(CARD)
    own = embed_all(model, there.data)[1]
    data, _ = copied(here, np.arange(REAL), CARD)
    z2, fused2, _ = embed_all(model, data)
    job = TrainingJob(model.train(), there.data, config, np.arange(REAL), np.arange(10), folder, there.relations)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    rows = torch.arange(1024)
    step(job, optimizer, rows, Progress())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step(job, optimizer, rows, Progress())
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "called a synchronizing" in str(w.message)]
    return [{"what": "agree", "drugs": REAL, "largest difference": float((z - z2).abs().max()),
             "of the fused": float((fused - fused2).abs().max()), "features of the card too": float(
                 (fused - own).abs().max()), "waits a step": len(waits), "where": " ".join(waits)}]


def frozen(texts: int = 2000, pictures: int = REAL) -> list[dict[str, Any]]:
    """Texts and pictures a second through the frozen encoders."""
    config = load_config(sets=[s for s in (os.environ.get("MKMED_BENCH_TEXT", ""),) if s])
    whole = corpus(REAL)
    text = [str(t) for t in whole.texts.load(range(min(texts, len(whole.texts))))]
    pngs = [drawing(s or "C") for s in whole.smiles[:pictures]]
    rows, known = [], {}
    for kind, registry, settings, items in (("texts", TEXT_MODELS, config.text, text),
                                            ("pictures", IMAGE_MODELS, config.image, pngs)):
        for device in devices():
            model = registry[settings.model](settings, device)
            some = items if device == CARD else items[:200]
            found = model.encode(some[:200])
            seconds, _ = timed(lambda model=model, some=some: model.encode(some), device, 2.0, most=3)
            known.setdefault(kind, found)
            unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (known[kind], found)]
            least = round(float((unit[0] * unit[1]).sum(1).min()), 5)
            rows.append({"what": kind, "device": device.type, "model": model.name, "least cosine to the CPU's": least,
                         "items/s": round(len(some) / seconds)})
            say(str(rows[-1]))
    return rows


def transe(triples: int = 300_000, entities: int = 50_000, relations: int = 20) -> list[dict[str, Any]]:
    """Triples a second of TransE."""
    rng = np.random.default_rng(0)
    made = np.stack([rng.integers(entities, size=triples), rng.integers(relations, size=triples),
                     rng.integers(entities, size=triples)], 1)
    rows = []
    for device in devices():
        graph = GraphConfig(epochs=1)
        kge.train_entities(made[:50_000], entities, relations, graph, 0, device)
        started = time.perf_counter()
        kge.train_entities(made, entities, relations, graph, 0, device)
        settle(device)
        seconds = time.perf_counter() - started
        rows.append({"what": "TransE", "device": device.type, "triples/s": round(triples / seconds)})
        say(str(rows[-1]))
    return rows


def recommender(patients: int = 60_000, epochs: int = 2) -> list[dict[str, Any]]:
    """Seconds of an epoch of the recommender's network, and its validation Jaccard after the last."""
    from recsys_data import make_data

    from recsys.experiments.config import Config
    from recsys.experiments.train import fit_network
    from recsys.generators import clusters
    from recsys.generators.population import Shape
    from recsys.recommenders.mkmed import MKMed

    data = make_data(clusters.generate(shape=Shape(patients=patients, visits=int(2.37 * patients))))
    rows = []
    for device in devices():
        for batch in (128, 1024):
            config = Config(mode="network", vectors="learned", epochs=epochs, batch=batch, device=device.type)
            model = MKMed(data.train.sizes, data.knowledge, config)
            started = time.perf_counter()
            best = fit_network(model.network, data.train, data.validation, config, data.knowledge)
            seconds = (time.perf_counter() - started) / epochs
            rows.append({"what": "recommender", "device": device.type, "visits": data.train.visits, "batch": batch,
                         "s an epoch": round(seconds, 2), "jaccard": round(best["jaccard"], 4)})
            say(str(rows[-1]))
    return rows


def command() -> list[dict[str, Any]]:
    """``embed pretrain`` of the bundled corpus, as it is called, on each device; and how alike the runs are."""
    from embed.evaluation.stability import nearest_rows
    from embed.runs import store
    from kb.db.engine import open_engine

    rows, nearest = [], []
    with scratch_home():
        mkmed("kb", "ingest", "--source", "corpus")
        mkmed("kb", "ingest", "--source", "rdkit", "--modality", "property", "--modality", "image")
        for device in devices()[::-1]:  # features are made on the card
            started = time.perf_counter()
            told = json.loads(mkmed("embed", "pretrain", "--device", device.type, "--format", "json"))[0]
            seconds = time.perf_counter() - started
            epochs = [json.loads(line) for line in (Path(told["folder"]) / "metrics.jsonl").read_text().splitlines()]
            engine = open_engine()
            nearest.append(nearest_rows(store.read(engine, uuid.UUID(told["run"])).matrix))
            engine.dispose()
            each, rate = (float(np.median([x[key] for x in epochs])) for key in ("seconds", "drugs_per_second"))
            rows.append({"what": "pretrain", "device": device.type, "s in all": round(seconds, 1),
                         "epochs": len(epochs), "s an epoch": round(each, 3), "drugs/s": round(rate),
                         "score": round(told["score"], 4),
                         "same nearest neighbour": round(float((nearest[0] == nearest[-1]).mean()), 3)})
            say(str(rows[-1]))
    return rows


def mkmed(*arguments: str) -> str:
    """What a command prints."""
    called = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(called, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Measure the parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--patients", type=int, default=60_000, help="of the synthetic cohort of part recsys")
    a = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        work: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "agree": lambda: agree(folder), "steps": lambda: steps(folder, a.sizes), "frozen": frozen,
            "transe": transe, "recsys": lambda: recommender(a.patients), "command": command}
        for part in a.parts.split(","):
            try:
                rows += work[part]()
            except (RuntimeError, subprocess.CalledProcessError, ImportError) as error:
                rows.append({"what": part, "failed": f"{type(error).__name__}: {error}"[:300]})
                traceback.print_exc()
    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    report("device", rows, shown=False, card=card, threads=THREADS)
    for kind in kinds:
        emit([row for row in rows if row["what"] == kind], title=f"{kind}, on {card} and on {THREADS} CPU threads")


if __name__ == "__main__":
    main()
