"""What torture suites share: homes with a durable server, writers that note what was acknowledged, kills, small disks."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRELOAD = ["cli", "kb.commands", "kb.ingest.engine", "kb.db.engine", "kb.db.migrate", "alembic.command", "kb.sources.pubchem.source",
           "rdkit.Chem", "tests.standin.quick"]


@contextmanager
def torture_home(parent: str | Path = "/tmp") -> Iterator[Path]:
    """A home with a server of its own, fsync on; the server is stopped and the home removed at the end."""
    from kb.db.server import embedded

    home = Path(tempfile.mkdtemp(prefix="mkx-", dir=parent))
    home.chmod(0o711)
    try:
        yield home
    finally:
        embedded(home).stop(force=True)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def small_disk(megabytes: int, owner: int = 0) -> Iterator[Path]:
    """A RAM disk of that size; skips the test where mounting is not permitted."""
    folder = Path(tempfile.mkdtemp(prefix="mkd-", dir="/tmp"))
    folder.chmod(0o711)
    options = f"size={megabytes}m,mode=0711,uid={owner}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 30
        while subprocess.run(["umount", str(folder)], capture_output=True).returncode and time.monotonic() < deadline:
            time.sleep(0.2)
        folder.rmdir()


def enlarge(disk: Path, megabytes: int) -> None:
    """Give a small disk more room, as a user who freed space would."""
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(disk)], check=True)


def spawn(code: str, home: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A Python process in the checkout with ``MKMED_HOME`` set; it dies with its whole group by ``kill``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MKMED_")}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True,
                            env=clean | {"MKMED_HOME": str(home)} | environment)


def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that start at once: a server with everything imported forks them."""
    os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def forked_command(home: str, arguments: Sequence[str]) -> None:
    """What such a process runs: the real command in a home, its words in ``ingest.log`` there."""
    os.setsid()
    log = os.open(f"{home}/ingest.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"MKMED_HOME": home, "MKMED_WORKERS": "1"}
    from cli import main

    sys.argv = ["mkmed", *arguments]
    main()


def run_command(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished ``mkmed`` command in a home."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MKMED_")}
    return subprocess.run([sys.executable, "-m", "cli", *arguments], cwd=ROOT, capture_output=True, text=True,
                          env=clean | {"MKMED_HOME": str(home)} | environment, timeout=600)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and its children, but not to the server, which leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_after(process: subprocess.Popen[bytes], rng: random.Random, low: float, high: float) -> bool:
    """Whether the process was still running when it was killed, after U(low, high) seconds."""
    deadline = time.monotonic() + rng.uniform(low, high)
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    kill(process)
    return True


def kill_postmaster(home: Path) -> bool:
    """Whether a server of this home was running and got SIGKILL."""
    from kb.db.server import Server

    running = Server(home).running()
    if running is None:
        return False
    os.kill(running.pid, signal.SIGKILL)
    return True


def acknowledged(path: Path) -> list[int]:
    """The whole lines of a file that a writer appends a number to after each commit."""
    text = path.read_text() if path.exists() else ""
    return [int(line) for line in text.split("\n")[:-1]]


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """The seconds until ``condition`` held; fails the test when it takes longer than ``seconds``."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - start
