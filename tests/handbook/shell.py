"""A real bash in which ``mkmed`` costs what its work costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kb.db.binaries import packaged
from tests.handbook.pages import ROOT

CALL = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    call = json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
    socket.send_fds(server, [b"%8d" % len(call)], [0, 1, 2])
    server.sendall(call)
    sys.exit(int(server.recv(8) or 70))
"""


@dataclass(frozen=True)
class Shell:
    """Runs scripts with ``mkmed``, ``psql`` and this interpreter on the path, in a folder and an environment."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """The finished script; it stops at the first command that fails."""
        return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, capture_output=True, text=True,
                              timeout=600, stdin=subprocess.DEVNULL, env={**self.environment, **more})


@contextmanager
def opened(folder: Path, plugs: Sequence[str] = (), **environment: str) -> Iterator[Shell]:
    """A shell with a resident mkmed, which ends with it. ``folder`` must have a short path: a socket lies in it."""
    programs = folder / "bin"
    programs.mkdir()
    path = str(folder / "s")
    (programs / "mkmed").write_text(CALL.format(python=sys.executable, path=path))
    (programs / "mkmed").chmod(0o755)
    for name in ("psql", "pg_dump", "pg_restore"):
        (programs / name).symlink_to(packaged() / "bin" / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MKMED_")}
    inherited = {**kept, "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder),
                 "PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1", "COLUMNS": "140", **environment}
    server = subprocess.Popen([sys.executable, str(Path(__file__).parent / "resident.py"), path, *plugs], cwd=ROOT,
                              stdout=subprocess.PIPE, text=True, env=inherited)
    try:
        assert server.stdout and server.stdout.readline() == "ready\n", "the resident mkmed did not start"
        yield Shell(folder, inherited)
    finally:
        server.terminate()
        server.wait(20)
        if server.stdout:
            server.stdout.close()
