"""A project in the working directory may have packages of the same names as ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kb.db.address import bare

ROOT = Path(__file__).parents[1]
MIGRATE = """
import sys
assert sys.path[0] in ("", {here!r})
import migrations
assert migrations.MINE
from kb.db.address import parse_url
from kb.db.engine import engine_for
from kb.db import migrate
engine = engine_for(parse_url({url!r}))
migrate.upgrade(engine)
assert migrate.is_current(engine)
import migrations as after
assert after is migrations and after.MINE
print(migrate.folder())
"""


def python(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """What a Python with the working directory first on its path does, as in a notebook there."""
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_local_migrations_and_report_shadow_nothing(empty_database, tmp_path):
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "__init__.py").write_text("MINE = True\n")
    for name in ("report.py", "demo.py"):
        (tmp_path / name).write_text("raise SystemExit('the local one was imported')\n")
    done = python(tmp_path, MIGRATE.format(here=str(tmp_path), url=bare(empty_database.url)))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == ROOT / "migrations"
    done = python(tmp_path, "import cli; import mkmed.report.page, mkmed.demo.paths; cli.run(['report', '--help'])")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["kb", "recsys"])
def test_a_local_package_with_a_rooms_name_is_named(tmp_path, room):
    (tmp_path / room).mkdir()
    (tmp_path / room / "__init__.py").write_text("")
    done = python(tmp_path, "import mkmed")
    assert done.returncode == 1 and f"needs its own package '{room}'" in done.stderr, done.stderr
