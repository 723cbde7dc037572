"""A million compounds through properties, fingerprints, vectors, screening and the store, stage by stage.

    python benchmarks/bench_scale.py --home HOME --source FILE --folder FOLDER --size 10000
    python benchmarks/bench_scale.py --home HOME --folder FOLDER --size 10000 --stages screen store

``--source`` is chemicals' table of 71,347 compounds (``chemicals_pubchem_ids.tsv.gz``). ``make`` cuts them at BRICS
bonds and joins two fragments at a time anew, seeded, every molecule once. ``compute`` are RDKit's properties and Morgan
fingerprints by one and by two processes; ``encode`` is ``mkmed embed encode`` of the folder, killed with -9 at a random
point and gone on with, beside a plain loop; ``screen`` searches the data set exactly, beside numpy and faiss; ``store``
writes its vectors into PostgreSQL and measures recall@10 and p95, beside raw COPY and faiss. ``ray``, which runs when
it is asked for (extra ``scale``), encodes ``--size`` of them with one and with two workers of a cluster. HOME is a home
with a published run (``mkmed demo``). What is left in FOLDER is used again. ``--rates`` writes what ``mkmed plan``
reads.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from record import report, scratch_home

SEED = 20_261_126
ATOM = re.compile(r"\[[^\]]+\]|Br|Cl|[A-Za-z]")
LABEL = re.compile(r"\[(\d+)\*\]")
PART = 20_000
QUESTIONS = 20
RAY_PART = 500
STAGES = ("make", "compute", "encode", "screen", "store")
MORE = ("ray",)


# --- made compounds ---


def fragments_of(smiles: str) -> list[str]:
    """The BRICS fragments with one or two open ends, each a SMILES that begins with an open end."""
    from rdkit import Chem, RDLogger
    from rdkit.Chem import BRICS

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() > 60 or "." in smiles:
        return []
    found = []
    for piece in Chem.GetMolFrags(BRICS.BreakBRICSBonds(mol), asMols=True):
        ends = [atom for atom in piece.GetAtoms() if atom.GetAtomicNum() == 0]
        double = any(bond.GetBondTypeAsDouble() != 1 for end in ends for bond in end.GetBonds())
        if 1 <= len(ends) <= 2 and piece.GetNumHeavyAtoms() <= 25 and not double:
            found.append(Chem.MolToSmiles(piece, rootedAtAtom=ends[0].GetIdx()))
    return found


def molecule_of(pair: tuple[str, str]) -> str:
    """The canonical SMILES of two fragments joined at their first ends; raises ValueError when it is no molecule."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    texts = []
    for part in pair:
        rest = LABEL.sub("", part, count=1)
        first = ATOM.match(rest)
        if first is None:
            raise ValueError("no atom")
        texts.append(LABEL.sub("[H]", rest[:first.end()] + "%90" + rest[first.end():]))
    mol = Chem.MolFromSmiles(".".join(texts))
    if mol is None or mol.GetNumAtoms() < 8:
        raise ValueError("no molecule")
    return str(Chem.MolToSmiles(mol))


def allowed_pairs() -> set[tuple[str, str]]:
    """The pairs of BRICS environments that a single bond may join."""
    from rdkit.Chem import BRICS

    pairs = {(a.rstrip("ab"), b.rstrip("ab")) for group in BRICS.reactionDefs for a, b, bond in group if bond == "-"}
    return pairs | {(b, a) for a, b in pairs}


def make(source: Path, folder: Path, size: int) -> dict[str, Any]:
    """``size`` different molecules in files of a tenth of them; none of the real compounds is among them."""
    from kb.compute.places import open_pool
    from kb.compute.pool import Failure, PoolTask

    rng = random.Random(SEED)
    with gzip.open(source, "rt") as stream:
        cells = (line.split("\t") for line in stream)
        real = [row[4] for row in cells if len(row) > 4 and 6 < len(row[4]) < 120]
    rng.shuffle(real)
    began = time.perf_counter()
    with open_pool("local", PoolTask("bench_scale:fragments_of")) as pool:
        pieces = sorted({piece for found in pool.ordered(real, 500) if not isinstance(found, Failure)
                         for piece in found})
    by_label: dict[str, list[str]] = {}
    for piece in pieces:
        label = LABEL.match(piece)
        if label:
            by_label.setdefault(label.group(1), []).append(piece)
    allowed = sorted(pair for pair in allowed_pairs() if pair[0] in by_label and pair[1] in by_label)
    weights = [float(len(by_label[a]) * len(by_label[b])) for a, b in allowed]

    def drawn() -> Iterator[tuple[str, str]]:
        while True:
            for a, b in rng.choices(allowed, weights, k=10_000):
                yield rng.choice(by_label[a]), rng.choice(by_label[b])

    folder.mkdir(parents=True, exist_ok=True)
    seen: set[bytes] = set()
    known = set(real)
    share = max(1, size // 10)
    out = None
    with open_pool("local", PoolTask("bench_scale:molecule_of")) as pool:
        for smiles in pool.ordered(drawn(), 1000):
            if isinstance(smiles, Failure) or smiles in known:
                continue
            digest = hash128(smiles)
            if digest in seen:
                continue
            if len(seen) % share == 0:
                if out is not None:
                    out.close()
                out = gzip.open(folder / f"made-{len(seen) // share:02d}.smi.gz", "wt", compresslevel=1)  # noqa: SIM115
            assert out is not None
            out.write(f"{smiles} M{len(seen)}\n")
            seen.add(digest)
            if len(seen) == size:
                break
    if out is not None:
        out.close()
    seconds = time.perf_counter() - began
    return {"stage": "make", "what": f"BRICS recombination of {len(pieces):,} fragments", "n": size,
            "seconds": round(seconds, 1), "per_s": round(size / seconds)}


def hash128(text: str) -> bytes:
    """Sixteen bytes that a molecule is known by."""
    import hashlib

    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def made(folder: Path, most: int | None = None) -> list[str]:
    """The SMILES of the made compounds."""
    found: list[str] = []
    for path in sorted(folder.glob("made-*.smi.gz")):
        with gzip.open(path, "rt") as stream:
            found += [line.split(" ")[0] for line in stream]
        if most and len(found) >= most:
            return found[:most]
    return found


# --- computing ---


def morgan_bits(smiles: str) -> bytes:
    """The 2,048 bits of the Morgan fingerprint of radius 2."""
    from rdkit.Chem import rdFingerprintGenerator

    from kb.chemistry import read_smiles

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    return np.packbits(generator.GetFingerprintAsNumPy(read_smiles(smiles))).tobytes()


def plain_properties(smiles: str) -> object:
    """The floor: RDKit's properties in a plain loop."""
    from kb.sources.rdkit.compute import compute_properties

    return compute_properties(smiles)


def compute(folder: Path, size: int) -> list[dict[str, Any]]:
    """Properties and fingerprints: a plain loop, and pools of one and two processes."""
    from kb.compute.places import open_pool
    from kb.compute.pool import PoolTask

    smiles = made(folder / "compounds", min(size, 20_000))
    rows = []
    for name, function, loop in (
        ("properties", "kb.sources.rdkit.compute:compute_properties", plain_properties),
        ("fingerprints", "bench_scale:morgan_bits", morgan_bits),
    ):
        few = smiles[:max(500, len(smiles) // 5)]
        seconds = clock(lambda few=few, loop=loop: [loop(s) for s in few])  # type: ignore[misc]
        rows.append(rate("compute", f"{name}, plain loop", len(few), seconds))
        for workers in (1, 2):
            with open_pool("local", PoolTask(function), workers) as pool:
                list(pool.map(smiles[:64 * workers], 32))  # the processes have begun
                seconds = clock(lambda pool=pool: list(pool.map(smiles, 64)))  # type: ignore[misc]
            rows.append({**rate("compute", f"{name}, {workers} processes", len(smiles), seconds), "workers": workers})
    return rows


def clock(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rate(stage: str, what: str, n: int, seconds: float, **more: Any) -> dict[str, Any]:
    """One row of figures."""
    return {"stage": stage, "what": what, "n": n, "seconds": round(seconds, 2), "per_s": round(n / seconds), **more}


class Peaks:
    """The largest resident sizes of a process and each of its children, watched while the block lasts."""

    def __init__(self, process: int) -> None:
        self.parent, self.child = 0, 0
        self._process, self._stop = psutil.Process(process), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            try:
                self.parent = max(self.parent, self._process.memory_info().rss)
                for child in self._process.children(recursive=True):
                    self.child = max(self.child, child.memory_info().rss)
            except psutil.Error:
                continue

    def end(self) -> None:
        """Watch no more."""
        self._stop.set()
        self._thread.join()


def command(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The program, started in a session of its own."""
    environment = {**os.environ, "MKMED_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "mkmed", "-q", *arguments], env=environment, start_new_session=True,
                            stdout=subprocess.DEVNULL)


def encode(folder: Path, home: Path, size: int, workers: int) -> list[dict[str, Any]]:
    """``mkmed embed encode``, killed with -9 after some of its parts and gone on with, beside a plain loop."""
    from embed.screening.dataset import PARTS, read_set

    target = folder / "set"
    parts = target / PARTS
    part = min(PART, max(500, size // 20))
    asked = ("embed", "encode", "--in", str(folder / "compounds"), "--out", str(target), "--licence", "MIT",
             "--part-rows", str(part), "--workers", str(workers))
    kill_at = random.Random(SEED).randint(1, max(2, size // part // 4))
    began, peak = time.perf_counter(), [0, 0]
    before: dict[str, int] = {}
    for stop in (kill_at, None):
        running = command(home, *asked)
        watch = Peaks(running.pid)
        while running.poll() is None:
            if stop is not None and len(list(parts.glob("*.parquet"))) >= stop:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                before = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
                break
            time.sleep(0.05)
        watch.end()
        peak = [max(peak[0], watch.parent), max(peak[1], watch.child)]
    seconds = time.perf_counter() - began
    whole = read_set(target)
    if whole.state != "complete" or whole.rows + whole.rejected != size or running.returncode not in (0, 3):
        raise SystemExit(f"encode is not whole: {whole.rows} of {size}, exit {running.returncode}")
    again = sum((parts / name).stat().st_mtime_ns != moment for name, moment in before.items())
    ids = all_ids(whole)
    if again or len(set(ids)) != whole.rows:
        raise SystemExit(f"{again} parts were made again, {whole.rows - len(set(ids))} compounds are doubled")
    row = rate("encode", f"mkmed embed encode, {workers} processes, killed -9 at part {len(before)} and resumed", size,
               seconds, workers=workers, peak_driver_mib=peak[0] >> 20, peak_process_mib=peak[1] >> 20,
               rejected=whole.rejected, bytes_a_compound=round(disk(parts) / max(1, whole.rows)))
    return [plain_loop(folder, home, min(size, 1000)), row]


class Flow:
    """When each part of a data set came, and how large the process that writes it was then."""

    def __init__(self, parts: Path, process: int) -> None:
        self.moments: list[float] = []
        self.sizes: list[int] = []
        self._parts, self._process = parts, psutil.Process(process)

    def look(self) -> None:
        """Note the parts that have come since the last look."""
        with contextlib.suppress(psutil.Error):
            size = self._process.memory_info().rss
            for _ in range(len(list(self._parts.glob("*.parquet"))) - len(self.moments)):
                self.moments.append(time.perf_counter())
                self.sizes.append(size)

    def rate(self) -> float:
        """Parts a second from the tenth part of them on, so that no process starts within."""
        first = max(1, len(self.moments) // 10)
        return (len(self.moments) - 1 - first) / (self.moments[-1] - self.moments[first])


def encode_on_ray(folder: Path, home: Path, size: int) -> list[dict[str, Any]]:
    """``mkmed embed encode`` by one and by two processes, of this machine and of a Ray cluster; the driver's memory."""
    from embed.screening.dataset import PARTS, read_set

    compounds, rows = folder / "few", []
    compounds.mkdir(exist_ok=True)
    (compounds / "few.smi").write_text("".join(f"{s} F{n}\n" for n, s in enumerate(made(folder / "compounds", size))))
    found: dict[tuple[str, int], float] = {}
    for on in ("local", "ray"):
        for workers in (1, 2):
            target = folder / f"few-{on}-{workers}"
            shutil.rmtree(target, ignore_errors=True)
            running = command(home, "embed", "encode", "--in", str(compounds), "--out", str(target), "--licence", "MIT",
                              "--part-rows", str(RAY_PART), "--on", on, "--workers", str(workers))
            flow = Flow(target / PARTS, running.pid)
            while running.poll() is None:
                flow.look()
                time.sleep(0.02)
            if running.returncode:
                raise SystemExit(f"embed encode --on {on} ended with {running.returncode}")
            found[on, workers] = flow.rate() * RAY_PART
            early, late = (int(np.median(part)) >> 20 for part in np.array_split(flow.sizes[len(flow.sizes) // 10:], 2))
            rows.append({"stage": "ray", "what": f"embed encode --on {on}, {workers} workers", "n": size,
                         "per_s": round(found[on, workers]), "workers": workers,
                         "efficiency": round(found[on, workers] / found[on, 1] / workers, 3),
                         "driver_mib_first_half": early, "driver_mib_second_half": late,
                         "digest": read_set(target).digest})
    if len({row["digest"] for row in rows}) != 1:
        raise SystemExit("the data sets differ")
    return rows


def all_ids(whole: Any) -> list[str]:
    """The ids of a data set."""
    import pyarrow.parquet as pq

    return [one for path in whole.part_paths() for one in pq.read_table(path, columns=["id"]).column(0).to_pylist()]


def disk(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


def plain_loop(folder: Path, home: Path, size: int) -> dict[str, Any]:
    """What a reader would write: one process, one molecule at a time through RDKit and the run's molecule tower."""
    from rdkit import Chem

    from embed.runs.embedder import Embedder
    from embed.screening.dataset import read_set
    from kb.sources.rdkit.compute import compute_properties

    run = Embedder.open(home / "runs" / "pretrain" / read_set(folder / "set").run)
    smiles = made(folder / "compounds", size)
    run.smiles(smiles[:1])

    def loop() -> None:
        for text in smiles:
            compute_properties(text)
            Chem.MolToInchiKey(Chem.MolFromSmiles(text))
            run.smiles([text])

    return rate("encode", "plain loop, one process, one molecule at a time", size, clock(loop))


# --- searching ---


def stored_vectors(whole: Any) -> np.ndarray:
    """All vectors of a data set in memory, float32."""
    from embed.screening.dataset import vector_blocks

    return np.concatenate([numbers.astype(np.float32) for path in whole.part_paths()
                           for _, numbers, _ in vector_blocks(path, whole)])


def forget_pages(paths: Iterable[Path]) -> None:
    """Have the system drop what it holds of the files, so that they are read from the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def synthetic_set(folder: Path, rows: int, width: int) -> Any:
    """A data set of random unit vectors, in parts of a million."""
    from embed.screening.dataset import PARTS, PROPERTY_COLUMNS, ScreeningSet, finish_set, part_bytes, read_set

    if (folder / "dataset.json").is_file() and read_set(folder).rows == rows:
        return read_set(folder)
    one = ScreeningSet(folder, "synthetic", "", "molecule", width, "float16", "CC0-1.0", "0", 1_000_000)
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    names = []
    for start in range(0, rows, 1_000_000):
        size = min(1_000_000, rows - start)
        matrix = np.random.default_rng(start).standard_normal((size, width), np.float32)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        blank = [""] * size
        numbers = np.full((size, len(PROPERTY_COLUMNS)), np.nan, np.float32)
        columns = {"id": [str(start + n) for n in range(size)], "inchikey": blank, "smiles": blank}
        names.append(f"synthetic-{start:012d}.parquet")
        (folder / PARTS / names[-1]).write_bytes(part_bytes(one, "random", columns, numbers, matrix))
    return finish_set(one, names, {})


def screen(folder: Path, synthetic: int) -> list[dict[str, Any]]:
    """Exact search of the made data set and of a larger synthetic one, beside a numpy loop and faiss."""
    import faiss

    from embed.screening.dataset import read_set, vector_blocks
    from embed.screening.search import screen as search

    rows = []
    faiss.omp_set_num_threads(1)
    more = [synthetic_set(folder / "synthetic", synthetic, 64)] if synthetic else []
    for whole in (read_set(folder / "set"), *more):
        matrix = stored_vectors(whole)
        questions = matrix[np.random.default_rng(SEED).integers(len(matrix), size=QUESTIONS)]
        name = "synthetic" if whole.run == "synthetic" else "made"
        flat = faiss.IndexFlatIP(whole.width)
        flat.add(matrix)
        half = faiss.IndexScalarQuantizer(whole.width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        half.train(matrix[:1000])
        half.add(matrix)
        truth = [np.argsort(-(matrix.astype(np.float64) @ q), kind="stable")[:1000] for q in questions[:3]]
        found = [search(whole.folder, q, 1000, workers=1) for q in questions[:3]]
        order = {one: n for n, one in enumerate(all_ids(whole))}
        for hits, best, question in zip(found, truth, questions, strict=False):
            mine = matrix[[order[hit.id] for hit in hits]].astype(np.float64) @ question
            if not np.allclose(mine, matrix[best].astype(np.float64) @ question, atol=1e-9):
                raise SystemExit("the search is not exact")
        paths = whole.part_paths()
        count = len(matrix)

        def numpy_loop(question: np.ndarray, whole: Any = whole, paths: list[Path] = paths) -> object:
            best = [np.sort(numbers.astype(np.float32) @ question)[-1000:] for path in paths
                    for _, numbers, _ in vector_blocks(path, whole)]
            return np.sort(np.concatenate(best))[-1000:]

        forget_pages(paths)
        began = time.perf_counter()
        search(whole.folder, questions[0], 1000, workers=1)
        cold = time.perf_counter() - began
        rows.append(rate("screen", f"{name}: mkmed, k 1000, one thread, files not in memory", count, cold))
        for what, way, asked in (
            ("mkmed, k 1000, one thread", lambda q, whole=whole: search(whole.folder, q, 1000, workers=1), QUESTIONS),
            ("mkmed, k 10, one thread", lambda q, whole=whole: search(whole.folder, q, 10, workers=1), QUESTIONS),
            ("mkmed, k 1000, two threads", lambda q, whole=whole: search(whole.folder, q, 1000, workers=2), QUESTIONS),
            ("numpy over the same files, no record of a hit, one thread", numpy_loop, 5),
            ("faiss flat, float32 in memory, one thread", lambda q, flat=flat: flat.search(q[None], 1000), QUESTIONS),
            ("faiss flat, fp16 in memory, one thread", lambda q, half=half: half.search(q[None], 1000), QUESTIONS),
        ):
            way(questions[0])  # type: ignore[no-untyped-call]
            began = time.perf_counter()
            for question in questions[:asked]:
                way(question)  # type: ignore[no-untyped-call]
            seconds = time.perf_counter() - began
            rows.append(rate("screen", f"{name}: {what}", count * asked, seconds, width=whole.width))
    return rows


# --- the store ---


def store(folder: Path) -> list[dict[str, Any]]:
    """The made compounds' vectors in PostgreSQL: load, index, recall@10, p95; beside raw COPY and faiss."""
    import bench_store
    from bench_store import make_drugs, raw_copy, recall, through_function, with_faiss

    from embed.runs import store as vectors
    from embed.screening.dataset import read_set
    from kb.db.engine import open_engine

    whole = read_set(folder / "set")
    matrix = stored_vectors(whole)
    rng = np.random.default_rng(SEED)
    matrix = matrix[np.linalg.norm(matrix, axis=1) > 0.5]
    held = rng.permutation(len(matrix))
    questions, matrix = matrix[held[:200]], matrix[np.sort(held[200:])]
    bench_store.WIDTH = whole.width
    with scratch_home() as home:
        engine = open_engine()
        try:
            run, ids = make_drugs(engine, len(matrix))
            floor = raw_copy(engine, ids, matrix)
            rows = [rate("store", "raw COPY, no key, no index", len(matrix), floor)]
            rests_on = np.ones((len(ids), 6), bool)
            seconds = clock(lambda: vectors.write_run(engine, run, {"fused": (ids, matrix)}, rests_on))
            vectors.publish(engine, run)
            _, _, best = with_faiss(matrix, questions, "flat")
            truth = ids[best]
            indexed = len(ids) > vectors.HNSW_ABOVE
            through_function(engine, questions[:20], indexed)
            times, found = through_function(engine, questions, indexed)
            p50, p95 = np.percentile(times, [50, 95])
            rows.append(rate("store", f"write_run, {'HNSW' if indexed else 'exact'}", len(ids), seconds,
                             p50_ms=round(p50, 2), p95_ms=round(p95, 2), recall_at_10=round(recall(found, truth), 4),
                             bytes_a_compound=round(folder_bytes(home) / len(ids))))
            build, times, near = with_faiss(matrix, questions, "hnsw")
            p50, p95 = np.percentile(times, [50, 95])
            rows.append(rate("store", "faiss HNSW in memory", len(ids), build, p50_ms=round(p50, 2),
                             p95_ms=round(p95, 2), recall_at_10=round(recall(ids[near].tolist(), truth), 4)))
        finally:
            engine.dispose()
    return rows


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_rates(path: Path, rows: Sequence[dict[str, Any]], machine: str) -> None:
    """Put what was measured among the rates of ``mkmed plan``, each per core."""
    found = json.loads(path.read_text())
    found["machine"] = machine
    for row in rows:
        own = {"per_s": round(row["per_s"] / row.get("workers", 1), 1), "at": row["n"],
               "from": f"benchmarks/bench_scale.py --stages {row['stage']}"}
        if row["what"].startswith("mkmed embed encode"):
            found["rates"]["encode"] = own
            found["sizes"]["encoded"] = {"bytes": row["bytes_a_compound"], "at": row["n"], "from": own["from"]}
        elif row["what"].endswith("mkmed, k 1000, one thread"):
            found["rates"]["screen"] = {**own, "at": row["n"] // QUESTIONS}  # of several sets the last one counts
        elif row["what"] == "properties, 2 processes":
            found["rates"]["properties"] = own
        elif row["what"] == "write_run, HNSW":
            found["rates"]["index"] = own
    path.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Run the stages, keep each one's rows in the folder, and print all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--stages", nargs="+", choices=STAGES + MORE, default=list(STAGES))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--home", type=Path, help="a home with a published run, for encode")
    parser.add_argument("--source", type=Path, help="chemicals_pubchem_ids.tsv.gz, for make")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--synthetic", type=int, default=0, help="screen a synthetic set of this many vectors too")
    parser.add_argument("--rates", type=Path, help="write the rates for mkmed plan to this file")
    parser.add_argument("--machine", default="2-core x86-64, 24 GiB")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    kept = given.folder / "rows.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else []
    for stage in given.stages:
        if stage == "make":
            found = [make(given.source, given.folder / "compounds", given.size)]
        elif stage == "compute":
            found = compute(given.folder, given.size)
        elif stage == "encode":
            found = encode(given.folder, given.home, given.size, given.workers)
        elif stage == "ray":
            found = encode_on_ray(given.folder, given.home, given.size)
        elif stage == "screen":
            found = screen(given.folder, given.synthetic)
        else:
            found = store(given.folder)
        rows = [row for row in rows if row["stage"] != stage] + found
        kept.write_text(json.dumps(rows, indent=1))
    if set(given.stages) & set(STAGES):
        report("scale", [row for row in rows if row["stage"] in STAGES], size=given.size)
    if "ray" in given.stages:
        report("scale_ray", [row for row in rows if row["stage"] == "ray"])
    if given.rates:
        write_rates(given.rates, rows, given.machine)


if __name__ == "__main__":
    main()
