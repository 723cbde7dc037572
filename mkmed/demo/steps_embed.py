"""The demo's embedding: pretraining, publishing, neighbours, evaluation beside baselines, and the map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb import output
from mkmed.demo.step import FULL, Demo, Extent, Stage

if TYPE_CHECKING:
    from embed.config import PretrainConfig

ASKED = ("metformin", "warfarin", "insulin human")
"""A small molecule, one with many interactions, and a biologic that has no structure."""
COMPUTED = "features"
"""The point in the pretraining at which all features are there, which an ablation reads too."""
SHOWN = ("name", "similarity", "rests_on", "atc_codes")


def pretrain_config(scale: Extent) -> PretrainConfig:
    """The embedding's configuration: the defaults, on the CPU, with the scale's changes."""
    from embed.config import load_config

    return load_config(None, ["device=cpu", *scale.pretrain])


def published_folder(demo: Demo) -> Path | None:
    """The folder of the published run, or None."""
    from embed.runs.found import find_run_folder
    from kb.errors import NotFound

    try:
        return find_run_folder(demo.engine, demo.settings, "published")
    except NotFound:
        return None


def _accepted(demo: Demo) -> list[dict[str, Any]]:
    """Configurations that will do: the scale's own, and for the quick demo also the full one."""
    from embed.config import to_json

    return [to_json(pretrain_config(scale)) for scale in {demo.scale.name: demo.scale, FULL.name: FULL}.values()
            if scale is demo.scale or demo.scale is not FULL]


def _pretrained(demo: Demo) -> str | None:
    """A run with an accepted configuration is published, and no drug came after it."""
    folder = published_folder(demo)
    from embed.runs.artefact import is_run

    if folder is None or not is_run(folder):
        return None
    if json.loads((folder / "config.json").read_text()) not in _accepted(demo):
        return None
    return None if _newer_drugs(demo, folder.name) else f"run {folder.name[:8]} is published"


def _newer_drugs(demo: Demo, run_id: str) -> bool:
    from sqlalchemy import text

    query = text("SELECT EXISTS (SELECT FROM mkmed.run i, mkmed.run p WHERE p.id = CAST(:run AS uuid)"
                 " AND i.stage = 'ingest' AND i.started_at > p.started_at AND (i.counts->>'rows')::bigint > 0)")
    with demo.engine.connect() as connection:
        return bool(connection.scalar(query, {"run": run_id}))


def _unfinished(demo: Demo) -> str | None:
    """The latest run with the wanted configuration that was stopped after an epoch, to go on with."""
    from embed.config import to_json
    from embed.runs.folder import pretrain_folder
    from kb.ledger.entries import list_runs

    with demo.engine.connect() as connection:
        rows = list_runs(connection, "pretrain", 1)
    if not rows or rows[0]["status"] not in ("interrupted", "dead"):
        return None
    folder = pretrain_folder(demo.settings) / str(rows[0]["id"])
    same = rows[0]["config"] == to_json(pretrain_config(demo.scale))
    return folder.name if same and (folder / "last.pt").is_file() else None


def _pretrain(demo: Demo) -> None:
    from embed.training.job import pretrain

    resume, config = _unfinished(demo), pretrain_config(demo.scale)
    if resume:
        output.say(f"      going on with run {resume[:8]}, which was stopped")
    with output.progress() as bar:
        task = bar.add_task("pretrain", total=config.train.epochs, note="")

        def tell(row: dict[str, Any]) -> None:
            bar.update(task, advance=1, note=f"recall@10 {row['recall@10']:.3f}")
            demo.reached(COMPUTED)

        done = pretrain(demo.engine, demo.settings, config, resume=resume, name=f"demo, {demo.scale.name}",
                        on_epoch=tell)
    output.say(f"      {done.epochs} epochs, validation score {done.metrics['score']:.3f}; run {done.run_id} published")


def _neighbours(demo: Demo) -> None:
    from embed.search import neighbours

    for drug in ASKED:
        output.emit(neighbours(demo.engine, drug, 6), columns=SHOWN, title=f"most like {drug}")
    output.say("      the same in SQL: SELECT * FROM mkmed.similar_drugs('metformin', 6);")


def _evaluated(demo: Demo) -> str | None:
    folder = published_folder(demo)
    return "evaluated already" if folder and (folder / "evaluation.json").is_file() else None


def _evaluate(demo: Demo) -> None:
    from embed.evaluation.run import evaluate_run
    from embed.runs.found import load_run

    evaluate_run(load_run(demo.engine, demo.settings))


def _show_evaluation(demo: Demo) -> None:
    folder = published_folder(demo)
    report = json.loads((folder / "evaluation.json").read_text()) if folder else {}
    output.emit(report["retrieval"], title="retrieval between modalities, held-out drugs",
                columns=("from", "to", "drugs", "recall@10", "chance@10", "untrained recall@10", "mrr"))
    output.emit(report["classes"], title="is the nearest neighbour of the same ATC class?",
                columns=("vectors", "drugs", "queries", "level_1", "level_2", "level_3"))


def _mapped(demo: Demo) -> str | None:
    folder = published_folder(demo)
    drawn = folder and (folder / "map.svg").is_file() and (folder / "map.json").is_file()
    return "drawn already" if drawn else None


def _map(demo: Demo) -> None:
    from embed.atlas import draw_map
    from embed.runs.found import find_run_folder

    folder = find_run_folder(demo.engine, demo.settings, "published")
    draw_map(demo.engine, folder / "map.svg", coded_only=True, places=folder / "map.json")


def _ablated(demo: Demo) -> str | None:
    """An ablation that was made since the published run began, or a scale without one."""
    if not demo.scale.ablation:
        return f"not part of the {demo.scale.name} demo"
    folder, table = published_folder(demo), demo.settings.runs / "ablation" / "ablation.json"
    fresh = folder and table.is_file() and table.stat().st_mtime > (folder / "config.json").stat().st_mtime
    return "trained already" if fresh else None


def _ablate(demo: Demo) -> None:
    from embed.config import load_config
    from embed.evaluation.ablation import ablate
    from embed.evaluation.columns import PLAIN

    config = load_config(None, ["device=cpu", *demo.scale.pretrain, *demo.scale.ablation])
    ablate(demo.engine, demo.settings, config, seeds=(0,), subsets="ends", columns=(PLAIN,))


def _show_ablation(demo: Demo) -> None:
    from embed.evaluation.ablation import readable_rows

    if not demo.scale.ablation:
        return
    report = json.loads((demo.settings.runs / "ablation" / "ablation.json").read_text())
    title = "one modality and all of them, and all drugs against those that have everything"
    output.emit(readable_rows(report["rows"]), title=title)
    output.say("      short trainings and one seed; the five seeds of docs/results.md: mkmed embed ablate --seeds 5")


STEPS = (
    Stage("pretraining", "mkmed embed pretrain", _pretrain, _pretrained),
    Stage("neighbours", "mkmed embed neighbours metformin", _neighbours),
    Stage("evaluation on held-out drugs", "mkmed embed evaluate", _evaluate, _evaluated, _show_evaluation),
    Stage("map", "mkmed embed map", _map, _mapped),
)
ABLATION = Stage("ablation", "mkmed embed ablate --seeds 1 --subsets ends --columns plain --set train.epochs=2",
                 _ablate, _ablated, _show_ablation, after=COMPUTED)
