"""One ingest in a process of its own, so that its memory is its own: ``python ingest_child.py SOURCE FILE [OPTIONS]``.

Prints seconds, MiB at the peak and before the ingest (the libraries), and what the run counted, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb import output


def start(source: str, path: Path, options: Mapping[str, Any] | None = None) -> subprocess.Popen[str]:
    """A process that ingests the file; ``options`` are further fields of IngestOptions."""
    command = [sys.executable, __file__, source, str(path), json.dumps(options or {})]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


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


def main(source: str, path: Path, options: Mapping[str, Any]) -> None:
    """Ingest and tell."""
    from kb.db.engine import open_engine
    from kb.ingest.engine import ingest
    from kb.settings import load_settings
    from kb.sources.contract import IngestOptions

    settings = load_settings()
    engine = open_engine(settings)
    before, begun = peak_mib(), time.perf_counter()
    summary = ingest(engine, settings, source, IngestOptions(path=path, **options))
    seconds = time.perf_counter() - begun
    output.write(json.dumps({"seconds": seconds, "mib": peak_mib(), "mib_before": before, "counts": summary.counts}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
