"""The plan follows its rates, and says what it does not know."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from embed.runs.building import estimate_index
from embed.runs.store import index_settings
from kb.errors import DataError, UsageError
from mkmed.plan.estimate import KINDS, WIDTH, basis, load_rates, planned_steps

ROOT = Path(__file__).resolve().parent.parent


def test_twice_as_fast_is_half_the_hours_and_cores_help_only_what_is_parallel():
    rates = load_rates()
    slow = {row.step: row for row in planned_steps(1e8, 1e7, 4, rates)}
    faster = json.loads(json.dumps(rates))
    faster["rates"]["encode"]["per_s"] *= 2
    quick = {row.step: row for row in planned_steps(1e8, 1e7, 4, faster)}
    more = {row.step: row for row in planned_steps(1e8, 1e7, 8, rates)}
    step = "encode into a data set"
    assert quick[step].hours == pytest.approx(slow[step].hours / 2, rel=0.01)
    assert more[step].hours == pytest.approx(slow[step].hours / 2, rel=0.01)
    assert more["read into PostgreSQL"].hours == slow["read into PostgreSQL"].hours
    assert slow[step].hours == pytest.approx(1e8 / rates["rates"]["encode"]["per_s"] / 4 / 3600, rel=0.01)


def test_an_index_is_planned_as_it_is_reckoned_before_it_is_built():
    rates = load_rates()
    row = next(one for one in planned_steps(1e6, 0, 2, rates) if "indexes" in one.step)
    own = estimate_index(1_000_000, WIDTH, "vector", index_settings(1_000_000)[0])
    assert row.hours == pytest.approx(KINDS * own.seconds / 3600, abs=0.01), "each kind of vectors has an index"
    assert row.memory_gib == pytest.approx(own.memory / 1024 + 1, abs=0.1) and row.disk_gib > KINDS * own.disk / 1024
    rates["rates"]["index"]["per_s"] *= 2
    assert next(one for one in planned_steps(1e6, 0, 2, rates) if one.step == row.step).hours < 0.6 * row.hours


def test_what_was_not_measured_is_not_called_measured():
    assert basis(1000, 1000) == "measured" and basis(1001, 1000) == "simulated"
    assert basis(100_001, 1000) == "reasoned" and basis(5, 0) == "reasoned"
    rows = planned_steps(1e8, 1e7, 2, load_rates())
    assert {row.basis for row in rows if row.n > 1e7} == {"simulated"}, "a hundredth of it was measured"
    assert [row.basis for row in rows if row.step == "prepare a cohort"] == ["simulated"]


@pytest.mark.parametrize("drugs, patients", [(0, 0), (-1, 0), (float("nan"), 5), (1e12, 0)])
def test_numbers_that_are_none_are_refused(drugs, patients):
    with pytest.raises(UsageError):
        planned_steps(drugs, patients, 2, load_rates())


def test_a_broken_file_of_rates_is_told(tmp_path):
    (tmp_path / "rates.json").write_text('{"rates": {"encode": {"per_s": 0}}}')
    for path in (tmp_path / "rates.json", tmp_path / "none.json"):
        with pytest.raises(DataError):
            load_rates(path)


def test_every_rate_names_a_benchmark_that_is_there():
    found = load_rates()
    for one in (*found["rates"].values(), *found["sizes"].values()):
        assert (ROOT / re.match(r"\S+", one["from"]).group()).is_file(), one
