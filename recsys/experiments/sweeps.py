"""A search over a recommender's settings by its validation patients; the test patients are not looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embed.runs.sweeping import read_space, sweep
from kb.errors import UsageError
from kb.settings import Settings
from recsys.experiments.config import from_json
from recsys.experiments.decode import tune_threshold
from recsys.experiments.metrics import average_precision

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from recsys.experiments.runs import Data

METRICS = ("jaccard", "prauc")
SHAPES_DATA = ("cohort", "task", "split", "seed", "vectors", "titles", "least_patients", "encoder", "recommender")
"""Settings that decide what is loaded; a sweep holds them fixed, so that all trials have the same patients."""


def sweep_recommender(settings: Settings, engine: Engine | None, fixed: Mapping[str, Any], over: list[str], *,
                      trials: int, name: str, metric: str = "jaccard",
                      told: Callable[[int, float, dict[str, Any]], None] = lambda *_: None) -> list[dict[str, Any]]:
    """The trials of a sweep, the best on the validation patients first; a sweep of the same name is gone on with.

    Raises UsageError for a setting that changes the data, and ConfigError for one that there is not.
    """
    from recsys.experiments.runs import fit_recommender, load_data
    from recsys.experiments.threads import one_thread

    if metric not in METRICS:
        raise UsageError(f"--by {metric!r} is no figure of validation patients", hint=f"one of: {', '.join(METRICS)}")
    space = read_space(over)
    config = from_json(dict(fixed))
    for setting in space:
        if setting in SHAPES_DATA:
            raise UsageError(f"{setting!r} decides what is loaded, and is not swept over",
                             hint="sweep once for each value")
        from_json({**fixed, setting: space[setting][1]})  # refuses an unknown setting before anything is loaded
    data: Data = load_data(config, settings, engine)
    held = np.flatnonzero(data.validation.scored)
    truth = data.validation.target(held)

    def objective(chosen: dict[str, Any]) -> float:
        with one_thread():
            fitted = fit_recommender(from_json({**fixed, **chosen}), data)
            probability = fitted.recommender.predict_proba(data.validation)[held]
        if metric == "jaccard":
            return tune_threshold(probability, truth, data.validation.unseen[held])[1]
        return float(average_precision(probability, truth).mean())

    return sweep(settings.runs / "sweeps" / f"recsys-{name}.journal", {**config.as_json(), "metric": metric}, space,
                 objective, trials, config.seed, told)
