"""What the tests of the embedded server share: homes, a question, an innocent process, another client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kb.db.account import server_account
from kb.db.server import Server, connect

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
    identity = {}
    if os.geteuid() == 0:
        account = server_account()
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
    return subprocess.Popen(["sleep", "120"], **identity)


def client(home: Path, code: str) -> subprocess.Popen[str]:
    """Another process that starts the server of ``home`` and then runs ``code`` with it as ``server``."""
    program = (f"from pathlib import Path\nfrom kb.db.server import Server\nimport time\n"
               f"server = Server(Path({str(home)!r}), {FAST!r})\nserver.start()\n{code}")
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
