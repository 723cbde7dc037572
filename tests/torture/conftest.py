"""Torture runs only when asked for by name: ``pytest -m torture`` or ``make torture``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kb.output import say

sys.path.insert(0, str(Path(__file__).parent))  # so that suites share harness.py


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything in this folder, and leave it out unless the marker was asked for."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker("torture")
    if "torture" not in (config.getoption("markexpr") or ""):
        items[:] = [item for item in items if item not in ours]
        config.hook.pytest_deselected(items=ours)


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of all random kill times; set MKT_SEED to repeat a run."""
    chosen = int(os.environ.get("MKT_SEED") or int.from_bytes(os.urandom(4), "big"))
    say(f"\nMKT_SEED={chosen}")
    return chosen
