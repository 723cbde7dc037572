"""Connections: an Engine on the embedded server or on the user's PostgreSQL, ready to use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as RawConnection
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import ExceptionContext

from kb.db import migrate
from kb.db import server as embedded_server
from kb.db.address import parse_url
from kb.db.cluster import PORT, ran_out_of_space
from kb.db.failures import first_line, mapped_errors, patiently, translate
from kb.db.server import DATABASE, SUPERUSER, Server, without_pg_variables
from kb.db.space import free_bytes
from kb.errors import DatabaseUnavailable, DiskFull
from kb.interrupts import raise_again, raised
from kb.settings import Settings, load_settings

SEARCH_PATH = "mkmed, ext, public"
CONNECT_SECONDS = 10


def open_engine(settings: Settings | None = None, *, migrated: bool = True) -> Engine:
    """An Engine whose connections see ``mkmed, ext, public``; the embedded server is started on demand.

    With ``migrated`` the schema is brought up to date first on the embedded server, and only checked on an external
    one. Raises DatabaseUnavailable or SchemaMismatch, neither of which repeats the URL.
    """
    settings = settings or load_settings()
    if settings.database_url is not None:
        engine = engine_for(parse_url(settings.database_url.get_secret_value()))
        if migrated:
            patiently(migrate.require_current, engine)
        return engine
    server = embedded_server.embedded(settings.home)
    return patiently(_ready, server, migrated)


def _ready(server: Server, migrated: bool) -> Engine:
    """The Engine of a server that is started, has its database and, with ``migrated``, its schema."""
    ensure_database(server.start())
    engine = engine_for(url_of(server), server)
    if migrated and not migrate.is_current(engine):
        migrate.upgrade(engine)
    return engine


def url_of(server: Server, database: str = DATABASE) -> URL:
    """The URL of a database on a running embedded server."""
    running = server.running()
    if running is None:
        raise DatabaseUnavailable("the embedded PostgreSQL is not running", hint="mkmed db start")
    return URL.create("postgresql+psycopg2", username=SUPERUSER, database=database,
                      query={"host": str(running.socket), "port": str(PORT)})


def engine_for(url: URL, server: Server | None = None, **options: Any) -> Engine:
    """An Engine on ``url``; a ``server`` that has died is started again when a new connection is asked for."""
    options = {"pool_pre_ping": True, "hide_parameters": True, "use_native_hstore": False} | options
    engine = create_engine(url, creator=_connector(url, server), **options)
    event.listen(engine, "handle_error", partial(_raise_mapped, server))
    event.listen(engine, "before_cursor_execute", _note_signals)
    event.listen(engine, "after_cursor_execute", _heed_signals)
    return engine


def _note_signals(connection: Connection, *statement: object) -> None:
    del statement
    connection.info["signals"] = raised()


def _heed_signals(connection: Connection, *statement: object) -> None:
    """Stop when the program was told to while psycopg2 ran the statement: it may have dropped the exception."""
    del statement
    raise_again(connection.info["signals"])


def _connector(url: URL, server: Server | None) -> Callable[[], RawConnection]:
    arguments: dict[str, Any] = {
        "user": url.username, "password": url.password, "dbname": url.database, "host": url.host, "port": url.port,
        "application_name": "mkmed", "connect_timeout": CONNECT_SECONDS, "keepalives_idle": 60,
    } | {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    arguments = {name: value for name, value in arguments.items() if value is not None}

    def open_connection() -> RawConnection:
        try:
            return _session(arguments, of_ours=server is not None)
        except psycopg2.OperationalError as error:
            if server is None:
                raise _unavailable(error, "check MKMED_DATABASE_URL, or unset it to use the embedded server") from None
            if getattr(error, "pgcode", None) is not None or "does not exist" in str(error):
                raise _unavailable(error) from None
        arguments["host"] = str(server.start())
        try:
            return _session(arguments, of_ours=True)
        except psycopg2.OperationalError as error:
            raise _unavailable(error) from None

    return open_connection


def _session(arguments: dict[str, Any], *, of_ours: bool) -> RawConnection:
    try:
        with without_pg_variables() if of_ours else nullcontext():
            connection = psycopg2.connect(**arguments)
    except psycopg2.ProgrammingError as error:
        raise DatabaseUnavailable(f"MKMED_DATABASE_URL has an option that libpq refuses: {_option(error)}",
                                  hint="write postgresql://user@host:5432/database") from None
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO {SEARCH_PATH}; SET TIME ZONE 'UTC'")
    connection.autocommit = False
    return connection


def _option(error: Exception) -> str:
    """The name of the option that libpq refused; its message may repeat the whole connection string."""
    words = str(error).split('"')
    return words[1] if len(words) > 2 and words[1].isidentifier() else "unreadable"


def _unavailable(error: Exception, hint: str = "mkmed doctor shows what is wrong") -> DatabaseUnavailable:
    return DatabaseUnavailable(f"PostgreSQL cannot be reached: {first_line(error)}", hint=hint)


def _raise_mapped(server: Server | None, context: ExceptionContext) -> None:
    mapped = translate(context.original_exception)
    if isinstance(mapped, DatabaseUnavailable) and server is not None and ran_out_of_space(server.cluster):
        mapped = embedded_server.disk_full(server.cluster)
    elif isinstance(mapped, DiskFull) and server is not None:
        mapped.message += f" ({free_bytes(server.cluster.data) >> 20} MiB free at {server.cluster.data})"
    if mapped is not None and not context.is_pre_ping:
        if context.connection is not None and context.is_disconnect:
            context.connection.invalidate()
        raise mapped from None


def ensure_database(socket: Path, name: str = DATABASE) -> None:
    """Make the database on the embedded server unless it is there; safe in several processes at once."""
    with mapped_errors(), closing(embedded_server.connect(socket, SUPERUSER)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone():
                return
            cursor.execute("SELECT pg_advisory_lock(hashtext('mkmed create database'))")
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
                # So that a plain psql sees the tables and pgvector's operators too.
                cursor.execute(f'ALTER DATABASE "{name}" SET search_path = {SEARCH_PATH}')
