"""What a read-only login can and cannot do: the probes that once found holes, asked again at every change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256

import psycopg2
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from kb.db import migrate
from kb.db.engine import engine_for
from kb.db.roles import create_roles
from kb.errors import DatabaseError
from kb.graph.load import DescribedRelation, encode_rows, load_triples
from kb.ledger.coverage import buckets
from kb.ledger.entries import start_run
from kb.query import export
from kb.query.drug import describe, search
from kb.query.read import sources
from kb.query.status import take_stock
from kb.settings import Settings
from kb.sources.contract import Document
from tests.databases import roles_lock

RUN = "00000000-0000-0000-0000-000000000001"
OPEN, CLOSED = b"open", b"non-commercial"


@pytest.fixture(scope="module")
def lock() -> Iterator[None]:
    """No other test touches roles while this module does."""
    with roles_lock():
        yield


@pytest.fixture(scope="module")
def readers(lock: None, database: Engine) -> Iterator[tuple[Engine, str, str]]:
    """The database with one open and one non-commercial drug, and two logins: a reader, and one with mkmed_nc."""
    plain, licensed = (f"{name}_{database.url.database}" for name in ("alice", "carol"))
    with database.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("""
            INSERT INTO licence (id, title, share) VALUES ('CC0', 'CC0', 'open'), ('NC', 'NC', 'non-commercial');
            INSERT INTO source (name, title, url, origin, licence_id) VALUES ('s', 'S', 'u', 'user', 'CC0');
            INSERT INTO run (id, stage, status, version, host, pid) VALUES (%(run)s, 'ingest', 'complete', '0', 'h', 1);
            INSERT INTO drug (identity, name, kind, run_id) VALUES ('x:1', 'one', 'unknown', %(run)s);
        """, {"run": RUN})
        for payload, licence in ((OPEN, "CC0"), (CLOSED, "NC")):
            digest = sha256(payload).digest()
            cursor.execute("INSERT INTO content (sha256, payload, bytes) VALUES (%s, %s, 4)", (digest, payload))
            cursor.execute("""
                INSERT INTO artifact (id, content, media_type, source, url, licence_id, attribution, parser, retrieved_at,
                run_id) VALUES (%s, %s, 'text/plain', 's', 'u', %s, 'a', 'p', now(), %s)
            """, (digest, digest, licence, RUN))
        cursor.execute("INSERT INTO drug_record (source, key, drug_id, name, kind, identifiers, artifact)"
                       " SELECT 's', identity, id, name, kind, '[]', %s FROM drug", (sha256(OPEN).digest(),))
        cursor.execute("INSERT INTO drug_name (drug_id, name, source, key, kind, artifact)"
                       " SELECT id, name, 's', identity, 'preferred', %s FROM drug", (sha256(OPEN).digest(),))
        for modality, payload in (("structure", OPEN), ("image", CLOSED)):
            cursor.execute("INSERT INTO cell (drug_id, modality, source, state, artifact, run_id)"
                           " SELECT id, %s, 's', 'present', %s, %s FROM drug", (modality, sha256(payload).digest(), RUN))
        cursor.close()
    create_roles(database)
    create_roles(database)  # again: changes nothing
    with database.begin() as connection:
        connection.execute(text("CALL mkmed.add_reader(:a)"), {"a": plain})
        connection.execute(text("CALL mkmed.add_reader(:a)"), {"a": licensed})
        connection.execute(text(f'GRANT mkmed_nc TO "{licensed}"'))
    yield database, plain, licensed
    with database.begin() as connection:
        for name in (plain, licensed):
            connection.execute(text(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"'))
        for role in ("mkmed_ingest", "mkmed_reader", "mkmed_nc"):
            connection.execute(text(f"DROP OWNED BY {role}"))


def session(readers: tuple[Engine, str, str], *, licensed: bool = False, writable: bool = False):
    """A real login of a reader; ``writable`` switches off the read-only default, as any reader may."""
    engine, plain, nc = readers
    connection = psycopg2.connect(host=engine.url.query["host"], user=nc if licensed else plain,
                                  dbname=engine.url.database)
    connection.autocommit = True
    if writable:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
    return connection


@contextmanager
def closing_engine(engine: Engine) -> Iterator[Engine]:
    """The engine, its connections closed afterwards: a login has only four."""
    yield engine
    engine.dispose()


def test_a_reader_verifies_nothing_instead_of_something_false(readers) -> None:
    from kb.ledger.verify import verify

    engine, plain, _ = readers
    with engine.connect() as connection:
        verify(connection)
        connection.execute(text(f'SET ROLE "{plain}"'))
        with pytest.raises(DatabaseError, match="does not see every row") as caught:
            verify(connection)
        connection.rollback()
    assert "mkmed_ingest" in caught.value.hint


def answer(connection, query: str):
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows


INSUFFICIENT = "42501"
DENIED = {
    "insert": ("INSERT INTO drug (identity, name, kind, run_id) SELECT 'y', 'y', 'unknown', id FROM run", INSUFFICIENT),
    "update": ("UPDATE drug SET name = 'x'", INSUFFICIENT),
    "delete": ("DELETE FROM drug", INSUFFICIENT),
    "truncate": ("TRUNCATE drug", INSUFFICIENT),
    "lock a row": ("SELECT * FROM drug FOR UPDATE", INSUFFICIENT),
    "sequence": ("SELECT nextval('mkmed.drug_id_seq')", INSUFFICIENT),
    "create table": ("CREATE TABLE mkmed.mine (a int)", INSUFFICIENT),
    "create in public": ("CREATE TABLE public.mine (a int)", INSUFFICIENT),
    "create schema": ("CREATE SCHEMA mine", INSUFFICIENT),
    "temporary table": ("CREATE TEMPORARY TABLE mine (a int)", INSUFFICIENT),
    "create extension": ("CREATE EXTENSION vector SCHEMA public", None),
    "create function": ("CREATE FUNCTION mkmed.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", INSUFFICIENT),
    "drop": ("DROP TABLE mkmed.drug", INSUFFICIENT),
    "read a table": ("SELECT count(*) FROM mkmed.artifact", INSUFFICIENT),
    "read what views are made of": ("SELECT count(*) FROM mkmed.readable_drug", INSUFFICIENT),
    "replace a view": ("CREATE OR REPLACE VIEW mkmed.texts AS SELECT 1", INSUFFICIENT),
    "open a view": ("ALTER VIEW mkmed.texts SET (security_barrier = false)", INSUFFICIENT),
    "take the keys off": ("CALL mkmed.drop_triple_keys(true)", INSUFFICIENT),
    "become nc": ("SET ROLE mkmed_nc", INSUFFICIENT),
    "become ingest": ("SET ROLE mkmed_ingest", INSUFFICIENT),
    "become superuser": ("SET SESSION AUTHORIZATION postgres", INSUFFICIENT),
    "grant oneself": ("GRANT mkmed_nc TO CURRENT_USER", INSUFFICIENT),
    "create role": ("CREATE ROLE mine", INSUFFICIENT),
    "add a reader": ("CALL mkmed.add_reader('mine')", INSUFFICIENT),
    "run a program": ("COPY drug TO PROGRAM 'cat'", INSUFFICIENT),
    "write a file": ("COPY drug TO '/tmp/mine'", INSUFFICIENT),
    "read a file": ("SELECT pg_read_file('postgresql.conf')", INSUFFICIENT),
    "import a file": ("SELECT lo_import('/etc/passwd')", INSUFFICIENT),
    "passwords": ("SELECT * FROM pg_authid", INSUFFICIENT),
    "terminate": ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'", INSUFFICIENT),
    "temp_file_limit": ("SET temp_file_limit = '10GB'", INSUFFICIENT),
    "settings": ("ALTER SYSTEM SET fsync = off", INSUFFICIENT),
    "redefine views": ("CREATE OR REPLACE VIEW mkmed.drug_vector AS SELECT 1", INSUFFICIENT),
    "migrations": ("UPDATE mkmed.alembic_version SET version_num = 'x'", INSUFFICIENT),
}


@pytest.mark.parametrize("probe", DENIED)
def test_reader_is_denied(readers: tuple[Engine, str, str], probe: str) -> None:
    """Denied by a missing grant in a writable transaction, not only by the read-only default."""
    statement, code = DENIED[probe]
    connection = session(readers, writable=True)
    try:
        with pytest.raises(psycopg2.Error) as caught, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
    assert code is None or caught.value.pgcode == code, (caught.value.pgcode, str(caught.value))


def test_reader_starts_read_only(readers: tuple[Engine, str, str]) -> None:
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        answer(session(readers), "INSERT INTO licence VALUES ('x', 'x', null, 'open', '')")


def test_reader_reads_what_is_open(readers: tuple[Engine, str, str]) -> None:
    assert answer(session(readers), "SELECT name FROM drugs") == [("one",)]
    assert answer(session(readers), "SELECT '[1,2]'::vector <=> '[1,2]'") == [(0.0,)]
    assert answer(session(readers), "SELECT payload::text FROM documents") == [("\\x" + OPEN.hex(),)]
    assert answer(session(readers), "SELECT count(*) FROM drug_vector") == [(0,)]


def test_licence_is_a_row_level_matter(readers: tuple[Engine, str, str]) -> None:
    for licensed, shown in ((False, ["structure"]), (True, ["image", "structure"])):
        for query in ("SELECT modality FROM provenance ORDER BY 1", "SELECT modality FROM availability ORDER BY 1"):
            assert [row[0] for row in answer(session(readers, licensed=licensed), query)] == shown, query


@pytest.mark.parametrize("statement", ["SET mkmed.licence = 'NC'", "SET app.role = 'mkmed_nc'", "SET mkmed.open_only = 'off'"])
def test_no_setting_opens_a_licence(readers: tuple[Engine, str, str], statement: str) -> None:
    connection = session(readers)
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert answer(connection, "SELECT count(*) FROM documents") == [(1,)]


def test_reader_has_its_limits(readers: tuple[Engine, str, str]) -> None:
    for name, value in (("statement_timeout", "5s"), ("transaction_timeout", "15s"), ("temp_file_limit", "256MB"),
                        ("idle_in_transaction_session_timeout", "10s"), ("search_path", "mkmed, ext")):
        assert answer(session(readers), f"SHOW {name}") == [(value,)]


def test_fifth_connection_is_refused(readers: tuple[Engine, str, str]) -> None:
    held = [session(readers) for _ in range(4)]
    try:
        with pytest.raises(psycopg2.OperationalError, match="too many connections"):
            session(readers)
    finally:
        for connection in held:
            connection.close()


def test_what_cannot_be_denied_is_known(readers: tuple[Engine, str, str]) -> None:
    """If one of these becomes deniable, the warning in roles.sql and the documentation should go."""
    for statement in ("SET statement_timeout = 0", "SET work_mem = '8GB'", "SELECT pg_try_advisory_lock(1)"):
        answer(session(readers), statement)


def test_ingest_role_writes_but_owns_nothing(readers: tuple[Engine, str, str]) -> None:
    engine, _, _ = readers
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE mkmed_ingest"))
        connection.execute(text("INSERT INTO drug (identity, name, kind, run_id) SELECT 'z', 'z', 'unknown', id FROM run"))
        assert connection.scalar(text("SELECT count(*) FROM artifact")) == 2
        connection.execute(text("DELETE FROM drug WHERE identity = 'z'"))
    with pytest.raises(Exception, match="must be owner"), engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE mkmed_ingest"))
        connection.execute(text("DROP TABLE mkmed.cell"))


def test_a_failing_condition_does_not_tell_what_is_hidden(readers: tuple[Engine, str, str]) -> None:
    """Conditions of the reader's are not tried on rows that the licence hides, or their errors would show them."""
    for query in ("SELECT 1 FROM documents WHERE convert_from(payload, 'UTF8')::int = 1",
                  "SELECT 1 FROM availability WHERE modality::int = 1"):
        with pytest.raises(psycopg2.Error) as caught:
            answer(session(readers), query)
        assert "image" not in str(caught.value) and CLOSED.decode() not in str(caught.value)


def test_readers_have_no_table_and_every_view_is_meant_for_them_or_not(readers: tuple[Engine, str, str]) -> None:
    """Nothing is granted by default: a new table or view is seen by readers when ``grants.sql`` names it."""
    engine, _, _ = readers
    query = """SELECT relname, relkind, has_table_privilege('mkmed_reader', oid, 'SELECT') FROM pg_class
        WHERE relnamespace = 'mkmed'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mkmed.later (a int)"))
        found = {row[0]: (row[1], row[2]) for row in connection.execute(text(query))}
        connection.rollback()
    assert [name for name, (kind, granted) in found.items() if granted and kind != "v"] == []
    assert sorted(n for n, (kind, granted) in found.items() if kind == "v" and not granted) == [
        "readable_artifact", "readable_cell", "readable_drug", "readable_label", "readable_licence", "readable_provenance",
        "settled_identifier"]


def test_roles_of_the_first_release_lose_their_tables_with_the_upgrade(readers: tuple[Engine, str, str]) -> None:
    engine, _, _ = readers
    with engine.begin() as connection:
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA mkmed TO mkmed_reader"))
        connection.execute(text("ALTER DEFAULT PRIVILEGES IN SCHEMA mkmed GRANT SELECT ON TABLES TO mkmed_reader"))
    migrate.upgrade(engine)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        answer(session(readers), "SELECT * FROM content")
    assert answer(session(readers), "SELECT name FROM drugs") == [("one",)]


def test_commands_work_for_a_reader(readers: tuple[Engine, str, str]) -> None:
    engine, plain, _ = readers
    with closing_engine(engine_for(engine.url.set(username=plain))) as reader:
        migrate.require_current(reader)
        with reader.connect() as connection:
            head, sections = describe(connection, "one")
            assert head["name"] == "one" and {r["modality"] for r in sections["availability"]} == {"structure"}
            assert search(connection, "on")[0]["drug_id"] == head["drug_id"]
            assert [row["name"] for row in sources(connection)] == ["s"]
            assert buckets(connection)[0].drugs == 1
    url = engine.url.set(username=plain).render_as_string().replace("+psycopg2", "")
    found = take_stock(Settings(database_url=SecretStr(url)))
    assert found.figures["drugs"] == 1 and found.runs and "/" not in str(found.runs)


def test_the_ingest_role_can_load_a_graph(readers: tuple[Engine, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, _ = readers
    monkeypatch.setattr("kb.graph.tables.REBUILD_FROM", 1)
    relation = DescribedRelation("r", "Gene", "Gene", "test", "CC0")
    document = Document("s", "file:x", "text/plain", "CC0", "", datetime.now(UTC), "t/1", payload=b"graph")
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE mkmed_ingest"))
        run_id = start_run(connection, "ingest")
        for rows in ([("Gene::1", "r", "Gene::2")], [("Gene::2", "r", "Gene::3"), ("Gene::3", "r", "Gene::4")]):
            assert load_triples(connection, run_id, document, encode_rows(rows), {"r": relation}).new_triples == len(rows)
        connection.rollback()


def test_a_reader_is_told_which_login_may(readers: tuple[Engine, str, str]) -> None:
    engine, plain, _ = readers
    with closing_engine(engine_for(engine.url.set(username=plain))) as reader:
        for statement in ("SELECT * FROM mkmed.drug", "CREATE TABLE mkmed.mine (a int)"):
            with pytest.raises(DatabaseError, match="this login may not") as caught, reader.connect() as connection:
                connection.execute(text(statement))
            assert "mkmed_ingest" in (caught.value.hint or "")


def test_a_reader_may_take_as_long_as_an_export_needs(readers: tuple[Engine, str, str]) -> None:
    """Its limits are for questions: an export lifts them for its own transaction."""
    engine, plain, _ = readers
    with closing_engine(engine_for(engine.url.set(username=plain))) as reader, export._snapshot(reader, False) as connection:
        assert [connection.scalar(text(f"SHOW {name}_timeout")) for name in ("statement", "transaction")] == ["0", "0"]
