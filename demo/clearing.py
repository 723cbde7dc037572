"""Removes what a demo made."""

from __future__ import annotations

import shutil

from kb.settings import Settings

KEPT = "report.html"


def clear(settings: Settings) -> None:
    """Stop the demo's server and remove everything in its home but the report; raises Busy while others use it."""
    from kb.db.server import embedded

    embedded(settings.home).stop()
    for path in settings.home.iterdir():
        if path.name == KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
