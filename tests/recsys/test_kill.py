"""A training process that is killed at any moment goes on to the very same run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from embed.runs import checkpoint
from kb.settings import Settings
from recsys.cohorts.files import save_cohort
from recsys.commands import app
from recsys.experiments.config import from_json
from recsys.experiments.run_folders import find_folder, forget_unsaved_epochs, read_metrics
from recsys.experiments.runs import train_run
from recsys.generators import clusters
from recsys.generators.population import Shape

SETTINGS = {"cohort": "killed", "mode": "network", "vectors": "learned", "epochs": 6, "dim": 16, "batch": 8, "least_steps": 1}
CHILD = """
import sys, json
from pathlib import Path
from kb.settings import Settings
from recsys.experiments.config import from_json
from recsys.experiments.runs import train_run
train_run(from_json(json.loads(sys.argv[2])), Settings(home=Path(sys.argv[1])),
          log=lambda row: print(row["epoch"], flush=True))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = Settings(home=tmp_path_factory.mktemp("home"))
    save_cohort(clusters.generate("killed", Shape().scaled(300)), made)
    return made


@pytest.fixture(scope="module")
def whole(settings):
    return train_run(from_json(SETTINGS), settings)


def killed_after(settings, epoch, wait):
    """The folder of a run whose process got SIGKILL ``wait`` seconds after it told of an epoch."""
    before = set((settings.runs / "recsys").iterdir())
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(settings.home), json.dumps(SETTINGS)],
                             stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    for line in child.stdout:
        if int(line) == epoch:
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    folder, = set((settings.runs / "recsys").iterdir()) - before
    assert not (folder / "report.json").exists()
    return folder


def same(folder, whole):
    """The resumed run has the uninterrupted one's epochs, report and weights."""
    def timeless(path):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(path)]

    assert timeless(folder) == timeless(whole.folder)
    mine, theirs = (json.loads((path / "report.json").read_text()) for path in (folder, whole.folder))
    for name in ("per_visit", "by_rarity", "calibration", "decision", "signatures"):
        assert mine[name] == theirs[name], name
    first, second = (checkpoint.load_checkpoint(path / "best.pt")[0]["model"] for path in (folder, whole.folder))
    assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "wait"), [(1, 0.0), (3, 0.05)])
def test_a_killed_run_is_resumed_from_the_command_line(settings, whole, monkeypatch, epoch, wait):
    folder = killed_after(settings, epoch, wait)
    monkeypatch.setenv("MKMED_HOME", str(settings.home))
    told = CliRunner().invoke(app, ["train", "--resume", folder.name[:8]])  # no cohort named "synthetic" is here
    assert told.exit_code == 0, told.output
    same(folder, whole)


def test_rows_that_no_checkpoint_holds_are_cut_and_done_again(settings, whole):
    """A kill between the row of an epoch and its checkpoint, and one in the middle of writing a row."""
    folder = killed_after(settings, 3, 0.0)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"epoch": 6, "loss": 1.0, "jaccard": 0.9}) + '\n{"epoch": 7, "lo')
    assert read_metrics(folder)[-1]["epoch"] == 6
    forget_unsaved_epochs(folder)
    assert 1 <= read_metrics(folder)[-1]["epoch"] <= 4
    train_run(from_json(SETTINGS), settings, resume=folder.name)
    same(folder, whole)


def test_only_the_checkpoint_before_the_last_is_left(settings, whole):
    """A kill between the two renames of a checkpoint."""
    folder = killed_after(settings, 4, 0.0)
    (folder / "last.pt").unlink()
    train_run(from_json(SETTINGS), settings, resume=folder.name)
    same(folder, whole)


def test_a_resumed_run_takes_no_other_settings(settings, whole, monkeypatch):
    monkeypatch.setenv("MKMED_HOME", str(settings.home))
    told = CliRunner().invoke(app, ["train", "--resume", whole.run_id[:8], "--set", "epochs=9"])
    assert told.exit_code != 0
    assert find_folder(settings, whole.run_id[:8]) == whole.folder
