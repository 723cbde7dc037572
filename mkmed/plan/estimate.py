"""Hours, memory and disk of each step for so many compounds and patients, and how each number is known.

A rate is per core. ``measured``: at that size or a larger one; ``simulated``: at a smaller one, by at most a hundred
times; ``reasoned``: further than that, or never measured. Steps are taken to go as fast on every further core, which
was measured for two. Indexes are reckoned as before they are built (``embed.runs.building``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed.runs.building import estimate_index
from embed.runs.store import index_settings
from kb.errors import DataError, UsageError

RATES = Path(__file__).parent / "rates.json"
FAR = 100
"""So many times the size that was measured is simulated; more is reasoned."""
IN_STORE = 1_000_000
"""Compounds that are put into PostgreSQL at most: those that somebody asks about."""
IN_TRAINING = 1_000_000
EPOCHS = 30
WIDTH = 64
KINDS = 8
"""Kinds of vectors that a run stores of a drug at most."""
LEAST_NEIGHBOURS = 16
"""Of an index that is reckoned for few vectors too, which are searched without one."""
GIB, KIB = 1 << 30, 1 << 10
LARGEST = 1e10


@dataclass(frozen=True)
class PlanRow:
    """One step: where it runs, for how many, hours on the given cores, GiB of memory and disk, what drives the cost."""

    step: str
    where: str
    n: int
    hours: float
    memory_gib: float
    disk_gib: float
    basis: str
    driver: str
    source: str


def load_rates(path: Path = RATES) -> dict[str, Any]:
    """The measured rates; raises DataError for a file that holds none."""
    try:
        found = json.loads(path.read_text())
        if not all(one["per_s"] > 0 for one in found["rates"].values()):
            raise DataError(f"{path} has a rate that is not positive")
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of rates: {error}",
                        hint="benchmarks/bench_scale.py --rates writes one") from None


def basis(n: float, at: float) -> str:
    """How well a number for ``n`` is known that was measured at ``at``."""
    return "measured" if at >= n else "simulated" if at and n <= FAR * at else "reasoned"


def planned_steps(drugs: float, patients: float, cores: int, rates: Mapping[str, Any]) -> list[PlanRow]:
    """The steps for so many compounds and patients; raises UsageError for numbers that are none."""
    for name, value in (("--drugs", drugs), ("--patients", patients)):
        if not 0 <= value <= LARGEST:
            raise UsageError(f"{name} is {value:g}", hint=f"0 to {LARGEST:g}, e.g. 1e8")
    if not drugs and not patients:
        raise UsageError("nothing to plan", hint="--drugs 1e8 --patients 1e7")
    rows = list(_drugs(int(drugs), cores, rates)) if drugs else []
    return [*rows, *(_patients(int(patients), rates) if patients else ())]


def _row(step: str, where: str, n: int, rate: Mapping[str, Any], cores: int, memory: float, disk: float, driver: str,
         work: float | None = None) -> PlanRow:
    hours = (work if work is not None else n) / rate["per_s"] / cores / 3600
    return PlanRow(step, where, n, round(hours, 2 if hours < 100 else 0), round(memory, 1), round(disk, 1),
                   basis(n, rate["at"]), driver, rate["from"])


def _drugs(n: int, cores: int, rates: Mapping[str, Any]) -> Iterator[PlanRow]:
    rate, size = rates["rates"], rates["sizes"]
    stored, trained = min(n, IN_STORE), min(n, IN_TRAINING)
    cluster = "one machine" if n <= 10_000_000 else "Ray, --on ray://HOST:PORT"
    tier = n * size["encoded"]["bytes"] / GIB
    yield _row("encode into a data set", cluster, n, rate["encode"], cores, 1.0 * cores, tier, "cores")
    yield _row("one question to the data set", "one machine", n, rate["screen"], cores, 1.0, 0,
               "disk's speed, then cores")
    yield _row("read into PostgreSQL", "the server", stored, rate["bulk"], 1, 1.0, stored * 3000 / GIB,
               "one writer a file")
    for name, bytes_ in (("properties", 600), ("pictures", 7000), ("conformers", 5000)):
        yield _row(f"{name} of what is in PostgreSQL", "one machine, or Ray", stored, rate[name], cores, 0.3 * cores,
                   stored * bytes_ / GIB, "cores")
    neighbours = index_settings(stored)[0] or LEAST_NEIGHBOURS
    own, row = rate["index"], 4 * WIDTH + 60
    index = estimate_index(stored, WIDTH, "vector", neighbours, rate=own["per_s"], measured=own["at"])
    yield _row("vectors and HNSW indexes", "the server", stored, own, 1, index.memory / KIB + 1,
               KINDS * (stored * row / GIB + index.disk / KIB), "memory: an index must fit maintenance_work_mem",
               KINDS * index.seconds * own["per_s"])
    for where, own in (("one core", rate["train"]), ("one card", rate["train card"])):
        yield _row("train the alignment", where, trained, own, 1, trained * 20_000 / GIB, 0,
                   "features fit in memory", trained * EPOCHS)


def _patients(n: int, rates: Mapping[str, Any]) -> Iterator[PlanRow]:
    size = rates["sizes"]["prepare"]
    yield _row("prepare a cohort", "one machine", n, rates["rates"]["prepare"], 1, n * size["bytes"] / GIB,
               n * 5200 / GIB, "disk's speed, memory")
