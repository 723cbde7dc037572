"""What PubChem does not know is told and counted, each time that it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from kb.ingest.engine import ingest
from kb.sources.contract import IngestOptions
from kb.sources.pubchem.source import PubChem
from tests.standin.quick import FAST, NO_LIMITS, settings_in
from tests.standin.server import StandIn


def test_keys_without_a_compound_are_named(
    fresh_database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PubChem, "policy", FAST)
    asked = IngestOptions(ids=("metformin", "no such thing", "DB99999"), modalities=("property",))
    with StandIn(NO_LIMITS) as standin:
        settings = settings_in(tmp_path, pubchem_url=standin.url, contact="tests@example.org")
        counts = [ingest(fresh_database, settings, "pubchem", asked).counts for _ in range(2)]
    told = "PubChem knows no compound for 2 of 3: drugbank:DB99999, name:no such thing"
    assert capsys.readouterr().err.count(told) == 2
    assert [c["not_found"] for c in counts] == [2, 2]
    assert counts[1]["requests"] == 0
