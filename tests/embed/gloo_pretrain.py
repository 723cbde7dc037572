"""One rank of a whole job on the database and home of the environment: what it saw is written beside the answer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from embed.config import load_config
from embed.training import distributed, job
from embed.training.loop import TrainingJob
from kb.db.engine import open_engine
from kb.settings import load_settings

PLAIN_FIT = job.fit


def fit(one: TrainingJob, resume: bool = False) -> object:
    """As the loop's, after writing down how much of the features this process maps from the run folder."""
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/shared/" in line]
    rows = {name: int(table.items.n) for name, table in one.data.tables.items()}
    found = {"mapped": len(set(mapped)), "rows": rows, "train": len(one.train), "relations": len(one.relations)}
    Path(f"{sys.argv[1]}.{distributed.rank()}").write_text(json.dumps(found))
    return PLAIN_FIT(one, resume)


def main(target: str, *sets: str) -> None:
    torch.set_num_threads(1)
    job.fit = fit
    settings = load_settings()
    done = job.pretrain(open_engine(settings), settings, load_config(sets=sets))
    if os.environ.get("RANK", "0") == "0":
        Path(target).write_text(json.dumps({"run": str(done.run_id), "folder": str(done.folder)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
