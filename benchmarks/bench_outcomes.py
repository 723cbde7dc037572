"""Diabetes-130 end to end: rows accounted for, recommenders, subgroups, and outcomes beside the recommendation.

    python benchmarks/bench_outcomes.py --root ~/diabetes-130      (or MKMED_DIABETES130=~/diabetes-130)

``--root`` holds ``diabetic_data.csv`` (UCI data set 296, CC BY 4.0), which is not bundled; without it nothing is
measured. Needs a filled knowledge base and published vectors. Cohort and runs go to a temporary folder. Patients with
two encounters or more, ingredients; the seed is one that nothing was chosen on. Outcomes are of the test patients.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from record import report

from kb.db.engine import open_engine
from kb.output import emit, say
from kb.settings import load_settings
from recsys.cohorts.prepare import prepare
from recsys.experiments.config import from_json
from recsys.experiments.outcomes import both_sides, recommended_visits
from recsys.experiments.runs import train_run

RECOMMENDERS = ("mkmed", "logistic_history", "repeat_last", "popularity")
SEED = 400


def measure(root: Path) -> list[dict[str, Any]]:
    """The rows of every table, each with the ``table`` that it is of."""
    settings = load_settings()
    engine, found = open_engine(settings), []
    with tempfile.TemporaryDirectory() as home:
        aside = settings.model_copy(update={"home": Path(home)})
        (aside.runs / "pretrain").parent.mkdir(parents=True, exist_ok=True)
        (aside.runs / "pretrain").symlink_to(settings.runs / "pretrain")
        with engine.connect() as connection:
            cohort = prepare(form="diabetes130", root=root, connection=connection, level="ingredient",
                             settings=aside).cohort
        say(str(cohort.fingerprint))
        found += [{"table": "rows", "of": loss.table, "reason": loss.reason, "rows": loss.rows}
                  for loss in cohort.accounting]
        runs = {}
        for name in RECOMMENDERS:
            run = train_run(from_json({"recommender": name, "cohort": "diabetes130", "seed": SEED}), aside, engine)
            runs[name] = run.run_id
            told = run.report
            low, high = told["intervals"]["jaccard"]
            found.append({"table": "recommenders", "recommender": name, "mode": told["mode"], "visits": told["visits"],
                          "patients": told["patients"], "jaccard": told["per_visit"]["jaccard"],
                          "95 %": f"{low:.3f}–{high:.3f}", "prauc": told["per_visit"]["prauc"],
                          "fit_cpu_seconds": told["fit_cpu_seconds"]})
            if name == RECOMMENDERS[0]:
                found += [{"table": "subgroups", "subgroup": group, "visits": row["visits"],
                           "patients": row["patients"], "jaccard": row["jaccard"],
                           "95 %": f"{row['jaccard_low']:.3f}–{row['jaccard_high']:.3f}"}
                          for group, row in told["by_subgroup"].items()]
        visits = recommended_visits(aside, runs[RECOMMENDERS[0]])
        found += [{"table": "outcomes", **row} for row in both_sides(visits)]
    return found


def main() -> None:
    """Run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=os.environ.get("MKMED_DIABETES130"))
    options = parser.parse_args()
    if options.root is None:
        say("Diabetes-130 is not bundled: --root FOLDER of diabetic_data.csv (https://archive.ics.uci.edu/dataset/296)")
        return
    torch.set_num_threads(1)
    found = measure(Path(options.root).expanduser())
    report("outcomes", found, shown=False, command="python benchmarks/bench_outcomes.py --root …", seed=SEED)
    for table in ("rows", "recommenders", "subgroups", "outcomes"):
        emit([{k: v for k, v in row.items() if k != "table"} for row in found if row["table"] == table], title=table)


if __name__ == "__main__":
    main()
