"""``mkmed db``: the database, where it is and what state it is in."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from kb.errors import ConfigError, DatabaseUnavailable
from kb.interrupts import left_to_a_child
from kb.output import say, write
from kb.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import URL

app = typer.Typer(no_args_is_help=True, help="The database: where it is, and what state it is in.", epilog="""\b
Examples:
  mkmed db start
  mkmed db url
  mkmed db psql -c 'select count(*) from drug'
  MKMED_DATABASE_URL=postgresql://me@db.example.org/mkmed mkmed db upgrade
""")


@app.command(epilog="Example: mkmed db init")
def init() -> None:
    """Make the database, or bring it up to date; does nothing when it is."""
    upgrade()


@app.command(epilog="Example: mkmed db upgrade")
def upgrade(to: Annotated[str, typer.Option(help="The revision to stop at.")] = "head") -> None:
    """Apply the migrations that are missing, in one transaction, and mend indexes that were left unfinished."""
    from kb.db import migrate
    from kb.db.engine import open_engine
    from kb.db.pgvector import require_pgvector

    engine = open_engine(migrated=False)
    before = migrate.current(engine)
    for mended in migrate.upgrade(engine, to):
        say(mended)
    with engine.connect() as connection:
        require_pgvector(connection)
    after = migrate.current(engine)
    say(f"the database is up to date at revision {after}" if before == after
        else f"the database went from {before or 'empty'} to revision {after}")


@app.command(epilog="Example: mkmed db start")
def start() -> None:
    """Start the embedded PostgreSQL and leave it running until `mkmed db stop`."""
    from kb.db.engine import open_engine
    from kb.db.server import embedded

    settings = load_settings()
    if settings.database_url is not None:
        raise ConfigError("MKMED_DATABASE_URL is set: that server is not mkmed's to start",
                          hint="unset it to use the embedded PostgreSQL")
    open_engine(settings)
    server = embedded(settings.home)
    server.keep()
    say(f"PostgreSQL runs in {server.cluster.data}; mkmed db stop ends it")


@app.command(epilog="Example: mkmed db stop")
def stop(force: Annotated[bool, typer.Option("--force", help="Cut off other mkmed processes.")] = False) -> None:
    """Stop the embedded PostgreSQL."""
    from kb.db.server import embedded

    settings = load_settings()
    stopped = embedded(settings.home).stop(force=force)
    say("PostgreSQL stopped" if stopped else "no PostgreSQL was running here")


@app.command(epilog="""\b
Examples:
  mkmed db url
  psql "$(mkmed db url)"
""")
def url(
    show_password: Annotated[bool, typer.Option("--show-password", help="Print the password of the URL too.")] = False,
) -> None:
    """Print the URL of the database for psql and other programs; the embedded server keeps running for them."""
    from kb.db.address import bare

    write(bare(_reachable(keep=True), hide_password=not show_password))


@app.command(epilog="""\b
Examples:
  mkmed db roles --print > roles.sql
  MKMED_DATABASE_URL=postgresql://owner@db.example.org/mkmed mkmed db roles
""")
def roles(print_only: Annotated[bool, typer.Option("--print", help="Print the SQL, and run nothing.")] = False) -> None:
    """Make the read-only and the ingest role on an external server, with policies for licences."""
    from kb.db.engine import open_engine
    from kb.db.roles import create_roles, script

    if print_only:
        write(script().rstrip())
        return
    settings = load_settings()
    if settings.database_url is None:
        raise ConfigError("the embedded PostgreSQL has one user, whom no role holds back",
                          hint="set MKMED_DATABASE_URL to an external server, or use --print")
    create_roles(open_engine(settings))
    say("roles mkmed_ingest, mkmed_reader and mkmed_nc are ready; CALL mkmed.add_reader('name') adds a person")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, epilog="""\b
Examples:
  mkmed db psql
  mkmed db psql -c 'select name, modalities from bucket limit 5'
""")
def psql(context: typer.Context) -> None:
    """Open psql on the database; everything after `psql` is handed to it."""
    import os

    from kb.db.address import bare

    address = _reachable(keep=False)
    ours = load_settings().database_url is None
    options = {
        key: value for key, value in os.environ.items()
        if key != "MKMED_DATABASE_URL" and not (ours and key.startswith("PG"))  # they mean the user's other servers
    }
    chosen = [options.get("PGOPTIONS", ""), "-c search_path=mkmed,ext,public"]
    options |= {"PGOPTIONS": " ".join(filter(None, chosen)), "PGAPPNAME": "mkmed psql"}
    if address.password is not None:
        options["PGPASSWORD"] = str(address.password)  # not in argv, where every user of the machine could read it
    command = [_psql_program(), bare(address.set(password=None)), *context.args]
    with left_to_a_child():
        code = subprocess.call(command, env=options)
    raise typer.Exit(code)


def _reachable(*, keep: bool) -> URL:
    """The URL of a database that answers; the embedded one is started, and kept if asked."""
    from kb.db.address import parse_url
    from kb.db.engine import open_engine
    from kb.db.server import embedded

    settings = load_settings()
    if settings.database_url is not None:
        return parse_url(settings.database_url.get_secret_value())
    engine = open_engine(settings)
    if keep:
        embedded(settings.home).keep()
    return engine.url


def _psql_program() -> str:
    from kb.db.binaries import packaged

    try:
        return str(packaged() / "bin" / "psql")
    except DatabaseUnavailable:
        found = shutil.which("psql")
        if found is None:
            raise
        return found
