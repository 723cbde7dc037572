"""Outcomes of visits whose prescriptions agree more or less with the recommendation, adjusted for what was recorded.

Every test visit is on one side of the median agreement (Jaccard of given and recommended medications); those at the
median are on the side that makes the two most even. The sides are weighted by the overlap weights of Li, Morgan and
Zaslavsky (2018), 1 − e for those that agree more and e for the others, where e is the probability of agreeing more by
what is recorded of the visit. An E-value (VanderWeele and Ding 2017) is how strongly something not recorded would have
to go with both agreement and outcome to explain the weighted difference away. What such a table cannot prove is in
``docs/outcomes.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError
from kb.settings import Settings
from recsys.cohorts.batches import Histories, histories
from recsys.cohorts.cohort import KNOWN_AT_THE_DOOR, LEAST, Cohort, encode_on, shown
from recsys.cohorts.files import load_cohort
from recsys.cohorts.tasks import TASKS, split_cohort
from recsys.experiments.decode import select
from recsys.experiments.metrics import visit_metrics
from recsys.experiments.run_folders import find_folder, load_run
from recsys.formats.contract import DIED, READMITTED

Floats = NDArray[np.float64]

COMPONENTS = 10
"""Principal components of the diagnoses that describe a visit."""
MOST_LEVELS = 12
"""Levels of an attribute that describe a visit, the most frequent ones."""
INSIDE = (0.1, 0.9)
"""Propensities that count as overlap."""
DRAWS = 200


@dataclass(frozen=True)
class OutcomeVisits:
    """The scored visits of one side of a split: N of them."""

    patient: NDArray[np.int64]
    agreement: Floats
    """float64[N]: Jaccard of given and recommended."""
    covariates: Floats
    """float64[N, X], standardised."""
    names: tuple[str, ...]
    outcomes: Mapping[str, Floats]
    """float64[N] by name; NaN where it is not known."""


def recommended_visits(settings: Settings, run: str = "", side: str = "test") -> OutcomeVisits:
    """The visits of a side of a run's split, with what the run recommends at each."""
    folder = find_folder(settings, run)
    config = json.loads((folder / "config.json").read_text())
    trained = load_run(settings, folder.name)
    cohort = load_cohort(str(config["cohort"]), settings)
    split = split_cohort(cohort, str(config["split"]), int(config["seed"]))
    task = TASKS[str(config["task"])]
    encoded = encode_on(cohort, split, trained.vocabularies)
    visits = histories(encoded, side, task)
    rows = np.flatnonzero(visits.scored)
    probability = trained.recommender.predict_proba(visits)[rows]
    matrix, target = trained.recommender.knowledge.interactions.matrix, visits.target(rows)
    chosen = select(probability, trained.decision, matrix)
    agreement = visit_metrics(probability, chosen, target, matrix, visits.unseen[rows])["jaccard"]
    covariates, names = described(cohort, encoded.visits_of(side)[rows], visits, rows, probability)
    return OutcomeVisits(visits.patient_of[rows], agreement.astype(float), covariates, names,
                  outcomes_of(cohort, encoded.visits_of(side)[rows]))


def outcomes_of(cohort: Cohort, rows: NDArray[np.int64]) -> dict[str, Floats]:
    """What the source says of the end of each visit; a patient who died in hospital cannot be readmitted."""
    found: dict[str, Floats] = {}
    died = _said(cohort, DIED, rows)
    for name, values in (("death in hospital", died), ("readmission within 30 days", _said(cohort, READMITTED, rows))):
        if values is not None:
            alive = died is None or name == "death in hospital" or (died != 1)
            found[name] = np.where(alive, values, np.nan)
    days = cohort.length_of_stay[rows]
    if np.isfinite(days).any():
        found["days in hospital"] = days
    return found


def _said(cohort: Cohort, name: str, rows: NDArray[np.int64]) -> Floats | None:
    if name not in cohort.attributes:
        return None
    attribute = cohort.attributes[name]
    words = np.array([{"yes": 1.0, "no": 0.0}.get(level, np.nan) for level in attribute.levels] + [np.nan])
    values: Floats = words[attribute.values[rows]]
    return values


def described(cohort: Cohort, rows: NDArray[np.int64], visits: Histories, inside: NDArray[np.int64],
              probability: NDArray[np.float32]) -> tuple[Floats, tuple[str, ...]]:
    """Standardised covariates [N, X] and their names: who came, with which codes, and how sure the model is."""
    from sklearn.decomposition import TruncatedSVD

    columns: dict[str, NDArray[Any]] = {
        "diagnoses": np.log1p(visits.diagnosis.lengths[inside]),
        "procedures": np.log1p(visits.procedure.lengths[inside]),
        "earlier visits": np.log1p(visits.past[inside]),
        "medications before": np.log1p(visits.earlier.take(inside).lengths),
        "medications expected": probability.sum(1), "uncertainty": (probability * (1 - probability)).sum(1)}
    for name in KNOWN_AT_THE_DOOR:
        if name in cohort.attributes:
            attribute = cohort.attributes[name].take(rows)
            counts = np.bincount(attribute.values[attribute.values >= 0], minlength=len(attribute.levels))
            for level in np.argsort(-counts, kind="stable")[:MOST_LEVELS]:
                columns[f"{name}: {attribute.levels[level]}"] = attribute.values == level
    table = visits.diagnosis.take(inside).sparse(visits.sizes.diagnosis)
    size = min(COMPONENTS, min(table.shape) - 1)
    if size > 0:
        found = TruncatedSVD(size, random_state=0).fit_transform(table)
        columns |= {f"diagnoses {number + 1}": found[:, number] for number in range(size)}
    matrix = np.stack([np.asarray(values, float) for values in columns.values()], axis=1)
    spread = matrix.std(0)
    kept = spread > 1e-9
    return (matrix[:, kept] - matrix[:, kept].mean(0)) / spread[kept], tuple(np.array(list(columns))[kept].tolist())


def agrees_more(agreement: Floats) -> NDArray[np.bool_]:
    """bool[N]: above the median agreement, or at it and above, whichever leaves the two sides more even.

    Raises DataError where all agree alike.
    """
    middle = np.median(agreement)
    more: NDArray[np.bool_] = min((agreement > middle, agreement >= middle), key=lambda side: abs(side.mean() - 0.5))
    if more.all() or not more.any():
        raise DataError("the recommendation agrees with all visits alike", hint="a larger cohort, or another run")
    return more


def propensity(covariates: Floats, more: NDArray[np.bool_]) -> Floats:
    """float64[N]: the probability of being among those that agree more."""
    from sklearn.linear_model import LogisticRegression

    found: Floats = LogisticRegression(C=1.0, max_iter=500).fit(covariates, more).predict_proba(covariates)[:, 1]
    return found


def weighted(values: Floats, weight: Floats, more: NDArray[np.bool_]) -> tuple[float, float]:
    """The weighted means of those that agree more and of the others."""
    return (float(np.average(values[more], weights=weight[more])),
            float(np.average(values[~more], weights=weight[~more])))


def e_value(ratio: float) -> float:
    """The E-value of a risk ratio: 1 where there is nothing to explain."""
    ratio = 1 / ratio if 0 < ratio < 1 else ratio
    return float(ratio + np.sqrt(ratio * (ratio - 1))) if ratio > 1 else 1.0


def imbalance(covariates: Floats, weight: Floats, more: NDArray[np.bool_]) -> float:
    """The largest standardised mean difference of a covariate between the two sides."""
    first, second = (np.average(covariates[side], axis=0, weights=weight[side]) for side in (more, ~more))
    return float(np.abs(first - second).max(initial=0))


def both_sides(visits: OutcomeVisits, *, draws: int = DRAWS, seed: int = 0) -> list[dict[str, Any]]:
    """One row an outcome: crude and weighted means of both sides, difference with interval, E-values, overlap.

    Intervals are the 2.5th and 97.5th percentile over patients drawn with replacement, the propensity fitted anew in
    each draw. Raises DataError when the cohort has no outcome or agreement does not vary.
    """
    if not visits.outcomes:
        raise DataError("the cohort does not know how visits ended",
                        hint="prepare it from a source with deaths, readmissions or ends of visits")
    rows = []
    for name, values in visits.outcomes.items():
        inside = np.isfinite(values)
        if inside.sum() >= 2 * LEAST:
            rows.append(_row(name, values[inside], visits.agreement[inside], visits.covariates[inside],
                             visits.patient[inside], draws, np.random.default_rng(seed)))
    return rows


def _row(name: str, values: Floats, agreement: Floats, covariates: Floats, patient: NDArray[np.int64], draws: int,
         generator: np.random.Generator) -> dict[str, Any]:
    binary = bool(np.isin(values, (0, 1)).all())
    more = agrees_more(agreement)
    events = [int(values[side].sum()) for side in (more, ~more)]
    head = {"outcome": name, "visits": len(values), "patients": len(np.unique(patient)),
            "agree more (mean)": float(agreement[more].mean()), "agree less (mean)": float(agreement[~more].mean())}
    if binary and any(shown(count) is None or count == 0 for count in events):
        return {**head, "said": f"fewer than {LEAST} events on a side"}
    chance = propensity(covariates, more)
    weight = np.where(more, 1 - chance, chance)
    crude, adjusted = (weighted(values, kind, more) for kind in (np.ones(len(values)), weight))
    people = [np.flatnonzero(patient == one) for one in np.unique(patient)]
    drawn = []
    for _ in range(draws):
        rows = np.concatenate([people[i] for i in generator.integers(0, len(people), len(people))])
        part = more[rows]
        if part.all() or not part.any():
            continue
        chances = propensity(covariates[rows], part)
        drawn.append(weighted(values[rows], np.where(part, 1 - chances, chances), part))
    first, second = np.array(drawn).T
    low, high = np.quantile(first - second, [0.025, 0.975])
    ratio, limits = _ratios(adjusted, first, second, float(values.std()), binary)
    near = 1.0 if limits[0] <= 1 <= limits[1] else min(limits, key=lambda limit: abs(np.log(limit)))
    return {**head, "crude: more": crude[0], "less": crude[1], "weighted: more": adjusted[0], "less, weighted":
            adjusted[1], "difference": adjusted[0] - adjusted[1], "95 %": f"{low:+.4f} to {high:+.4f}",
            "risk ratio": ratio, "E-value": e_value(ratio), "E-value of the limit": e_value(near),
            "overlap": float(((chance >= INSIDE[0]) & (chance <= INSIDE[1])).mean()),
            "effective visits": float(weight.sum() ** 2 / (weight ** 2).sum()),
            "imbalance before": imbalance(covariates, np.ones(len(values)), more),
            "imbalance after": imbalance(covariates, weight, more)}


def _ratios(adjusted: tuple[float, float], first: Floats, second: Floats, spread: float,
            binary: bool) -> tuple[float, tuple[float, float]]:
    """The risk ratio and its interval; of a mean, exp(0.91 · standardised difference) stands for it."""
    if binary:
        drawn = np.maximum(first, 1e-9) / np.maximum(second, 1e-9)
        ratio = adjusted[0] / max(adjusted[1], 1e-9)
    else:
        drawn = np.exp(0.91 * (first - second) / spread)
        ratio = float(np.exp(0.91 * (adjusted[0] - adjusted[1]) / spread))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(ratio), (float(low), float(high))
