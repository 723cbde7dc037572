"""What training adds on held-out drugs, over splits, in three columns, beside rivals that are not trained.

    python benchmarks/bench_embedding.py                     # 5 splits on the knowledge base of MKMED_HOME
    python benchmarks/bench_embedding.py --splits 2 --paper  # the published variant: InfoNCE alone
    python benchmarks/bench_embedding.py --only stability    # two seeds, all modalities of the default recipe

Needs ``mkmed kb ingest --source corpus`` and ``--source rdkit`` first. It is ``mkmed embed evaluate --splits 5``, kept
with the machine that it ran on, and how often two seeds on one split give a drug the same nearest neighbour. Trainings
of the splits that were measured before are not repeated.
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
    parser.add_argument("--only", choices=("splits", "stability"), help="one of the two studies")
    parser.add_argument("--columns", default="", help="of the splits, with commas between; all three by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101], help="of the study of stability")
    parser.add_argument("--name", default="embedding", help="of the file under benchmarks/results")
    arguments = parser.parse_args()
    from embed.config import load_config
    from embed.config import paper as paper_config
    from embed.evaluation.columns import chosen_columns
    from embed.evaluation.splits import PARTS, evaluate_splits
    from embed.evaluation.stability import neighbour_stability
    from kb.db.engine import open_engine
    from kb.output import emit, say
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    config = load_config(None, arguments.sets, paper_config() if arguments.paper else None)
    started = time.process_time()
    notes: dict[str, Any] = {"settings": arguments.sets, "paper": arguments.paper}
    rows: list[dict[str, Any]] = []
    if arguments.only != "stability":
        found = evaluate_splits(engine, settings, config, splits=range(arguments.splits),
                                columns=chosen_columns(arguments.columns), on_training=lambda row: say(str(row)))
        for part in PARTS:
            emit(found[part], title=part)
            rows += [{"part": part, **row} for row in found[part]]
        notes |= {"trainings": found["trainings"]}
    if arguments.only != "splits":
        stable = neighbour_stability(engine, settings, config, seeds=arguments.seeds)
        emit(stable, title="same nearest neighbour")
        notes |= {"stability": stable}
    name = arguments.name + ("_stability" if arguments.only == "stability" else "")
    report(name, rows, shown=False, cpu_seconds=round(time.process_time() - started), **notes)


if __name__ == "__main__":
    main()
