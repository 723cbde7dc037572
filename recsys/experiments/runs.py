"""A training run from a prepared cohort to a report, and the run folders on disk.

``<home>/runs/recsys/<run-id>/``: config.json, metrics.jsonl, last.pt, best.pt, env.json, report.json, curves.svg, and
lock while it is trained. A folder is its owner's alone and holds weights, aggregates and vocabularies of codes that at
least ``least_patients`` training patients have; what is told of each patient lies in the cohort's folder.
"""

from __future__ import annotations

import json
import logging
import platform
import resource
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embed.runs.folder import pretrain_folder
from kb import log as logfile
from kb.errors import ConfigError, DataError
from kb.files import hold, replace_file
from kb.ledger.entries import finish_run, program_version, reopen_run, start_run
from kb.output import plain
from kb.settings import Settings
from recsys.cohorts.batches import Histories, Sizes, histories, input_vocabularies
from recsys.cohorts.cohort import Cohort, Encoded, Split, encode, shown
from recsys.cohorts.files import load_cohort
from recsys.cohorts.tasks import TASKS, split_cohort
from recsys.experiments.bootstrap import PatientSums
from recsys.experiments.checkpoint import Trained, save_recommender
from recsys.experiments.config import RUN, Config, settled
from recsys.experiments.drift import fit_drift
from recsys.experiments.evaluate import Choices, Evaluation, choose_rule, evaluate
from recsys.experiments.modes import ModeChoice, choose_mode
from recsys.experiments.predictions import predictions_path, write_predictions
from recsys.experiments.run_folders import (
    find_folder,
    forget_unsaved_epochs,
    private_files,
    read_metrics,
    read_run_config,
    runs_folder,
    write_label,
    write_sums,
)
from recsys.experiments.signatures import attention_entropy, signatures
from recsys.knowledge.table import Knowledge, with_random_vectors, with_shuffled_medications
from recsys.orders.ordered import ordered_interactions, shares
from recsys.recommenders.contract import Log, Recommender
from recsys.registry import recommender_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

LOGGER = logging.getLogger(__name__)
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
    orders: bytes | None = None
    """The map from orders to the medications (``recsys.orders.stored``)."""

    @property
    def sizes(self) -> Sizes:
        """The sizes of the vocabularies."""
        return self.train.sizes


def load_data(config: Config, settings: Settings, engine: Engine | None, orders: bytes | None = None) -> Data:
    """The cohort that the configuration names: split, on training vocabularies, with the medications' knowledge.

    A synthetic cohort with ``vectors=learned`` needs no database; every other combination reads it. ``orders`` is the
    map from orders to the cohort's medications where it was read before.
    """
    cohort = load_cohort(config.cohort, settings)
    config = settled(config, cohort)
    encoded = encoded_for(config, cohort, split_cohort(cohort, config.split, config.seed))
    if not encoded.vocabularies["medication"].codes:
        raise DataError(f"no medication of cohort {config.cohort!r} was given to {config.least_patients} of its "
                        f"{len(encoded.split.train)} training patients",
                        hint="take a larger extract; --set least_patients=1 only for data that anybody may see")
    task = TASKS[config.task]
    parts = {side: histories(encoded, side, task) for side in ("train", "validation", "test")}
    return Data(encoded, **parts, knowledge=knowledge_for(config, cohort, encoded, engine, settings),
                orders=orders or _orders(cohort, engine))


def _orders(cohort: Cohort, engine: Engine | None) -> bytes | None:
    """The map from orders to the cohort's medications, for answers; None without a knowledge base."""
    from recsys.orders.medications import read_map
    from recsys.orders.own_map import OwnMap
    from recsys.orders.stored import pack

    if engine is None:
        return None
    made = cohort.provenance
    with engine.connect() as connection:
        return pack(read_map(connection, str(made.get("level", "3")), protocol=str(made.get("protocol", "one")),
                             own_map=OwnMap(dict(made.get("own_map") or {})),
                             keep_vehicles=bool(made.get("keep_vehicles"))))


def encoded_for(config: Config, cohort: Cohort, split: Split) -> Encoded:
    """The cohort on the vocabularies that the recommender can use: one that reads titles knows codes it never saw."""
    least = 1 if cohort.provenance.get("format") == "synthetic" else config.least_patients
    if recommender_of(config).needs_evidence and config.titles != "off":
        return encode(cohort, split, least=least, unseen=("diagnosis", "procedure"))
    return encode(cohort, split, top={"diagnosis": TOP_DIAGNOSES}, least=least)


def knowledge_for(config: Config, cohort: Cohort, encoded: Encoded, engine: Engine | None,
                  settings: Settings, *, never_given: Sequence[str] = ()) -> Knowledge:
    """What the configuration's arm may know of the medications and, where it reads titles, of the codes.

    Of the medications ``never_given`` it does not say which ingredients their orders had.
    """
    from recsys.knowledge.gather import bundled_knowledge, read_knowledge

    codes = encoded.vocabularies["medication"].codes
    synthetic = cohort.provenance.get("format") == "synthetic"
    inputs = input_vocabularies(encoded, TASKS[config.task])
    evidence = [*inputs["diagnosis"], *inputs["procedure"]]
    if not recommender_of(config).needs_evidence or config.titles == "off":
        evidence = []
    if synthetic and (engine is None or config.vectors == "learned"):
        if config.vectors == "published" or config.vectors.startswith(RUN):
            raise ConfigError("published vectors need the database", hint="--set vectors=learned trains without")
        return bundled_knowledge(codes)
    if engine is None:
        raise ConfigError("this cohort's interactions lie in the database", hint="mkmed db start")
    ordered = shares(cohort, encoded.visits_of("train"), config.least_patients)
    known = {code: members for code, members in ordered.items() if code not in never_given}
    wanted = config.vectors != "learned" and recommender_of(config).reads_vectors
    knowledge = read_knowledge(engine, codes, vectors=wanted, runs=pretrain_folder(settings),
                               encoder=config.encoder, codes=evidence, cache=settings.cache / "features", shares=known,
                               run=config.vectors.removeprefix(RUN) if config.vectors.startswith(RUN) else "")
    if synthetic and codes[0].startswith("ATC:"):  # its generator was calibrated on the bundled matrix
        knowledge = replace(knowledge, interactions=bundled_knowledge(codes).interactions)
    return controlled(knowledge, config)


def controlled(knowledge: Knowledge, config: Config) -> Knowledge:
    """The knowledge that the configuration's arm may see: all, random or shuffled vectors, shuffled titles."""
    if config.vectors == "random":
        knowledge = with_random_vectors(knowledge, config.seed)
    elif config.vectors == "shuffled":
        knowledge = with_shuffled_medications(knowledge, config.seed)
    if knowledge.evidence is not None and config.titles == "shuffled":
        knowledge = replace(knowledge, evidence=knowledge.evidence.shuffled_titles(config.seed))
    return knowledge


@dataclass(frozen=True)
class FittedRecommender:
    """A trained recommender with its choices, and how long it took."""

    recommender: Recommender
    choices: Choices
    rows: list[dict[str, Any]]
    cpu_seconds: float


def fit_recommender(config: Config, data: Data, *, log: Log | None = None, folder: Path | None = None,
        resume: bool = False) -> FittedRecommender:
    """The recommender that the configuration names, trained, with its choices on the validation patients."""
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        entropy = attention_entropy(model)
        rows.append(row if entropy is None else {**row, "attention_entropy": entropy})
        if log is not None:
            log(rows[-1])

    begun = time.process_time()
    config = fitted_batch(settled(config, data.encoded.cohort), data.train.patients)
    model = recommender_of(config)(data.sizes, data.knowledge, config)
    model.fit(data.train, data.validation, log=note, folder=folder, resume=resume)
    spent = time.process_time() - begun
    return FittedRecommender(model, choose_rule(model, data.validation), rows, spent)


def fitted_batch(config: Config, patients: int) -> Config:
    """The configuration with batches small enough for ``least_steps`` steps an epoch, of 8 patients at least."""
    return replace(config, batch=max(min(config.batch, patients // config.least_steps), min(config.batch, 8)))


@dataclass(frozen=True)
class Run:
    """A finished run."""

    run_id: str
    folder: Path
    report: dict[str, Any]


def train_run(config: Config, settings: Settings, engine: Engine | None = None, *, log: Log | None = None,
              resume: str | None = None, name: str = "", tags: Sequence[str] = ()) -> Run:
    """Train, evaluate on the test patients and store a run; with ``resume`` go on with the run of that id.

    ``name`` and ``tags`` are the user's own words for it, by which listings show and find it.
    Raises Busy, naming the holder, where another process trains the same run.
    """
    with private_files():
        if resume:
            folder = find_folder(settings, resume)
            config = read_run_config(settings, resume)
        else:
            folder = runs_folder(settings) / str(uuid.uuid4())
            folder.mkdir(parents=True)
        with hold(folder / "lock", f"run {folder.name}"):
            if not resume:
                (folder / "config.json").write_text(json.dumps(config.as_json(), indent=1))
            if name or tags:
                write_label(folder, name, tags)
            return _recorded(config, settings, engine, folder, log, resume=bool(resume))


def _recorded(config: Config, settings: Settings, engine: Engine | None, folder: Path, log: Log | None, *,
              resume: bool) -> Run:
    """The run of a folder, with its beginning and end told in the database where there is one."""
    run_id = uuid.UUID(folder.name)
    logfile.in_run(run_id)
    if engine is not None:
        with engine.begin() as connection:
            if not (resume and reopen_run(connection, run_id)):
                start_run(connection, "recsys", name=config.recommender, config=config.as_json(), run_id=run_id)
    try:
        report = _run(config, settings, engine, folder, log, resume=resume)
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


def _ordered(data: Data) -> dict[str, Any]:
    """The listed pairs of drugs that the scored test visits had, beside what the class matrix flags on them."""
    cohort, knowledge = data.encoded.cohort, data.knowledge
    visits = data.encoded.visits_of("test")[data.test.scored]
    found = ordered_interactions(cohort, visits, knowledge.drug_interactions, knowledge.interactions.matrix,
                                 knowledge.medications)
    counts = {name: shown(count) for name, count in asdict(found).items() if isinstance(count, int)}
    return {**counts, "by_severity": {grade: shown(count) for grade, count in found.by_severity.items()},
            "rate": found.rate}


Fits = dict[str, tuple[Data, FittedRecommender]]
"""By mode, what was fitted to choose one, and the data it was fitted on."""


def with_mode(config: Config, settings: Settings, engine: Engine | None) -> tuple[ModeChoice, Fits]:
    """The configuration with a mode: where ``auto`` leaves it open, after fitting each on the cohort."""
    fits: Fits = {}

    def validate(own: Config) -> PatientSums:
        orders = next((data.orders for data, _ in fits.values()), None)
        data = load_data(own, settings, engine, orders)
        fitted = fit_recommender(own, data)
        fits[own.mode] = data, fitted
        return evaluate(fitted.recommender, data.train, data.validation, fitted.choices).sums

    return choose_mode(config, load_cohort(config.cohort, settings), validate), fits


def _chosen(config: Config, settings: Settings, engine: Engine | None, folder: Path,
            ) -> tuple[Config, dict[str, Any], tuple[Data, FittedRecommender] | None]:
    """The configuration with its mode, kept in the folder; what was asked for and how it was chosen; and the fit.

    A run that is resumed has chosen already, and a mode that was not in question is not fitted yet.
    """
    kept, fits = folder / "choice.json", Fits()
    if not kept.exists():
        asked = config.as_json()
        choice, fits = with_mode(config, settings, engine)
        config = choice.config
        replace_file(kept, json.dumps(plain({"asked": asked, "choice": choice.validation}), indent=1).encode())
    (folder / "config.json").write_text(json.dumps(config.as_json(), indent=1))
    return config, json.loads(kept.read_text()), fits.get(config.mode)


def _run(config: Config, settings: Settings, engine: Engine | None, folder: Path, log: Log | None, *,
         resume: bool) -> dict[str, Any]:
    (folder / "env.json").write_text(json.dumps(environment(), indent=1))
    config, asked, found = _chosen(config, settings, engine, folder)
    data = found[0] if found else load_data(config, settings, engine)
    if resume:
        forget_unsaved_epochs(folder)
    with (folder / "metrics.jsonl").open("a" if resume else "w") as stream:

        def note(row: dict[str, Any]) -> None:
            stream.write(json.dumps(plain(row)) + "\n")
            stream.flush()
            LOGGER.info("epoch", extra={"fields": row})
            if log is not None:
                log(row)

        if found is None:
            fitted = fit_recommender(config, data, log=note, folder=folder, resume=resume)
        else:
            fitted = found[1]
            for row in fitted.rows:
                note(row)
    result = evaluate(fitted.recommender, data.train, data.test, fitted.choices, subgroups=subgroups(data.encoded))
    rows = read_metrics(folder)
    report = {**result.report, "recommender": config.recommender, "mode": config.mode, "run": folder.name,
              "config": config.as_json(), **asked, "cohort": str(data.encoded.cohort.fingerprint),
              "split": data.encoded.split.rule, "rare": data.encoded.rare,
              "unknown": {kind: shown(count) for kind, count in data.encoded.unknown_of("test").items()},
              "vectors": data.knowledge.vectors_run, "learned_vectors": _learned(config, data.knowledge),
              "fit_cpu_seconds": fitted.cpu_seconds, "peak_rss_mb": peak_rss_mb(),
              "ordered": _ordered(data),
              "signatures": signatures(rows, result.report, fitted.recommender)}
    _store(settings, folder, config, data, fitted, result, report)
    return report


SUBGROUPS = ("sex", "age", "race", "ethnicity", "admission_type", "visit_type")
"""The attributes by whose levels an evaluation is told apart."""


def subgroups(encoded: Encoded, side: str = "test") -> dict[str, np.ndarray]:
    """bool[N] masks of the visits of one side by attribute and level, as ``sex: female``."""
    rows = encoded.visits_of(side)
    return {f"{name}: {level}": attribute.values[rows] == place for name in SUBGROUPS
            if (attribute := encoded.cohort.attributes.get(name)) for place, level in enumerate(attribute.levels)}


def _store(settings: Settings, folder: Path, config: Config, data: Data, fitted: FittedRecommender, result: Evaluation,
           report: Mapping[str, Any]) -> None:
    scored = data.train.scored
    meta = {"run": folder.name, "cohort": report["cohort"], "task": config.task,
            "frequency": [round(float(f), 6) for f in data.train.frequency / max(int(scored.sum()), 1)],
            "free": list(fitted.choices.free), "sets": [list(one) for one in fitted.choices.sets],
            "per_visit": report["per_visit"]}
    inputs = input_vocabularies(data.encoded, TASKS[config.task])
    vocabularies = fitted.recommender.forget_unseen_codes(inputs)
    drift = fit_drift(data.train, data.validation, {kind: np.isin(codes, vocabularies[kind])
                                                    for kind, codes in inputs.items()})
    if drift is not None:
        meta["drift"] = drift.as_json()
    if data.knowledge.evidence is not None and data.knowledge.evidence.indications is not None:
        kept = data.knowledge.evidence.indications.among(vocabularies["diagnosis"], data.knowledge.medications)
        meta["indications"] = kept.as_json()
    save_recommender(folder / "best.pt", Trained(fitted.recommender, vocabularies, fitted.choices.safe,
                                                 fitted.choices.platt, meta, data.orders))
    write_sums(settings, folder, result.sums)
    write_predictions(predictions_path(settings, config.cohort, folder.name), data.knowledge.medications,
                      data.encoded.visits_of("test"), data.test, result.probability, result.chosen)
    (folder / "report.json").write_text(json.dumps(plain(report), indent=1))
    from recsys.experiments.curves import draw_epochs

    draw_epochs(read_metrics(folder), folder / "curves.svg")


def plan_run(config: Config, settings: Settings, engine: Engine | None) -> dict[str, Any]:
    """What a run would do: sizes, steps and parameters, with everything loaded and nothing trained."""
    data = load_data(config, settings, engine)
    config = fitted_batch(settled(config, data.encoded.cohort), data.train.patients)
    model = recommender_of(config)(data.sizes, data.knowledge, config)
    network = getattr(model, "network", None)
    return {"recommender": config.recommender, "cohort": str(data.encoded.cohort.fingerprint),
            "train": f"{data.train.patients} patients, {data.train.visits} visits",
            "validation": data.validation.patients, "test": data.test.patients,
            "steps": -(-data.train.patients // config.batch) * config.epochs if network is not None else 0,
            "parameters": sum(p.numel() for p in network.parameters()) if network is not None else None,
            "left_out_as_rare": data.encoded.rare,
            "vectors": data.knowledge.vectors_run, "learned_vectors": _learned(config, data.knowledge)}


def _learned(config: Config, knowledge: Knowledge) -> int:
    """How many medications have a vector of the recommender's own making for want of a published one."""
    return int((~knowledge.known).sum()) if recommender_of(config).reads_vectors else 0


def environment() -> dict[str, Any]:
    """What a run ran on."""
    return {"mkmed": program_version(), "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__, "platform": platform.platform(), "threads": 1}


def peak_rss_mb() -> float:
    """The largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
