"""What a pretraining takes at the size of a chemical library: seconds of a dry run, and peak memory of a training.

    python benchmarks/bench_embed_memory.py --smiles library.tsv --sizes 71347 300000 1000000

``--smiles`` is a file whose fifth tab-separated column is a SMILES. The dry run is the command, on a knowledge base of
these structures. Trainings are of synthetic drugs: cached features of 300 of the structures, repeated at random under
made-up digests, a text vector for three drugs in ten, numbers for all; pictures, conformers and the graph are left out.
What is measured is everything from reading the cache to the vectors in the form that the store takes, with a few
training steps, each size in a process of its own. Filling the cache is not measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from record import report, scratch_home

REAL = 300
TEXTS = 0.3
STEPS = 20


def read_smiles(path: Path, count: int, column: int = 4) -> list[str]:
    """The first ``count`` SMILES of the file."""
    with path.open(encoding="utf-8") as stream:
        lines = (line.split("\t") for line in stream)
        return [parts[column] for parts, _ in zip((p for p in lines if len(p) > column), range(count), strict=False)]


def dry_run(smiles: Sequence[str]) -> dict[str, Any]:
    """Seconds and CPU seconds of ``mkmed embed pretrain --dry-run`` on a knowledge base of these structures."""
    from sqlalchemy import text

    from kb.db.bulk import copy_arrays
    from kb.db.engine import open_engine
    from kb.ledger.entries import start_run

    with scratch_home():
        engine = open_engine()
        with engine.begin() as connection:
            run = start_run(connection, "ingest", name="bench")
            copy_arrays(connection, "mkmed.drug", ("identity", "name", "kind", "smiles", "run_id"),
                        ([f"user:{i}" for i in range(len(smiles))], [f"d{i}" for i in range(len(smiles))],
                         ["unknown"] * len(smiles), list(smiles), [str(run)] * len(smiles)))
            connection.execute(text("ANALYZE mkmed.drug"))
        engine.dispose()
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "cli", "embed", "pretrain", "--dry-run", "--set", "modalities=property"]
        told = subprocess.run([*command, "--format", "json"], check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"what": "dry run", "drugs": len(smiles), "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
            "estimated peak MiB": json.loads(told.stdout)[0]["peak_bytes"] >> 20}


def names(count: int) -> list[str]:
    """What stands for the SMILES of synthetic drugs: it is looked up in the cache and never parsed."""
    return [f"synthetic {i}" for i in range(count)]


def fill(folder: Path, smiles: Sequence[str], count: int) -> None:
    """Features of ``count`` synthetic drugs in the cache."""
    from embed.config import PretrainConfig
    from embed.features import descriptors, fingerprint, molecule
    from embed.features.cache import FeatureCache, sha256
    from embed.features.packed import Packed, vectors
    from embed.training import split

    cache, rng = FeatureCache(folder), np.random.default_rng(0)
    bits = PretrainConfig().molecule.fingerprint_bits

    def repeat(encoder: str, version: str, keys: list[bytes], real: Packed | None, width: int = 0) -> None:
        def produce(indices: list[int]) -> Iterator[tuple[list[int], list[int], Packed]]:
            for start in range(0, len(indices), 4096):
                part = indices[start:start + 4096]
                made = (vectors(rng.normal(size=(len(part), width)).astype(np.float32)) if real is None
                        else real.take(rng.integers(real.n, size=len(part))))
                yield part, part, made

        cache.open(encoder, version, keys, produce)

    keys = [sha256(name) for name in names(count)]
    some = smiles[:REAL]
    repeat("molecule", molecule.VERSION, keys, molecule.featurise(some)[1])
    repeat("morgan", fingerprint.version(bits), keys, fingerprint.fingerprints(some, bits)[1])
    repeat("descriptors", descriptors.VERSION, keys, descriptors.descriptors(some)[1])
    families = rng.integers(0, 256, (count // 8 + 1, 32), np.uint8)
    repeat("scaffold", split.VERSION, keys, Packed(len(families), {"scaffold": families}))
    from embed.features.text import packaged_minilm

    text = packaged_minilm(PretrainConfig().text, None)
    repeat(f"text-{text.name}", text.version, keys[:int(TEXTS * count)], None, 384)


def train(folder: Path, count: int) -> dict[str, Any]:
    """Peak memory of a training on the synthetic drugs, and where it stood along the way, in MiB."""
    import torch

    from embed.config import load_config
    from embed.features.cache import FeatureCache, sha256
    from embed.runs.store import store_form
    from embed.source import Corpus, Payloads
    from embed.training.inputs import build_inputs
    from embed.training.loop import TrainingJob, fit
    from embed.training.model import embed_all
    from embed.training.split import split_corpus
    from embed.training.start import start_model

    torch.set_num_threads(1)
    config = load_config(None, ["modalities=text,property", "train.epochs=1", f"train.epoch_steps={STEPS}"])
    marks = {"imports": peak()}
    own, some = names(count), int(TEXTS * count)
    digests = np.frombuffer(b"".join(sha256(name) for name in own[:some]), np.uint8).reshape(-1, 32)

    def nothing(indices: Sequence[int]) -> list[str | bytes]:
        raise AssertionError("everything is in the cache")

    rng = np.random.default_rng(1)
    corpus = Corpus(np.arange(count), own, own, [f"B{i}" for i in range(count)],
                    texts=Payloads(np.arange(some), digests, nothing),
                    property_names=[f"p{k}" for k in range(15)], properties=rng.normal(size=(count, 15)))
    marks["corpus"] = peak()
    cache = FeatureCache(folder)
    split = split_corpus(corpus, config, cache)
    marks["split"] = peak()
    inputs = build_inputs(corpus, config, cache, torch.device("cpu"), split.train)
    marks["inputs"] = peak()
    model = start_model(config, inputs.data, split.train)
    with tempfile.TemporaryDirectory() as run:
        fit(TrainingJob(model, inputs.data, config, split.train, split.validation, Path(run), inputs.relations))
    marks["training"] = peak()
    z, fused, present = (part.numpy() for part in embed_all(model, inputs.data))
    store_form(model.names, inputs.data.drug_ids, z, fused, present)
    marks["vectors"] = peak()
    return {"what": "training", "drugs": count, **{f"{name} MiB": value for name, value in marks.items()}}


def peak() -> int:
    """The process's largest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Measure every size in a process of its own and print the table with the slope."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[71_347, 300_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the synthetic features are kept; a temporary one by default")
    parser.add_argument("--part", choices=("all", "dry", "fill", "train"), default="all", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.part == "fill":
        fill(a.folder, read_smiles(a.smiles, REAL), a.sizes[0])
        return
    if a.part == "train":
        sys.stdout.write(json.dumps(train(a.folder, a.sizes[0])) + "\n")
        return
    rows = [dry_run(read_smiles(a.smiles, 71_347))]
    with tempfile.TemporaryDirectory(prefix="mkmed-memory-") as made:
        folder = a.folder or Path(made)
        for size in a.sizes if a.part == "all" else ():
            command = [sys.executable, __file__, "--smiles", str(a.smiles), "--folder", str(folder)]
            command += ["--sizes", str(size)]
            subprocess.run([*command, "--part", "fill"], check=True)
            told = subprocess.run([*command, "--part", "train"], check=True, capture_output=True, text=True)
            rows.append(json.loads(told.stdout))
    trained = [row for row in rows if row["what"] == "training"]
    slope = (np.polyfit([r["drugs"] for r in trained], [r["vectors MiB"] * 1024 for r in trained], 1)[0]
             if len(trained) > 1 else float("nan"))
    report("embed_memory", rows, kib_a_drug=round(float(slope), 2), steps=STEPS, texts=TEXTS)


if __name__ == "__main__":
    main()
