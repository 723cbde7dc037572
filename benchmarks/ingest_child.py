"""One ingest in a process of its own, so that its memory is its own: ``python ingest_child.py SOURCE FILE [OPTIONS]``.

Prints seconds, processor seconds (those of its children and of the embedded server too), the machine's load before it,
MiB at the peak and before the ingest (the libraries), and what the run counted, as JSON. ``start`` takes the checkout
whose code is to run, of release 0.1.0 too.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb import output


def start(
    source: str, path: Path | None, options: Mapping[str, Any] | None = None, checkout: Path | None = None
) -> subprocess.Popen[str]:
    """A process that ingests the file, if the source reads one; ``options`` are further fields of IngestOptions."""
    command = [sys.executable, __file__, source, str(path or ""), json.dumps(options or {})]
    environment = os.environ | ({"PYTHONPATH": str(checkout)} if checkout else {})
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the process said; raises when it failed."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the ingest ended with {process.returncode}")
    found: dict[str, Any] = json.loads(said)
    return found


def peak_mib() -> float:
    """The largest resident size of this process; ``ru_maxrss`` would begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def cpu_seconds(home: Path) -> float:
    """Processor seconds of this process, of its children that ended, and of the server in ``home`` and its sessions."""
    import psutil

    found = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    for pid in home.rglob("postmaster.pid"):
        master = psutil.Process(int(pid.read_text().split()[0]))
        found += sum(master.cpu_times()[:4]) + sum(sum(child.cpu_times()[:2]) for child in master.children())
    return found


def as_the_program() -> None:
    """Set Python as the program of this checkout does; that of release 0.1.0 leaves it as it is."""
    import kb

    if (Path(kb.__file__).parents[1] / "mkmed" / "__main__.py").exists():
        from mkmed.__main__ import collect_rarely

        collect_rarely()


def main(source: str, path: Path | None, options: Mapping[str, Any]) -> None:
    """Ingest and tell."""
    from kb.db.engine import open_engine

    try:
        from kb.ingest.engine import ingest
    except ImportError:  # release 0.1.0, where the engine is a module
        from kb.ingest import ingest  # type: ignore[attr-defined,no-redef]
    from kb.settings import load_settings
    from kb.sources.contract import IngestOptions

    as_the_program()
    settings = load_settings()
    engine = open_engine(settings)
    load = os.getloadavg()[0]
    before, begun, cpu = peak_mib(), time.perf_counter(), cpu_seconds(settings.home)
    summary = ingest(engine, settings, source, IngestOptions(path=path, **options))
    seconds = time.perf_counter() - begun
    cpu = cpu_seconds(settings.home) - cpu
    said = {"seconds": seconds, "cpu": cpu, "load": load, "mib": peak_mib(), "mib_before": before,
            "counts": summary.counts}
    output.write(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if sys.argv[2] else None, json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
