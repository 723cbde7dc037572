"""Where the bundled corpus lies, in a checkout or an installed wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from kb.bundle import bundle_path
from kb.errors import NotFound


def data_path(name: str = "") -> Path:
    """The folder ``mkmed/demo/data``, or the file or folder ``name`` in it; raises NotFound when it is not there."""
    found = bundle_path() / name
    if not found.exists():
        raise NotFound(f"{name} is not among the bundled data", hint="mkmed/demo/README.md lists what there is")
    return found


def patient_path() -> Path:
    """The invented patient of the demo, as ``mkmed recsys recommend --visit`` takes one."""
    return Path(str(files("mkmed.demo") / "patient.json"))
