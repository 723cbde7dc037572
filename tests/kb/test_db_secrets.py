"""A password never reaches stdout, stderr, a traceback or the server's log, whichever way a command fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

import cli
from kb.db.address import bare, parse_url
from kb.db.server import Server
from kb.errors import ConfigError
from kb.normalise import public_url, public_values, redact, remember

CANARY = "s3cr3t-canary"
STATUS, DOCTOR, URL, UPGRADE = ("status",), ("doctor",), ("db", "url"), ("db", "upgrade")

FAILING = {
    "no such port": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed", STATUS, 75),
    "no such port, doctor": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed", DOCTOR, 1),
    "no such port, debug": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed", ("--debug", *STATUS), 75),
    "no such port, upgrade": (f"postgres://u:{CANARY}@127.0.0.1:1/mkmed", UPGRADE, 75),
    "no such socket": (f"postgresql://u:{CANARY}@/mkmed?host=/nonexistent", STATUS, 75),
    "password in the query": (f"postgresql://u@127.0.0.1/mkmed?password={CANARY}", STATUS, 2),
    "password in the query, debug": (f"postgresql://u@127.0.0.1/mkmed?password={CANARY}", ("--debug", *URL), 2),
    "ssl password in the query": (f"postgresql://u@127.0.0.1/mkmed?sslpassword={CANARY}", STATUS, 2),
    "no URL": (f"u:{CANARY}@host", STATUS, 2),
    "a libpq string": (f"host=127.0.0.1 password={CANARY}", ("--debug", *STATUS), 2),
    "another database": (f"mysql://u:{CANARY}@127.0.0.1/mkmed", STATUS, 2),
    "no database": (f"postgresql://u:{CANARY}@127.0.0.1", URL, 2),
    "bad port": (f"postgresql://u:{CANARY}@127.0.0.1:port/mkmed", STATUS, 2),
    "unknown option": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed?nonsense=1", ("--debug", *STATUS), 75),
    "bad option value": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed?sslmode=nonsense", ("--debug", *STATUS), 75),
    "encoded": (f"postgresql://u:%40{CANARY}%2F@127.0.0.1:1/mkmed", ("--debug", *STATUS), 75),
    "psql": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed", ("db", "psql", "-c", "select 1"), 2),
    "shown URL": (f"postgresql://u:{CANARY}@127.0.0.1:1/mkmed", URL, 0),
}


@pytest.mark.parametrize("case", FAILING)
def test_no_failure_shows_the_password(case: str, monkeypatch: pytest.MonkeyPatch, capfd, tmp_path: Path) -> None:
    url, command, code = FAILING[case]
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    monkeypatch.setenv("MKMED_DATABASE_URL", url)
    assert cli.run(command) == code
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err, case
    assert code == 0 or said.err or said.out


@pytest.mark.parametrize("place", ["missing", "other role"])
def test_no_refusal_of_a_real_server_shows_the_password(place: str, database: Engine, monkeypatch, capfd) -> None:
    host = database.url.query["host"]
    where = f"u:{CANARY}@/{database.url.database}" if place == "other role" else f"postgres:{CANARY}@/missing"
    monkeypatch.setenv("MKMED_DATABASE_URL", f"postgresql://{where}?host={host}")
    assert cli.run(("--debug", "status")) == 75
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err and "cannot be reached" in said.err


def test_configuration_file_keeps_its_secret(monkeypatch, capfd, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'database_url = "postgresql://u:{CANARY}@127.0.0.1:1/x"\nworkers = "many"\n')
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    assert cli.run(("--debug", "status")) == 2
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err and "workers" in said.err


def test_failing_statement_is_not_logged_with_its_values(fresh_database: Engine, server: Server) -> None:
    with pytest.raises(DBAPIError) as caught, fresh_database.begin() as connection:
        connection.execute(text("INSERT INTO mkmed.licence (id) VALUES (:v)"), {"v": CANARY})
    log = server.cluster.log.read_text()
    assert "null value in column" in log, "the failure itself is logged"
    assert CANARY not in log
    assert caught.value.hide_parameters


@pytest.mark.parametrize("said", [
    f"could not connect to postgresql://u:{CANARY}@host/db", f"postgresql+psycopg2://u:{CANARY}@h:5/db?x=y",
    f"connection string host=h password={CANARY} user=u", f"host=h password='{CANARY} x' user=u",
    f"?password={CANARY}&user=x", f"PGPASSWORD={CANARY}", f"token: {CANARY}", f"https://u:{CANARY}@proxy:3128/",
    f"api_key={CANARY}",
])
def test_redactor_masks_every_shape(said: str) -> None:
    assert CANARY not in redact(said)


def test_redactor_masks_what_it_was_told_and_nothing_else() -> None:
    remember("p@ss/w0rd")
    assert redact("at p@ss/w0rd and p%40ss%2Fw0rd") == "at *** and ***"
    plain = "drug metformin has 3 images at https://pubchem.ncbi.nlm.nih.gov/rest?cid=4091"
    assert redact(plain) == plain


@pytest.mark.parametrize(("given", "meant"), [
    ("postgres://u@h/d", "postgresql+psycopg2://u@h/d"), ("postgresql://u@h:6/d", "postgresql+psycopg2://u@h:6/d"),
    ("postgresql+psycopg2://u@h/d?sslmode=require", "postgresql+psycopg2://u@h/d?sslmode=require"),
    (" postgresql://u@/d?host=/run/pg \n", "postgresql+psycopg2://u@/d?host=%2Frun%2Fpg"),
])
def test_urls_are_mapped_to_our_driver(given: str, meant: str) -> None:
    assert parse_url(given).render_as_string(hide_password=False) == meant
    assert bare(parse_url(given)).startswith("postgresql://")


@pytest.mark.parametrize("wrong", ["", "sqlite:///x", "postgresql+psycopg://u@h/d", "postgresql://h"])
def test_other_urls_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        parse_url(wrong)


@pytest.mark.parametrize(("given", "kept"), [
    ("https://me:secret@host/x?token=abc&record_type=3d", "https://host/x?token=***&record_type=3d"),
    ("https://me:p/w@d?x#y@host/path?sig=1", "https://host/path?sig=***"),
    ("https://token@host/", "https://host/"),
    ("https://host/x#access_token=abc", "https://host/x#access_token=***"),
    ("https://host/x?X-Amz-Signature=abc&X-Amz-Credential=k/2", "https://host/x?X-Amz-Signature=***&X-Amz-Credential=***"),
    ("https://host:8080/a@b?cid=2244#cid=3", "https://host:8080/a@b?cid=2244#cid=3"),
    ("file:///home/somebody/private/drkg.tsv", "file:drkg.tsv"),
    ("file:///home/some%2Fbody/x.tsv", "file:x.tsv"),
    ("aspirin.csv", "aspirin.csv"),
])
def test_addresses_are_kept_without_credentials_and_folders(given: str, kept: str) -> None:
    assert public_url(given) == kept and public_url(kept) == kept
    assert public_values({"url": given, "more": [{"path": given}]}) == {"url": kept, "more": [{"path": kept}]}
