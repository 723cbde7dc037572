"""``python resident.py SOCKET PLUG...``: a process that has imported everything once and forks a mkmed for each call.

A page has a hundred commands, and a fresh interpreter needs seconds to import torch. Each call still has a process,
environment, folder, streams and exit code of its own. A PLUG is ``kb.sources:SOURCES:name=module:attribute``, a line in
a registry.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
from importlib import import_module

IMPORTED = ("torch", "rdkit.Chem", "pandas", "sklearn", "matplotlib.figure", "sqlalchemy", "psycopg2", "transformers",
            "cli", "kb.commands", "kb.ingest.engine", "kb.doctor", "embed.commands", "embed.training.job", "embed.evaluation.run",
            "embed.evaluation.ablation", "recsys.commands", "recsys.experiments.runs", "recsys.answers.recommend", "mkmed.report.page", "mkmed.demo.commands")


def main(path: str, plugs: list[str]) -> None:
    """Answer calls until the parent ends this process, or is gone."""
    parent = os.getppid()
    for name in IMPORTED:
        import_module(name)
    import torch

    torch.set_num_threads(1)
    for plug in plugs:
        module, registry, line = plug.split(":", 2)
        name, _, target = line.partition("=")
        getattr(import_module(module), registry)._entries[name] = target
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        listener.settimeout(5)
        while os.getppid() == parent:
            try:
                caller, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                answer(caller)
            caller.close()


def answer(caller: socket.socket) -> None:
    """Run one call in this forked process, tell its exit code, and end."""
    caller.setblocking(True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 70
    try:
        size, streams, _, _ = socket.recv_fds(caller, 8, 3)
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        call = json.loads(caller.makefile("rb").read(int(size)))
        os.environ.clear()
        os.environ.update(call["environment"])
        os.chdir(call["folder"])
        import cli

        code = cli.run(call["arguments"])
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        caller.sendall(str(code).encode())
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
