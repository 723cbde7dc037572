"""The embedded server: shared, stopped by the last user, and harmless to everything that is not itself."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from kb.db import binaries, cluster
from kb.db.account import server_account
from kb.db.server import Server, connect
from kb.errors import Busy, ConfigError, SchemaMismatch

ROOT = Path(__file__).resolve().parents[2]
FAST = {"fsync": "off", "shared_buffers": "32MB"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server to another account")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short, reachable folder; whatever server runs in it is stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mks-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder / "home"
    for path in folder.rglob("postmaster.pid"):
        _stop_below(path.parent)
    shutil.rmtree(folder)


def _stop_below(data: Path) -> None:
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "postgres" and str(data) in (process.info["cmdline"] or []):
            process.send_signal(signal.SIGQUIT)
            psutil.wait_procs([process], timeout=20)


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


def ask(server: Server, query: str) -> str:
    """One value from the server's maintenance database."""
    running = server.running()
    assert running is not None
    connection = connect(running.socket, "postgres")
    with connection.cursor() as cursor:
        cursor.execute(query)
        answer = cursor.fetchone()
    connection.close()
    return str(answer[0])


def innocent() -> subprocess.Popen[bytes]:
    """A process of the server's own account that has nothing to do with PostgreSQL."""
    account = server_account()
    identity = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    return subprocess.Popen(["sleep", "120"], **identity)


def client(home: Path, code: str) -> subprocess.Popen[str]:
    """Another process that starts the server of ``home`` and then runs ``code`` with it as ``server``."""
    program = (f"from pathlib import Path\nfrom kb.db.server import Server\nimport time\n"
               f"server = Server(Path({str(home)!r}), {FAST!r})\nserver.start()\n{code}")
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)


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
    os.kill(running.process.pid, signal.SIGKILL)
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


@pytest.mark.slow
def test_six_processes_race_a_cold_start(home: Path) -> None:
    code = "import os\nprint(server.running().process.pid, flush=True)\ntime.sleep(4)"
    racers = [client(home, code) for _ in range(6)]
    said = {racer.communicate(timeout=120)[0].strip() for racer in racers}
    assert len(said) == 1 and all(racer.returncode == 0 for racer in racers)
    assert Server(home, FAST).running() is None


@pytest.mark.slow
def test_killed_initdb_leaves_no_trap(home: Path) -> None:
    starting = client(home, "")
    deadline = time.monotonic() + 30
    while not list((home / "postgres").glob("initdb-*/PG_VERSION")) and time.monotonic() < deadline:
        time.sleep(0.005)
    starting.kill()
    starting.wait()
    starting.stdout.close()
    assert not (home / "postgres" / "data").exists()
    server = Server(home, FAST)
    server.start()
    assert ask(server, "SELECT 1") == "1" and not list((home / "postgres").glob("initdb-*"))
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a home with spaces", "h" * 120, "ü quote'd, too"])
def test_odd_paths_work(home: Path, name: str) -> None:
    server = Server(home.parent / name, FAST)
    server.start()
    assert ask(server, "SELECT 1") == "1"
    server.stop()


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b"])
def test_paths_that_a_shell_would_read_are_refused(home: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="shell"):
        Server(home.parent / name, FAST)


def test_socket_of_a_long_path_lies_in_a_private_folder(tmp_path: Path) -> None:
    long = cluster.Cluster(tmp_path / ("x" * 110), None)
    folder = cluster.socket_folder(long)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and len(str(folder)) < 60
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="somebody else"):
        cluster.socket_folder(long)
    folder.rmdir()


def test_data_deleted_under_a_running_server(home: Path) -> None:
    server = Server(home, FAST)
    server.start()
    old = server.running().process
    shutil.rmtree(server.cluster.data)
    server.start()
    assert ask(server, "SELECT 1") == "1"
    server.stop()
    assert not old.is_running() or old.status() == psutil.STATUS_ZOMBIE


def test_data_of_another_major_version_is_left_alone(server: Server) -> None:
    version = server.cluster.data / "PG_VERSION"
    ours = version.read_text()
    version.write_text("16\n")
    with pytest.raises(SchemaMismatch, match="PostgreSQL 16") as caught:
        server.start()
    assert "pg_dump" in caught.value.hint
    assert version.read_text() == "16\n"
    version.write_text(ours)


@needs_root
def test_no_private_folder_is_opened_for_the_servers_account(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = home.parent / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(cluster, "SHARED_HOMES", home.parent / "clusters")
    before = {path: path.stat().st_mode for path in (private, *private.parents)}
    server = Server(private / "home", FAST)
    server.start()
    assert ask(server, "SELECT 1") == "1"
    assert server.cluster.root.parent == home.parent / "clusters"
    assert {path: path.stat().st_mode for path in before} == before
    server.stop()


@needs_root
def test_private_environment_is_copied_and_not_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = home.parent / "private"
    private.mkdir(mode=0o700)
    real = binaries.packaged()
    package = private / "site" / binaries.PACKAGE
    package.mkdir(parents=True)
    (package / real.name).symlink_to(real)
    shutil.copytree(real.parent.parent / binaries.LIBRARIES, private / "site" / binaries.LIBRARIES)
    monkeypatch.setattr(binaries, "packaged", lambda: package / real.name)
    monkeypatch.setattr("kb.db.account.Account.can_reach", lambda self, path: real not in path.resolve().parents)
    before = {path: path.stat().st_mode for path in (private, package, real)}
    server = Server(home, FAST)
    server.start()
    assert ask(server, "SELECT 1") == "1"
    assert server.running().process.exe().startswith(str(server.cluster.root))
    assert {path: path.stat().st_mode for path in before} == before
    server.stop()


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = cluster.Cluster(tmp_path / "file" / "postgres", None)
    with pytest.raises(ConfigError, match="cannot be made"):
        cluster.make_folders(broken, tmp_path / "file")
