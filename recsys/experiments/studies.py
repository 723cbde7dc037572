"""Where knowledge helps a recommender, as experiments that can fail: learning curves, cold start, another hospital.

Every study compares arms of one model on the same patients: the model without knowledge (``null``), with all of it,
with each drug's knowledge given to another drug (``shuffled``), with each title given to another code, and with an
oracle that has looked at the test patients. Where the oracle does not beat the null, the study cannot show anything,
and says so.

What a job found lies in the cohort's own folder, which is private; only the table leaves it. A job that is done is not
done again, so a study that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, PoolTask
from kb.errors import DataError, UsageError
from kb.output import plain
from kb.pictures import save_figure
from kb.settings import Settings
from recsys.cohorts.batches import Histories, histories
from recsys.cohorts.cohort import KINDS, Cohort, Encoded, Ragged, Split, Vocabulary
from recsys.cohorts.files import cohorts_folder, load_cohort
from recsys.cohorts.tasks import TASKS
from recsys.experiments.bootstrap import NAMES, patient_sums
from recsys.experiments.config import RUN, Config, from_json, settled
from recsys.experiments.crossed import Interval, Tests, difference, gather_units, holm
from recsys.experiments.decode import select
from recsys.experiments.evaluate import choose_rule
from recsys.experiments.metrics import visit_metrics
from recsys.experiments.runs import Data, encoded_for, knowledge_for
from recsys.knowledge.evidence import KINDS as EVIDENCE
from recsys.knowledge.evidence import STATED, CodeEvidence, standardised_table
from recsys.knowledge.gather import refuse_treat_edges
from recsys.knowledge.table import Knowledge, mean_vector, with_shuffled_medications
from recsys.registry import recommender_of

SHOWN = ("jaccard", "prauc")
ORACLE = "oracle"
NULL = "null"
JOB_SECONDS = 24 * 3600.0
TRUTH = "truth.npz"
"""A generator's own links, beside its cohort."""


@dataclass(frozen=True)
class Arm:
    """One way to train: settings on top of the study's, and what is done to the knowledge."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    knowledge: str = ""
    """``oracle``, ``ecfp4``, ``no-evidence``, ``no-process``, ``no-indications``, ``no-treat-edges``, ``neighbours``,
    ``not-hidden``, ``only`` and modalities, or nothing."""


ARMS: tuple[Arm, ...] = (
    Arm(NULL, {"vectors": "learned", "titles": "off"}),
    Arm("all"),
    Arm("shuffled", {"vectors": "shuffled"}),
    Arm("titles shuffled", {"titles": "shuffled"}),
    Arm("titles only", {"vectors": "learned"}),
    Arm(ORACLE, knowledge="oracle"),
    Arm("logistic_history", {"recommender": "logistic_history", "vectors": "learned"}),
)
COLD_ARMS: tuple[Arm, ...] = (
    Arm(NULL, {"vectors": "learned", "titles": "off"}),
    Arm("random", {"vectors": "random"}, "no-evidence"),
    Arm("ecfp4", {}, "ecfp4"),
    Arm("neighbours", {}, "neighbours"),
    Arm("fused", {}, "no-evidence"),
    Arm("evidence", {}, "no-process"),
    Arm("without indications", {}, "no-indications"),
    Arm("all"),
    Arm("shuffled", {"vectors": "shuffled"}),
    Arm("not hidden", {}, "not-hidden"),
    Arm(ORACLE, knowledge="oracle"),
)
"""``null`` is the row of the number of codes: an unseen drug's score hangs on nothing else there but on how much the
other drugs are given. ``not hidden`` is the model trained with the drugs' prescriptions: what can be had at all."""


def without_treat_edges(run: str) -> tuple[Arm, ...]:
    """Two arms with the vectors of an embedding run whose graph lacked treatment edges, and nothing that is stated or
    drawn of what a hidden drug treats; in the second the knowledge of each drug is another's."""
    return (Arm("without treat edges", {"vectors": f"run:{run}"}, "no-treat-edges"),
            Arm("without treat edges, shuffled", {"vectors": f"run:{run}"}, "no-treat-edges shuffled"))


MODALITIES = ("image", "text", "structure", "property", "graph")
ABLATE_ARMS: tuple[Arm, ...] = (
    Arm(NULL, {"vectors": "learned", "titles": "off"}),
    *(Arm(f"{count}: {'+'.join(MODALITIES[:count])}", {}, f"only {' '.join(MODALITIES[:count])}")
      for count in range(1, len(MODALITIES) + 1)),
    *(Arm(f"without {name}", {}, f"only molecule {' '.join(kind for kind in MODALITIES if kind != name)}")
      for name in MODALITIES),
    Arm("molecule alone", {}, "only molecule"),
    Arm("all"),
    Arm("random", {"vectors": "random"}, "no-evidence"),
    Arm("shuffled", {"vectors": "shuffled"}),
    Arm(ORACLE, knowledge="oracle"),
)
"""The numbered arms have no molecule, which is the anchor and no modality; ``all`` and those without one have it."""


@dataclass(frozen=True)
class StudyJob:
    """One model to be trained: an arm at a point of the study under one seed."""

    point: str
    seed: int
    arm: Arm

    @property
    def key(self) -> str:
        """A file name that only this job has."""
        text = json.dumps([self.point, self.seed, asdict(self.arm)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Study:
    """A kind of experiment on one cohort (``other``: the cohort that is tested on)."""

    kind: str
    cohort: str
    points: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    other: str = ""

    def jobs(self) -> Iterator[StudyJob]:
        """Every job, seed by seed."""
        yield from (StudyJob(point, seed, arm) for seed in self.seeds for point in self.points for arm in self.arms)

    def config(self, job: StudyJob) -> Config:
        """The configuration of a job."""
        return from_json({"recommender": "pairs", **self.settings, **job.arm.settings, "cohort": self.cohort,
                          "seed": job.seed})


Found = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Units, sums of each metric, counts."""


def curve_points(patients: int) -> tuple[str, ...]:
    """25, 50, 100, … below ``patients``, and ``all``."""
    sizes, size = [], 25
    while size < patients * 0.8:
        sizes.append(str(size))
        size *= 2
    return (*sizes, "all")


def do(study: Study, job: StudyJob, settings: Settings) -> Found:
    """What one job finds; the kind of the study decides what a unit is and which metrics there are."""
    from kb.db.engine import open_engine

    engine = open_engine(settings)
    try:
        cohort, split = divide(study, job, settings)
        config = settled(study.config(job), cohort)
        if job.arm.knowledge.startswith("no-treat-edges"):
            refuse_treat_edges(engine, config.vectors.removeprefix(RUN))
        encoded = encoded_for(config, cohort, split)
        task = TASKS[config.task]
        parts = {side: histories(encoded, side, task) for side in ("train", "validation", "test")}
        hidden: list[str] = []
        if study.kind == "coldstart":
            names = encoded.vocabularies["medication"].codes
            hidden = [names[m] for m in hidden_medications(parts["train"], parts["test"], job.seed).tolist()]
        knowledge = knowledge_for(config, cohort, encoded, engine, settings, never_given=hidden)
        knowledge = altered(knowledge, job, encoded, hidden, stored_truth(study.cohort, settings))
        data = Data(encoded, **parts, knowledge=knowledge, orders=None)
        return KINDS_OF_STUDY[study.kind](study, job, config, data)
    finally:
        engine.dispose()


def divide(study: Study, job: StudyJob, settings: Settings) -> tuple[Cohort, Split]:
    """The cohort and the split of a job."""
    from recsys.cohorts.tasks import patient_split

    cohort = load_cohort(study.cohort, settings)
    if study.kind != "transfer":
        return cohort, patient_split(cohort, job.seed)
    if study.other:
        return joined_cohorts(cohort, load_cohort(study.other, settings), job.seed)
    return cohort, leave_values_out(cohort, job.point, job.seed)


def joined_cohorts(first: Cohort, second: Cohort, seed: int) -> tuple[Cohort, Split]:
    """Two cohorts as one, trained and validated on the first and tested on the second."""
    codes: dict[str, Ragged] = {}
    vocabularies: dict[str, Vocabulary] = {}
    for kind in KINDS:
        names = sorted({*first.vocabularies[kind].codes, *second.vocabularies[kind].codes})
        number = {name: index for index, name in enumerate(names)}
        rows, values, start = [], [], 0
        for cohort in (first, second):
            new = np.array([number[name] for name in cohort.vocabularies[kind].codes], np.int64)
            rows.append(cohort.codes[kind].rows() + start)
            values.append(new[cohort.codes[kind].values] if len(new) else cohort.codes[kind].values)
            start += cohort.visits
        codes[kind] = Ragged.from_pairs(np.concatenate(rows), np.concatenate(values), start)
        vocabularies[kind] = Vocabulary(tuple(names))
    joined = Cohort(f"{first.name}+{second.name}",
                    np.concatenate((first.visit_patient, second.visit_patient + first.patients)).astype(np.int32),
                    np.concatenate((first.visit_time, second.visit_time)), codes, vocabularies,
                    provenance=dict(first.provenance))
    own = np.random.default_rng(seed).permutation(first.patients).astype(np.int32)
    cut = round(0.8 * first.patients)
    test = np.arange(first.patients, first.patients + second.patients, dtype=np.int32)
    rule = f"train on {first.name}, test on {second.name}"
    return joined, Split(np.sort(own[:cut]), np.sort(own[cut:]), test, rule=rule)


def leave_values_out(cohort: Cohort, attribute: str, seed: int) -> Split:
    """A split that tests on a sixth of the values of an attribute (hospitals) and validates on another sixth."""
    if attribute not in cohort.attributes:
        raise UsageError(f"cohort {cohort.name!r} does not know the {attribute} of a visit",
                         hint=f"it knows: {', '.join(sorted(cohort.attributes)) or 'nothing'}")
    of_patient = cohort.attributes[attribute].values[cohort.patient_indptr[:-1]]
    distinct = np.unique(of_patient[of_patient >= 0])
    if len(distinct) < 6:
        raise UsageError(f"cohort {cohort.name!r} has {len(distinct)} values of {attribute!r}; six are needed")
    order = np.random.default_rng(seed).permutation(distinct)
    share = max(len(distinct) // 6, 1)
    test, validation = (np.isin(of_patient, part) for part in (order[:share], order[share:2 * share]))
    train, held, tried = (np.flatnonzero(side & (of_patient >= 0)).astype(np.int32)
                          for side in (~test & ~validation, validation, test))
    return Split(train, held, tried, rule=f"{attribute} left out")


def altered(knowledge: Knowledge, job: StudyJob, encoded: Encoded, hidden: Sequence[str] = (),
            truth: Truth | None = None) -> Knowledge:
    """The knowledge that an arm may see; ``hidden`` are the medications that nobody is given in training."""
    if job.arm.knowledge == "oracle":
        if knowledge.evidence is None:
            raise DataError("an oracle needs the evidence that it replaces", hint="leave titles=on")
        tables = seen_after(encoded) if truth is None else truth.beside(knowledge.evidence, knowledge.medications)
        return replace(knowledge, evidence=replace(knowledge.evidence, tables=tables))
    if job.arm.knowledge.startswith("no-treat-edges"):  # its vectors are of a run whose graph lacked those edges
        if knowledge.evidence is None:
            raise DataError("there is no evidence to take the indications from", hint="leave titles=on")
        tables = knowledge.evidence.tables.copy()
        said = np.isin(EVIDENCE[:len(tables)], ("treats", "stated"))
        tables[np.ix_(said, np.ones(tables.shape[1], bool), np.isin(knowledge.medications, hidden))] = 0
        left = replace(knowledge, evidence=replace(knowledge.evidence, tables=tables, indications=None))
        return with_shuffled_medications(left, job.seed) if job.arm.knowledge.endswith("shuffled") else left
    if job.arm.knowledge == "no-evidence" and knowledge.evidence is not None:
        return replace(knowledge, evidence=knowledge.evidence.titles_alone())
    if job.arm.knowledge == "no-process":
        return replace(knowledge, known=np.zeros_like(knowledge.known))
    if job.arm.knowledge == "no-indications":  # the graph speaks through the treats table and the fused vectors
        if knowledge.evidence is None or knowledge.modality_vectors is None:
            raise DataError("there is nothing to take indications from", hint="leave titles=on and vectors=published")
        vectors = knowledge.modality_vectors[knowledge.modalities.index("text")]
        text_only = np.isin(EVIDENCE[:len(knowledge.evidence.tables)], "text").astype(np.float32)[:, None, None]
        return replace(knowledge, vectors=vectors, known=np.linalg.norm(vectors, axis=1) > 0,
                       evidence=replace(knowledge.evidence, tables=knowledge.evidence.tables * text_only))
    if job.arm.knowledge.startswith("only "):
        return of_modalities(knowledge, job.arm.knowledge.split()[1:])
    if job.arm.knowledge == "ecfp4":
        from recsys.knowledge.molecules import mean_fingerprints

        vectors, known = mean_fingerprints(knowledge.smiles)
        titles = knowledge.evidence.titles_alone() if knowledge.evidence is not None else None
        return replace(knowledge, vectors=vectors, known=known, evidence=titles)
    return knowledge


def of_modalities(knowledge: Knowledge, names: Sequence[str]) -> Knowledge:
    """The knowledge with vectors of these modalities only, by the run's own fusion where its weights are at hand.

    What texts say of a drug goes with the text, what the graph says it treats with the graph.
    """
    if knowledge.modality_vectors is None:
        raise DataError("the store does not separate modalities", hint="leave vectors=published")
    mask = np.array([name in names for name in knowledge.modalities])
    parts = knowledge.composition
    if parts is None:
        vectors = mean_vector(knowledge.modality_vectors, knowledge.rests_on & mask)
    else:
        vectors = parts.vectors(present=parts.present & np.array([name in names for name in parts.names]))
    kinds = ["aligned", *(kind for kind, of in (("text", "text"), ("treats", "graph"), ("stated", "graph"))
                         if of in names)]
    evidence = None if knowledge.evidence is None else knowledge.evidence.with_vectors(vectors, kinds)
    return replace(knowledge, vectors=vectors, known=np.linalg.norm(vectors, axis=1) > 0, evidence=evidence)


@dataclass(frozen=True)
class Truth:
    """What a generator's own links say of codes and medications: C codes, K medications."""

    codes: tuple[str, ...]
    medications: tuple[str, ...]
    table: NDArray[np.float32]
    """float32[C, K]."""

    def beside(self, evidence: CodeEvidence, medications: Sequence[str]) -> NDArray[np.float32]:
        """float32[kinds, C', K']: the evidence with the truth in the place of what is stated, zero outside it."""
        codes, out = evidence.codes, np.zeros(evidence.tables.shape[1:], np.float32)
        row, column = ({name: n for n, name in enumerate(names)} for names in (self.codes, self.medications))
        inside = [n for n, code in enumerate(codes) if code in row]
        known = [n for n, name in enumerate(medications) if name in column]
        of = np.ix_(np.array([row[codes[n]] for n in inside], np.int64),
                    np.array([column[medications[n]] for n in known], np.int64))
        out[np.ix_(np.array(inside, np.int64), np.array(known, np.int64))] = STATED * self.table[of]
        return np.stack([*evidence.tables[:EVIDENCE.index("stated")], out])


def stored_truth(cohort: str, settings: Settings) -> Truth | None:
    """What a generator left beside its cohort; None of any other cohort."""
    path = cohorts_folder(settings) / cohort / TRUTH
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return Truth(tuple(kept["codes"].tolist()), tuple(kept["medications"].tolist()), kept["table"])


def seen_after(encoded: Encoded) -> NDArray[np.float32]:
    """float32[kinds, C, K]: how often code and medication meet in all visits, the test's too: the positive control."""
    has = sparse.hstack([encoded.codes[kind].sparse(len(encoded.vocabularies[kind])) for kind in KINDS[:2]])
    given = encoded.codes["medication"].sparse(len(encoded.vocabularies["medication"]))
    count = (has.T @ given).toarray()
    expected = np.asarray(has.sum(0)).ravel()[:, None] * np.asarray(given.mean(0)).ravel()[None, :]
    table = np.log((count + 0.5) / (expected + 0.5)).astype(np.float32)
    table = standardised_table(table, np.ones(len(table), bool), np.ones(table.shape[1], bool))
    return np.stack([table] * len(EVIDENCE))


def taken(visits: Histories, patients: NDArray[np.int64]) -> Histories:
    """The histories of some patients, in their order."""
    rows = np.concatenate([np.arange(visits.starts[p], visits.starts[p + 1]) for p in patients])
    starts = np.concatenate(([0], np.cumsum(visits.lengths[patients]))).astype(np.int64)
    parts = {kind: getattr(visits, kind).take(rows) for kind in KINDS}
    return replace(visits, starts=starts, scored=visits.scored[rows], unseen=visits.unseen[rows],
                   available=None if visits.available is None else visits.available[rows], **parts)


def _curve(study: Study, job: StudyJob, config: Config, data: Data) -> Found:
    if job.point != "all":
        order = np.random.default_rng([job.seed, 1]).permutation(data.train.patients)
        data = replace(data, train=taken(data.train, np.sort(order[:int(job.point)])))
    return tested(config, data)


def tested(config: Config, data: Data) -> Found:
    """The per-patient sums of a trained recommender's free rule on the test patients."""
    model = recommender_of(config)(data.sizes, data.knowledge, config)
    model.fit(data.train, data.validation)
    decision, keep = choose_rule(model, data.validation).free, data.test.scored
    probability, target = model.predict_proba(data.test)[keep], data.test.target(np.flatnonzero(keep))
    chosen = select(probability, decision, data.knowledge.interactions.matrix)
    table = visit_metrics(probability, chosen, target, data.knowledge.interactions.matrix, data.test.unseen[keep])
    of = data.test.patient_of[keep]
    sums = patient_sums(table, of)
    wanted = [NAMES.index(name) for name in SHOWN]
    return data.encoded.split.test[np.unique(of)].astype(np.int64), sums.sums[:, wanted], sums.visits


COLD_METRICS = ("auroc", "ap_over_chance", "recall@20")
HIDDEN_SHARE = 0.2
LEAST = 5
"""Visits that a medication to be hidden must have, and lack."""


def hidden_medications(train: Histories, test: Histories, seed: int) -> NDArray[np.int64]:
    """A fifth of the medications that at least five test visits have and lack, and training visits have."""
    count, visits = test.frequency, int(test.scored.sum())
    able = np.flatnonzero((count >= LEAST) & (visits - count >= LEAST) & (train.frequency >= LEAST))
    if not len(able):
        raise DataError("no medication is common enough to be hidden", hint="a larger cohort, or --level 3")
    return np.sort(np.random.default_rng([seed, 2]).choice(able, max(round(HIDDEN_SHARE * len(able)), 1), False))


def stripped(visits: Histories, hidden: NDArray[np.int64], shots: int, generator: np.random.Generator) -> Histories:
    """The histories as if the hidden medications could be ordered only until ``shots`` visits each had them.

    The visits at which one could be ordered are drawn in random order, so what they show is how often it is given; all
    other visits say nothing of it, neither that it was given nor that it was not.
    """
    given = visits.target()
    available = np.ones_like(given)
    for medication in hidden.tolist():
        order = generator.permutation(np.flatnonzero(visits.scored))
        had = np.cumsum(given[order, medication])
        available[:, medication] = False
        available[order[:int(np.searchsorted(had, shots)) + 1] if shots else [], medication] = True
    rows, values = visits.medication.rows(), visits.medication.values
    keep = available[rows, values]
    return replace(visits, medication=Ragged.from_pairs(rows[keep], values[keep], visits.visits), available=available)


def _coldstart(study: Study, job: StudyJob, config: Config, data: Data) -> Found:
    hidden = hidden_medications(data.train, data.test, job.seed)
    generator = np.random.default_rng([job.seed, 3])
    train = stripped(data.train, hidden, int(job.point), generator)
    validation = stripped(data.validation, hidden, 0, generator)
    if job.arm.knowledge == "not-hidden":
        train, validation = data.train, data.validation
    test = stripped(data.test, hidden, 0, generator)
    model = recommender_of(config)(data.sizes, data.knowledge, config)
    model.fit(train, validation)
    score = model.predict_proba(test)[test.scored]
    if job.arm.knowledge == "neighbours":
        score = by_neighbours(score, data.knowledge, hidden)
    truth = data.test.target(np.flatnonzero(data.test.scored))
    return (np.array([number_of(data.encoded, m) for m in hidden]),
            np.stack([cold_metrics(score, truth, m) for m in hidden.tolist()]), np.ones(len(hidden)))


def number_of(encoded: Encoded, medication: int) -> int:
    """The medication's number in the whole cohort's vocabulary, the same under every seed."""
    return encoded.cohort.vocabularies["medication"].index(encoded.vocabularies["medication"].codes[medication])


def cold_metrics(score: NDArray[np.float32], truth: NDArray[np.bool_], medication: int) -> NDArray[np.float64]:
    """AUROC over visits, average precision over chance, and the share of its visits that have it among the top 20."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    had = truth[:, medication]
    rank = (score > score[:, [medication]]).sum(1)
    return np.array([roc_auc_score(had, score[:, medication]),
                     average_precision_score(had, score[:, medication]) / had.mean(), (rank[had] < 20).mean()])


def by_neighbours(score: NDArray[np.float32], knowledge: Knowledge, hidden: NDArray[np.int64],
                  k: int = 10) -> NDArray[np.float32]:
    """The scores, each hidden medication's replaced by those of its ``k`` nearest others, weighted by similarity."""
    out, seen = score.copy(), np.setdiff1d(np.flatnonzero(knowledge.known), hidden)
    for medication in hidden.tolist():
        alike = knowledge.vectors[seen] @ knowledge.vectors[medication]
        near = np.argsort(-alike)[:k]
        weight = np.maximum(alike[near], 1e-3)
        out[:, medication] = score[:, seen[near]] @ (weight / weight.sum())
    return out


KINDS_OF_STUDY: dict[str, Callable[[Study, StudyJob, Config, Data], Found]] = {
    "curve": _curve, "coldstart": _coldstart, "transfer": lambda study, job, config, data: tested(config, data),
    "ablate": _curve,
}
METRICS = {"curve": SHOWN, "coldstart": COLD_METRICS, "transfer": SHOWN, "ablate": SHOWN}


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of the modules of this room, so that no job of another version is taken for one of this."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def folder_of(study: Study, settings: Settings) -> Path:
    """Where the study's jobs lie: in the cohort's private folder."""
    patients = load_cohort(study.cohort, settings).fingerprint.sha256
    what = json.dumps([study.kind, study.other, dict(study.settings), patients, code_digest()], sort_keys=True)
    name = f"{study.kind}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    folder = cohorts_folder(settings) / study.cohort / "studies" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def run_study(study: Study, settings: Settings, *, workers: int = 1, on: str = LOCAL,
              told: Callable[[int, int], None] | None = None) -> dict[tuple[str, str], list[Found]]:
    """(point, arm) → what each seed found; jobs that an earlier call finished are read, not done.

    Jobs are done ``on`` this machine's processes or a Ray cluster whose nodes see the same home and database. Raises
    DataError for a job that failed; those that were done stay.
    """
    folder, jobs = folder_of(study, settings), list(study.jobs())
    missing = [job for job in jobs if not (folder / f"{job.key}.npz").exists()]
    for number, (place, result) in enumerate(_results(study, missing, settings, workers, on), 1):
        if isinstance(result, Failure):
            raise DataError(f"{study.kind}, {missing[place].key}: {result.reason}")
        _keep(folder, missing[place], result)
        if told is not None:
            told(number, len(missing))
    found: dict[tuple[str, str], list[Found]] = {}
    for job in jobs:
        with np.load(folder / f"{job.key}.npz") as kept:
            found.setdefault((job.point, job.arm.name), []).append((kept["units"], kept["sums"], kept["counts"]))
    return found


def _results(study: Study, jobs: Sequence[StudyJob], settings: Settings, workers: int,
             on: str) -> Iterator[tuple[int, Any]]:
    """(number, what it found or Failure) of each job, as they end."""
    if on == LOCAL and workers == 1:
        yield from enumerate(map(job_runner(study, settings), jobs))
    elif jobs:
        arguments = {"study": study, "settings": settings}
        task = PoolTask(f"{__name__}:job_runner", arguments, seconds=JOB_SECONDS, memory=None)
        with open_pool(on, task, workers) as pool:
            yield from pool.map(jobs, share=1)


def job_runner(study: Study, settings: Settings) -> Callable[[StudyJob], Found]:
    """The function that does one job of the study, on one thread."""
    from threadpoolctl import threadpool_limits

    def run(job: StudyJob) -> Found:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            return do(study, job, settings)

    return run


def _keep(folder: Path, job: StudyJob, found: Found) -> None:
    units, sums, counts = found
    unfinished = folder / f".{job.key}.tmp.npz"
    np.savez_compressed(unfinished, units=units, sums=sums, counts=counts)
    unfinished.replace(folder / f"{job.key}.npz")


def study_table(study: Study, found: Mapping[tuple[str, str], Sequence[Found]]) -> list[dict[str, Any]]:
    """One row a (point, arm): means, the paired differences from the null with intervals and Holm's p.

    Where there is an arm that knows everything, also what it has over each, by the metric that decides first.
    """
    metrics = METRICS[study.kind]
    first = deciding(study)
    units = 1 + max(int(part[0].max(initial=0)) for parts in found.values() for part in parts)
    rows: list[dict[str, Any]] = []
    for point in study.points:
        arms = {arm.name: gather_units(found[point, arm.name], units) for arm in study.arms}
        against = {name: difference(tests, arms[NULL]) for name, tests in arms.items() if name != NULL}
        corrected = holm({name: intervals[first].p for name, intervals in against.items()})
        for name, tests in arms.items():
            row: dict[str, Any] = {"point": point, "arm": name, "seeds": len(study.seeds),
                                   "tests": int(tests.counts.sum()), **dict(zip(metrics, tests.means(), strict=True))}
            for metric, interval in zip(metrics, against.get(name, ()), strict=False):
                row[f"{metric} − null"] = written_difference(interval)
            row["p (Holm)"] = corrected.get(name)
            if "all" in arms:
                leads = None if name == "all" else difference(arms["all"], tests)
                for number in (first, *(n for n in range(len(metrics)) if n != first)):
                    row[f"all − it, {metrics[number]}"] = leads and written_difference(leads[number])
            rows.append(row)
    return rows


def deciding(study: Study) -> int:
    """The number of the metric that the study is decided by: PRAUC, or AUROC for drugs that were never prescribed."""
    return METRICS[study.kind].index("auroc" if study.kind == "coldstart" else "prauc")


def written_difference(interval: Interval) -> str:
    """The difference and its interval, e.g. ``+0.012 (+0.004 to +0.020)``."""
    return f"{interval.difference:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def verdicts(study: Study, found: Mapping[tuple[str, str], Sequence[Found]]) -> list[dict[str, Any]]:
    """For each point what can be said of knowledge, or that the oracle shows that nothing can."""
    metric = deciding(study)
    units = 1 + max(int(part[0].max(initial=0)) for parts in found.values() for part in parts)
    names = {arm.name for arm in study.arms}
    rows = []
    for point in study.points if {NULL, "all", ORACLE} <= names else ():
        arms = {arm.name: gather_units(found[point, arm.name], units) for arm in study.arms}
        control = difference(arms[ORACLE], arms[NULL])[metric]
        gain = difference(arms["all"], arms[NULL])[metric]
        beyond = difference(arms["all"], arms["shuffled"])[metric] if "shuffled" in arms else None
        text = verdict(gain, beyond, control)
        rows.append({"point": point, "verdict": text, "all − null": written_difference(gain),
                     "all − shuffled": written_difference(beyond) if beyond else "",
                     "oracle − null": written_difference(control)})
    return rows


def verdict(gain: Interval, beyond: Interval | None, control: Interval) -> str:
    """What the intervals of everything − null, everything − shuffled and oracle − null say, and no more."""
    if control.low <= 0:
        return "nothing can be said: even the oracle does not beat the null here"
    if gain.high < 0:
        return "it harms"
    if gain.low <= 0:
        return "no gain that the interval tells from zero"
    if beyond is None:
        return "knowledge helps; whose knowledge it is was not tested"
    if beyond.low > 0:
        return "knowledge helps, and shuffled knowledge helps less"
    if beyond.high < 0:
        return "it helps, but shuffled knowledge helps more"
    return "it helps; whether shuffled knowledge helps as much, the interval does not tell"


def save_study(study: Study, rows: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]], folder: Path,
               settings: Settings) -> None:
    """Write ``study.json`` (what was run, on which machine, patients and snapshot, and what came out) and a picture."""
    from recsys.experiments.runs import environment

    folder.mkdir(parents=True, exist_ok=True)
    config = from_json({"recommender": "pairs", **study.settings})
    document = {"kind": study.kind, "cohort": str(load_cohort(study.cohort, settings).fingerprint),
                "other": study.other, "points": study.points, "seeds": study.seeds, "settings": config.as_json(),
                "arms": [asdict(arm) for arm in study.arms], "environment": environment(), "rows": rows,
                "verdicts": said, "interval": "95 %, crossed bootstrap over seeds and units"}
    (folder / "study.json").write_text(json.dumps(plain(document), indent=1, ensure_ascii=False) + "\n")
    draw_study(study, rows, folder / f"{study.kind}.svg")


def draw_study(study: Study, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One line an arm: the deciding metric over the points of the study."""
    from matplotlib.figure import Figure

    metric = METRICS[study.kind][deciding(study)]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for arm in study.arms:
        values = [row[metric] for row in rows if row["arm"] == arm.name]
        axes.plot(range(len(values)), values, marker="o", label=arm.name, color="0.6" if arm.name == NULL else None)
    axes.set_xticks(range(len(study.points)), study.points)
    axes.set_xlabel({"curve": "training patients", "coldstart": "training visits that show the medication",
                     "transfer": "tested on", "ablate": "training patients"}[study.kind])
    axes.set_ylabel(metric)
    axes.legend(fontsize=8)
    save_figure(figure, path)


__all__ = ["ABLATE_ARMS", "ARMS", "COLD_ARMS", "Arm", "Study", "StudyJob", "Tests", "curve_points", "run_study",
           "save_study", "study_table", "verdicts"]
