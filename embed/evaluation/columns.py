"""The columns of a study: the recipe as it is, texts that say no class, and a graph that knows no treatments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from embed.config import PretrainConfig
from kb.errors import UsageError
from kb.query.read import INDICATIONS

PLAIN, MASKED, UNTREATED = "plain", "class words masked", "without treatment edges"
COLUMNS = (PLAIN, MASKED, UNTREATED)


def column_config(config: PretrainConfig, column: str) -> PretrainConfig:
    """The configuration of a column; raises UsageError for one that is not."""
    if column == MASKED:
        return dataclasses.replace(config, text=dataclasses.replace(config.text, mask=True))
    if column == UNTREATED:
        graph = dataclasses.replace(config.graph, exclude=(*config.graph.exclude, *INDICATIONS))
        return dataclasses.replace(config, graph=graph)
    if column != PLAIN:
        raise UsageError(f"there is no column {column!r}", hint=f"known: {', '.join(COLUMNS)}")
    return config


def chosen_columns(given: str, usual: Sequence[str] = COLUMNS) -> tuple[str, ...]:
    """The columns that a comma-separated list names, in its order; ``usual`` for an empty one."""
    found = tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip())) or tuple(usual)
    for name in found:
        column_config(PretrainConfig(), name)
    return found
