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

from sqlalchemy import Engine, text

from embed.runs import store
from kb.errors import NotFound
from kb.ingest.runs import program_version
from kb.ledger.coverage import Bucket, bucket_rows, buckets
from kb.output import say
from kb.query.show import sources
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
    recommenders: list[dict[str, Any]] = field(default_factory=list)
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
        findings.embedding = next(r for r in store.list_runs(connection) if r["run_id"] == run_id)
        for name in NEIGHBOURS_OF:
            if connection.scalar(text("SELECT mkmed.find_drug(:name)"), {"name": name}) is not None:
                rows = connection.execute(text("SELECT * FROM mkmed.similar_drugs(:name, 8)"), {"name": name})
                findings.neighbours[name] = [dict(row) for row in rows.mappings()]
    findings.embedding["config"] = _json(folder / "config.json")
    findings.evaluation = _json(folder / "evaluation.json")
    findings.ablation = _json(settings.runs / "ablation" / "ablation.json")
    for name, path in {
        "curves": folder / "curves.svg",
        "map": folder / "map.svg",
        "ablation": settings.runs / "ablation" / "ablation.svg",
    }.items():
        if path.is_file():
            findings.pictures[name] = path.read_text(encoding="utf-8")


def _recommenders(settings: Settings, findings: Findings) -> None:
    from recsys.experiments.run_folders import runs_folder

    folders = sorted((p.parent for p in runs_folder(settings).glob("*/report.json")), key=lambda p: p.stat().st_mtime)
    if not folders:
        return
    latest = _json(folders[-1] / "config.json") or {}
    shown: dict[str, dict[str, Any]] = {}
    for folder in folders:
        config, report = _json(folder / "config.json") or {}, _json(folder / "report.json") or {}
        if config.get("cohort") != latest.get("cohort"):
            continue
        name = config["recommender"] + (f" ({config['mode']})" if config["recommender"] == "mkmed" else "")
        shown[name] = {**report, "recommender": name, "run": folder.name, "seed": config.get("seed")}
        curves = folder / "curves.svg"
        if config["recommender"] == "mkmed" and curves.is_file():
            findings.pictures["recommender curves"] = curves.read_text(encoding="utf-8")
    findings.recommenders = sorted(shown.values(), key=lambda row: -row["per_visit"]["jaccard"])
    described = _json(settings.home / "cohorts" / str(latest.get("cohort")) / "cohort.json") or {}
    findings.cohort = {name: latest.get(name) for name in ("cohort", "task", "split", "seed")}
    findings.cohort["format"] = described.get("provenance", {}).get("format")


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
