"""What goes with a run: trackers, sweeps, names and tags, predictions of each visit, removal."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embed.runs.sweeping import read_space
from embed.runs.tracking import tracked
from kb.errors import NotFound, UsageError
from kb.output import as_latex
from kb.settings import Settings
from mkmed.places import settings_of
from recsys.cohorts.prepare import prepare
from recsys.experiments import evaluate as evaluation
from recsys.experiments.config import from_json
from recsys.experiments.predictions import predictions_path
from recsys.experiments.run_folders import list_run_folders, remove_run
from recsys.experiments.runs import train_run
from recsys.experiments.sweeps import sweep_recommender

FIXED = {"cohort": "made", "recommender": "retain", "vectors": "learned", "epochs": "2", "dim": "8", "resamples": "50"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with a small synthetic cohort."""
    settings = settings_of(None, tmp_path_factory.mktemp("tools"))
    prepare(form="synthetic", name="made", options={"patients": "60"}, settings=settings)
    return settings


def test_predictions_say_what_the_report_says(place: Settings) -> None:
    run = train_run(from_json(FIXED), place, name="first try", tags=["small", "small", "odd"])
    path = predictions_path(place, "made", run.run_id)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and not list((place.runs / "recsys" / run.run_id).glob("*.parquet"))
    table = pq.read_table(path)
    rows, names = table.to_pylist(), json.loads(table.schema.metadata[b"medications"])
    assert len(rows) == run.report["visits"] and len({row["patient"] for row in rows}) == run.report["patients"]
    jaccard = [len(set(r["given"]) & set(r["recommended"])) / max(len(set(r["given"]) | set(r["recommended"])), 1) for r in rows]
    assert np.mean(jaccard) == pytest.approx(run.report["per_visit"]["jaccard"], abs=0.02)  # those outside the vocabulary apart
    assert all(len(row["probability"]) == len(names) and 0 <= min(row["probability"]) <= max(row["probability"]) <= 1 for row in rows)
    threshold = run.report["decision"]["threshold"]
    assert all(row["probability"][names.index(code)] >= threshold - 1e-6 for row in rows for code in row["recommended"])
    (listed,) = list_run_folders(place)
    assert (listed["name"], listed["tags"]) == ("first try", "small, odd")
    assert remove_run(place, run.run_id[:8]) == run.run_id
    assert list_run_folders(place) == [] and not path.exists()
    assert not list(path.parent.parent.rglob(f"{run.run_id}*"))
    for wanted in (run.run_id[:8], ""):
        with pytest.raises((NotFound, UsageError)):
            remove_run(place, wanted)


def test_a_sweep_goes_on_and_looks_at_validation_alone(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: Any, **__: Any) -> None:
        raise AssertionError("the test patients were looked at")

    monkeypatch.setattr(evaluation, "evaluate", looked)
    monkeypatch.setattr("recsys.experiments.runs.evaluate", looked)
    over, seen = ["learning_rate=1e-4..1e-1:log", "dim=4,8"], []

    def go(trials: int, **more: Any) -> list[dict[str, Any]]:
        return sweep_recommender(place, None, {**FIXED, **more}, over, trials=trials, name="one",
                                 told=lambda number, value, chosen: seen.append((number, value, chosen)))

    first = go(2)
    assert [row["state"] for row in first] == ["complete"] * 2 and first[0]["validation"] >= first[1]["validation"]
    assert all(1e-4 <= row["learning_rate"] <= 1e-1 and row["dim"] in ("4", "8") for row in first)
    whole = go(3)
    assert len(whole) == 3 and [number for number, *_ in seen] == [0, 1, 2], "those of before count"
    assert {row["trial"]: row["validation"] for row in first}.items() <= {row["trial"]: row["validation"] for row in whole}.items()
    with pytest.raises(UsageError, match="other settings"):
        go(3, epochs="3")
    with pytest.raises(UsageError, match="decides what is loaded"):
        sweep_recommender(place, None, FIXED, ["seed=1,2"], trials=1, name="two")
    assert list_run_folders(place) == []


@pytest.mark.parametrize("wrong", ["dim", "=3", "dim=", "lr=3..1", "lr=0..1:log", "lr=-1..1:log"])
def test_a_space_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        read_space([wrong])
    assert read_space(["a=1..3", "b=0.5..2:log", "c=x"]) == {"a": ("range", 1, 3, False), "b": ("range", 0.5, 2.0, True),
                                                             "c": ("choice", "x")}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow's own queries
@pytest.mark.parametrize("kind", ["csv", "tensorboard", "mlflow", "wandb"])
def test_a_tracker_is_told_every_epoch(place: Settings, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind != "csv":
        pytest.importorskip({"tensorboard": "tensorboardX"}.get(kind, kind), reason=f"{kind} is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with tracked([kind, kind], place, "recsys", {"dim": 8, "vectors": "learned"}) as told:
        for epoch in (1, 2):
            told({"epoch": epoch, "loss": 1 / epoch, "jaccard": 0.1 * epoch, "words": "no number"})
        told.run = "an-id"
    folder = place.runs / "tracked"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if kind == "csv":
        (path,) = folder.glob("recsys-*.csv")
        with path.open(newline="") as stream:
            assert list(csv.DictReader(stream)) == [{"step": "1", "epoch": "1.0", "loss": "1.0", "jaccard": "0.1"},
                                                    {"step": "2", "epoch": "2.0", "loss": "0.5", "jaccard": "0.2"}]
    elif kind == "tensorboard":
        assert sum(path.stat().st_size for path in folder.rglob("events.*")) > 100
    elif kind == "mlflow":
        import mlflow

        (found,) = mlflow.search_runs(experiment_names=["mkmed"], output_format="list")
        assert found.data.metrics["loss"] == 0.5 and found.data.tags["mkmed.run"] == "an-id"
    else:
        assert list((folder / "wandb").glob("offline-run-*/*.wandb"))


def test_a_tracker_that_is_not_there_is_named(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no tracker 'excel'"), tracked(["excel"], place, "x", {}):
        pass
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UsageError, match="needs the package wandb") as told, tracked(["wandb"], place, "x", {}):
        pass
    assert told.value.hint == "pip install wandb"


def test_tables_for_papers() -> None:
    text = as_latex([{"name": "50 % of A_B & C", "n": 3}, {"name": None, "n": None}], ["name", "n"], "of {all}")
    assert text == "\n".join([r"% of {all}", r"\begin{tabular}{lr}", r"\toprule", r"name & n \\", r"\midrule",
                              r"50 \% of A\_B \& C & 3 \\", r" &  \\", r"\bottomrule", r"\end{tabular}"])


def test_nothing_of_this_leaves_the_home() -> None:
    assert not [name for name in ("wandb", "mlruns", "runs", "mlflow.db") if (Path.cwd() / name).exists()]
