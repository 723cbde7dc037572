"""The literature's comparison in one command: every recommender on one cohort, over several seeds, as one table.

What is trained already, with the same settings on the same cohort and vectors, is not trained again: a comparison that
was stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kb.errors import NotFound
from kb.settings import Settings
from recsys.cohorts.files import list_cohorts, load_cohort
from recsys.experiments.bootstrap import paired_difference, together
from recsys.experiments.config import Config, load_recommender_config
from recsys.experiments.run_folders import find_finished, read_sums

if TYPE_CHECKING:
    from sqlalchemy import Engine

ARMS: dict[str, tuple[str, ...]] = {
    **{name: (f"recommender={name}",) for name in
       ("popularity", "repeat_last", "logistic", "logistic_history", "retain", "gamenet", "safedrug", "molerec",
        "micron")},
    "mkmed reference": ("recommender=mkmed", "mode=reference"),
    "mkmed": ("recommender=mkmed",),
}
"""What is compared, each with its own default settings; the last is what the others are compared with."""
OURS = "mkmed"
PUBLISHED = {"mkmed reference": 0.5526, "molerec": 0.5293, "micron": 0.5219, "safedrug": 0.5154, "gamenet": 0.4994,
             "logistic": 0.4924}
"""Jaccard on MIMIC-III as printed by MKMed (arXiv 2504.18096) for itself and by CausalMed (CIKM 2024) for others."""
TITLE = "means over test patients, ten draws of 80 % of them as in the papers; intervals are of a paired bootstrap"
SHOWN = ("jaccard", "f1", "prauc", "ddi_rate", "medications")


@dataclass(frozen=True)
class Wanted:
    """One training of the comparison."""

    arm: str
    config: Config


def comparison(cohort: str, seeds: int, arms: Sequence[str] = tuple(ARMS), assignments: Sequence[str] = ()
               ) -> list[Wanted]:
    """The trainings that a comparison needs, seed after seed; ``assignments`` are ``key=value`` for all of them.

    The split is the public code's, in file order, unless they say otherwise. Raises NotFound for an unknown arm.
    """
    unknown = sorted(set(arms) - set(ARMS))
    if unknown:
        raise NotFound(f"there is no {unknown[0]!r} in the comparison", hint=f"known: {', '.join(ARMS)}")
    return [Wanted(arm, load_recommender_config(None, [*ARMS[arm], f"cohort={cohort}", "split=reference", *assignments,
                                           f"seed={seed}"]))
            for seed in range(seeds) for arm in ARMS if arm in arms]


def fill_knowledge(engine: Engine, settings: Settings, say: Callable[[str], None]) -> bool:
    """Whether the bundled corpus had to be ingested and embedded first, as nothing was published yet."""
    from embed.config import load_config as load_pretrain_config
    from embed.runs.store import published_run
    from embed.training.job import pretrain
    from kb.ingest.engine import ingest
    from kb.sources.contract import IngestOptions

    try:
        published_run(engine)
    except NotFound:
        say("no vectors are published yet: ingesting the bundled corpus and pretraining on it, some minutes")
        ingest(engine, settings, "corpus", IngestOptions())
        ingest(engine, settings, "rdkit", IngestOptions(modalities=("property", "image")))
        pretrain(engine, settings, load_pretrain_config())
        return True
    return False


def prepare_missing(engine: Engine, settings: Settings, *, name: str, **export: Any) -> None:
    """Prepare the cohort unless one of that name is there; ``export`` is what recsys.cohorts.prepare.prepare takes."""
    from recsys.cohorts.prepare import prepare

    if name not in list_cohorts(settings):
        with engine.connect() as connection:
            prepare(name=name, connection=connection, settings=settings, **export)


def finished(settings: Settings, engine: Engine | None, wanted: Wanted) -> Path | None:
    """The newest finished run with these settings on the cohort and vectors as they are now."""
    from embed.runs.store import published_run

    vectors = str(published_run(engine)) if engine is not None and wanted.config.vectors == "published" else None
    cohort = load_cohort(wanted.config.cohort, settings)
    return find_finished(settings, wanted.config, str(cohort.fingerprint), vectors)


def train_missing(settings: Settings, engine: Engine | None, wanted: Sequence[Wanted], jobs: int = 1
                  ) -> Iterator[Wanted]:
    """Train what is not there yet, in ``jobs`` processes of one thread each; yields each training as it is done."""
    missing = [item for item in wanted if finished(settings, engine, item) is None]
    if jobs == 1 or len(missing) < 2:
        for item in missing:
            _train(item.config, settings, engine)
            yield item
        return
    with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_train_alone, item.config, settings, engine is not None): item for item in missing}
        for done in as_completed(running):
            done.result()
            yield running[done]


def _train(config: Config, settings: Settings, engine: Engine | None) -> None:
    from recsys.experiments.runs import train_run

    train_run(config, settings, engine)


def _train_alone(config: Config, settings: Settings, database: bool) -> None:
    """Train in a process of its own, over a connection of its own."""
    from kb.db.engine import open_engine

    _train(config, settings, open_engine(settings) if database else None)


def comparison_rows(settings: Settings, engine: Engine | None, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """One row an arm: means over patients as papers print them, spreads, and ours minus it with a paired interval."""
    folders: dict[str, list[Path]] = {}
    for item in wanted:
        folder = finished(settings, engine, item)
        if folder is not None:
            folders.setdefault(item.arm, []).append(folder)
    cohort = load_cohort(wanted[0].config.cohort, settings)
    published = cohort.provenance.get("format") == "mimic3" and cohort.patients > 1000  # not the open demo's hundred
    return [_row(settings, arm, found, folders.get(OURS, []), PUBLISHED.get(arm) if published else None)
            for arm, found in folders.items()]


def _row(settings: Settings, arm: str, found: Sequence[Path], ours: Sequence[Path],
         published: float | None) -> dict[str, Any]:
    reports: list[Mapping[str, Any]] = [json.loads((folder / "report.json").read_text()) for folder in found]
    means = {name: [report["literature"][name][0] for report in reports] for name in SHOWN}
    row: dict[str, Any] = {"recommender": arm, "seeds": len(found)}
    row |= {name: float(np.mean(values)) for name, values in means.items()}
    row["± 10 draws"] = float(np.mean([report["literature"]["jaccard"][1] for report in reports]))
    row["± seeds"] = float(np.std(means["jaccard"]))
    row[f"{OURS} − it"] = None
    if arm != OURS and len(ours) == len(found):
        gap = paired_difference(*(together([read_sums(settings, folder) for folder in part]) for part in (ours, found)),
                     by="patient")["jaccard"]
        row[f"{OURS} − it"] = f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
    row["printed, unchecked"] = published
    return row
