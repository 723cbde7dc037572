"""Databases that lie apart from their home: which home each belongs to, and which homes are gone.

When root's home is closed to the server's account, the database lies in a folder named after a hash of the home. The
folder holds the home's path, so that a database whose home was removed can be told from one that is wanted.
"""

from __future__ import annotations

import os
from pathlib import Path

from kb.files import replace_file

MARK = "home"


def sign(root: Path, home: Path) -> None:
    """Write the home's path beside a database that does not lie in it; nothing for one that does."""
    mark = root / MARK
    if root.parent != home and not mark.exists():
        replace_file(mark, str(home.resolve()), mode=0o644)


def home_of(root: Path) -> Path | None:
    """The home that a database apart belongs to; None when that was not written down."""
    mark = root / MARK
    return Path(mark.read_text()) if mark.is_file() else None


def abandoned(folder: Path) -> list[Path]:
    """The databases in ``folder`` whose home is not there any more."""
    readable = folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
    found = sorted(folder.iterdir()) if readable else []
    homes = {root: home_of(root) for root in found}
    return [root for root, home in homes.items() if home is not None and not home.exists()]
