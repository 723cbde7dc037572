"""The run folders of recommenders on disk: finding, listing and reading them.

Listing needs neither torch nor scikit-learn; what does is imported where it is used.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kb.errors import NotFound, UsageError
from kb.files import hold, replace_file
from kb.settings import Settings
from recsys.cohorts.files import private_folder
from recsys.experiments.config import Config, from_json

if TYPE_CHECKING:
    from recsys.experiments.bootstrap import PatientSums
    from recsys.experiments.checkpoint import Trained


def runs_folder(settings: Settings) -> Path:
    """The folder of all recommender runs."""
    return settings.runs / "recsys"


def read_run_config(settings: Settings, wanted: str) -> Config:
    """The configuration that a run began with."""
    return from_json(json.loads((find_folder(settings, wanted) / "config.json").read_text()))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, oldest first; a last line that a kill cut short is left out."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def forget_unsaved_epochs(folder: Path) -> None:
    """Cut the rows of epochs from metrics.jsonl that ``last.pt`` does not hold: a resumed run does them again."""
    from recsys.experiments.checkpoint import epochs_saved

    done = epochs_saved(folder)
    kept = [row for row in read_metrics(folder) if int(row.get("epoch", 0)) <= done] if done else []
    replace_file(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept).encode())


@contextmanager
def private_files() -> Iterator[None]:
    """Files and folders made in this context are their owner's alone: a run learns from patients."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _sums_path(settings: Settings, folder: Path) -> Path:
    """Where the sums of a run lie: beside the cohort, because each row is a patient."""
    cohort = str(json.loads((folder / "config.json").read_text())["cohort"])
    return private_folder(cohort, "sums", settings) / f"{folder.name}.npz"


def write_sums(settings: Settings, folder: Path, sums: PatientSums) -> None:
    """Keep the per-patient sums of a run's evaluation in the cohort's folder."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, visits=sums.visits, sums=sums.sums, interacting=sums.interacting, pairs=sums.pairs)
    replace_file(_sums_path(settings, folder), buffer.getvalue())


def read_sums(settings: Settings, folder: Path) -> PatientSums:
    """The per-patient sums of a run's evaluation, for paired comparisons; raises NotFound."""
    from recsys.experiments.bootstrap import PatientSums

    take_in_sums(settings)
    path = _sums_path(settings, folder)
    if not path.exists():
        raise NotFound(f"run {folder.name} has no evaluation of each patient beside its cohort",
                       hint="mkmed recsys train --resume RUN finishes a run; train anew where the cohort was removed")
    with np.load(path, allow_pickle=False) as arrays:
        return PatientSums(arrays["visits"], arrays["sums"], arrays["interacting"], arrays["pairs"])


def take_in_sums(settings: Settings) -> None:
    """Move per-patient sums that release 0.1.0 left in run folders to their cohorts, and close those folders."""
    for old in runs_folder(settings).glob("*/sums.npz"):
        if (old.parent / "config.json").exists():
            replace_file(_sums_path(settings, old.parent), old.read_bytes())
            old.unlink()
            old.parent.chmod(0o700)


def find_folder(settings: Settings, wanted: str = "") -> Path:
    """The folder of the run whose id begins with ``wanted``; the latest finished run when it is empty."""
    folders = [path for path in runs_folder(settings).glob("*") if (path / "config.json").exists()]
    if not wanted:
        finished = [path for path in folders if (path / "report.json").exists()]
        if not finished:
            raise NotFound("there is no finished recommender run", hint="mkmed recsys train")
        return max(finished, key=lambda path: (path / "report.json").stat().st_mtime)
    found = [path for path in folders if path.name.startswith(wanted)]
    if len(found) != 1:
        raise NotFound(f"{len(found) or 'no'} recommender runs begin with {wanted!r}", hint="mkmed recsys runs")
    return found[0]


def read_report(settings: Settings, wanted: str = "") -> dict[str, Any]:
    """The report of a run, the latest when ``wanted`` is empty."""
    path = find_folder(settings, wanted) / "report.json"
    if not path.exists():
        raise NotFound(f"run {path.parent.name} has no report", hint="mkmed recsys train --resume RUN finishes it")
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def find_finished(settings: Settings, config: Config, cohort: str, vectors: str | None = None) -> Path | None:
    """The newest finished run with, or asked for with, exactly this configuration, on the cohort with this fingerprint.

    ``vectors``, where given, is the embedding run whose vectors it must have read.
    """
    wanted = config.as_json()
    for path in sorted(runs_folder(settings).glob("*/report.json"), key=lambda p: -p.stat().st_mtime):
        report = json.loads(path.read_text())
        same = wanted in (report["config"], report.get("asked")) and report["cohort"] == cohort
        if same and vectors in (None, report["vectors"]):
            return path.parent
    return None


def load_run(settings: Settings, wanted: str = "") -> Trained:
    """The trained recommender of a run."""
    from recsys.experiments.checkpoint import load_recommender

    return load_recommender(find_folder(settings, wanted) / "best.pt")


def write_label(folder: Path, name: str, tags: Sequence[str]) -> None:
    """Keep the user's own words for a run."""
    replace_file(folder / "label.json", json.dumps({"name": name, "tags": list(dict.fromkeys(tags))}).encode())


def remove_run(settings: Settings, wanted: str) -> str:
    """Remove a run with its weights, and what lies of it beside its cohort; return its id.

    Raises NotFound unless exactly one run's id begins with ``wanted``, and Busy while it is being trained.
    """
    if not wanted:
        raise UsageError("no run was named", hint="mkmed recsys runs lists them")
    folder = find_folder(settings, wanted)
    with hold(folder / "lock", f"run {folder.name}"):
        cohort = str(json.loads((folder / "config.json").read_text())["cohort"])
        for kind, ending in (("sums", "npz"), ("predictions", "parquet")):
            (private_folder(cohort, kind, settings) / f"{folder.name}.{ending}").unlink(missing_ok=True)
        shutil.rmtree(folder)
    return folder.name


RUN_COLUMNS = ("run", "name", "recommender", "cohort", "fingerprint", "mode", "vectors", "seed", "epochs", "jaccard",
               "ddi_rate", "started")
"""What a listing of runs shows; every setting and metric is a column that can be asked for."""


def list_run_folders(settings: Settings) -> list[dict[str, Any]]:
    """One row a run on this disk, newest first: its id, settings, and its means over test visits once finished."""
    take_in_sums(settings)
    rows = []
    for path in runs_folder(settings).glob("*/config.json"):
        config, report = json.loads(path.read_text()), path.parent / "report.json"
        done = json.loads(report.read_text()) if report.exists() else {}
        means = done.get("per_visit", {})
        label = path.parent / "label.json"
        words = json.loads(label.read_text()) if label.exists() else {}
        rows.append({**config, **means, "run": path.parent.name, "name": words.get("name") or None,
                     "tags": ", ".join(words.get("tags", ())) or None,
                     "recommender": config["recommender"], "cohort": config["cohort"],
                     "fingerprint": done.get("cohort", "").rpartition(", ")[2] or None,
                     "mode": config["mode"], "vectors": config["vectors"], "seed": config["seed"],
                     "epochs": len(read_metrics(path.parent)), "jaccard": means.get("jaccard"),
                     "ddi_rate": means.get("ddi_rate"),
                     "started": datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")})
    return sorted(rows, key=lambda row: row["started"], reverse=True)


def report_rows(report: Mapping[str, Any], by: str = "summary") -> list[dict[str, Any]]:
    """A report as the rows of one table.

    ``by`` is summary, visits, subgroup, rarity, bucket, calibration, sets or literature.
    """
    if by == "summary":
        rows = [{"mean over": "visits", **report["per_visit"]}, {"mean over": "patients", **report["per_patient"]},
                {"mean over": "visits, no DDI rule", **report["free"]}]
        return _with_intervals(report, rows)
    if by == "calibration":
        return list(report["calibration"]["reliability"])
    if by == "sets":
        return list(report.get("sets", []))
    if by == "literature":
        return [{"metric": name, "mean": mean, "std of 10 draws": std}
                for name, (mean, std) in report["literature"].items()]
    if by not in ("visits", "subgroup", "rarity", "bucket"):
        raise UsageError(f"there is no table by {by!r}",
                         hint="summary, visits, subgroup, rarity, bucket, calibration, sets or literature")
    label = "visit number" if by == "visits" else by  # "visits" is a column of that table
    return [{label: name, **row} for name, row in report.get(f"by_{by}", {}).items()]


def _with_intervals(report: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row, key in zip(rows, ("intervals", "intervals_per_patient"), strict=False):
        low, high = report[key]["jaccard"]
        row["jaccard 95 %"] = f"{low:.4f}–{high:.4f}"
        low, high = report[key]["ddi_rate"]
        row["ddi_rate 95 %"] = f"{low:.4f}–{high:.4f}"
    return rows
