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


def facts(engine: Engine) -> dict[str, int]:
    tables = ("drug_record", "drug_name", "text", "conformer", "image", "property_set", "drug_atc", "interaction", "kg_triple", "embedding", "artifact", "cell")
    with engine.connect() as connection:
        return {t: connection.scalar(text(f"SELECT count(*) FROM mkmed.{t}")) for t in tables}


def test_facts_are_kept(released: Engine) -> None:
    before = facts(released)
    migrate.upgrade(released)
    after = facts(released)
    print(before, after)
    assert migrate.check(released) == []
    with released.connect() as connection:
        assert [check for check in verify(connection) if check.broken] == []
