"""Which of its two forms mkmed takes where ``mode=auto`` leaves it open: decided on the validation patients.

The closed form shares its coefficients over all medications. It is better where patients are few, and far behind where
a visit has one code from which its medications follow, which has to be learned by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.cohorts.cohort import Cohort
from recsys.experiments.bootstrap import PatientSums, paired_difference
from recsys.experiments.config import Config, contenders

Validate = Callable[[Config], PatientSums]
"""Fits a recommender as configured: the sums of its validation patients."""


@dataclass(frozen=True)
class ModeChoice:
    """The configuration with a mode, and what it was chosen by: nothing where there was no choice."""

    config: Config
    validation: dict[str, Any] | None = None


def choose_mode(config: Config, cohort: Cohort, validate: Validate) -> ModeChoice:
    """The closed form, unless the validation patients' Jaccard is better by the network (95 % interval above 0)."""
    modes = contenders(config, cohort)
    if len(modes) < 2:
        return ModeChoice(replace(config, mode=modes[0]) if modes else config)
    sums = {mode: validate(replace(config, mode=mode)) for mode in modes}
    first, second = modes
    gap = paired_difference(sums[second], sums[first], draws=config.resamples)["jaccard"]
    jaccard = {mode: float(found.means(np.ones((1, len(found.visits))))[0][0]) for mode, found in sums.items()}
    return ModeChoice(replace(config, mode=second if gap["low"] > 0 else first),
                      {"jaccard": jaccard, f"{second} minus {first}": gap, "patients": len(sums[first].visits)})
