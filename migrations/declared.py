"""The tables that the program declares, collected from every installed room."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from sqlalchemy import MetaData

SCHEMA = "mkmed"
SCHEMA_MODULES = ("kb.schema", "embed.runs.schema")
"""Modules with a ``METADATA`` on schema ``mkmed``; one that is not installed is left out."""


def declared() -> list[MetaData]:
    """The declared tables of every installed room, each MetaData once."""
    found: list[MetaData] = []
    for name in SCHEMA_MODULES:
        if find_spec(name) is None:
            continue
        metadata = import_module(name).METADATA
        if not any(metadata is known for known in found):
            found.append(metadata)
    return found
