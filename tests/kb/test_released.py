"""A database that release 0.1.0 filled comes to the newest schema with its facts, and is told what it got wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kb.db import migrate
from kb.db.binaries import packaged
from kb.ledger.verify import verify

DUMP = Path(__file__).resolve().parents[1] / "data" / "released" / "mkmed-0.1.0.dump"


@pytest.fixture
def released(empty_database: Engine) -> Iterator[Engine]:
    """The dump of release 0.1.0 in a database of its own, not upgraded yet."""
    url = empty_database.url
    subprocess.run(
        [str(packaged() / "bin" / "pg_restore"), "--no-owner", "--exit-on-error", f"--host={url.query['host']}", f"--username={url.username}",
         f"--dbname={url.database}", str(DUMP)],
        check=True, env=os.environ | {"LC_ALL": "C"},
    )
    yield empty_database


TABLES = (
    "drug_record", "drug_name", "text", "conformer", "image", "property_set", "drug_atc", "interaction", "kg_triple",
    "embedding", "artifact", "cell",
)


def facts(engine: Engine) -> dict[str, int]:
    """How many rows each table of facts has."""
    with engine.connect() as connection:
        return {t: connection.scalar(text(f"SELECT count(*) FROM mkmed.{t}")) for t in TABLES}


def rows(engine: Engine, query: str) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


MERGED = "SELECT n.name FROM mkmed.drug_name n JOIN mkmed.drug d ON d.id = n.drug_id WHERE d.inchikey LIKE 'RYYVLZVUVIJVGH%'"


def test_facts_are_kept_and_what_was_merged_wrongly_is_told(released: Engine) -> None:
    assert {("aspirin",), ("caffeine",)} <= set(rows(released, MERGED)), "what 0.1.0 made of two files"
    before = facts(released)
    links = rows(released, "SELECT drug_id, entity_id FROM mkmed.drug_entity ORDER BY 1, 2")
    migrate.upgrade(released)
    after = facts(released)
    assert {table: n for table, n in before.items() if after[table] < n} == {}
    assert migrate.schema_differences(released) == []
    with released.connect() as connection:
        assert [check for check in verify(connection) if check.broken] == []
    assert rows(released, "SELECT drug_id, entity_id FROM mkmed.drug_entity ORDER BY 1, 2") == links
    assert ("aspirin",) not in rows(released, MERGED) and ("caffeine",) in rows(released, MERGED)
    assert rows(released, "SELECT fact.content FROM mkmed.text fact JOIN mkmed.drug_name n USING (drug_id)"
                          " WHERE n.name = 'aspirin' AND n.source = 'tabular/painkillers'") == [("Aspirin is an NSAID.",)]
    assert rows(released, "SELECT source, key, kind FROM mkmed.drug_conflict WHERE reason LIKE 'release 0.1.0 took%'") == [
        ("tabular/painkillers", "user.painkillers:1", "release")]
    assert rows(released, "SELECT dataset FROM mkmed.source WHERE dataset IS NOT NULL ORDER BY 1") == [
        ("mine",), ("painkillers",), ("stimulants",)]
    assert len(rows(released, "SELECT FROM mkmed.find_drugs('user:x1')")) == 1


def test_a_conflict_of_before_its_kind_was_a_column_is_told_its_kind(released: Engine) -> None:
    migrate.upgrade(released, "0023")
    with released.begin() as connection:
        for key, reason in (("s", "a substance of another UNII or DrugCentral number claims the structure"),
                            ("i", "drugs of different structure claim the identifier")):
            connection.execute(text("INSERT INTO mkmed.drug_conflict (source, key, identifier, identities, reason)"
                                    " VALUES ('x', :key, 'unii:X', '[]', :reason)"), {"key": key, "reason": reason})
    migrate.upgrade(released)
    assert rows(released, "SELECT key, kind FROM mkmed.drug_conflict WHERE source = 'x' ORDER BY 1") == [
        ("i", "identifier"), ("s", "structure")]


def test_the_way_down_and_up_again_keeps_the_facts(released: Engine) -> None:
    migrate.upgrade(released)
    before = facts(released)
    migrate.downgrade(released, "0004")
    migrate.upgrade(released)
    assert facts(released) == before
    with released.connect() as connection:
        assert [check for check in verify(connection) if check.broken] == []


def test_licences_that_were_misread_are_read_again_or_closed(released: Engine) -> None:
    with released.begin() as connection:
        connection.execute(text("UPDATE mkmed.text SET licence_id = 'CC-BY-SA-4.0' WHERE source = 'pubchem'"))
        gone = connection.scalar(text("UPDATE mkmed.artifact SET payload = NULL, uri = 'gone' WHERE sha256 IN ("
                                      "SELECT artifact FROM mkmed.text WHERE source = 'pubchem' ORDER BY id LIMIT 1) RETURNING url"))
    migrate.upgrade(released)
    found = rows(released, "SELECT DISTINCT t.provider, t.licence_id, a.licence_id, l.share, a.url FROM mkmed.text t"
                           " JOIN mkmed.artifact a ON a.id = t.artifact JOIN mkmed.licence l ON l.id = a.licence_id"
                           " WHERE t.source = 'pubchem'")
    assert {row[1:3] for row in found if row[4] == gone} == {("LicenseRef-unstated", "LicenseRef-unstated")}
    kept = [row for row in found if row[4] != gone]
    assert kept and "CC-BY-SA-4.0" not in {row[1] for row in kept}, found
    assert "CC-BY-NC-4.0" in {row[2] for row in kept}, "an answer that quotes non-commercial texts was filed as open"
    assert rows(released, "SELECT count(*) FROM mkmed.history WHERE kind = 'text' AND source = 'pubchem'"
                          " AND until IS NOT NULL AND licence_id = 'CC-BY-SA-4.0'")[0][0] >= len(found)
