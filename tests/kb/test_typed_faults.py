"""Typed lies by the hundred: never a wrong present or absent, no traceback, one item at a time (more in ``torture``)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kb.db.server import Server
from tests.conftest import _fresh
from tests.kb.typed_attack import attack, no_policy, one_compound


@pytest.fixture
def fresh(server: Server) -> Callable[[], Any]:
    """A database of its own for every round."""
    return contextmanager(lambda: _fresh(server))


@pytest.mark.slow
def test_no_typed_lie_is_believed(fresh: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_policy(monkeypatch):
        assert attack(fresh, tmp_path, seed=7, answers=150) >= 150


@pytest.mark.parametrize("cid", [2244, 14219])
def test_lies_about_one_compound_cost_no_other(cid: int, fresh: Callable[[], Any], tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    with no_policy(monkeypatch):
        one_compound(fresh, tmp_path, 3, cid)
