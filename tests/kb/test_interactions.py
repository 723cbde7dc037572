"""Interactions from the user's own table: severity kept in its own words, unknown drugs rejected by row."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kb.errors import UsageError
from kb.ingest.engine import Summary, ingest
from kb.ledger.verify import verify
from kb.query.names import find_drug
from kb.query.read import interactions
from kb.settings import Settings
from kb.sources.contract import IngestOptions


def run(engine: Engine, source: str = "interactions", **options: object) -> Summary:
    return ingest(engine, Settings(workers=1), source, IngestOptions(**options))  # type: ignore[arg-type]


@pytest.fixture
def three(fresh_database: Engine) -> Engine:
    run(fresh_database, "corpus", ids=("aspirin", "warfarin", "metformin", "pravastatin"))
    return fresh_database


def test_own_table_with_own_headers(three: Engine, tmp_path: Path) -> None:
    path = tmp_path / "ddi.csv"
    path.write_text("First,Second,Grade\nWARFARIN,drugbank:DB00945,major\naspirin,Metformin,\naspirin,unobtainium,major\n"
                    "warfarin,warfarin,minor\n")
    columns = {"drug_a": "First", "drug_b": "Second", "severity": "Grade"}
    summary = run(three, path=path, columns=columns)
    with three.begin() as connection:
        found = interactions(connection)
        listed = {
            (frozenset((a, b)), severity)
            for a, b, severity, source in zip(found.drug_a.tolist(), found.drug_b.tolist(), found.severity, found.provider,
                                              strict=True)
            if source != "NDF-RT" and not source.startswith("ONC")
        }
        aspirin, warfarin, metformin = (find_drug(connection, n) for n in ("aspirin", "warfarin", "metformin"))
        graded = {severity for pair, severity in listed if pair == {aspirin, warfarin}}
        assert "major" in graded
        assert any(pair == {aspirin, metformin} for pair, _ in listed)
        reasons = connection.scalars(text("SELECT key || ' ' || last_error FROM mkmed.lookup WHERE state = 'rejected'")).all()
        assert any("unobtainium" in r and ":4:" in r for r in reasons)
        assert any("itself" in r and ":5:" in r for r in reasons)
        assert [check for check in verify(connection) if check.broken] == []
    assert summary.counts["rejected"] == 2
    assert run(three, path=path, columns=columns).counts.get("rows", 0) == 0


def test_an_unknown_role_is_told(three: Engine, tmp_path: Path) -> None:
    path = tmp_path / "ddi.tsv"
    path.write_text("drug_a\tdrug_b\naspirin\twarfarin\n")
    with pytest.raises(UsageError, match="unknown role 'grade'"):
        run(three, path=path, columns={"grade": "drug_a"})


def test_a_table_is_read_again_when_more_drugs_are_known_or_columns_are_others(three: Engine, tmp_path: Path) -> None:
    path = tmp_path / "ddi.csv"
    path.write_text("drug_a,drug_b,grade\naspirin,phenytoin,minor\n")
    rejected = text("SELECT last_error FROM mkmed.lookup WHERE state = 'rejected' AND source LIKE 'interactions/%'")
    own = text("SELECT severity FROM mkmed.interaction WHERE provider = 'ddi.csv'")
    run(three, path=path)
    with three.begin() as connection:
        assert ["phenytoin" in reason for reason in connection.scalars(rejected)] == [True]
    run(three, "corpus", ids=("phenytoin",))
    assert run(three, path=path).counts["rows"] == 1
    with three.begin() as connection:
        assert connection.scalars(rejected).all() == [], "what was wrong once is not told for ever"
        assert connection.scalars(own).all() == [None]
    path.write_text("drug_a,drug_b,grade\naspirin,phenytoin,minor\naspirin,pravastatin,major\n")
    with pytest.raises(UsageError, match="1 rows added, 0 changed, 0 removed"):
        run(three, path=path)
    run(three, path=path, yes=True)
    run(three, path=path, columns={"severity": "grade"})
    with three.begin() as connection:
        assert set(connection.scalars(own)) == {"minor", "major"}, "nothing was said of it before"
    path.write_text("drug_a,drug_b,severity\naspirin,phenytoin,major\n")
    with pytest.raises(UsageError, match="0 rows added, 0 changed, 1 removed"):
        run(three, path=path)
    run(three, path=path, yes=True)
    with three.begin() as connection:
        assert connection.scalars(own).all() == ["major"], "what the table does not say any more is taken back"
        gone = text("SELECT fact ->> 'severity' FROM mkmed.history WHERE kind = 'interaction' AND until IS NOT NULL")
        assert {"minor", "major"} <= set(connection.scalars(gone))


def test_missing_columns_are_told(three: Engine, tmp_path: Path) -> None:
    path = tmp_path / "ddi.tsv"
    path.write_text("a\tb\nx\ty\n")
    with pytest.raises(UsageError, match="no column 'drug_a'"):
        run(three, path=path)


def test_bundled_interactions_alone(three: Engine) -> None:
    run(three)
    run(three)
    with three.begin() as connection:
        rows = connection.execute(text("SELECT provider, severity FROM mkmed.interaction")).all()
        pair = connection.scalar(text("SELECT count(*) FROM mkmed.interactions WHERE drug_a >= drug_b"))
    assert rows and pair == 0
    assert {row.provider for row in rows} <= {"NDF-RT", "ONC-HighPriority", "ONC-NonInteruptive"}


def test_a_pair_said_twice_is_one_pair_with_two_statements(three: Engine, tmp_path: Path) -> None:
    """The reversed pair and the pair by identifier are the same; another severity is another statement."""
    path = tmp_path / "pairs.csv"
    path.write_text("drug_a,drug_b,severity,description\nwarfarin,aspirin,major,bleeding\naspirin,warfarin,minor,rare\n"
                    "Warfarin,warfarin,major,itself\nwarfarin,no such drug,,\nwarfarin,,major,\n"
                    "drugbank:DB00682,drugbank:DB00945,major,again\n")
    summary = run(three, path=path)
    assert summary.counts["rejected"] == 3
    with three.begin() as connection:
        found = connection.execute(text(
            "SELECT drug_a, drug_b, severity, description FROM mkmed.interaction WHERE source LIKE 'interactions/%'")).all()
        reasons = connection.scalars(text("SELECT last_error FROM mkmed.lookup WHERE state = 'rejected'")).all()
    assert len({row[:2] for row in found}) == 1
    assert sorted(row[2:] for row in found) == [("major", "bleeding"), ("minor", "rare")]
    assert len(reasons) == 3 and any("with itself" in reason for reason in reasons)
