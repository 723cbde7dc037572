"""Generators of synthetic patients: at any size, built on real ATC classes and real interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from recsys.cohorts.cohort import Cohort

GENERATORS: Registry[Callable[..., Cohort]] = Registry(
    "generator",
    {
        "clusters": "recsys.generators.clusters:generate",
        "guidelines": "recsys.generators.guidelines:generate",
    },
)
