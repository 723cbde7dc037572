"""The migrations: they agree with the declared schema, keep data on the way down and up, and may be run by many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from kb.db import migrate
from kb.db.engine import engine_for
from kb.errors import DatabaseError, SchemaMismatch
from migrations.declared import declared

ROOT = Path(__file__).resolve().parents[2]
RUN = "00000000-0000-0000-0000-000000000001"


def script() -> ScriptDirectory:
    return ScriptDirectory.from_config(migrate.configuration())


def populate(engine: Engine) -> None:
    """A few rows in tables of every kind: keys, JSON, bytes, generated columns, links."""
    png = b"\x89PNG not really"
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO licence (id, title, share) VALUES ('LicenseRef-test', 'CC0', 'open')",
            "INSERT INTO source (name, title, url, origin, licence_id)"
            " VALUES ('corpus', 'Corpus', 'https://example.org', 'bundled', 'LicenseRef-test')",
            "INSERT INTO run (id, stage, status, version, host, pid) VALUES (:run, 'ingest', 'complete', '0', 'h', 1)",
            "INSERT INTO content (sha256, payload, bytes) VALUES (:sha, :png, 16)",
            "INSERT INTO artifact (id, content, media_type, source, url, licence_id, attribution, parser, retrieved_at, run_id)"
            " VALUES (artifact_id(:sha, 'corpus', 'u', 'LicenseRef-test', NULL), :sha, 'image/png', 'corpus', 'u',"
            " 'LicenseRef-test', 'a', 'p', now(), :run)",
            "INSERT INTO drug (identity, name, kind, run_id) SELECT 'x:' || n, 'drug ' || n, 'small molecule',"
            " CAST(:run AS uuid) FROM generate_series(1, 200) AS n",
            "INSERT INTO cell (drug_id, modality, source, state, artifact, run_id)"
            " SELECT d.id, 'image', 'corpus', 'present', a.id, :run FROM drug d, artifact a",
            "INSERT INTO image (drug_id, source, width, height, media_type, artifact)"
            " SELECT d.id, 'corpus', 300, 300, 'image/png', a.id FROM drug d, artifact a",
        ):
            values = {"run": RUN, "sha": sha256(png).digest(), "png": png}
            connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})


Rows = dict[str, list[dict[str, object]]]


def contents(engine: Engine) -> Rows:
    """The rows of every table that holds any."""
    with engine.connect() as connection:
        tables = connection.scalars(text("SELECT table_name::text FROM information_schema.tables WHERE table_schema ="
                                         " 'mkmed' AND table_type = 'BASE TABLE' AND table_name <> 'alembic_version'"))
        found = {t: connection.scalars(text(f"SELECT to_jsonb(t) FROM mkmed.{t} t")).all() for t in tables.all()}
        return {table: list(rows) for table, rows in found.items() if rows}


def digests(rows: Rows) -> dict[str, list[str]]:
    """The rows of every table, but for the time since which they were as they are, which an older schema does not keep."""
    return {table: sorted(repr(sorted({**row, "since": None}.items())) for row in kept) for table, kept in rows.items()}


def leftovers(engine: Engine) -> list[str]:
    """Everything in schema mkmed but Alembic's own table."""
    with engine.connect() as connection:
        return list(connection.scalars(text("""
            SELECT relname::text FROM pg_class WHERE relnamespace = 'mkmed'::regnamespace AND relname !~ 'alembic_version'
            UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'mkmed'::regnamespace
            UNION ALL SELECT typname::text FROM pg_type WHERE typnamespace = 'mkmed'::regnamespace
                                                          AND typname !~ 'alembic_version'""")))


def definitions(engine: Engine) -> dict[str, str]:
    """Every index and constraint of schema mkmed as Postgres writes it, with method, operator class and options."""
    with engine.connect() as connection:
        connection.execute(text("SET search_path TO pg_catalog"))
        rows = connection.execute(text("""
            SELECT 'index ' || c.relname, pg_get_indexdef(c.oid) FROM pg_class c
            WHERE c.relkind = 'i' AND c.relnamespace = 'mkmed'::regnamespace AND c.relname !~ 'alembic_version'
            UNION ALL
            SELECT 'constraint ' || conname || ' on ' || conrelid::regclass, replace(pg_get_constraintdef(oid), ' NOT VALID', '') FROM pg_constraint
            WHERE connamespace = 'mkmed'::regnamespace AND conname !~ 'alembic_version' AND contype <> 'n'
            UNION ALL
            SELECT 'column ' || attrelid::regclass || '.' || attname,
                   format_type(atttypid, atttypmod) || attnotnull || attidentity::text || attgenerated::text
                   || coalesce(pg_get_expr(adbin, adrelid), '')
            FROM pg_attribute JOIN pg_class c ON c.oid = attrelid AND relkind IN ('r', 'p')
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE relnamespace = 'mkmed'::regnamespace AND attnum > 0 AND NOT attisdropped
              AND relname !~ 'alembic_version'"""))
        return {str(name): str(definition) for name, definition in rows}


def test_there_is_one_head_and_the_database_is_there(database: Engine) -> None:
    assert len(script().get_heads()) == 1
    assert migrate.current(database) == migrate.head() and migrate.is_current(database)


def test_alembic_sees_no_difference(database: Engine) -> None:
    assert migrate.schema_differences(database) == []


def test_alembic_would_see_a_difference(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection:
        connection.execute(text("ALTER TABLE mkmed.drug ADD COLUMN extra int"))
    assert any("extra" in diff for diff in migrate.schema_differences(fresh_database))


def test_indexes_and_constraints_are_the_declared_ones(database: Engine, empty_database: Engine) -> None:
    with empty_database.begin() as connection:
        connection.execute(text("CREATE SCHEMA mkmed; CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext"))
        for metadata in declared():
            metadata.create_all(connection)
    migrated, written = definitions(database), definitions(empty_database)
    assert len(written) > 100
    assert {k: v for k, v in migrated.items() if written.get(k) != v} == {}
    assert set(written) == set(migrated)


def test_data_survive_every_step_down_and_up(fresh_database: Engine) -> None:
    populate(fresh_database)
    before = contents(fresh_database)
    assert {"drug", "cell", "artifact", "licence"} <= set(before)
    steps = [str(revision.down_revision) for revision in script().walk_revisions() if revision.down_revision]
    older = {}
    for revision in steps:
        migrate.downgrade(fresh_database, revision)
        older[revision] = contents(fresh_database)
        assert {len(older[revision][table]) for table in ("drug", "cell", "image")} == {200}
    migrate.upgrade(fresh_database)
    assert digests(contents(fresh_database)) == digests(before)
    assert migrate.schema_differences(fresh_database) == []
    for revision in steps:
        migrate.downgrade(fresh_database, revision)
        assert digests(contents(fresh_database)) == digests(older[revision])


def test_all_the_way_down_leaves_no_trace_and_comes_up_again(fresh_database: Engine) -> None:
    populate(fresh_database)
    whole = definitions(fresh_database)
    migrate.downgrade(fresh_database, "base")
    assert leftovers(fresh_database) == [] and migrate.current(fresh_database) is None
    migrate.upgrade(fresh_database)
    assert definitions(fresh_database) == whole
    populate(fresh_database)


def test_several_may_upgrade_at_once(empty_database: Engine) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        engine = engine_for(empty_database.url)
        try:
            migrate.upgrade(engine)
        except BaseException as error:
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=work) for _ in range(2)]
    processes = [_upgrading(empty_database) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert failures == [] and migrate.is_current(empty_database)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_killed_upgrade_leaves_nothing_half_done(empty_database: Engine, delay: float) -> None:
    process = _upgrading(empty_database)
    while process.poll() is None and not _migrating(empty_database):
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _migrating(empty_database):
        time.sleep(0.01)
    assert migrate.current(empty_database) in (None, migrate.head())
    if migrate.current(empty_database) is None:
        with empty_database.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = 'mkmed'")) == 0
    migrate.upgrade(empty_database)
    assert migrate.schema_differences(empty_database) == []


def _upgrading(engine: Engine) -> subprocess.Popen[bytes]:
    from kb.db.address import bare

    return subprocess.Popen([sys.executable, "-m", "cli", "-q", "db", "upgrade"], cwd=ROOT,
                            env=os.environ | {"MKMED_DATABASE_URL": bare(engine.url)})


def _migrating(engine: Engine) -> bool:
    """Whether another session holds or awaits the migrators' lock."""
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                                           " (SELECT oid FROM pg_database WHERE datname = current_database())")))


def test_failing_migration_is_a_plain_error_and_changes_nothing(empty_database: Engine) -> None:
    with empty_database.begin() as connection:
        connection.execute(text("CREATE SCHEMA mkmed; CREATE TABLE mkmed.licence (id int)"))
    with pytest.raises(DatabaseError, match="already exists"):
        migrate.upgrade(empty_database)
    assert migrate.current(empty_database) is None


def test_database_of_a_newer_version_is_not_touched(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection:
        connection.execute(text("UPDATE mkmed.alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="9999"):
        migrate.is_current(fresh_database)


def test_migrations_are_found_from_anywhere(tmp_path: Path) -> None:
    program = "from kb.db import migrate; print(migrate.head())"
    answer = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert answer.stdout.strip() == migrate.head()
