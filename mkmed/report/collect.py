"""Gathers what the report shows from the database and the run folders, as plain values.

A part that has not been made yet is None, and the page then names the command that makes it.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from embed.runs import store
from embed.runs.folder import read_metrics
from kb.errors import NotFound
from kb.ledger.coverage import Bucket, bucket_rows, buckets
from kb.ledger.entries import program_version
from kb.output import say
from kb.query.read import sources
from kb.settings import Settings

PACKAGES = ("torch", "torch-geometric", "pykeen", "rdkit", "sqlalchemy", "pgvector", "transformers", "numpy")
NEIGHBOURS_OF = ("metformin", "warfarin", "insulin human")
"""A small molecule, one with many interactions, and a biologic without a structure."""


@dataclass
class Findings:
    """Everything on the page; see the module's docstring for None."""

    made_at: datetime
    versions: dict[str, str]
    found: list[Bucket] = field(default_factory=list)
    buckets: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    licences: list[dict[str, Any]] = field(default_factory=list)
    neighbours: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    embedding: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    ablation: dict[str, Any] | None = None
    pictures: dict[str, str] = field(default_factory=dict)
    places: list[dict[str, Any]] = field(default_factory=list)
    """Of each drug on the map: ``name``, ``group``, ``x`` and ``y``."""
    epochs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The metrics by epoch of the ``embedding`` and of the ``recommender``."""
    recommenders: list[dict[str, Any]] = field(default_factory=list)
    """Of the latest run's cohort, task and split alone; a row is a recommender, over its seeds."""
    others: list[dict[str, Any]] = field(default_factory=list)
    """The other cohorts, tasks and splits, each with rows of its own: their figures cannot be compared."""
    cohort: dict[str, Any] | None = None
    recommendation: dict[str, Any] | None = None


def collect(engine: Engine, settings: Settings) -> Findings:
    """What there is to report on."""
    findings = Findings(datetime.now(UTC), versions())
    _knowledge(engine, findings)
    _embedding(engine, settings, findings)
    _recommenders(settings, findings)
    return findings


def versions() -> dict[str, str]:
    """mkmed, Python and the packages that the figures depend on."""
    found = {"mkmed": program_version(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


_COUNTS = {
    "drugs": "SELECT count(*) FROM mkmed.drug",
    "drugs without a structure": "SELECT count(*) FROM mkmed.drug WHERE smiles IS NULL",
    "biologics": "SELECT count(*) FROM mkmed.drug WHERE kind = 'biologic'",
    "texts": "SELECT count(*) FROM mkmed.text",
    "images": "SELECT count(*) FROM mkmed.image",
    "conformers": "SELECT count(*) FROM mkmed.conformer",
    "graph triples": "SELECT count(*) FROM mkmed.kg_triple",
    "interactions": "SELECT count(*) FROM mkmed.interaction",
    "ATC classes": "SELECT count(*) FROM mkmed.atc_class",
}


def _knowledge(engine: Engine, findings: Findings) -> None:
    with engine.connect() as connection:
        findings.found = buckets(connection)
        findings.buckets = bucket_rows(findings.found)
        findings.counts = {name: int(connection.scalar(text(query)) or 0) for name, query in _COUNTS.items()}
        findings.sources = sources(connection)
        findings.licences = [
            dict(row)
            for row in connection.execute(
                text(
                    "SELECT l.id, l.title, l.share, l.url, count(*) AS artifacts FROM mkmed.artifact a"
                    " JOIN mkmed.licence l ON l.id = a.licence_id GROUP BY l.id ORDER BY count(*) DESC"
                )
            ).mappings()
        ]


def _embedding(engine: Engine, settings: Settings, findings: Findings) -> None:
    try:
        run_id = store.published_run(engine)
    except NotFound:
        return
    folder = settings.runs / "pretrain" / str(run_id)
    with engine.connect() as connection:
        findings.embedding = next(r for r in store.list_embedding_runs(connection) if r["run_id"] == run_id)
        for name in NEIGHBOURS_OF:
            if connection.scalar(text("SELECT mkmed.find_drug(:name)"), {"name": name}) is not None:
                rows = connection.execute(text("SELECT * FROM mkmed.similar_drugs(:name, 8)"), {"name": name})
                findings.neighbours[name] = [dict(row) for row in rows.mappings()]
    findings.embedding["config"] = _json(folder / "config.json")
    findings.evaluation = _json(folder / "evaluation.json")
    findings.places = (_json(folder / "map.json") or {}).get("places", [])
    findings.epochs["embedding"] = read_metrics(folder)
    findings.ablation = _json(settings.runs / "ablation" / "ablation.json")
    for name, path in {
        "curves": folder / "curves.svg",
        "map": folder / "map.svg",
        "ablation": settings.runs / "ablation" / "ablation.svg",
    }.items():
        if path.is_file():
            findings.pictures[name] = path.read_text(encoding="utf-8")


def _recommenders(settings: Settings, findings: Findings) -> None:
    from recsys.experiments.run_folders import read_metrics as read_epochs
    from recsys.experiments.run_folders import runs_folder

    folders = sorted((p.parent for p in runs_folder(settings).glob("*/report.json")), key=lambda p: p.stat().st_mtime)
    if not folders:
        return
    latest = _json(folders[-1] / "config.json") or {}
    groups: dict[tuple[str, ...], dict[tuple[str, Any], dict[str, Any]]] = {}
    for folder in folders:
        config, report = _json(folder / "config.json") or {}, _json(folder / "report.json") or {}
        name = config["recommender"] + (f" ({config['mode']})" if config["recommender"] == "mkmed" else "")
        row = {**report, "recommender": name, "run": folder.name, "seed": config.get("seed")}
        own = groups.setdefault(_comparable(config, report), {})
        own[name, config.get("seed")] = row  # the newest run of a recommender and seed
        curves = folder / "curves.svg"
        if config["recommender"] == "mkmed" and config["cohort"] == latest["cohort"] and curves.is_file():
            findings.pictures["recommender curves"] = curves.read_text(encoding="utf-8")
            findings.epochs["recommender"] = read_epochs(folder)
    first = _comparable(latest, _json(folders[-1] / "report.json") or {})
    findings.recommenders = mean_seeds(list(groups.pop(first).values()))
    findings.others = [{"cohort": key[0], "task": key[1], "split": key[2], "rows": mean_seeds(list(rows.values()))}
                       for key, rows in sorted(groups.items())]
    described = _json(settings.home / "cohorts" / str(latest.get("cohort")) / "cohort.json") or {}
    findings.cohort = {name: latest.get(name) for name in ("cohort", "task", "split", "seed")}
    findings.cohort["format"] = described.get("provenance", {}).get("format")


def _comparable(config: dict[str, Any], report: dict[str, Any]) -> tuple[str, ...]:
    """What two runs must share to stand in one table: cohort with its fingerprint, task, split, target and metrics."""
    target = report.get("ddi", {}).get("target", "")
    return (str(config.get("cohort")), str(config.get("task")), str(config.get("split")), str(report.get("cohort", "")),
            str(target))


def mean_seeds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a recommender, the best first: means over its seeds, and over several the 95 % interval of the mean.

    The interval over n seeds is Student's t with n − 1 degrees of freedom; of a single seed it stays that of the
    bootstrap over patients.
    """
    named: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        named.setdefault(row["recommender"], []).append(row)
    means = []
    for runs in named.values():
        shown = {**runs[-1], "seeds": sorted(run["seed"] for run in runs)}
        if len(runs) > 1:
            metrics = {name: [run["per_visit"].get(name) for run in runs] for name in runs[-1]["per_visit"]}
            shown["per_visit"] = {name: sum(values) / len(values) if all(isinstance(v, int | float) for v in values)
                                  else values[-1] for name, values in metrics.items()}
            shown["intervals"] = {**shown["intervals"], "jaccard": _of_mean(metrics["jaccard"])}
        means.append(shown)
    return sorted(means, key=lambda row: -row["per_visit"]["jaccard"])


def _of_mean(values: list[float]) -> list[float]:
    """The 95 % interval of the mean of several values."""
    from scipy.stats import t

    found = np.asarray(values, float)
    half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return [float(found.mean()) - half, float(found.mean()) + half]


KEPT = "recommendation.json"
"""What release 0.1.0 kept of the last patient shown, in the home."""


def forget_kept(settings: Settings) -> None:
    """Remove what an earlier release kept of a patient, and say so."""
    path = settings.home / KEPT
    if path.is_file() or path.is_symlink():
        path.unlink()
        say(f"{path} held a patient shown before, and is removed: a page shows only the patient given with --visit")


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
