"""How fast drugs are computed: properties, depictions and conformers, beside a plain loop over RDKit in the same run.

``python benchmarks/bench_featurise.py [DRUGS]`` takes bundled drugs and computes each modality (a) in a plain loop of
single RDKit calls without our limits, (b) by our functions in this process, (c) by one child process, (d) by two. It
prints molecules per second, per core by CPU time too. "2 : 1 by wall" is what two processes gained in this run, and
means something only on a quiet machine; "2 : 1 by CPU" is what they gain when each has a core of its own: twice the CPU
time of (b) by that of (d), parent included. Writes ``benchmarks/results/featurise.json``.

``python benchmarks/bench_featurise.py --job TABLE [COMPOUNDS [ROUNDS]]`` times the whole job instead, database
included: ``mkmed kb ingest --source rdkit --modality property --modality image`` of compounds of a table (as
``bench_tabular.py`` reads it) on one core and on two, in turns; beside it stands what two processes gain that share
nothing, the machine's ceiling. Writes ``benchmarks/results/featurise_job.json``.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_tabular import COLUMNS, write_part
from ingest_child import finish, start
from record import report, scratch_home

from kb.bundle import Bundle
from kb.compute.places import open_pool
from kb.compute.pool import PoolTask, run_here
from kb.sources.rdkit.source import TASKS

SHARE_OF_CONFORMERS = 10
"""A conformer takes some hundred times as long as the rest, so fewer are made."""
ROUNDS = 3
JOBS = 2
WARM = ["CC(=O)Oc1ccccc1C(=O)O"] * 4


def plain_property(smiles: str) -> object:
    """The same fifteen numbers, call by call."""
    from rdkit.Chem import QED, Crippen, Descriptors, GetFormalCharge, MolFromSmiles, rdMolDescriptors

    m = MolFromSmiles(smiles)
    return [
        Descriptors.MolWt(m), rdMolDescriptors.CalcExactMolWt(m), Crippen.MolLogP(m), rdMolDescriptors.CalcTPSA(m),
        rdMolDescriptors.CalcNumHBD(m), rdMolDescriptors.CalcNumHBA(m), rdMolDescriptors.CalcNumRotatableBonds(m),
        m.GetNumHeavyAtoms(), rdMolDescriptors.CalcNumRings(m), rdMolDescriptors.CalcNumAromaticRings(m),
        GetFormalCharge(m), rdMolDescriptors.CalcNumAtomStereoCenters(m), rdMolDescriptors.CalcFractionCSP3(m),
        QED.qed(m), Crippen.MolMR(m),
    ]


def plain_image(smiles: str) -> object:
    """A PNG of the same size, with RDKit's defaults."""
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.Draw import rdMolDraw2D

    drawing = rdMolDraw2D.MolDraw2DCairo(224, 224)
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, MolFromSmiles(smiles))
    drawing.FinishDrawing()
    return drawing.GetDrawingText()


def plain_structure(smiles: str) -> object:
    """ETKDGv3 and MMFF94 with the same seed and steps, without time limits."""
    from rdkit.Chem import AddHs, MolFromSmiles, MolToMolBlock, rdDistGeom, rdForceFieldHelpers

    m = AddHs(MolFromSmiles(smiles))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = 42
    if rdDistGeom.EmbedMolecule(m, parameters) == 0 and rdForceFieldHelpers.MMFFHasAllMoleculeParams(m):
        rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(m, maxIters=200)
    return MolToMolBlock(m)


PLAIN: dict[str, Callable[[str], object]] = {
    "property": plain_property, "image": plain_image, "structure": plain_structure,
}


def with_cpu(item: tuple[str, str]) -> tuple[float, object]:
    """CPU seconds that one item took in a child process, and its result, which has to travel as well."""
    began = time.process_time()
    result = dict(run_here(PoolTask(item[0]), [item[1]]))[0]
    return time.process_time() - began, result


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call in this process."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - used


def pool_seconds(function: str, smiles: list[str], count: int, share: int, wall: float) -> tuple[float, float]:
    """Wall seconds of a pool that is already running and warm, and CPU seconds of its children and of this process."""
    with open_pool("local", PoolTask(f"{Path(__file__).stem}:with_cpu", seconds=wall), count) as pool:
        dict(pool.map([(function, s) for s in WARM * count], 1))
        found: dict[int, tuple[float, object]] = {}
        seconds, used = timed(lambda: found.update(pool.map([(function, s) for s in smiles], share)))
    return seconds, used + sum(seconds for seconds, _ in found.values())


def measure(modality: str, smiles: list[str]) -> dict[str, object]:
    """Molecules per second by each way; the best of ``ROUNDS``, which alternate so that noise meets all of them."""
    task = next(t for m, t in TASKS.items() if m == modality)
    plain = PLAIN[modality]
    plain(smiles[0])
    dict(run_here(PoolTask(task.function), smiles[:1]))
    walls: dict[str, list[float]] = {"plain": [], "ours": [], "one": [], "two": []}
    cpus: dict[str, list[float]] = {"plain": [], "ours": [], "two": []}
    for _ in range(ROUNDS):
        for way, work in (
            ("plain", lambda: [plain(s) for s in smiles]),
            ("ours", lambda: dict(run_here(PoolTask(task.function), smiles))),
        ):
            wall, used = timed(work)
            walls[way].append(wall)
            cpus[way].append(used)
        walls["one"].append(pool_seconds(task.function, smiles, 1, task.share, task.wall)[0])
        wall, used = pool_seconds(task.function, smiles, 2, task.share, task.wall)
        walls["two"].append(wall)
        cpus["two"].append(used)
    n, best = len(smiles), {way: min(found) for way, found in walls.items()}
    return {
        "modality": modality,
        "drugs": n,
        "plain loop /s/core": n / min(cpus["plain"]),
        "ours /s/core": n / min(cpus["ours"]),
        "ours : plain": min(cpus["plain"]) / min(cpus["ours"]),
        "1 process /s": n / best["one"],
        "2 processes /s": n / best["two"],
        "2 : 1 by wall": best["one"] / best["two"],
        "2 : 1 by CPU": 2 * min(cpus["ours"]) / min(cpus["two"]),
    }


def job(path: Path, workers: int, cores: int) -> tuple[dict[str, Any], float]:
    """What the ingest of properties and pictures into a database of these compounds said, and the load before it.

    On one core everything is held there: the ingest, its processes, and the server with its sessions.
    """
    import psutil

    own = os.sched_getaffinity(0)
    with scratch_home() as home:
        finish(start("tabular", path, {"columns": COLUMNS, "workers": 2}))
        load = os.getloadavg()[0]
        try:
            if cores < len(own):
                kept = sorted(own)[:cores]
                os.sched_setaffinity(0, kept)
                for pid in home.rglob("postmaster.pid"):
                    master = psutil.Process(int(pid.read_text().split()[0]))
                    for process in (master, *master.children()):
                        process.cpu_affinity(kept)
            return finish(start("rdkit", None, {"modalities": ["property", "image"], "workers": workers})), load
        finally:
            os.sched_setaffinity(0, own)


ARMS = ((1, 1), (2, 2))
"""Cores and workers."""


def plain_seconds(smiles: list[str]) -> float:
    """Seconds by the clock of the plain pictures, in this process."""
    began = time.perf_counter()
    for one in smiles:
        with suppress(Exception):  # what RDKit refuses takes no time
            plain_image(one)
    return time.perf_counter() - began


def ceiling(smiles: list[str]) -> float:
    """How many times the plain pictures of one process two processes make at once that share nothing."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(plain_seconds, [WARM, WARM], chunksize=1)
        alone = min(pool.apply(plain_seconds, (smiles,)) for _ in range(JOBS))
        both = min(max(pool.map(plain_seconds, [smiles, smiles], chunksize=1)) for _ in range(JOBS))
    return 2 * alone / both


def measure_job(table: Path, count: int, rounds: int) -> None:
    """One core and two, ``rounds`` times in turns; the best of each, by the clock and by the processor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.tsv"
        write_part(table, path, count)
        said = [(arm, *job(path, arm[1], arm[0])) for _ in range(rounds) for arm in ARMS]
        with path.open(newline="") as stream:
            most = ceiling([row["smiles"] for row in csv.DictReader(stream, delimiter="\t")][:2000])
    rows = []
    for arm in ARMS:
        found = [(one["seconds"], one["cpu"], load) for own, one, load in said if own == arm]
        seconds, _, load = min(found)
        rows.append({"cores": arm[0], "workers": arm[1], "compounds": count, "seconds": seconds,
                     "compounds/s": count / seconds, "cpu s": min(used for _, used, _ in found), "load before": load})
    ratio = rows[0]["seconds"] / rows[-1]["seconds"]
    report("featurise_job", rows, title=f"rdkit's properties and pictures; two cores : one by wall {ratio:.2f}; "
           f"two plain processes : one {most:.2f}", ratio=ratio, ceiling=most,
           all=[{"cores": arm[0], "workers": arm[1], "seconds": one["seconds"], "cpu s": one["cpu"],
                "load": load} for arm, one, load in said])


def main() -> None:
    """Measure all three, or the whole job, and write the figures down."""
    if "--job" in sys.argv:
        given = sys.argv[sys.argv.index("--job") + 1:]
        count, rounds = (int(a) for a in (*given[1:], *("4000", str(JOBS))[len(given) - 1:]))
        measure_job(Path(given[0]), count, rounds)
        return
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    core = [r["smiles"] for r in Bundle.open().rows("drugs.tsv.gz") if r["tier"] == "core"]
    chosen = core[:: max(1, len(core) // wanted)][:wanted]
    rows = [measure(m, chosen) for m in ("property", "image")]
    rows.append(measure("structure", [s for s in chosen if len(s) < 120][:: SHARE_OF_CONFORMERS]))
    load = os.getloadavg()[0]
    report("featurise", rows, title=f"computing drugs with RDKit; load {load:.1f} on {os.cpu_count()} cores", load=load)


if __name__ == "__main__":
    main()
