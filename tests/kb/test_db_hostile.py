"""The embedded server among libpq's variables, odd homes, planted links and signals: nothing hangs, nothing leaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from servers import FAST, ROOT, ask, home, needs_root
from sqlalchemy import text

import cli
from kb import files
from kb.db import binaries, cluster, space
from kb.db.engine import engine_for, ensure_database, open_engine, url_of
from kb.db.server import Server, connect, embedded
from kb.errors import ConfigError, DatabaseUnavailable
from kb.settings import absolute_home, load_settings

__all__ = ["home"]

HOSTILE = {
    "PGPORT": "5433", "PGHOST": "192.0.2.1", "PGHOSTADDR": "192.0.2.1", "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nonexistent", "PGSYSCONFDIR": "/nonexistent", "PGTARGETSESSIONATTRS": "standby",
    "PGOPTIONS": "-c nonsense=1", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nonexistent", "PGPASSFILE": "/dev/zero",
    "PGUSER": "somebody", "PGDATABASE": "elsewhere", "PGPASSWORD": "secret", "PGREQUIREPEER": "somebody",
    "PGREQUIREAUTH": "scram-sha-256", "PGCHANNELBINDING": "require", "PGGSSENCMODE": "require", "PGTZ": "Nowhere/Else",
    "PGDATESTYLE": "nonsense", "PGCLIENTENCODING": "KLINGON", "PGCONNECT_TIMEOUT": "never", "PGDATA": "/nonexistent",
    "PGLOADBALANCEHOSTS": "nonsense", "PGGEQO": "perhaps", "PGAPPNAME": "x" * 300, "PGMINPROTOCOLVERSION": "9.9",
}
SECONDS = 60.0
"""What a command may take on a busy machine; the faults took ten minutes."""


def run(*arguments: str, home: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished command in a home, without other settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MKMED_", "PG"))}
    return subprocess.run([sys.executable, "-m", "cli", *arguments], cwd=ROOT, capture_output=True, text=True,
                          env=clean | {"MKMED_HOME": str(home)} | environment, timeout=SECONDS)


@pytest.fixture(scope="module")
def running():
    """A started server in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="mks-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        server = Server(Path(folder) / "home", FAST)
        server.start()
        yield server
        server.stop(force=True)


@pytest.mark.slow
def test_a_cold_start_among_all_hostile_variables(home: Path) -> None:
    answer = run("db", "psql", "-Atc", "select current_user, current_setting('port')", home=home, **HOSTILE)
    assert (answer.returncode, answer.stdout) == (0, "postgres|5432\n"), answer.stderr
    shown = run("db", "url", home=home, **HOSTILE)
    assert shown.returncode == 0, shown.stderr
    psql = binaries.packaged() / "bin" / "psql"
    # what a user types: psql "$(mkmed db url)"; the address itself names host and port
    asked = subprocess.run([psql, shown.stdout.strip(), "-Atc", "select 1"], capture_output=True, text=True,
                           env=os.environ | {"PGPORT": "5433", "PGHOST": "192.0.2.1"}, timeout=SECONDS)
    assert asked.stdout == "1\n", asked.stderr
    assert run("db", "stop", home=home, **HOSTILE).returncode == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_variable_is_ignored(running: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, HOSTILE[name])
    began = time.monotonic()
    ensure_database(running.start())
    engine = engine_for(url_of(running), running)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_setting('DateStyle')")) == "ISO, MDY"
    engine.dispose()
    assert time.monotonic() - began < SECONDS and os.environ[name] == HOSTILE[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a b", "a+b", "100%", "Ärzte für 薬", "a@b#c?d&e=f", "it's, too"])
def test_psql_and_url_work_in_odd_homes(home: Path, name: str) -> None:
    place = home.parent / name
    answer = run("db", "psql", "-Atc", "select 1", home=place)
    assert (answer.returncode, answer.stdout) == (0, "1\n"), answer.stderr
    url = run("db", "url", home=place).stdout.strip()
    psql = binaries.packaged() / "bin" / "psql"
    asked = subprocess.run([psql, url, "-Atc", "select 1"], capture_output=True, text=True, timeout=SECONDS)
    assert asked.stdout == "1\n", asked.stderr
    assert run("db", "stop", home=place).returncode == 0


def test_homes_are_absolute_whatever_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for written, meant in {"rel": tmp_path / "rel", "~/kb": tmp_path / "me" / "kb", "./a/../b": tmp_path / "b"}.items():
        monkeypatch.setenv("MKMED_HOME", written)
        assert load_settings().home == meant
    for empty in ("", "  "):
        monkeypatch.setenv("MKMED_HOME", empty)
        assert load_settings().home not in (tmp_path, Path()) and load_settings().home.is_absolute()
    assert not list(tmp_path.iterdir()), "nothing is made by asking"


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\x7fb", "a\udcffb", "a\u2028b", "/" + "x" * 300, "x/" * 600,
                                  "/" + "y/" * 3000, "~no-such-person/x"])
def test_names_that_no_home_may_have_are_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setenv("MKMED_HOME", name)
    began = time.monotonic()
    assert cli.run(["status"]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said and "\x1b" not in said and "hint" in said and time.monotonic() - began < 10


@pytest.fixture
def users_home(home: Path) -> Path:
    """A home of another account's, in which root is about to work."""
    import pwd

    nobody = pwd.getpwnam("nobody")
    (home / "postgres").mkdir(parents=True)
    for path in (home, home / "postgres"):
        path.chmod(0o711)
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return home


@needs_root
@pytest.mark.parametrize("name", ["postgres/mkmed.tmp", "postgres/ballast.tmp", "postgres/kept", "postgres/users",
                                  "postgres/lock", "postgres/mkmed.conf", "postgres/ballast", "cache", "runs",
                                  "config.toml", "cohorts", "report.html"])
def test_root_refuses_a_home_in_which_a_users_link_waits(users_home: Path, tmp_path: Path, name: str,
                                                         monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    link = users_home / name
    link.symlink_to(victim)
    os.chown(link, users_home.stat().st_uid, -1, follow_symlinks=False)
    monkeypatch.setenv("MKMED_HOME", str(users_home))
    assert cli.run(["db", "start"]) == 2
    assert "does not follow" in capfd.readouterr().err and victim.read_text() == "root's own"


@needs_root
def test_a_link_that_comes_later_is_not_followed_either(users_home: Path, tmp_path: Path) -> None:
    """The same files, planted after the home was looked at: by each of the functions that write them."""
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    root = users_home / "postgres"
    for name in ("mkmed.tmp", "mkmed.conf", "kept", "users", "lock", "ballast.tmp"):
        (root / name).symlink_to(victim)
    place = cluster.Cluster(root, None)
    cluster.write_configuration(place, {"port": "5432"})
    assert not place.configuration.is_symlink() and "port" in place.configuration.read_text()
    space.lay_ballast(root)
    files.replace_file(root / "kept", "1 2")
    for name in ("users", "lock"):
        with pytest.raises(ConfigError, match="link"):
            files.open_own(root / name)
    (root / "linked").hardlink_to(victim)
    with pytest.raises(ConfigError, match="not a file of mkmed's"):
        files.open_own(root / "linked")
    assert victim.read_text() == "root's own"


def test_a_home_that_can_only_be_read_is_called_so(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir(mode=0o500)
    assert "permissions are 0500" in cluster.why_not_writable(folder)
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
        assert "belongs to user 12345" in cluster.why_not_writable(folder)


def test_a_user_without_an_account_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.os, "geteuid", lambda: 4_000_123)
    with pytest.raises(DatabaseUnavailable, match="user 4000123 has no entry") as caught:
        cluster.require_account()
    assert "/etc/passwd" in caught.value.hint


def test_passwords_with_an_at_sign_are_refused_whole(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setenv("MKMED_DATABASE_URL", "postgresql://me:first@second@db.example.org/mkmed")
    assert cli.run(["db", "url"]) == 2
    said = "".join(capfd.readouterr())
    assert "first" not in said and "second" not in said and "%40" in said


def test_an_unknown_revision_is_a_usage_error(database_environment, capfd) -> None:
    assert cli.run(["db", "upgrade", "--to", "nonsense"]) == 2
    said = capfd.readouterr().err
    assert "nonsense" in said and "known: 0001" in said and "Command" not in said


def test_a_server_that_dies_during_the_first_questions_is_waited_for(home: Path, monkeypatch) -> None:
    settings = load_settings(home=home)
    server = embedded(home)
    open_engine(settings).dispose()
    from kb.db import migrate

    asked, current = [], migrate.current

    def dying(engine):
        asked.append(1)
        if len(asked) == 1:
            with engine.connect() as connection:
                os.kill(server.running().pid, signal.SIGKILL)
                time.sleep(0.2)
                connection.execute(text("SELECT 1"))
        return current(engine)

    monkeypatch.setattr(migrate, "current", dying)
    open_engine(settings).dispose()
    assert len(asked) > 1
    server.stop(force=True)


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(signal.SIGHUP,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT),
                                     (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)])
def test_a_signal_ends_a_command_without_a_traceback_and_without_a_server(home: Path, signals) -> None:
    code = ("import sys, time, cli, kb.query.status as status\n"
            "def wait(settings):\n"
            "    from kb.db.engine import open_engine\n"
            "    open_engine(settings)\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(60)\n"
            "status.take_stock = wait\nsys.argv[1:] = ['status']\ncli.main()\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MKMED_")}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=clean | {"MKMED_HOME": str(home)}, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signals[0], said
    assert "Traceback" not in said and "Exception ignored" not in said and "everything committed is kept" in said
    assert Server(home, FAST).running() is None


def test_the_raw_connection_ignores_them_too(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    connect(running.running().socket, "postgres").close()
    assert ask(running, "SELECT 1") == "1"


def test_absolute_home_keeps_a_plain_path() -> None:
    assert absolute_home("/var/lib/mkmed x") == Path("/var/lib/mkmed x").resolve()
