"""The settings of one recommender's training: TOML in, ``key=value`` on top, JSON out beside the weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from kb.errors import ConfigError
from kb.inputs import read_toml
from recsys.cohorts.cohort import LEAST, Cohort

RUN = "run:"
"""What ``vectors`` begins with where it names an embedding run by its id or the beginning of it."""
SMALL = 7500
"""Visits up to which mkmed's closed form is compared with its network; both take seconds there."""


@dataclass(frozen=True)
class Config:
    """One training run; the defaults are those of mkmed's network, other recommenders name theirs."""

    recommender: str = "mkmed"
    """A name in recsys.registry.RECOMMENDERS."""
    mode: str = "auto"
    """Recommender mkmed only: ``pairs`` (closed form), ``network``, or ``reference``, the published model as its code
    has it; ``auto`` is the network for a cohort of more than 7,500 visits, and for a smaller one what does better on
    its validation patients (``recsys.experiments.modes``)."""
    cohort: str = "synthetic"
    """The name of a prepared cohort."""
    task: str = "stay"
    """``stay``, ``order-time`` or ``admission``; see recsys.cohorts.tasks."""
    split: str = "patients"
    """``patients``, ``temporal`` or ``reference``; see recsys.cohorts.tasks."""
    seed: int = 0
    """Seeds the split, the weights, the order of batches and dropout."""
    epochs: int = 25
    """Passes over the training patients."""
    batch: int = 128
    """Patients a step, fewer in a small cohort: see ``least_steps``."""
    least_steps: int = 32
    """Steps that an epoch has at least: a small cohort's batches shrink, to 8 patients at least; 1 never shrinks."""
    learning_rate: float = 4e-3
    """Adam's peak step size; a cosine takes it to a tenth."""
    weight_decay: float = 0.3
    """AdamW's decoupled decay."""
    dim: int = 64
    """Width of code embeddings, recurrent states and medication vectors."""
    dropout: float = 0.3
    """Share of units left out of the patient vector while training."""
    code_dropout: float = 0.5
    """Share of input codes left out while training."""
    clip: float = 5.0
    """The largest gradient norm."""
    bce: float = 0.95
    """Weight of binary cross-entropy."""
    margin: float = 0.05
    """Weight of the multilabel margin loss."""
    ddi_target: float = 0.06
    """The DDI rate aimed at; 0 switches the control off."""
    ddi_loss: bool = True
    """Whether the loss turns to interactions above the target; the choice of medications keeps to it either way."""
    kappa: float = 2.5
    """How fast the loss turns to interactions above the target."""
    vectors: str = "published"
    """``published`` (the store's), ``run:ID`` of another stored embedding run, ``random``, ``shuffled`` among
    medications, or ``learned`` (none given)."""
    titles: str = "on"
    """``on``, ``shuffled`` among codes, or ``off``: what the titles of codes say (recommender pairs only)."""
    frozen: bool = True
    """Whether medication vectors stay as published; false makes them weights that start there."""
    encoder: bool = False
    """With ``frozen=false``, what learns is not the vectors but the embedding run's molecule encoder and fusion."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: a card, where there is one, for a network that learns from 100,000 visits on."""
    patience: int = 0
    """Epochs without a better validation Jaccard until training stops; 0 never stops early."""
    decide: str = "threshold"
    """``threshold``, one for all visits, or ``expected``: each visit's own, of the largest expected Jaccard, where the
    validation patients' Jaccard is better by it."""
    l2: float = 0.0
    """The logistic baselines' penalty; 0 chooses it on the validation patients."""
    least_patients: int = LEAST
    """Training patients that a code must have to enter a vocabulary, and so a model's file; fewer than 5 only for data
    that anybody may see. A cohort from a generator, of nobody, keeps all codes."""
    resamples: int = 1000
    """Bootstrap draws of an evaluation."""

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)


def _convert(name: str, value: Any) -> Any:
    kinds = {f.name: type(getattr(Config(), f.name)) for f in fields(Config)}
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, n=1)
        raise ConfigError(f"unknown setting {name!r}", hint=f"did you mean {near[0]!r}?" if near else
                          f"known: {', '.join(sorted(kinds))}")
    kind = kinds[name]
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError
        return kind(value)
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"setting {name!r} cannot be {value!r}", hint=f"it takes a {kind.__name__}") from None


def _check(config: Config) -> Config:
    choices = {"mode": ("auto", "pairs", "network", "reference"), "titles": ("on", "shuffled", "off"),
               "decide": ("threshold", "expected"), "device": ("auto", "cpu", "cuda"),
               "vectors": ("published", "random", "shuffled", "learned")}
    for name, allowed in choices.items():
        of_a_run = name == "vectors" and config.vectors.startswith(RUN) and len(config.vectors) > len(RUN)
        if getattr(config, name) not in allowed and not of_a_run:
            raise ConfigError(f"setting {name!r} cannot be {getattr(config, name)!r}",
                              hint=f"it takes one of {', '.join(allowed)}")
    if config.encoder and (config.frozen or config.vectors != "published" or config.recommender != "mkmed"
                           or config.mode == "pairs"):
        raise ConfigError("encoder=true trains the published vectors' encoder",
                          hint="it goes with recommender=mkmed, mode=network, vectors=published and frozen=false")
    for name in ("epochs", "batch", "least_steps", "least_patients", "dim", "learning_rate", "clip"):
        if not getattr(config, name) > 0:
            raise ConfigError(f"setting {name!r} must be above 0")
    for name in ("dropout", "code_dropout", "ddi_target"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"setting {name!r} must be at least 0 and below 1")
    return config


def load_recommender_config(
    path: Path | None = None, assignments: Sequence[str] = (), base: Config | None = None
) -> Config:
    """The configuration from a TOML file, with ``key=value`` assignments on top; raises ConfigError."""
    values: dict[str, Any] = {}
    if path is not None:
        values.update(read_toml(path, "--config"))
    for assignment in assignments:
        name, mark, value = assignment.partition("=")
        if not mark:
            raise ConfigError(f"{assignment!r} is not of the form key=value")
        values[name.strip()] = value.strip()
    return from_json(values, base)


def from_json(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """The configuration with these settings on top of ``base``, by default the recommender's own; checked."""
    converted = {name: _convert(name, value) for name, value in values.items()}
    if base is None:
        from recsys.registry import recommender_of

        named = replace(Config(), **converted)
        converted = dict(recommender_of(named).defaults(named.mode)) | converted
    return _check(replace(base or Config(), **converted))


def contenders(config: Config, cohort: Cohort) -> tuple[str, ...]:
    """The modes that ``auto`` may become on this cohort, the plainest first; none where nothing is left open."""
    if config.recommender != "mkmed" or config.mode != "auto":
        return ()
    learns_drugs = config.encoder or not config.frozen
    return ("network",) if learns_drugs or cohort.visits > SMALL else ("pairs", "network")


def settled(config: Config, cohort: Cohort) -> Config:
    """The configuration with a mode: where ``auto`` leaves one open and nothing is compared, the plainest."""
    modes = contenders(config, cohort)
    return replace(config, mode=modes[0]) if modes else config
