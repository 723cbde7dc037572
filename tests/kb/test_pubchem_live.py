"""The check against the service, on the local server that speaks as PubChem documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb.sources.pubchem import live
from kb.sources.pubchem.live import check_live
from tests.standin.quick import FAST, NO_LIMITS, settings_in
from tests.standin.server import StandIn


def test_eleven_questions_and_what_differs_is_named(tmp_path: Path) -> None:
    with StandIn(NO_LIMITS) as standin:
        settings = settings_in(tmp_path, pubchem_url=standin.url, contact="tests@example.org")
        rows = check_live(settings, policy=FAST)
        assert (standin.requests, len(rows)) == (12, 11)
    assert [row["asked"] for row in rows if not row["holds"]] == []


def test_an_answer_that_is_not_as_believed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ASPIRIN_KEY", "RMUCZJUITONUFY-UHFFFAOYSA-N")
    with StandIn(NO_LIMITS) as standin:
        rows = check_live(settings_in(tmp_path, pubchem_url=standin.url, contact="tests@example.org"), policy=FAST)
    assert {row["asked"]: row["found"] for row in rows if not row["holds"]}["properties of two CIDs"].startswith("InChIKey BSYN")
