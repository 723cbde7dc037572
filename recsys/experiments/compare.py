"""Two runs on the same patients: the paired bootstrap of every metric's difference."""

from __future__ import annotations

import json
from typing import Any

from kb.errors import DataError
from kb.settings import Settings
from recsys.experiments.bootstrap import paired_difference
from recsys.experiments.run_folders import find_folder, read_sums

SAME = ("cohort", "task", "split", "seed")


def compare(settings: Settings, first: str, second: str, *, by: str = "visit",
            draws: int = 1000) -> list[dict[str, Any]]:
    """One row a metric: both means, the difference first − second, its 95 % interval and p.

    Raises DataError when the runs were not made on the same cohort, task, split and seed.
    """
    folders = [find_folder(settings, name) for name in (first, second)]
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    differing = [name for name in SAME if configs[0][name] != configs[1][name]]
    if differing or reports[0]["cohort"] != reports[1]["cohort"]:
        raise DataError(f"the runs differ in {', '.join(differing) or 'the cohort itself'}",
                        hint="train the second with the same cohort, task, split and seed")
    table = paired_difference(read_sums(settings, folders[0]), read_sums(settings, folders[1]), by=by, draws=draws)
    where = f"per_{by}"
    return [{"metric": name, "first": reports[0][where][name], "second": reports[1][where][name], **row}
            for name, row in table.items()]
