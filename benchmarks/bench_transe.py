"""TransE through PyKEEN at DRKG's scale: triples per CPU second and filtered MRR, defaults beside mkmed's settings.

Run: ``python benchmarks/bench_transe.py [--quick]``. Part 1 (speed): a SYNTHETIC graph with DRKG's numbers of entities,
relations and triples and a skewed degree distribution; seconds per epoch from the slope between a shorter and a longer
run, so that PyKEEN's fixed cost per call does not count for either side. Part 2 (quality): the bundled knowledge graph,
both settings trained for as many epochs as brings each to its plateau, filtered MRR and hits@10 on the same held-out
triples. The default is PyKEEN's own: batch 256, Adam as torch makes it, entities normalised in every step.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from typing import Any

import numpy as np
import torch
from pykeen.models import TransE
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from record import report

from embed.config import GraphConfig
from embed.training import kge
from mkmed.demo.paths import data_path

TARGET = 3.5
ENTITIES, RELATIONS, TRIPLES, DIMENSION = 97_238, 107, 5_874_261, 64
DEFAULT_BATCH = 256


def synthetic(count: int, seed: int = 0) -> np.ndarray:
    """Triples with DRKG's vocabulary sizes; entities and relations are drawn by rank with a Zipf-like skew."""
    rng = np.random.default_rng(seed)

    def skewed(n: int) -> np.ndarray:
        return np.minimum((n ** rng.random(count)).astype(np.int64), n - 1)

    return np.stack([skewed(ENTITIES), skewed(RELATIONS), rng.permutation(skewed(ENTITIES))], 1)


def loop_of(triples: np.ndarray, entities: int, relations: int, batch: int, ours: bool,
            rate: float = 0.01) -> tuple[Any, Any, Any]:
    """``(model, factory, loop)`` as PyKEEN makes them by itself, or as mkmed asks for."""
    factory = CoreTriplesFactory.create(torch.from_numpy(triples), num_entities=entities, num_relations=relations)
    special: dict[str, Any] = {"scoring_fct_norm": 2, "entity_constrainer": None} if ours else {"scoring_fct_norm": 2}
    model = TransE(triples_factory=factory, embedding_dim=DIMENSION, random_seed=0, **special)
    optimizer = torch.optim.Adam(model.get_grad_params(), lr=rate, fused=True if ours else None)
    return model, factory, SLCWATrainingLoop(model=model, triples_factory=factory, optimizer=optimizer)


def epoch_seconds(batch: int, ours: bool, short: int, long: int) -> float:
    """CPU seconds of an epoch over all of DRKG, from the slope between two sizes."""
    spent = []
    for count in (short, long):
        _, factory, loop = loop_of(synthetic(count), ENTITIES, RELATIONS, batch, ours)
        started = time.process_time()
        with kge.quietly():
            loop.train(factory, num_epochs=1, batch_size=batch, use_tqdm=False, drop_last=False)
        spent.append(time.process_time() - started)
    return (spent[1] - spent[0]) / (long - short) * TRIPLES


def bundled() -> tuple[np.ndarray, int, int]:
    """The bundled knowledge graph as indices, without the drugs' classes."""
    with gzip.open(data_path("kg_triples.tsv.gz"), "rt") as stream:
        rows = [(r["head"], r["relation"], r["tail"]) for r in
                csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE) if "PCiC" not in r["relation"]]
    names = {name: k for k, name in enumerate(sorted({r[0] for r in rows} | {r[2] for r in rows}))}
    kinds = {name: k for k, name in enumerate(sorted({r[1] for r in rows}))}
    return np.array([(names[h], kinds[r], names[t]) for h, r, t in rows], np.int64), len(names), len(kinds)


def quality(batch: int, ours: bool, epochs: int, rate: float) -> tuple[dict[str, float], float]:
    """Filtered link prediction of the bundled graph, and the CPU seconds that training took."""
    triples, entities, relations = bundled()
    train, test = kge.hold_out(triples, GraphConfig().held_out, 0)
    model, factory, loop = loop_of(train, entities, relations, batch, ours, rate)
    started = time.process_time()
    with kge.quietly():
        loop.train(factory, num_epochs=epochs, batch_size=batch, use_tqdm=False, drop_last=False)
    spent = time.process_time() - started
    return kge.link_prediction(model, train, test, 0), spent


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller slopes and fewer epochs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    # PyKEEN's small default batch costs so much per triple that its slope is measured on fewer of them.
    settings = [("PyKEEN defaults", DEFAULT_BATCH, False, (20_000, 60_000), 5 if quick else 40, 1e-3),
                ("PyKEEN defaults, batch 4,096", 4096, False, (50_000, 300_000), 10 if quick else 80, 1e-2),
                ("PyKEEN, fused Adam, batch 16,384", 16_384, True, (100_000, 600_000 if quick else 1_600_000),
                 20 if quick else 150, 1e-2),
                ("mkmed: fused Adam, batch 65,536", 65_536, True, (200_000, 1_000_000 if quick else 3_000_000),
                 20 if quick else 250, 2e-2)]
    rows: list[dict[str, Any]] = []
    for name, batch, ours, sizes, epochs, rate in settings:
        seconds = epoch_seconds(batch, ours, *sizes)
        scores, spent = quality(batch, ours, epochs, rate)
        rows.append({"settings": name, "batch": batch, "triples/s per core": TRIPLES / seconds,
                     "DRKG epoch, CPU s": seconds, "ratio": 0.0, "bundled epochs": epochs,
                     "filtered MRR": scores["mrr"], "hits@10": scores["hits@10"], "bundled training CPU s": spent})
        rows[-1]["ratio"] = rows[-1]["triples/s per core"] / rows[0]["triples/s per core"]
    report("transe", rows, target=f"at least {TARGET} x the defaults at equal filtered MRR", dimension=DIMENSION,
           entities=ENTITIES, triples=TRIPLES, synthetic_speed=True)


if __name__ == "__main__":
    main()
