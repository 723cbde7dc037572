"""A training run from a prepared cohort to a report, and the run folders on disk.

``<home>/runs/recsys/<run-id>/``: config.json, metrics.jsonl, last.pt, best.pt, env.json, report.json, sums.npz,
curves.svg. A folder holds weights, aggregate numbers and code vocabularies; nothing of any patient.
"""

from __future__ import annotations

import json
import platform
import resource
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kb.errors import ConfigError, NotFound
from kb.output import plain
from kb.runs import finish_run, program_version, start_run
from kb.settings import Settings
from recsys.batches import Histories, Sizes, histories
from recsys.bootstrap import PatientSums
from recsys.checkpoint import Trained, load_recommender, save_recommender
from recsys.cohort import KINDS, Encoded, encode
from recsys.cohort_files import load_cohort
from recsys.config import Config, from_json
from recsys.evaluate import Choices, Evaluation, choose, evaluate
from recsys.knowledge import Knowledge, with_random_vectors
from recsys.recommenders.contract import Log, Recommender
from recsys.registry import RECOMMENDERS
from recsys.signatures import signatures
from recsys.tasks import TASKS, split_cohort

if TYPE_CHECKING:
    from sqlalchemy import Engine

TOP_DIAGNOSES = 2000
"""The literature keeps the 2,000 most frequent diagnoses."""


@dataclass(frozen=True)
class Data:
    """A cohort as a recommender takes it."""

    encoded: Encoded
    train: Histories
    validation: Histories
    test: Histories
    knowledge: Knowledge

    @property
    def sizes(self) -> Sizes:
        """The sizes of the vocabularies."""
        return self.train.sizes


def load_data(config: Config, settings: Settings, engine: Engine | None) -> Data:
    """The cohort that the configuration names: split, on training vocabularies, with the medications' knowledge.

    A synthetic cohort with ``vectors=learned`` needs no database; every other combination reads it.
    """
    cohort = load_cohort(config.cohort, settings)
    encoded = encode(cohort, split_cohort(cohort, config.split, config.seed), top={"diagnosis": TOP_DIAGNOSES})
    task = TASKS[config.task]
    parts = {side: histories(encoded, side, task) for side in ("train", "validation", "test")}
    codes = encoded.vocabularies["medication"].codes
    synthetic = cohort.provenance.get("format") == "synthetic"
    return Data(encoded, **parts, knowledge=_knowledge(config, codes, synthetic, engine))


def _knowledge(config: Config, codes: tuple[str, ...], synthetic: bool, engine: Engine | None) -> Knowledge:
    from dataclasses import replace

    from recsys.drug_knowledge import bundled_knowledge, read_knowledge

    if synthetic and (engine is None or config.vectors == "learned"):
        if config.vectors == "published":
            raise ConfigError("published vectors need the database", hint="--set vectors=learned trains without")
        return bundled_knowledge(codes)
    if engine is None:
        raise ConfigError("this cohort's interactions lie in the database", hint="mkmed db start")
    knowledge = read_knowledge(engine, codes, vectors=config.vectors != "learned")
    if synthetic:  # its generator was calibrated on the bundled matrix
        knowledge = replace(knowledge, interactions=bundled_knowledge(codes).interactions)
    return with_random_vectors(knowledge, config.seed) if config.vectors == "random" else knowledge


@dataclass(frozen=True)
class Fitted:
    """A trained recommender with its choices, and how long it took."""

    recommender: Recommender
    choices: Choices
    rows: list[dict[str, Any]]
    cpu_seconds: float


def fit(config: Config, data: Data, *, log: Log | None = None, folder: Path | None = None,
        resume: bool = False) -> Fitted:
    """The recommender that the configuration names, trained; one thread (two are slower for these small layers)."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        if log is not None:
            log(row)

    begun = time.process_time()
    model = RECOMMENDERS[config.recommender](data.sizes, data.knowledge, config)
    model.fit(data.train, data.validation, log=note, folder=folder, resume=resume)
    spent = time.process_time() - begun
    return Fitted(model, choose(model, data.validation), rows, spent)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    run_id: str
    folder: Path
    report: dict[str, Any]


def runs_folder(settings: Settings) -> Path:
    """The folder of all recommender runs."""
    return settings.runs / "recsys"


def train_run(config: Config, settings: Settings, engine: Engine | None = None, *, log: Log | None = None,
              resume: str | None = None) -> Run:
    """Train, evaluate on the test patients and store a run; with ``resume`` go on with the run of that id."""
    if resume:
        folder = find_folder(settings, resume)
        config = from_json(json.loads((folder / "config.json").read_text()))
        run_id = uuid.UUID(folder.name)
    else:
        run_id = uuid.uuid4()
        folder = runs_folder(settings) / str(run_id)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config.as_json(), indent=1))
    if engine is not None and not resume:
        with engine.begin() as connection:
            start_run(connection, "recsys", name=config.recommender, config=config.as_json(), run_id=run_id)
    try:
        report = _run(config, settings, engine, folder, log, resume=bool(resume))
    except BaseException as error:
        if engine is not None:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with engine.begin() as connection:
                finish_run(connection, run_id, status, error=type(error).__name__)
        raise
    if engine is not None:
        with engine.begin() as connection:
            finish_run(connection, run_id, "complete", counts=report["per_visit"])
    return Run(str(run_id), folder, report)


def _run(config: Config, settings: Settings, engine: Engine | None, folder: Path, log: Log | None, *,
         resume: bool) -> dict[str, Any]:
    (folder / "env.json").write_text(json.dumps(environment(), indent=1))
    data = load_data(config, settings, engine)
    with (folder / "metrics.jsonl").open("a" if resume else "w") as stream:

        def note(row: dict[str, Any]) -> None:
            stream.write(json.dumps(plain(row)) + "\n")
            stream.flush()
            if log is not None:
                log(row)

        fitted = fit(config, data, log=note, folder=folder, resume=resume)
    result = evaluate(fitted.recommender, data.train, data.test, fitted.choices)
    rows = read_metrics(folder)
    report = {**result.report, "recommender": config.recommender, "mode": config.mode, "run": folder.name,
              "config": config.as_json(), "cohort": str(data.encoded.cohort.fingerprint),
              "split": data.encoded.split.rule, "unknown": data.encoded.unknown_of("test"),
              "vectors": data.knowledge.vectors_run, "learned_vectors": int((~data.knowledge.known).sum()),
              "fit_cpu_seconds": fitted.cpu_seconds, "peak_rss_mb": peak_rss_mb(),
              "signatures": signatures(rows, result.report, fitted.recommender)}
    _store(folder, config, data, fitted, result, report)
    return report


def _store(folder: Path, config: Config, data: Data, fitted: Fitted, result: Evaluation,
           report: Mapping[str, Any]) -> None:
    scored = data.train.scored
    meta = {"run": folder.name, "cohort": report["cohort"], "task": config.task,
            "frequency": [round(float(f), 6) for f in data.train.target[scored].mean(0)],
            "free": list(fitted.choices.free), "per_visit": report["per_visit"]}
    vocabularies = {kind: data.encoded.vocabularies[kind].codes for kind in KINDS}
    save_recommender(folder / "best.pt", Trained(fitted.recommender, vocabularies, fitted.choices.safe,
                                                 fitted.choices.platt, meta))
    np.savez_compressed(folder / "sums.npz", visits=result.sums.visits, sums=result.sums.sums,
                        interacting=result.sums.interacting, pairs=result.sums.pairs)
    (folder / "report.json").write_text(json.dumps(plain(report), indent=1))
    from recsys.curves import draw_curves

    draw_curves(read_metrics(folder), folder / "curves.svg")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, oldest first."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def read_sums(folder: Path) -> PatientSums:
    """The per-patient sums of a run's evaluation, for paired comparisons."""
    path = folder / "sums.npz"
    if not path.exists():
        raise NotFound(f"run {folder.name} has no evaluation", hint="mkmed recsys train --resume RUN finishes it")
    with np.load(path, allow_pickle=False) as arrays:
        return PatientSums(arrays["visits"], arrays["sums"], arrays["interacting"], arrays["pairs"])


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


def load_run(settings: Settings, wanted: str = "") -> Trained:
    """The trained recommender of a run."""
    return load_recommender(find_folder(settings, wanted) / "best.pt")


def list_run_folders(settings: Settings) -> list[dict[str, Any]]:
    """One row a run on this disk, newest first, with its test Jaccard and DDI rate once finished."""
    rows = []
    for path in runs_folder(settings).glob("*/config.json"):
        config, report = json.loads(path.read_text()), path.parent / "report.json"
        done = json.loads(report.read_text()) if report.exists() else {}
        means = done.get("per_visit", {})
        rows.append({"run": path.parent.name, "recommender": config["recommender"], "cohort": config["cohort"],
                     "mode": config["mode"], "vectors": config["vectors"], "seed": config["seed"],
                     "epochs": len(read_metrics(path.parent)), "jaccard": means.get("jaccard"),
                     "ddi_rate": means.get("ddi_rate"),
                     "started": datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")})
    return sorted(rows, key=lambda row: row["started"], reverse=True)


def environment() -> dict[str, Any]:
    """What a run ran on."""
    return {"mkmed": program_version(), "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__, "platform": platform.platform(), "threads": 1}


def peak_rss_mb() -> float:
    """The largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
