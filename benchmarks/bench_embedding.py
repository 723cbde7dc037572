"""What the embedding is worth on held-out drugs, over seeds: every seed trains anew on a scaffold split of its own.

    python benchmarks/bench_embedding.py                     # 5 seeds on the knowledge base of MKMED_HOME
    python benchmarks/bench_embedding.py --seeds 2 --paper   # the published variant: InfoNCE alone

Needs ``mkmed kb ingest --source corpus`` and ``--source rdkit`` first. Prints mean and 95 % interval (Student's t over
seeds) of every figure of ``mkmed embed evaluate``. Runs are stored but not published, and dropped at the end.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from record import report

KEYS = {
    "retrieval": ("from", "to"),
    "classes": ("vectors", "drugs"),
    "interactions": ("vectors",),
    "indications": ("vectors",),
}
FIGURES = {
    "retrieval": ("recall@1", "recall@10", "mrr", "chance@10", "lift@10", "untrained recall@10"),
    "classes": ("level_1", "level_2", "level_3"),
    "interactions": ("auroc",),
    "indications": ("auroc",),
}
COUNTS = ("drugs", "queries", "positives")


def one_seed(seed: int, sets: Sequence[str], paper: bool) -> dict[str, Any]:
    """The evaluation of one training, with its seconds."""
    from embed.config import load_config
    from embed.config import paper as paper_config
    from embed.evaluation.run import evaluate
    from embed.runs import store
    from embed.runs.found import load_run
    from embed.training.job import pretrain
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    config = load_config(None, [*sets, f"seed={seed}"], paper_config() if paper else None)
    start, processor = time.perf_counter(), time.process_time()
    done = pretrain(engine, settings, config, publish=False, name=f"bench seed {seed}")
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    found = evaluate(load_run(engine, settings, str(done.run_id)))
    store.drop(engine, done.run_id)
    return {**found, "seconds": seconds, "cpu_seconds": processor, "epochs": done.epochs}


def summarise(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a part and key, with mean and bounds of every figure over the seeds."""
    from embed.evaluation.intervals import over_seeds

    rows = []
    for part, keys in KEYS.items():
        grouped: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for evaluation in found:
            for row in evaluation[part]:
                grouped[tuple(str(row[key]) for key in keys)].append(row)
        for key, members in grouped.items():
            line: dict[str, Any] = {"part": part, "what": " → ".join(key), "seeds": len(members)}
            counts = [row[name] for row in members for name in COUNTS if isinstance(row.get(name), int)]
            line["n"] = f"{min(counts)}–{max(counts)}" if counts else ""
            for figure in FIGURES[part]:
                mean, low, high = over_seeds([row[figure] for row in members])
                line[figure] = f"{mean:.3f} ({low:.3f}–{high:.3f})"
            rows.append(line)
    return rows


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--paper", action="store_true", help="the published variant")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="a setting, key=value")
    parser.add_argument("--name", default="embedding", help="of the file under benchmarks/results")
    arguments = parser.parse_args()
    found = [one_seed(seed, arguments.sets, arguments.paper) for seed in range(arguments.seeds)]
    rows = summarise(found)
    timing = [{key: round(f[key], 1) for key in ("seconds", "cpu_seconds", "epochs")} for f in found]
    for part in KEYS:
        report_rows = [
            {key: value for key, value in row.items() if key != "part"} for row in rows if row["part"] == part
        ]
        from kb.output import emit

        emit(report_rows, title=part)
    report(arguments.name, rows, shown=False, trainings=timing, settings=arguments.sets, paper=arguments.paper)


if __name__ == "__main__":
    main()
