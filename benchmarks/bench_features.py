"""How many times as fast two processes make the encoders' inputs as one, beside two that share nothing.

Run: ``python benchmarks/bench_features.py TABLE [COMPOUNDS [ROUNDS]]`` with a table as ``bench_tabular.py`` reads
it. What is made is what ``embed pretrain`` makes of structures: graphs with BRICS fragments, circular substructures,
functional groups, and MiniMol's fingerprint where it is installed; the last row is all of it, starts included. Rounds
alternate; the best of each counts. The ceiling is what this machine's two cores give at all: the same featuriser on
half of the molecules in each of two processes that talk to nobody.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench_tabular import write_part
from record import report

from embed.features import minimol
from embed.features.work import molecule_chunks
from kb.compute.places import ComputePlace
from kb.compute.pool import PoolTask

FEATURISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "molecule": ("embed.features.molecule:featurise", {}),
    "morgan": ("embed.features.fingerprint:fingerprints", {"bits": 2048}),
    "descriptors": ("embed.features.descriptors:descriptors", {}),
    "minimol": ("embed.features.minimol:minimol_vectors", {}),
}
ROUNDS = 2
WARM = ["CC(=O)Oc1ccccc1C(=O)O"] * 64


def plain(given: tuple[str, list[str]]) -> float:
    """Seconds by the clock of a featuriser over the molecules, in this process, 512 at once."""
    function, settings = FEATURISERS[given[0]]
    work: Any = PoolTask(function).open()
    work(WARM, **settings)
    began = time.perf_counter()
    for start in range(0, len(given[1]), 512):
        work(given[1][start:start + 512], **settings)
    return time.perf_counter() - began


def through_the_pool(name: str, smiles: list[str], workers: int) -> float:
    """Seconds by the clock as ``embed pretrain`` has it, processes and all."""
    function, settings = FEATURISERS[name]
    chunks = molecule_chunks(function, settings, lambda rows: [smiles[row] for row in rows])
    place = ComputePlace(workers=workers)
    began = time.perf_counter()
    done = sum(len(asked) for asked, _, _ in chunks(list(range(len(smiles))), place))
    assert done == len(smiles)
    return time.perf_counter() - began


def measure(name: str, smiles: list[str], rounds: int) -> list[float]:
    """Seconds of one featuriser by one process and by two, through the pool and plain."""
    halves = [(name, smiles[::2]), (name, smiles[1::2])]
    one, two, alone, both = [], [], [], []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(plain, [(name, WARM)] * 2, chunksize=1)
        for _ in range(rounds):
            one.append(through_the_pool(name, smiles, 1))
            two.append(through_the_pool(name, smiles, 2))
            alone.append(pool.apply(plain, ((name, smiles),)))
            both.append(max(pool.map(plain, halves, chunksize=1)))
    return [min(one), min(two), min(alone), min(both)]


def line(name: str, molecules: int, seconds: list[float]) -> dict[str, Any]:
    """The row of a featuriser."""
    one, two, alone, both = seconds
    return {"featuriser": name, "molecules": molecules, "one /s": molecules / one, "two /s": molecules / two,
            "two : one": one / two, "ceiling": alone / both}


def main() -> None:
    """Measure and write the figures down."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.tsv"
        write_part(Path(sys.argv[1]), path, None)
        with path.open(newline="") as stream:
            smiles = [row["smiles"] for row in csv.DictReader(stream, delimiter="\t") if row["smiles"]]
    smiles = smiles[::max(1, len(smiles) // count)][:count]
    names = [name for name in FEATURISERS if name != "minimol" or minimol.available()]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else ROUNDS
    taken = {name: measure(name, smiles, rounds) for name in names}
    taken["all"] = [sum(part) for part in zip(*taken.values(), strict=True)]
    rows = [line(name, len(smiles), seconds) for name, seconds in taken.items()]
    report("features", rows, title="the encoders' inputs by one process and by two", load=os.getloadavg()[0])


if __name__ == "__main__":
    main()
