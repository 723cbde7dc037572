"""Listings: columns, order and conditions, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from kb.errors import UsageError
from kb.listing import arrange, shortened

ROWS = [{"run": "617d6b12-c018-4bc1-a270-ca7687f6075b", "recommender": "mkmed", "jaccard": 0.41, "seed": 10},
        {"run": "2", "recommender": "retain", "jaccard": None, "seed": 9},
        {"run": "3", "recommender": "mkmed", "jaccard": 0.5, "seed": 100}]


def test_rows_and_columns_are_chosen() -> None:
    rows, shown = arrange(ROWS, ("run", "seed"), sort="-jaccard")
    assert [row["run"] for row in rows] == ["3", ROWS[0]["run"], "2"] and shown == ("run", "seed")
    rows, shown = arrange(ROWS, ("run",), columns="seed, jaccard", where=["recommender=MKMED", "seed>=10"], sort="seed")
    assert [row["seed"] for row in rows] == [10, 100] and shown == ("seed", "jaccard")
    assert len(arrange(ROWS, ("run",), where=["jaccard!=0.5"])[0]) == 2 and len(arrange(ROWS, ("run",), where=["jaccard<0.5"])[0]) == 1
    for wrong in ({"columns": "sed"}, {"sort": "nothing"}, {"where": ["nothing"]}, {"where": ["nope=1"]}):
        with pytest.raises(UsageError):
            arrange(ROWS, ("run", "seed"), **wrong)
    assert arrange([], ("run",)) == ([], ("run",))


def test_ids_and_times_are_short_in_a_table() -> None:
    (row,) = shortened([{"run": ROWS[0]["run"], "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "name": "x" * 40}], "run")
    assert row == {"run": "617d6b12", "at": "2026-01-02 03:04", "name": "x" * 40}


def test_listing_runs_needs_no_torch() -> None:
    program = ("import sys; import recsys.experiments.run_folders, recsys.commands, embed.commands; "
               "sys.exit(bool({'torch', 'sklearn', 'scipy.stats'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
