"""The embedded server: shared, stopped by the last user, and harmless to everything that is not itself."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from servers import FAST, ask, client, home, innocent

from kb.db.server import Server, connect
from kb.errors import Busy, SchemaMismatch

__all__ = ["home"]


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Path]:
    """A home whose data directory is made once."""
    folder = Path(tempfile.mkdtemp(prefix="mks-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture
def server(shared_home: Path) -> Iterator[Server]:
    """A stopped server with a data directory."""
    made = Server(shared_home, FAST)
    made.start()
    made.stop()
    yield made
    made.stop(force=True)


def test_starts_answers_and_stops(server: Server) -> None:
    server.start()
    assert ask(server, "SHOW listen_addresses") == "" and ask(server, "SHOW synchronous_commit") == "on"
    assert ask(server, "SHOW log_min_error_statement") == "panic" and ask(server, "SHOW max_wal_size") == "4GB"
    assert stat.S_IMODE(server.cluster.data.stat().st_mode) == 0o700
    assert server.stop() is True and server.running() is None and server.stop() is False


def test_reused_process_number_is_neither_trusted_nor_killed(server: Server) -> None:
    bystander = innocent()
    try:
        pid_file = server.cluster.data / "postmaster.pid"
        pid_file.write_text(f"{bystander.pid}\n{server.cluster.data}\n1700000000\n5432\n{server.cluster.data}\n\n"
                            "  1234  5678\nready   \n")
        assert server.running() is None
        assert server.stop() is False
        server.start()
        assert ask(server, "SELECT 1") == "1"
        server.stop()
        assert bystander.poll() is None, "an innocent process was killed"
    finally:
        bystander.kill()
        bystander.wait()


def test_server_of_another_cluster_is_not_taken_for_ours(server: Server, home: Path) -> None:
    other = Server(home.parent / "other", FAST)
    other.start()
    theirs = (other.cluster.data / "postmaster.pid").read_text()
    (server.cluster.data / "postmaster.pid").write_text(theirs)
    assert server.running() is None and server.stop() is False
    server.start()
    assert ask(server, "SHOW data_directory") == str(server.cluster.data)
    assert ask(other, "SHOW data_directory") == str(other.cluster.data)
    other.stop()


@pytest.mark.parametrize("torn", ["", "\n", "garbage", "99999999\n", "12"])
def test_torn_pid_file_is_no_trap(server: Server, torn: str) -> None:
    (server.cluster.data / "postmaster.pid").write_text(torn)
    assert server.running() is None
    server.start()
    assert ask(server, "SELECT 1") == "1"


def test_killed_postmaster_is_started_again_without_loss(server: Server) -> None:
    running = server.start() and server.running()
    connection = connect(running.socket, "postgres")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)")
    connection.commit()
    os.kill(running.pid, signal.SIGKILL)
    server.start()
    assert ask(server, "SELECT a FROM kept") == "1"
    with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()


def test_last_user_stops_the_server_even_after_one_was_killed(server: Server) -> None:
    killed = client(server.home, "print('up', flush=True)\ntime.sleep(60)")
    assert killed.stdout.readline() == "up\n"
    killed.kill()
    killed.communicate()
    assert server.running() is not None, "a kill leaves the server up"
    polite = client(server.home, "print('up', flush=True)")
    polite.communicate(timeout=60)
    assert server.running() is None, "the next user stops it when it leaves"


def test_server_stays_while_another_process_uses_it(server: Server) -> None:
    staying = client(server.home, "print('up', flush=True)\ntime.sleep(60)")
    assert staying.stdout.readline() == "up\n"
    client(server.home, "").communicate(timeout=60)
    assert server.running() is not None
    staying.terminate()
    staying.communicate()


def test_stop_refuses_while_others_work_unless_forced(server: Server) -> None:
    other = client(server.home, "print('up', flush=True)\ntime.sleep(60)")
    assert other.stdout.readline() == "up\n"
    with pytest.raises(Busy):
        server.stop()
    assert server.running() is not None
    assert server.stop(force=True) is True
    other.kill()
    other.communicate()


def test_kept_server_outlives_its_users_until_it_is_stopped(server: Server) -> None:
    client(server.home, "server.keep()").communicate(timeout=60)
    assert server.running() is not None and server.kept()
    client(server.home, "").communicate(timeout=60)
    assert server.running() is not None
    assert server.stop() is True
    client(server.home, "").communicate(timeout=60)
    assert server.running() is None, "the mark is of that server only"


def test_data_of_another_major_version_is_left_alone(server: Server) -> None:
    version = server.cluster.data / "PG_VERSION"
    ours = version.read_text()
    version.write_text("16\n")
    with pytest.raises(SchemaMismatch, match="PostgreSQL 16") as caught:
        server.start()
    assert "pg_dump" in caught.value.hint
    assert version.read_text() == "16\n"
    version.write_text(ours)
