"""What `make bench` runs."""

from __future__ import annotations

import re

from tests.handbook.pages import ROOT

WANTS = re.compile(r'required=True|add_argument\("[a-z]|Path\(sys\.argv\[1\]\)|= sys\.argv\[1\]')
"""An argument without which a benchmark does nothing."""


def test_a_benchmark_that_wants_an_argument_is_left_out_and_named() -> None:
    given = re.search(r"^GIVEN := .*,([\w ]+)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert given is not None
    files = sorted((ROOT / "benchmarks").glob("bench_*.py"))
    assert given[1].split() == [file.stem.removeprefix("bench_") for file in files if WANTS.search(file.read_text())]
