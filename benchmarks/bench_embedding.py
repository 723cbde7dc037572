"""What training adds on held-out drugs, over splits, in three columns, beside rivals that are not trained.

    python benchmarks/bench_embedding.py                     # 5 splits on the knowledge base of MKMED_HOME
    python benchmarks/bench_embedding.py --splits 2 --paper  # the published variant: InfoNCE alone

Needs ``mkmed kb ingest --source corpus`` and ``--source rdkit`` first. It is ``mkmed embed evaluate --splits 5``, kept
with the machine that it ran on, and how often two seeds on one split give a drug the same nearest neighbour.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from record import report


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--paper", action="store_true", help="the published variant")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="a setting, key=value")
    parser.add_argument("--name", default="embedding", help="of the file under benchmarks/results")
    arguments = parser.parse_args()
    from embed.config import load_config
    from embed.config import paper as paper_config
    from embed.evaluation.splits import PARTS, evaluate_splits
    from embed.evaluation.stability import neighbour_stability
    from kb.db.engine import open_engine
    from kb.output import emit, say
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    config = load_config(None, arguments.sets, paper_config() if arguments.paper else None)
    started = time.process_time()
    found = evaluate_splits(engine, settings, config, splits=range(arguments.splits),
                            on_training=lambda row: say(str(row)))
    rows: list[dict[str, Any]] = []
    for part in PARTS:
        emit(found[part], title=part)
        rows += [{"part": part, **row} for row in found[part]]
    stable = neighbour_stability(engine, settings, config, seeds=(100, 101))
    emit(stable, title="same nearest neighbour")
    report(arguments.name, rows, shown=False, trainings=found["trainings"], stability=stable,
           cpu_seconds=round(time.process_time() - started), settings=arguments.sets, paper=arguments.paper)


if __name__ == "__main__":
    main()
