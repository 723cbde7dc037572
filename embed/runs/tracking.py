"""Telling a tracker of experiments what a training does: one small protocol, and four that speak it.

What is told are a run's settings and its metrics by epoch, both means over many; nothing of a patient. Everything stays
on this disk unless the tracker's own variables (``MLFLOW_TRACKING_URI``, ``WANDB_MODE=online``) say otherwise.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from kb.errors import UsageError
from kb.settings import Settings

TRACKERS = ("csv", "tensorboard", "mlflow", "wandb")
PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow-skinny", "wandb": "wandb"}
"""What must be installed for each; CSV needs nothing."""


class Tracker(Protocol):
    """Who is told of one training."""

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Take the metrics of an epoch."""

    def finish(self, run: str) -> None:
        """Take the run's id, under which mkmed keeps it; empty where the training failed."""


class CsvTracker:
    """A file ``<name>.csv`` with one row an epoch."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        self.path = folder / f"{name}.csv"
        self.rows: list[dict[str, float]] = []

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Write the file anew: later epochs may have columns that earlier ones lack."""
        self.rows.append({"step": step, **row})
        columns = list(dict.fromkeys(name for one in self.rows for name in one))
        with self.path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def finish(self, run: str) -> None:
        """Nothing is left to do."""


class TensorboardTracker:
    """Event files that ``tensorboard --logdir`` shows."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(logdir=str(folder / name))
        self.writer.add_text("settings", "\n".join(f"    {key} = {value}" for key, value in config.items()))

    def log(self, row: Mapping[str, float], step: int) -> None:
        """One scalar a metric."""
        for name, value in row.items():
            self.writer.add_scalar(name.replace(".", "/"), value, step)

    def finish(self, run: str) -> None:
        """Write what is left."""
        self.writer.add_text("run", run)
        self.writer.close()


class MlflowTracker:
    """A run of the experiment ``mkmed`` in a store on this disk, or at ``MLFLOW_TRACKING_URI``."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        import mlflow

        self.mlflow = mlflow
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment("mkmed")
        mlflow.start_run(run_name=name)
        mlflow.log_params({key: str(value)[:500] for key, value in config.items()})

    def log(self, row: Mapping[str, float], step: int) -> None:
        """All metrics of the step at once."""
        self.mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in row.items()}, step=step)

    def finish(self, run: str) -> None:
        """End the run, failed where there is no id."""
        if run:
            self.mlflow.set_tag("mkmed.run", run)
        self.mlflow.end_run("FINISHED" if run else "FAILED")


class WandbTracker:
    """A run of the project ``mkmed``, offline unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self.run = wandb.init(project="mkmed", name=name, dir=str(folder), config=dict(config), mode=mode)

    def log(self, row: Mapping[str, float], step: int) -> None:
        """All metrics of the step at once."""
        self.run.log(dict(row), step=step)

    def finish(self, run: str) -> None:
        """End the run, failed where there is no id."""
        self.run.summary["mkmed.run"] = run
        self.run.finish(exit_code=0 if run else 1)


_KINDS: Mapping[str, type[Any]] = {"csv": CsvTracker, "tensorboard": TensorboardTracker, "mlflow": MlflowTracker,
                                   "wandb": WandbTracker}


class Told:
    """What a training tells its trackers: rows as they come, then the run's id."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self.trackers, self.run, self.steps = trackers, "", 0

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Tell the numbers of one epoch's row."""
        self.steps += 1
        numbers = {name: float(value) for name, value in row.items()
                   if isinstance(value, int | float) and not isinstance(value, bool)}
        for tracker in self.trackers:
            tracker.log(numbers, int(row.get("epoch", self.steps)))


@contextmanager
def tracked(kinds: list[str] | None, settings: Settings, stage: str, config: Mapping[str, Any]) -> Iterator[Told]:
    """What is called with each row of a training, while it lasts; ``run`` is set on it when there is one.

    Files lie in ``<home>/runs/tracked``, the owner's alone. Raises UsageError for an unknown tracker and for one whose
    package is not installed.
    """
    folder = settings.runs / "tracked"
    name = f"{stage}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    trackers: list[Tracker] = []
    for kind in dict.fromkeys(kinds or ()):
        if kind not in _KINDS:
            raise UsageError(f"there is no tracker {kind!r}", hint=f"--track with one of: {', '.join(TRACKERS)}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            trackers.append(_KINDS[kind](folder, name, config))
        except ModuleNotFoundError as missing:
            raise UsageError(f"--track {kind} needs the package {missing.name}",
                             hint=f"pip install {PACKAGES[kind]}") from None
    told = Told(trackers)
    try:
        yield told
    finally:
        for tracker in trackers:
            tracker.finish(told.run)
