"""The report of one recommender on one side of a split: means, intervals, calibration, and the rows that means hide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kb.errors import DataError
from recsys.cohorts.batches import Histories
from recsys.cohorts.cohort import LEAST, shown
from recsys.experiments.bootstrap import PatientSums, intervals, literature, patient_sums
from recsys.experiments.calibration import Platt, brier, calibration_error, fit_platt, reliability
from recsys.experiments.conformal import PredictionSet, covered, fit_sets
from recsys.experiments.decode import Decision, rate_of, select, tune
from recsys.experiments.metrics import average_precision, summary, visit_metrics
from recsys.experiments.parts import by_rows
from recsys.knowledge.table import Knowledge
from recsys.recommenders.contract import Recommender

MARGIN = 0.96
"""The rule is tuned to this share of the DDI target, so that other patients' rate stays below the target too."""
VISIT_GROUPS = {"first": (0, 0), "second": (1, 1), "third to fifth": (2, 4), "sixth and later": (5, 10**9)}


@dataclass(frozen=True)
class Choices:
    """What was chosen on the validation patients: the free rule, the rule at the DDI target, calibration and sets."""

    free: Decision
    safe: Decision
    platt: Platt
    sets: tuple[PredictionSet, ...] = ()
    """The sets that hold a stated share of what is given."""


def choose_rule(recommender: Recommender, validation: Histories) -> Choices:
    """The threshold with the best Jaccard, the rule with the best Jaccard at the DDI target, and Platt's numbers."""
    keep = validation.scored
    if not keep.any():
        raise DataError("no validation visit is scored by this task", hint="take --task stay or a larger cohort")
    probability, target = recommender.predict_proba(validation)[keep], validation.target(np.flatnonzero(keep))
    matrix = recommender.knowledge.interactions.matrix
    platt = fit_platt(probability, target)
    own = platt if recommender.config.decide == "expected" else None
    free = tune(probability, target, matrix, platt=own)
    goal = MARGIN * recommender.config.ddi_target
    return Choices(free, tune(probability, target, matrix, goal, own), platt,
                   fit_sets(probability, target, validation.unseen[keep], validation.patient_of[keep]))


@dataclass(frozen=True)
class Evaluation:
    """A report, the per-patient sums that a paired comparison needs, and what was predicted at the n scored visits."""

    report: dict[str, Any]
    sums: PatientSums
    probability: np.ndarray
    """float32[n, K]."""
    chosen: np.ndarray
    """bool[n, K]."""


def evaluate(recommender: Recommender, train: Histories, test: Histories, choices: Choices, *,
             decision: Decision | None = None, subgroups: Mapping[str, np.ndarray] | None = None) -> Evaluation:
    """The evaluation on ``test`` with the safe rule (or the given one); ``train`` only says what is rare.

    ``subgroups`` are masks bool[N] of the test visits by name, each told by itself.
    """
    keep = test.scored
    if not keep.any():
        raise DataError("no test visit is scored by this task", hint="take --task stay or a larger cohort")
    knowledge, draws = recommender.knowledge, recommender.config.resamples
    matrix = knowledge.interactions.matrix
    probability, target = recommender.predict_proba(test)[keep], test.target(np.flatnonzero(keep))
    patient_of, unseen, past = test.patient_of[keep], test.unseen[keep], test.past[keep]
    decision = decision or choices.safe
    chosen = select(probability, decision, matrix)
    by_drug = knowledge.interactions.by_drug
    table = visit_metrics(probability, chosen, target, matrix, unseen, by_drug)
    sums = patient_sums(table, patient_of)
    calibrated = choices.platt.apply(probability)
    free = select(probability, choices.free, matrix)
    report = {
        "per_visit": summary(table, patient_of), "per_patient": summary(table, patient_of, by="patient"),
        "intervals": intervals(sums, draws=draws), "intervals_per_patient": intervals(sums, by="patient", draws=draws),
        "literature": literature(sums),
        "free": summary(visit_metrics(probability, free, target, matrix, unseen, by_drug), patient_of),
        "truth": {"ddi_rate": rate_of(target, matrix),
                  "medications": float(target.sum(1).mean()), "unseen": shown(int(unseen.sum()))},
        "decision": decision._asdict(), "free_decision": choices.free._asdict(), "platt": choices.platt._asdict(),
        "calibration": {"error_raw": calibration_error(probability, target), "brier_raw": brier(probability, target),
                        "error": calibration_error(calibrated, target), "brier": brier(calibrated, target),
                        "reliability": [row for row in reliability(calibrated, target) if shown(int(row["count"]))]},
        "sets": covered(choices.sets, probability, target, unseen, patient_of),
        "by_visits": by_visits(table, patient_of, past),
        "by_subgroup": by_subgroup(table, patient_of, {name: mask[keep] for name, mask in (subgroups or {}).items()},
                                   draws),
        "by_rarity": by_medication(probability, chosen, target, rarity_groups(train)),
        "by_bucket": by_medication(probability, chosen, target, bucket_groups(knowledge)),
        "rare_without_vector": _rare_without_vector(knowledge, train),
        "ddi": {"matrix": knowledge.interactions.version, "source": knowledge.interactions.source,
                "target": recommender.config.ddi_target},
        "visits": int(keep.sum()), "patients": len(sums.visits),
    }
    return Evaluation(report, sums, probability, chosen)


def by_visits(table: Mapping[str, np.ndarray], patient_of: np.ndarray,
              past: np.ndarray) -> dict[str, dict[str, float | None]]:
    """The means over first, second, third-to-fifth and later visits; none over fewer than LEAST patients' visits."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, (low, high) in VISIT_GROUPS.items():
        inside = (past >= low) & (past <= high)
        if inside.any():
            part = {key: values[inside] for key, values in table.items()}
            rows[name] = {**summary(part, patient_of[inside]), "visits": int(inside.sum())}
            if len(np.unique(patient_of[inside])) < LEAST:
                rows[name] = dict.fromkeys(rows[name])
    return rows


def by_subgroup(table: Mapping[str, np.ndarray], patient_of: np.ndarray, subgroups: Mapping[str, np.ndarray],
                draws: int) -> dict[str, dict[str, Any]]:
    """The means over each subgroup's visits, with Jaccard's 95 % interval; none for fewer than LEAST patients."""
    rows: dict[str, dict[str, Any]] = {}
    for name, inside in subgroups.items():
        people = patient_of[inside]
        patients = len(np.unique(people))
        if patients >= LEAST:
            part = {key: values[inside] for key, values in table.items()}
            low, high = intervals(patient_sums(part, people), draws=draws)["jaccard"]
            rows[name] = {**summary(part, people), "jaccard_low": low, "jaccard_high": high,
                          "visits": int(inside.sum()), "patients": patients}
    return rows


def rarity_groups(train: Histories) -> dict[str, np.ndarray]:
    """bool[K] masks by how many training visits had the medication."""
    share = train.frequency / max(int(train.scored.sum()), 1)
    return {"rare (< 1 % of visits)": share < 0.01, "1–5 %": (share >= 0.01) & (share < 0.05),
            "5–20 %": (share >= 0.05) & (share < 0.2), "common (≥ 20 %)": share >= 0.2}


def bucket_groups(knowledge: Knowledge) -> dict[str, np.ndarray]:
    """bool[K] masks by how many of the five modalities the medication's vector rests on; those without one apart.

    The molecule is the anchor, no modality: a vector that rests on nothing else is in the row of 0 modalities.
    """
    modality = np.array([name != "molecule" for name in knowledge.modalities], bool)
    count = knowledge.rests_on[:, modality].sum(1)
    groups = {f"{n} modalities": knowledge.known & (count == n) for n in range(int(modality.sum()) + 1)}
    return {"no vector": ~knowledge.known, **groups}


def _rare_without_vector(knowledge: Knowledge, train: Histories) -> dict[str, Any]:
    """How many rare medications have no vector in the store, and the first eight of them."""
    rare = next(iter(rarity_groups(train).values()))
    codes = [code for code, lacks in zip(knowledge.medications, rare & ~knowledge.known, strict=True) if lacks]
    return {"count": len(codes), "codes": codes[:8]}


def by_medication(probability: np.ndarray, chosen: np.ndarray, target: np.ndarray,
                  groups: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
    """For each group of medications: pooled precision, recall, F1, and the mean average precision over medications.

    Average precision runs down one medication's column over all visits; a medication that no visit had is left out.
    ``chance`` is what a random order of the visits is expected to have, which is above the medication's frequency.
    A group that fewer than LEAST visits had is told without figures.
    """
    rows: dict[str, dict[str, float | None]] = {}
    hits, said, truth = ((part > 0).sum(0) for part in (chosen & (target > 0), chosen, target))
    by_luck = random_average_precision(truth, len(target))
    occurs = np.flatnonzero(truth)
    area = np.zeros(len(truth))
    area[occurs] = np.concatenate(list(by_rows(
        lambda columns: average_precision(probability[:, columns].T, target[:, columns].T.astype(np.float32)),
        occurs, width=len(target)))) if len(occurs) else 0
    for name, mask in groups.items():
        if not mask.any():
            continue
        hit, picked, had, some = hits[mask].sum(), said[mask].sum(), truth[mask].sum(), mask & (truth > 0)
        rows[name] = {
            "medications": int(mask.sum()), "occurrences": int(had),
            "precision": float(hit / max(picked, 1)), "recall": float(hit / max(had, 1)),
            "f1": float(2 * hit / max(picked + had, 1)),
            "average_precision": float(area[some].mean()) if some.any() else 0.0,
            "chance": float(by_luck[some].mean()) if some.any() else 0.0,
        }
        if shown(int(had)) is None:
            rows[name] = {**dict.fromkeys(rows[name]), "medications": int(mask.sum())}
    return rows


def random_average_precision(positives: np.ndarray, visits: int) -> np.ndarray:
    """float64[K]: the expected average precision of a random order of ``visits`` of which ``positives`` int[K] count.

    A positive lies at each rank r alike, with (n − 1)(r − 1)/(N − 1) of the other n − 1 expected above it; the mean of
    (1 + that)/r over the ranks is (H + (n − 1)/(N − 1) · (N − H))/N, where H is the Nth harmonic number.
    """
    harmonic = float((1 / np.arange(1, visits + 1)).sum())
    others = (positives - 1) / max(visits - 1, 1)
    return np.where(positives > 0, (harmonic + others * (visits - harmonic)) / visits, 0.0)


def headline(report: Mapping[str, Any], *, name: str = "") -> dict[str, Any]:
    """One row for a table: the metrics over visits, Jaccard and DDI rate with their 95 % intervals."""
    row: dict[str, Any] = {"recommender": name} if name else {}
    for metric, value in report["per_visit"].items():
        row[metric] = value
        if metric in ("jaccard", "ddi_rate"):
            low, high = report["intervals"][metric]
            row[f"{metric} 95 %"] = f"{low:.4f}–{high:.4f}"
    return row


