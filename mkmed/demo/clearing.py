"""Removes what a demo made."""

from __future__ import annotations

import shutil

from kb.settings import Settings

KEPT = "report.html"


def clear(settings: Settings) -> None:
    """Stop the demo's server and remove its database and everything in its home but the report.

    Raises Busy while others use it. The database of a private home lies outside of it when root runs the demo.
    """
    from kb.db.server import embedded

    server = embedded(settings.home)
    server.stop()
    if server.cluster.root.exists():
        shutil.rmtree(server.cluster.root)
    for path in settings.home.iterdir():
        if path.name == KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
