"""What every recommender does: fit, predict_proba, save, load; one that learns a network is in ``network.py``.

To add one: a file here with a subclass, and one line in recsys/registry.py. The contract tests take it from there.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recsys.cohorts.batches import Histories, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge

Log = Callable[[dict[str, Any]], None]
"""Called with one row of metrics after each epoch."""


class Recommender(abc.ABC):
    """A model that gives every medication a probability at every visit."""

    name: ClassVar[str]
    needs_evidence: ClassVar[bool] = False
    """Whether it reads ``Knowledge.evidence``, which takes seconds to gather."""
    reads_vectors: ClassVar[bool] = True
    """Whether it reads the medications' vectors; one that does not is trained without a published embedding run."""
    arrays_only: ClassVar[bool] = False
    """Whether it is stored and restored as NumPy arrays, and answers without torch, whose import takes seconds."""

    @classmethod
    def defaults(cls, mode: str) -> Mapping[str, Any]:
        """Settings that suit it better than Config's; none by default.

        Those of the recommenders here had the best Jaccard on the validation patients of synthetic cohort A, seed 0.
        """
        return {}

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        self.sizes = sizes
        self.knowledge = knowledge
        self.config = config

    @abc.abstractmethod
    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Learn from the training patients; the validation patients choose settings, never weights.

        ``folder`` receives checkpoints; ``resume`` goes on from the last one there.
        """

    @abc.abstractmethod
    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K]: each medication's probability at each visit, from that visit's inputs and earlier ones."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Any]:
        """Everything learned, by name: torch tensors, or NumPy arrays where ``arrays_only``."""

    @abc.abstractmethod
    def restore(self, tensors: dict[str, Any]) -> None:
        """Take back what ``tensors`` gave."""

    def forget_unseen_codes(self, vocabularies: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """The vocabularies to be stored, without codes of few or of no training patients, which the model forgets."""
        return vocabularies

    def extras(self) -> dict[str, Any]:
        """What was chosen on the validation patients besides weights, as JSON; empty by default."""
        return {}
