"""``--dry-run``: what a run would take, from counts, a sample of drugs and a few real steps; nothing is read in whole.

Features are timed on the sample, and only what the cache lacks is counted; the graph is counted alone. Steps run on a
batch of made-up vectors of the real widths.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.alignment.objective import Relation
from embed.config import PretrainConfig
from embed.features import descriptors, fingerprint, molecule, radius
from embed.features.cache import FeatureCache, sha256, version_of
from embed.features.frozen import FrozenModel
from embed.features.packed import Packed, vectors
from embed.features.work import ALONE
from embed.registry import ANCHOR, IMAGE_MODELS, TEXT_MODELS
from embed.source import Content, Corpus, read_sample
from embed.training.data import Dataset, Table, make_table
from embed.training.job import pick_device
from embed.training.loop import Progress, TrainingJob, step
from embed.training.model import build_model
from embed.training.split import scaffolds
from kb.compute.pool import cores
from kb.errors import DataError
from kb.query import read as query
from kb.query.read import Counts
from kb.settings import Settings

TIMED = 3
"""Steps that are timed, after one that warms up."""
SAMPLE = 128
FEW = 24
"""Inputs of what is slow (descriptors, frozen models) that are timed."""
TRIPLES_A_SECOND = 150_000
"""Triples that TransE sees in a second on one core (``benchmarks/bench_transe.py``)."""
COPIES = 2.0
"""How often the data is in memory at the worst moment."""


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of a run on this machine; ``feature_seconds`` is for features that are not cached yet."""

    drugs: int
    train: int
    validation: int
    test: int
    weights: int
    steps: int
    feature_seconds: float
    step_seconds: float
    train_seconds: float
    data_bytes: int
    peak_bytes: int


@dataclass
class Sampled:
    """What the sample tells: items by modality, the seconds of all missing features, and bytes by drug."""

    items: dict[str, Packed] = field(default_factory=dict)
    seconds: float = 0.0
    bytes: dict[str, float] = field(default_factory=dict)


def estimate(engine: Engine, settings: Settings, config: PretrainConfig) -> Estimate:
    """The cost of a run of this configuration on this machine; nothing is stored.

    Raises DataError when no drug has a structure.
    """
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    with engine.connect() as connection:
        counted = query.count_rows(connection)
    if not counted.have.get(ANCHOR):
        raise DataError("no drug in the knowledge base has a structure, and the molecule is the anchor",
                        hint="mkmed kb ingest corpus fills it from the bundled data")
    sampled = _sample(engine, config, counted, FeatureCache(settings.cache / "features"), device)
    data = _dataset(config, counted, sampled, device)
    model = build_model(config, data).to(device)
    model.train()
    t = config.train
    test, validation = (round(share * counted.with_anything) for share in (t.test, t.validation))
    train = counted.with_anything - test - validation
    if config.arm == "intersection":
        train = min(train, *(counted.have.get(name, 0) for name in data.tables))
    with tempfile.TemporaryDirectory() as folder:
        rows = np.arange(len(data.drug_ids))
        seconds = _timed(TrainingJob(model, data, config, rows, rows, Path(folder), _relations(config, data, device)))
    steps = t.epochs * max(1, train // max(1, min(t.batch_size, train)))
    size = int(sum(sampled.bytes[name] * counted.have.get(name, 0) for name in data.tables))
    now = (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss)
    vectors_bytes = 4 * config.width * (len(data.tables) + 1) * counted.with_anything
    return Estimate(
        drugs=counted.drugs, train=train, validation=validation, test=test,
        weights=sum(p.numel() for p in model.parameters()), steps=steps, feature_seconds=sampled.seconds,
        step_seconds=seconds, train_seconds=seconds * steps, data_bytes=size,
        peak_bytes=now + int(COPIES * size) + vectors_bytes)


def _sample(engine: Engine, config: PretrainConfig, counted: Counts, cache: FeatureCache,
            device: torch.device) -> Sampled:
    """The sample's features, timed, with what all of them would cost."""
    corpus = read_sample(engine, SAMPLE, notes=config.text.notes)
    smiles = [text for text in corpus.smiles if text]
    keys, out = [sha256(text) for text in smiles], Sampled()
    bits, m, total = config.molecule.fingerprint_bits, config.molecule, counted.have[ANCHOR]

    def missing(encoder: str, version: str, sampled: Sequence[bytes]) -> float:
        return 1.0 - float(cache.known(encoder, version, sampled).mean()) if sampled else 0.0

    def add(share: float, count: int, work: Callable[[], object], done: int, *, shared: bool = True) -> None:
        started = time.perf_counter()
        work()
        wanted = share * count
        workers = cores() if shared and wanted > ALONE else 1
        out.seconds += (time.perf_counter() - started) / max(done, 1) * wanted / workers

    def featurise() -> None:
        out.items[ANCHOR] = molecule.featurise(smiles)[1]

    add(missing(ANCHOR, molecule.VERSION, keys), total, featurise, len(smiles))
    add(1.0, total, lambda: scaffolds(smiles[:FEW]), FEW)
    anchor = make_table(ANCHOR, out.items[ANCHOR], np.arange(out.items[ANCHOR].n), device).items
    out.bytes[ANCHOR] = anchor.nbytes / max(1, anchor.n) + 4 * m.fingerprint_components + bits / 8
    if bits:
        add(missing("morgan", fingerprint.version(bits), keys), total, lambda: fingerprint.fingerprints(smiles, bits),
            len(smiles))
    if "property" in config.modalities and config.property.descriptors:
        add(missing("descriptors", descriptors.VERSION, keys), total,
            lambda: descriptors.descriptors(smiles[:FEW]), min(FEW, len(smiles)))
    _payloads(config, corpus, counted, out, add, missing, device)
    if "graph" in config.modalities and "transe" in config.graph.features and counted.triples:
        out.seconds += counted.triples * config.graph.epochs / TRIPLES_A_SECOND
    return out


def _payloads(config: PretrainConfig, corpus: Corpus, counted: Counts, out: Sampled, add: Callable[..., None],
              missing: Callable[[str, str, Sequence[bytes]], float], device: torch.device) -> None:
    """Texts, pictures and conformers of the sample."""
    s = config.structure
    if "structure" in config.modalities and len(corpus.conformers):
        blocks = [str(block) for block in corpus.conformers.load(range(len(corpus.conformers)))]
        version = version_of(version=radius.VERSION, cutoff=s.cutoff, neighbours=s.neighbours, hydrogens=s.hydrogens)

        def shapes() -> None:
            out.items["structure"] = radius.conformer_graphs(blocks, s.cutoff, s.neighbours, s.hydrogens)[1]

        add(missing("radius-graph", version, corpus.conformers.keys()), counted.have["structure"], shapes, len(blocks))
        shape = make_table("structure", out.items["structure"], np.arange(out.items["structure"].n), device).items
        out.bytes["structure"] = shape.nbytes / max(1, shape.n)
    for name, registry, part, count in (("text", TEXT_MODELS, corpus.texts, counted.texts),
                                        ("image", IMAGE_MODELS, corpus.images, counted.have.get("image", 0))):
        if name not in config.modalities or not len(part):
            continue
        own = getattr(config, name)
        model: FrozenModel = registry[own.model](own, device)
        share = missing(f"{name}-{model.name}", model.version, part.keys())
        if share:
            contents: list[Content] = part.load(range(min(len(part), FEW)))
            model.encode(contents[:1])  # brings the weights into memory
            add(share, count, lambda model=model, contents=contents: model.encode(contents), len(contents),
                shared=False)


def _widths(config: PretrainConfig) -> dict[str, int]:
    """How wide the vectors of each modality are, about."""
    g = config.graph
    graph = (g.components if "neighbourhood" in g.features else 0) + (g.dimension if "transe" in g.features else 0)
    properties = 15 + (len(descriptors.descriptor_names()) if config.property.descriptors else 0)
    return {"image": config.image.components or 1280, "text": 384, "property": properties, "graph": graph}


def _dataset(config: PretrainConfig, counted: Counts, sampled: Sampled, device: torch.device) -> Dataset:
    """A batch of drugs, as many of each modality as there are on the whole, with vectors that are made up."""
    size, rng = max(2, config.train.batch_size), np.random.default_rng(0)
    tables: dict[str, Table] = {}
    for name in (ANCHOR, *config.modalities):
        if not counted.have.get(name) or (name == "structure" and name not in sampled.items):
            continue
        if name in sampled.items:
            items = sampled.items[name]
            if name == ANCHOR and config.molecule.fingerprint_bits:
                wide = rng.normal(size=(items.n, config.molecule.fingerprint_components)).astype(np.float32)
                items = Packed(items.n, {**items.columns, "vector": wide}, items.indptr)
        else:
            width = _widths(config)[name]
            items = vectors(rng.normal(size=(SAMPLE, width)).astype(np.float32))
            sampled.bytes[name] = 4.0 * width
        if not items.n:
            continue
        position: NDArray[np.int64] = np.arange(size) % items.n
        position[rng.random(size) > counted.have[name] / counted.with_anything] = -1
        tables[name] = make_table(name, items, position, device)
    return Dataset(np.arange(size), tables, torch.arange(size, device=device))


def _relations(config: PretrainConfig, data: Dataset, device: torch.device) -> list[Relation]:
    rng, out = np.random.default_rng(1), []
    for name in config.loss.relation_of if config.loss.relation else ():
        if name in data.tables:
            bits = rng.integers(0, 256, (SAMPLE, 256)).astype(np.uint8)
            matrix = bits if name == ANCHOR else rng.normal(size=(SAMPLE, 384)).astype(np.float32)
            position = data.tables[name].position.clamp(max=SAMPLE - 1).to(device)
            out.append(Relation(torch.from_numpy(matrix).to(device), position, tanimoto=name == ANCHOR))
    return out


@dataclass(frozen=True)
class _Descent:
    """Plain gradient descent: to make an optimiser of torch's imports ``torch._dynamo``, which takes two seconds."""

    parameters: list[torch.nn.Parameter]

    def zero_grad(self) -> None:
        for one in self.parameters:
            one.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for one in self.parameters:
            if one.grad is not None:
                one.sub_(one.grad, alpha=1e-4)


def _timed(job: TrainingJob) -> float:
    """The mean seconds of a training step, less what AdamW does more than plain descent."""
    optimizer = _Descent(list(job.model.parameters()))
    rows = torch.from_numpy(job.train)[:job.config.train.batch_size]
    step(job, optimizer, rows, Progress())
    started = time.perf_counter()
    for _ in range(TIMED):
        step(job, optimizer, rows, Progress())
    if job.data.group.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / TIMED
