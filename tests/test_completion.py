"""Completion of values: what the shell is offered, through the program as a shell asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kb import completion
from kb.db.address import bare
from kb.db.server import embedded
from tests.few_drugs import fill

ROOT = Path(__file__).parents[1]


def offered(*words: str, **environment: str) -> list[str]:
    """What bash's completion is offered after these words, the last of them unfinished."""
    asking = {**os.environ, "_MKMED_COMPLETE": "complete_bash", "COMP_WORDS": "mkmed " + " ".join(words),
              "COMP_CWORD": str(len(words)), **environment}
    done = subprocess.run([sys.executable, "-m", "cli"], capture_output=True, text=True, env=asking, cwd=ROOT)
    return done.stdout.split()


def test_values_are_offered(database, tmp_path: Path) -> None:
    fill(database)
    here = {"MKMED_DATABASE_URL": bare(database.url), "MKMED_HOME": str(tmp_path)}
    assert offered("kb", "show", "met", **here) == ["metformin"] and offered("kb", "show", "Met", **here) == ["Metformin"]
    assert offered("embed", "neighbours", "--has", "t", **here) == ["text"]
    assert "corpus" in offered("kb", "ingest", "--source", "co", **here)
    (tmp_path / "runs" / "recsys" / "4f1c-x").mkdir(parents=True)
    (tmp_path / "runs" / "recsys" / "4f1c-x" / "config.json").write_text("{}")
    assert offered("recsys", "recommend", "--run", "4f", **here) == ["4f1c-x"]
    assert offered("recsys", "train", "--recommender", "ret", **here) == ["retain"]


def test_nothing_is_started_to_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    monkeypatch.delenv("MKMED_DATABASE_URL", raising=False)
    assert completion.complete_drugs("metf") == [] and embedded(tmp_path).running() is None
    monkeypatch.setenv("MKMED_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    assert completion.complete_drugs("metf") == [] and completion.complete_drugs("m") == []
