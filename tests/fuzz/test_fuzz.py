"""Five seconds of fuzz for each reader; ``make fuzz`` gives each ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kb.errors import MkmedError
from tests.fuzz.readers import TARGETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_survives_five_seconds(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, "--seconds", "5", "--seed", "1"], cwd=ROOT, text=True,
        capture_output=True, timeout=300, env={**os.environ, "MKMED_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert "no crash" in done.stderr and int(done.stderr.split(" documents")[0].split()[-1].replace(",", "")) > 5


@pytest.mark.parametrize(("name", "document"), [
    ("config", b"a = " + b"[" * 5000), ("config", b"a = " + b"{b = " * 5000), ("visit", b'{"visits": [{"%s": 1}]}' % (b"9" * 90_000)),
    ("ehr", b"SUBJECT_ID,HADM\r_ID,ADMITTIME\n1,2,3\n"),
])
def test_what_broke_a_reader_before(name: str, document: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    monkeypatch.setenv("MKMED_CONTACT", "")
    try:
        TARGETS[name].make(tmp_path)(document, tmp_path)
    except MkmedError as error:
        assert len(error.message) < 2000
