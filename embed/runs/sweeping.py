"""A search over settings with Optuna (Akiba et al. 2019): a space in words, a study that can be gone on with.

The objective is always a figure of validation data; test data are not evaluated during a sweep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import ConfigError, UsageError

if TYPE_CHECKING:
    import optuna

_RANGE = re.compile(r"(?P<low>[-+.\deE]+)\.\.(?P<high>[-+.\deE]+)(?P<log>:log)?")
Space = Mapping[str, tuple[Any, ...]]
"""By setting either ``("range", low, high, log)`` or ``("choice", value, …)``."""


def read_space(given: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The space of ``name=low..high``, ``name=low..high:log`` and ``name=a,b,c``; whole numbers stay whole.

    Raises UsageError for what is none of them.
    """
    space: dict[str, tuple[Any, ...]] = {}
    for item in given:
        name, equals, words = item.partition("=")
        found = _RANGE.fullmatch(words.strip())
        if not (equals and name.strip() and words.strip()):
            raise UsageError(f"--over {item!r} is no range of a setting",
                             hint="--over learning_rate=1e-4..1e-2:log, or --over dim=32,64,128")
        if found is None:
            space[name.strip()] = ("choice", *dict.fromkeys(one.strip() for one in words.split(",")))
            continue
        try:
            low, high = (int(edge) if re.fullmatch(r"[-+]?\d+", edge) else float(edge)
                         for edge in (found["low"], found["high"]))
        except ValueError:
            raise UsageError(f"--over {item!r} has an edge that is no number") from None
        if not low < high or (found["log"] and low <= 0):
            raise UsageError(f"--over {item!r} is an empty range, or has no logarithm",
                             hint="the first edge is the smaller one, and above 0 for :log")
        space[name.strip()] = ("range", low, high, bool(found["log"]))
    if not space:
        raise UsageError("a sweep needs something to try", hint="--over learning_rate=1e-4..1e-2:log")
    return space


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """The settings that a trial is to try."""
    chosen: dict[str, Any] = {}
    for name, (kind, *rest) in space.items():
        if kind == "choice":
            chosen[name] = trial.suggest_categorical(name, rest)
        elif all(isinstance(edge, int) for edge in rest[:2]):
            chosen[name] = trial.suggest_int(name, rest[0], rest[1], log=rest[2])
        else:
            chosen[name] = trial.suggest_float(name, rest[0], rest[1], log=rest[2])
    return chosen


def sweep(path: Path, fixed: Mapping[str, Any], space: Space, objective: Callable[[dict[str, Any]], float], trials: int,
          seed: int, told: Callable[[int, float, dict[str, Any]], None] = lambda *_: None) -> list[dict[str, Any]]:
    """The trials of the study kept at ``path``, the best first, until there are ``trials`` finished ones.

    A study that was begun with other fixed settings or another space is refused with UsageError. Settings that the
    trainer refuses (ConfigError) count as a failed trial.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(path))),
                                direction="maximize", sampler=sampler, load_if_exists=True)
    listed = {name: list(row) for name, row in space.items()}
    asked = json.dumps({"fixed": dict(fixed), "space": listed}, sort_keys=True)
    if study.user_attrs.get("asked", asked) != asked:
        raise UsageError(f"the sweep {path.stem!r} was begun with other settings", hint="give it another --name")
    study.set_user_attr("asked", asked)

    def one(trial: optuna.Trial) -> float:
        value = objective(suggest(trial, space))
        told(trial.number, value, trial.params)
        return value

    done = sum(trial.state.is_finished() for trial in study.trials)
    if done < trials:
        study.optimize(one, n_trials=trials - done, catch=(ConfigError,))
    rows = [{"trial": trial.number, "validation": trial.value, **trial.params, "state": trial.state.name.lower()}
            for trial in study.trials]
    return sorted(rows, key=lambda row: -(row["validation"] if row["validation"] is not None else float("-inf")))
