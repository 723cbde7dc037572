"""A stateful machine over {fetched, busy, not found, killed, started again} against the ledger's invariants."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text

import kb.ingest.engine
import kb.ingest.write
from kb.errors import Incomplete, MkmedError
from kb.ingest.crash import POINTS
from kb.sources.pubchem.source import PubChem
from tests.kb.test_pubchem import POLICY, cells, rows, run, sound
from tests.standin import catalogue
from tests.standin.quick import NO_LIMITS
from tests.standin.server import StandIn

CIDS = tuple(str(cid) for cid in list(catalogue.compounds())[1:9])
subsets = st.lists(st.sampled_from(CIDS), min_size=1, max_size=4, unique=True).map(tuple)
ENDPOINTS = st.sampled_from(["PNG", "pug_view", "SDF", "property", "synonyms"])


class Killed(BaseException):
    """The process is gone: nothing below this may be caught by the program."""


class Ledger(RuleBasedStateMachine):
    """The program may be asked for anything, at any moment, by a service in any mood."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="machine-"))
        self.standin = StandIn(NO_LIMITS, fault=self._fault).__enter__()
        self.mood: tuple[str, str] | None = None
        self.certain: dict[tuple[str, str], Any] = {}
        self.ran = False

    @initialize()
    def empty(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(text("TRUNCATE drug, drug_record, lookup, cell, artifact, run, drug_merge CASCADE"))

    def _fault(self, method: str, path: str, cids: list[int]) -> str | None:
        return self.mood[1] if self.mood and self.mood[0] in path else None

    def _run(self, ids: tuple[str, ...] | None, **options: Any) -> None:
        try:
            run(self.engine, self.standin, self.home, ids, **options)
        except Incomplete:
            assert self.mood is not None, "nothing fails while the service is well"
        except MkmedError:
            assert self.mood is not None
        self.ran = True

    @rule(ids=subsets, retry=st.booleans())
    def fetch(self, ids: tuple[str, ...], retry: bool) -> None:
        self.mood = None
        self._run(ids, retry_failed=retry)

    @rule(ids=subsets, where=ENDPOINTS, what=st.sampled_from(["503 busy", "404 busy", "200 html", "reset", "half"]))
    def busy(self, ids: tuple[str, ...], where: str, what: str) -> None:
        self.mood = (where, what)
        self._run(ids, retry_failed=True)

    @rule()
    def not_found(self) -> None:
        """CIDs and names that do not exist, among those that do."""
        self.mood = None
        self._run(("999999999", "no such thing", CIDS[0]))
        states = dict(rows(self.engine, "SELECT key, state FROM lookup WHERE key LIKE '%9999%' OR key LIKE '%such%'"))
        assert set(states.values()) == {"absent"}

    @rule(ids=subsets, point=st.sampled_from(POINTS), after=st.integers(0, 6))
    def killed(self, ids: tuple[str, ...], point: str, after: int) -> None:
        self.mood = None
        left = [after]

        def crash_at(here: str) -> None:
            if here == point:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kb.ingest.engine, "crash_at", crash_at)
            patch.setattr(kb.ingest.write, "crash_at", crash_at)
            try:
                self._run(ids)
            except Killed:
                self.ran = True

    @precondition(lambda self: self.ran)
    @rule()
    def restart(self) -> None:
        """Going on with everything finishes everything; doing it again asks nothing and changes nothing."""
        self.mood = None
        self._run(None, retry_failed=True)
        left = rows(self.engine, "SELECT count(*) FROM cell WHERE state IN ('unknown', 'failed')")
        assert left == [(0,)]
        before, asked = cells(self.engine), self.standin.requests
        self._run(None)
        assert (cells(self.engine), self.standin.requests) == (before, asked)

    @invariant()
    def the_ledger_is_sound_and_true(self) -> None:
        if not self.ran:
            return
        assert sound(self.engine)
        now = {key: found for key, found in cells(self.engine).items() if found[0] in ("present", "absent")}
        for key, found in self.certain.items():
            assert now[key] == found, "what was certain once stays as it is"
        self.certain = now
        silent = {c["inchikey"] for cid, c in catalogue.compounds().items() if cid % catalogue.SILENT == 0}
        for (identity, modality), (state, _) in now.items():
            if modality == "text":
                assert (state == "absent") == (identity.removeprefix("inchikey:") in silent)
            if modality == "image":
                assert state == "present"

    def teardown(self) -> None:
        self.standin.__exit__()
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(PubChem, "policy", replace(POLICY, attempts=2))
    yield


@pytest.mark.slow
def test_the_ledger_survives_every_order_of_events(database: Engine, quick: None) -> None:
    Ledger.engine = database
    run_state_machine_as_test(Ledger, settings=settings(
        max_examples=8, stateful_step_count=8, deadline=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]))
