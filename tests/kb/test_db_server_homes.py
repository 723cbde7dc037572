"""Homes of the embedded server: raced, half-made, oddly named, private, deleted under it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import time
from pathlib import Path

import psutil
import pytest
from servers import FAST, ask, client, home, needs_root

from kb.db import binaries, cluster
from kb.db.server import Server
from kb.errors import ConfigError, DatabaseUnavailable

__all__ = ["home"]


@pytest.mark.slow
def test_six_processes_race_a_cold_start(home: Path) -> None:
    code = "import os\nprint(server.running().pid, flush=True)\ntime.sleep(4)"
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
    old = psutil.Process(server.running().pid)
    shutil.rmtree(server.cluster.data)
    server.start()
    assert ask(server, "SELECT 1") == "1"
    server.stop()
    assert not old.is_running() or old.status() == psutil.STATUS_ZOMBIE


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
def test_root_serves_a_users_data_as_that_user(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    made = Server(home, FAST)
    made.start()
    made.stop()
    for path in (made.cluster.data, *made.cluster.data.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    server = Server(home, FAST)
    server.start()
    assert ask(server, "SELECT 1") == "1"
    assert psutil.Process(server.running().pid).username() == "nobody"
    server.stop()


@needs_root
def test_database_whose_home_was_closed_is_not_forgotten(home: Path) -> None:
    (home / "postgres" / "data").mkdir(parents=True)
    (home / "postgres" / "data" / "PG_VERSION").write_text("18\n")
    home.chmod(0o700)
    with pytest.raises(DatabaseUnavailable, match="closed") as caught:
        Server(home)
    assert "chmod" in caught.value.hint and stat.S_IMODE(home.stat().st_mode) == 0o700


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
    assert psutil.Process(server.running().pid).exe().startswith(str(server.cluster.root))
    assert {path: path.stat().st_mode for path in before} == before
    server.stop()


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = cluster.Cluster(tmp_path / "file" / "postgres", None)
    with pytest.raises(ConfigError, match="cannot be made"):
        cluster.make_folders(broken, tmp_path / "file")
