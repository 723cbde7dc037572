"""Training pairs per CPU second: cached features, beside a plain loop that reads the raw inputs in every step.

Run: ``python benchmarks/bench_align.py [--quick]``. Both loops train the same towers with the same losses and optimiser
on the same drugs of the bundled corpus, on one thread. The plain loop does what research code of this field does: in
each step it parses the SMILES (``from_smiles``, BRICS, Morgan), reads the conformers, draws the pictures and runs them
through EfficientNet-Lite0, tokenises the texts and runs them through MiniLM. A pair is one (molecule, other modality)
of one drug. The frozen models run in the same precision in both, and the plain loop has them in memory beforehand.
``--compile`` adds the same steps with the towers compiled by torch.compile, after as many steps to compile in.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D
from record import report

from embed.config import PretrainConfig, load_config
from embed.features.cache import FeatureCache
from embed.features.fingerprint import fingerprints, log_counts
from embed.features.molecule import featurise
from embed.features.packed import Packed, vectors
from embed.features.radius import conformer_graphs
from embed.registry import IMAGE_MODELS, TEXT_MODELS
from embed.source import Corpus, Payloads, held
from embed.training.data import Dataset, Table, make_table
from embed.training.inputs import Inputs, build_inputs
from embed.training.loop import Progress, TrainingJob, step
from embed.training.model import build_model
from kb.properties import PROPERTIES
from kb.query.read import Triples
from mkmed.demo.paths import data_path

TARGET = 30.0
CPU = torch.device("cpu")


def rows_of(name: str) -> list[dict[str, str]]:
    """A bundled table."""
    with gzip.open(data_path(name), "rt") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def drawing(smiles: str) -> bytes:
    """The 2D depiction, 224 pixels square."""
    canvas = rdMolDraw2D.MolDraw2DCairo(224, 224)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, Chem.MolFromSmiles(smiles))
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def corpus(count: int) -> Corpus:
    """The first ``count`` core drugs; properties are made up, as reading them costs either loop nothing."""
    drugs = [row for row in rows_of("drugs.tsv.gz") if row["tier"] == "core"][:count]
    index = {row["key"]: k for k, row in enumerate(drugs)}
    texts = [(index[r["key"]], r["content"]) for r in rows_of("texts.tsv.gz") if r["key"] in index]
    with gzip.open(data_path("conformers_rdkit.sdf.gz"), "rt") as stream:
        blocks = stream.read().split("$$$$\n")
    shapes = [(index[b.partition("\n")[0]], b[:b.index("M  END") + 7]) for b in blocks
              if b.partition("\n")[0] in index]
    names = sorted({v for r in rows_of("kg_triples.tsv.gz") for v in (r["head"], r["tail"])})
    entity = {name: k for k, name in enumerate(names)}
    edges = [(entity[r["head"]], entity[r["tail"]]) for r in rows_of("kg_triples.tsv.gz")]
    head, tail = np.array(edges, np.int32).T
    graph = Triples(head, np.zeros_like(head), tail, names, [n.partition("::")[0] for n in names],
                    np.arange(len(names), dtype=np.int32), ["linked"])
    linked = [(k, entity["Compound::" + key.partition(":")[2]]) for key, k in index.items()
              if "Compound::" + key.partition(":")[2] in entity]
    pair = np.array(linked, np.int64).T
    return Corpus(
        np.arange(1, len(drugs) + 1), [r["name"] for r in drugs], [r["smiles"] for r in drugs],
        [r["inchikey"][:14] for r in drugs], payloads(texts),
        payloads([(k, drawing(r["smiles"])) for k, r in enumerate(drugs)]), payloads(shapes),
        list(PROPERTIES)[:8], np.random.default_rng(0).normal(size=(len(drugs), 8)), graph,
        (pair[0], pair[1]))


def payloads(pairs: Iterable[tuple[int, str | bytes]]) -> Payloads:
    """Contents by drug, in memory."""
    ordered = sorted(pairs, key=lambda pair: pair[0])
    return held([row for row, _ in ordered], [content for _, content in ordered])


def contents(items: Payloads) -> list[tuple[int, str]]:
    """(row, content) of every payload."""
    return [(int(row), str(content)) for row, content in zip(items.row, items.load(range(len(items))), strict=True)]


def pairs_in(data: Dataset, drugs: torch.Tensor) -> int:
    """How many (molecule, other modality) pairs a batch has."""
    present = data.known(drugs)
    return int((present[:, :1] & present[:, 1:]).sum())


class Plain:
    """The plain loop's step: raw inputs to tensors for the drugs of the batch, then the same towers and losses.

    It is given every advantage that does not change its nature: the frozen models are loaded, the projections fitted,
    the batch goes through them as one, and what needs no reading (properties, graph features) comes from the tables.
    """

    def __init__(self, whole: Corpus, config: PretrainConfig, fitted: Inputs) -> None:
        self.whole, self.config, self.fitted = whole, config, fitted
        self.text = TEXT_MODELS[config.text.model](config.text, CPU)
        self.image = IMAGE_MODELS[config.image.model](config.image, CPU)
        self.texts: dict[int, list[str]] = {}
        for row, text in contents(whole.texts):
            self.texts.setdefault(row, []).append(text)
        self.shapes = dict(contents(whole.conformers))
        self.text.encode(["warm"]), self.image.encode([drawing("C")])

    def _molecules(self, smiles: list[str]) -> Packed:
        _, items = featurise(smiles)
        bits = self.config.molecule.fingerprint_bits
        _, prints = fingerprints(smiles, bits)
        vector = self.fitted.fitted.projections["molecule"].apply(log_counts(prints, bits))
        return Packed(items.n, {**items.columns, "vector": vector}, items.indptr)

    def data(self, rows: np.ndarray) -> Dataset:
        """The batch as a data set of its own."""
        everyone, smiles = np.arange(len(rows)), [self.whole.smiles[r] or "" for r in rows]
        owner = [k for k, r in enumerate(rows) for _ in self.texts[int(r)]]
        encoded = self.text.encode([t for r in rows for t in self.texts[int(r)]])
        summed = np.zeros((len(rows), encoded.shape[1]), np.float32)
        np.add.at(summed, owner, encoded)
        seen = self.image.encode([drawing(s) for s in smiles])
        s = self.config.structure
        has = [k for k, r in enumerate(rows) if int(r) in self.shapes]
        done, shapes = conformer_graphs([self.shapes[int(rows[k])] for k in has], s.cutoff, s.neighbours, s.hydrogens)
        place = np.full(len(rows), -1)
        place[[has[k] for k in done]] = np.arange(len(done))
        tables = {
            "molecule": make_table("molecule", self._molecules(smiles), everyone, CPU),
            "image": make_table("image", vectors(self.fitted.fitted.projections["image"].apply(seen)), everyone, CPU),
            "text": make_table("text", vectors(self.fitted.fitted.projections["text"].apply(summed)), everyone, CPU),
            "structure": make_table("structure", shapes, place, CPU),
        }
        for name in ("property", "graph"):
            known = self.fitted.data.tables[name]
            tables[name] = Table(known.items, known.position[torch.from_numpy(rows)], known.collate, CPU)
        return Dataset(self.whole.drug_ids[rows], tables, self.fitted.data.group[torch.from_numpy(rows)])

    def step(self, rows: np.ndarray, job: TrainingJob, optimizer: torch.optim.Optimizer) -> int:
        """One optimiser step; returns the pairs."""
        data = self.data(rows)
        every = np.arange(len(rows))
        relations = [replace(one, position=one.position[torch.from_numpy(rows)]) for one in job.relations]
        step(TrainingJob(job.model, data, self.config, every, every, job.folder, relations), optimizer,
             torch.from_numpy(every), Progress())
        return pairs_in(data, torch.from_numpy(every))


def timed_steps(job: TrainingJob, optimizer: torch.optim.Optimizer, drawn: Iterable[torch.Tensor]) -> tuple[int, float]:
    """``(pairs, CPU seconds)`` of a training step for each of the drawn batches."""
    pairs, seconds = 0, 0.0
    for drugs in drawn:
        started = time.process_time()
        step(job, optimizer, drugs, Progress())
        seconds += time.process_time() - started
        pairs += pairs_in(job.data, drugs)
    return pairs, seconds


def compiled_steps(job: TrainingJob, drawn: list[torch.Tensor]) -> list[dict[str, Any]]:
    """The same batches before and after the towers are compiled, and how far off their vectors then are."""
    rows: list[dict[str, Any]] = []
    plain = dict(job.model.towers.items())
    for name in ("mkmed: cached features, again", "mkmed: towers compiled"):
        began = time.process_time()
        if name.endswith("compiled"):
            for tower in plain:
                job.model.towers[tower] = torch.compile(plain[tower], dynamic=True)
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=1e-3)
        timed_steps(job, optimizer, drawn)
        before = time.process_time() - began
        pairs, seconds = timed_steps(job, optimizer, drawn)
        rows.append({"loop": name, "pairs": pairs, "pairs/s per core": pairs / seconds, "CPU s before": before})
    rows[1]["of the plain steps"] = rows[1]["pairs/s per core"] / rows[0]["pairs/s per core"]
    rows[1]["furthest from the tower's vectors"] = furthest(job, plain, drawn[0])
    return rows


@torch.no_grad()
def furthest(job: TrainingJob, plain: dict[str, torch.nn.Module], drugs: torch.Tensor) -> float:
    """The greatest difference of a coordinate between the compiled towers' unit vectors and those of ``plain``."""
    job.model.eval()
    inputs = job.data.batch(drugs).inputs
    return max(float((job.model.towers[name](inputs[name][1]) - plain[name].eval()(inputs[name][1])).abs().max())
               for name in plain)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="256 drugs, batches of 64")
    parser.add_argument("--compile", action="store_true", help="the towers compiled, too")
    given = parser.parse_args()
    quick = given.quick
    torch.set_num_threads(1)
    size, count, rounds = (64, 256, 2) if quick else (256, 1024, 3)
    config = load_config(sets=[f"train.batch_size={size}", "property.descriptors=false"])
    whole = corpus(count)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        fitted = build_inputs(whole, config, FeatureCache(Path(folder)), CPU, np.arange(count))
        once = time.process_time() - started
        model = build_model(config, fitted.data)
        model.train()
        every = np.arange(count)
        job = TrainingJob(model, fitted.data, config, every, every, Path(folder), fitted.relations)
        rng = np.random.default_rng(0)
        fast, plain = [0, 0.0], [0, 0.0]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        step(job, optimizer, torch.arange(size), Progress())
        loop = Plain(whole, config, fitted)
        for _ in range(rounds):
            rows = rng.permutation(count)[:size]
            started = time.process_time()
            plain[0] += loop.step(rows, job, optimizer)
            plain[1] += time.process_time() - started
            drawn = [torch.from_numpy(rng.permutation(count)[:size]) for _ in range(10)]
            pairs, seconds = timed_steps(job, optimizer, drawn)
            fast = [fast[0] + pairs, fast[1] + seconds]
        compiled = compiled_steps(job, drawn * 2) if given.compile else []
    base = plain[0] / plain[1]
    rows_out = [
        {"loop": "plain: raw inputs in each step", "pairs": plain[0], "pairs/s per core": base, "ratio": 1.0},
        {"loop": "mkmed: cached features", "pairs": fast[0], "pairs/s per core": fast[0] / fast[1],
         "ratio": fast[0] / fast[1] / base},
        *compiled,
    ]
    report("align_compiled" if given.compile else "align", rows_out, target=f"at least {TARGET} x the plain loop",
           drugs=count, batch=size, features_once_cpu_seconds=once, towers=list(model.names))


if __name__ == "__main__":
    main()
