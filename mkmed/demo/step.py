"""What a demo is made of: its scale, its run, and its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kb.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True)
class Extent:
    """How much of the corpus and how long the trainings are."""

    name: str
    drugs: int | None
    """The best-described drugs of the corpus, or all."""
    also: tuple[str, ...]
    """Drugs besides, by name: the first of the corpus all have a structure."""
    pictures: int | None
    """Depictions computed and read by the picture encoder; all drugs with a structure for None."""
    pretrain: tuple[str, ...]
    """Settings of the embedding, as for ``mkmed embed pretrain --set``."""
    cohorts: tuple[str, ...]
    recommenders: tuple[str, ...]
    recommender_epochs: int
    ablation: tuple[str, ...] = ()
    """Settings of the ablation, one seed; none is made without them."""


BIOLOGICS = ("insulin human", "insulin lispro", "insulin glargine", "insulin aspart", "insulin pork", "insulin detemir",
             "insulin glulisine", "filgrastim", "pegfilgrastim", "adalimumab", "infliximab", "trastuzumab")
DESCRIBED = 4333
"""Drugs of which the corpus has more than names, identifiers and a structure; they come first in it."""
FULL = Extent("full", DESCRIBED, (), None,
              ("train.epochs=10", "image.size=128", "graph.epochs=20", "transfer.encoder=none"),
              ("mimic3", "mimic4", "eicu"), ("popularity", "repeat_last", "logistic", "logistic_history", "mkmed"), 15,
              ablation=("train.epochs=2",))
QUICK = Extent("quick", 1200, BIOLOGICS, 300,
              ("train.epochs=6", "text.window=64", "modalities=image,text,structure,graph",
               "graph.features=neighbourhood"),
              ("eicu",), ("popularity", "logistic", "mkmed"), 10)


@dataclass
class Demo:
    """One run of the demo: where it writes, how large it is, and the seconds that each step took."""

    settings: Settings
    scale: Extent
    engine: Engine
    seconds: list[dict[str, Any]] = field(default_factory=list)
    recommendation: dict[str, Any] | None = None
    """What the report shows of the invented patient, once there is a recommender."""
    reached: Callable[[str], None] = lambda point: None
    """Told of a point: what may begin after it, begins."""


def _nothing(demo: Demo) -> None:
    """Not done yet, and nothing to show."""


@dataclass(frozen=True)
class Stage:
    """A part of the demo. ``done`` says in words what is already there, or None; ``show`` prints the result."""

    title: str
    command: str
    work: Callable[[Demo], None]
    done: Callable[[Demo], str | None] = _nothing
    show: Callable[[Demo], None] = _nothing
    after: str = ""
    """The point, a step's title or one within a step, after which another process may begin this one; what it
    prints, it prints in ``show``."""
