"""The job behind ``mkmed embed pretrain``: knowledge base in, published vectors out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from embed.allocator import keep_freed_memory
from embed.config import GraphConfig, PretrainConfig, to_json
from embed.evaluation.labels import EvaluationLabels, read_labels
from embed.evaluation.retrieval import retrieve
from embed.evaluation.snapshot import EvaluationData, chosen_rows
from embed.features.cache import FeatureCache
from embed.features.fitted import Fitted
from embed.runs import artefact, checkpoint, store
from embed.runs import card as card_of
from embed.runs import folder as run_folder
from embed.runs.artefact import Artefact
from embed.runs.drugs import RunDrugs, content_digests, identity_digests
from embed.runs.embedder import Embedder
from embed.runs.schema import embedding_run
from embed.runs.store import store_form
from embed.runs.update import remember_parents
from embed.search import unusual
from embed.source import Corpus, read_corpus
from embed.training import distributed
from embed.training.foretell import chosen_encoder, take_head
from embed.training.inputs import Inputs, build_inputs, compute_features
from embed.training.loop import TrainingJob, fit
from embed.training.model import AlignmentModel, embed_all
from embed.training.ranks import read_shared, shared_folder, write_shared
from embed.training.reference import take_reference
from embed.training.split import DrugSplit, sides, split_corpus
from embed.training.start import start_model
from embed.transfer import head as transfer
from kb.compute.places import HERE, ComputePlace
from kb.errors import CheckpointError, ConfigError, DataError, Interrupted, MkmedError, TrainingDiverged, UsageError
from kb.ledger import entries as runs
from kb.licences import SHARES
from kb.output import plain, say
from kb.query import read as query
from kb.query.snapshot import cite
from kb.settings import Settings

SCORED = 10_000
"""Test drugs that retrieval is measured on at the end of a run: all pairs of them are compared."""


@dataclass(frozen=True)
class Pretrained:
    """A finished run: its id and folder, the epochs done, and its metrics (validation, and retrieval on test drugs)."""

    run_id: uuid.UUID
    folder: Path
    epochs: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class PreparedTraining:
    """Everything before the first step: corpus, split, inputs, and the knowledge base that they are of."""

    corpus: Corpus
    split: DrugSplit
    inputs: Inputs
    lineage: str = ""


def pick_device(wanted: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda`` (this process's card under torchrun); raises ConfigError."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = "" if torch.backends.cuda.is_built() else " (this torch was built without CUDA)"
        raise ConfigError(f"device is cuda, but torch sees no CUDA card{built}",
                          hint="use --device cpu, or install a CUDA build of torch")
    number, cards = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= cards:
        raise ConfigError(f"process {number + 1} of this machine has no card: torch sees {cards}",
                          hint=f"torchrun --nproc-per-node {cards}")
    return torch.device("cuda", number)


def set_determinism(device: torch.device, deterministic: bool) -> None:
    """Whether sums on a card are taken in a fixed order; a CPU needs nothing for it."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
        torch.use_deterministic_algorithms(deterministic)


def training_corpus(engine: Engine, config: PretrainConfig) -> Corpus:
    """The corpus of the knowledge base; raises DataError when no drug has a structure."""
    g = config.graph
    corpus = read_corpus(engine, notes=config.text.notes, exclude_types=g.exclude_types, exclude_relations=g.exclude)
    if not any(corpus.smiles):
        raise DataError("no drug in the knowledge base has a structure, and the molecule is the anchor",
                        hint="mkmed kb ingest corpus fills it from the bundled data")
    return corpus


def prepare_training(engine: Engine, config: PretrainConfig, cache: FeatureCache, device: torch.device,
                     begun: Artefact | None = None, corpus: Corpus | None = None) -> PreparedTraining:
    """The corpus of the knowledge base with its features, computed or from the cache, and its scaffold split.

    With ``begun``, a run that was started before, the split and everything fitted are that run's own.
    """
    corpus = corpus or training_corpus(engine, config)
    with engine.connect() as connection:
        lineage = query.lineage(connection)
    if begun is None:
        split, fitted, names = split_corpus(corpus, config, cache), None, None
    else:
        split, fitted, names = begun.drugs().split(corpus, lineage), begun.fitted(), begun.run["modalities"]
    inputs = build_inputs(corpus, config, cache, device, split.train, fitted, names=names)
    return PreparedTraining(corpus, split.among(inputs.data.present.any(1).numpy()), inputs, lineage)


def _prepare_together(engine: Engine, config: PretrainConfig, cache: FeatureCache, device: torch.device,
                      begun: Artefact | None, place: Path) -> PreparedTraining:
    """As ``prepare_training``, by all processes of the job; tensors lie in files below ``place`` that all of them map.

    All but the first know nothing but the tensors and the split.
    """
    corpus = training_corpus(engine, config)
    share = corpus.take(np.arange(distributed.rank(), len(corpus), distributed.world()))
    compute_features(share, config, cache, device)
    distributed.wait()
    with distributed.first_alone() as first:
        whole = prepare_training(engine, config, cache, device, begun, corpus) if first else None
        if whole is not None:
            write_shared(place, whole.inputs.data, whole.inputs.relations, whole.split)
    data, relations, split = read_shared(place, device)
    if whole is None:
        return PreparedTraining(share, split, Inputs(data, relations, Fitted()))
    return replace(whole, inputs=replace(whole.inputs, data=data, relations=relations))


def training_rows(prepared: PreparedTraining, config: PretrainConfig) -> NDArray[np.int64]:
    """The training drugs of the arm: all that have anything, or only those that have every modality."""
    present = prepared.inputs.data.present.numpy()[prepared.split.train]
    return prepared.split.train[np.flatnonzero(present.all(1) if config.arm == "intersection" else present.any(1))]


def pretrain(engine: Engine, settings: Settings, config: PretrainConfig, *, resume: str | None = None,
             publish: bool = True, name: str = "", on_epoch: Callable[[dict[str, Any]], None] = lambda m: None,
             place: ComputePlace = HERE, run_id: uuid.UUID | None = None) -> Pretrained:
    """Train, embed every drug that has anything, store the vectors and (by default) publish them.

    ``resume`` names a run (``last``, or the start of an id) that goes on with its own configuration. Nothing is stored
    or published if training diverges or is interrupted; what was reached stays in the run folder. What the towers read
    of each drug is computed at ``place`` and kept here. A new run has the id ``run_id`` where one is given.
    """
    run_id = run_id or uuid.uuid4()
    if resume is not None:
        folder = run_folder.find_folder(settings, resume)
        config, run_id = run_folder.read_config(folder), uuid.UUID(folder.name)
        _refuse_finished(engine, run_id)
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    set_determinism(device, config.deterministic)
    distributed.join_processes(device)
    try:
        if resume is None:
            run_id = distributed.agree(run_id)
            folder = run_folder.pretrain_folder(settings) / str(run_id)
        cache = FeatureCache(settings.cache / "features", place)
        with place.staying(), run_folder.alone(folder) if distributed.rank() == 0 else nullcontext():
            return _run(engine, cache, config, run_id, folder, device, name, resume is not None, publish, on_epoch)
    finally:
        distributed.leave()


def _run(engine: Engine, cache: FeatureCache, config: PretrainConfig, run_id: uuid.UUID, folder: Path,
         device: torch.device, name: str, resume: bool, publish: bool, on_epoch: Callable[[dict[str, Any]], None],
         ) -> Pretrained:
    """The run from its row to its vectors; how it ended is written into the row."""
    try:
        if distributed.rank() == 0:
            if resume:
                _refuse_finished(engine, run_id)  # again: it may have ended before the lock was had
            else:
                run_folder.write_config(folder, config)
            _open_run(engine, run_id, config, name, resume)
        with shared_folder(folder) as place:
            return _work(engine, cache, config, run_id, folder, place, device, resume, publish, on_epoch)
    except KeyboardInterrupt:
        _close_run(engine, run_id, "interrupted", "stopped by the user")
        raise Interrupted(f"run {run_id} was stopped; its epochs are kept",
                          hint="mkmed embed pretrain --resume last") from None
    except MkmedError as error:
        _close_run(engine, run_id, "failed", error.message)
        raise


def _refuse_finished(engine: Engine, run_id: uuid.UUID) -> None:
    with engine.connect() as connection:
        if connection.scalar(select(embedding_run.c.run_id).where(embedding_run.c.run_id == run_id)):
            raise UsageError(f"run {run_id} is finished: its vectors are stored",
                             hint=f"mkmed embed publish {str(run_id)[:8]}, or pretrain without --resume")


def _open_run(engine: Engine, run_id: uuid.UUID, config: PretrainConfig, name: str, again: bool) -> None:
    with engine.begin() as connection:
        if not (again and runs.reopen_run(connection, run_id)):
            runs.start_run(connection, "pretrain", name=name, config=to_json(config), run_id=run_id)


def _close_run(engine: Engine, run_id: uuid.UUID, status: str, error: str) -> None:
    if distributed.rank() == 0:
        with engine.begin() as connection:
            runs.finish_run(connection, run_id, status, error=error)


def _work(engine: Engine, cache: FeatureCache, config: PretrainConfig, run_id: uuid.UUID, folder: Path, place: Path,
          device: torch.device, resume: bool, publish: bool, on_epoch: Callable[[dict[str, Any]], None]) -> Pretrained:
    begun = _begun(folder) if resume else None
    if distributed.world() == 1:
        prepared = prepare_training(engine, config, cache, device, begun)
    else:
        prepared = _prepare_together(engine, config, cache, device, begun, place)
    inputs, rows = prepared.inputs, training_rows(prepared, config)
    model = start_model(config, inputs.data, rows)
    distributed.take_from_first(model.state_dict().values())
    if distributed.rank() == 0:
        say(f"{len(rows):,} drugs train, {len(prepared.split.validation):,} validate, {len(prepared.split.test):,} are "
            f"held out; {', '.join(model.names)}; {sum(p.numel() for p in model.parameters()):,} weights on {device}")
        run_folder.write_environment(folder, device, inputs.fitted.identities)
        if begun is None:
            begun = _begin(engine, folder, config, model, prepared)
    job = TrainingJob(model, inputs.data, config, rows, prepared.split.validation, folder, inputs.relations,
                      on_epoch=on_epoch)
    at = fit(job, resume and (folder / "last.pt").exists())
    distributed.wait()
    if not (folder / "best.pt").exists():
        raise TrainingDiverged("no epoch had a finite step", hint="nothing was published; lower train.learning_rate")
    tensors, meta = checkpoint.load_exactly(folder / "best.pt")  # an older epoch must not be published in its place
    model.load_state_dict(tensors["model"])
    metrics = {"epochs": at.epoch, "best_epoch": meta["progress"]["best_epoch"], "score": meta["progress"]["best"],
               "test": score_held_out(model, prepared), "encoders": inputs.fitted.identities}
    if distributed.rank() == 0:
        assert begun is not None  # this process made or read it
        _finish(engine, begun, model, prepared, metrics, cache)
        if publish:
            store.publish(engine, run_id, artefact=begun.digest)
        run_folder.draw_curves(folder)
    distributed.wait()
    return Pretrained(run_id, folder, at.epoch, metrics)


def _begun(folder: Path) -> Artefact | None:
    """What the run wrote before its first epoch; None where it was stopped before that."""
    if not (folder / artefact.MANIFEST).is_file():
        if (folder / "last.pt").is_file():
            raise CheckpointError(f"run {folder.name[:8]} was begun by release 0.1.0, which did not keep its split",
                                  hint="mkmed embed pretrain starts one that can be resumed")
        return None
    return artefact.load(folder)


def _begin(
    engine: Engine, folder: Path, config: PretrainConfig, model: AlignmentModel, prepared: PreparedTraining
) -> Artefact:
    """The run's artefact with everything that a resumed training must find again."""
    split, inputs, g = prepared.split, prepared.inputs, config.graph
    contents = content_digests(prepared.corpus, inputs.fitted, g.second_step, g.second_weight)
    drugs = RunDrugs(prepared.lineage, prepared.corpus.drug_ids, identity_digests(prepared.corpus), contents,
                     sides(split, len(prepared.corpus)))
    with engine.connect() as connection:
        licences, knowledge = query.licences_used(connection), cite(connection)
    used = [one for one in licences if one["modality"] in model.names]
    counts = {name: len(getattr(split, name)) for name in ("train", "validation", "test")}
    unseen = chosen_encoder(config.transfer, tell=True)
    encoders = inputs.fitted.identities if unseen is None else {**inputs.fitted.identities, "unseen molecules": unseen}
    run = {
        "id": folder.name, "release": runs.program_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "modalities": list(model.names), "encoders": encoders, "licences": used,
        "share": max((one["share"] for one in used), key=SHARES.index, default="unknown"),
        "corpus": {"drugs": int((drugs.side >= 0).sum()), **counts, "fingerprint": drugs.fingerprint(),
                   "lineage": prepared.lineage},
        "knowledge": knowledge,
    }
    return artefact.begin(folder, config, plain(run), drugs, inputs.fitted)


def _finish(engine: Engine, begun: Artefact, model: AlignmentModel, prepared: PreparedTraining,
            metrics: dict[str, Any], cache: FeatureCache) -> None:
    """Seal the artefact and store the vectors that it gives."""
    corpus, g = prepared.corpus, model_graph(begun)
    vectors, rests_on = vectors_of(model, prepared)
    fused = np.zeros((len(corpus), model.width), np.float32)
    fused[np.searchsorted(corpus.drug_ids, vectors["fused"][0])] = vectors["fused"][1]
    side = sides(prepared.split, len(corpus))
    head = take_head(corpus, prepared.inputs, fused, side, begun.config(), cache)
    if head is not None:
        begun.put_arrays(transfer.FILE, head.arrays(), head.meta())
    labels = read_labels(engine, corpus.drug_ids)
    begun.put_arrays("weights.safetensors", {k: v.cpu().numpy() for k, v in model.state_dict().items()}, model.kwargs)
    snapshot = take_evaluation_snapshot(begun.config(), model, prepared, labels)
    begun.put_arrays("evaluation.safetensors", snapshot.arrays(), snapshot.meta())
    reference = take_reference(corpus, prepared.inputs, begun.config(), cache, prepared.split.train)
    begun.put_arrays(unusual.FILE, reference.arrays())
    card = card_of.facts(begun.run, plain(metrics), to_json(begun.config()))
    begun.put_json("metrics.json", plain(metrics))
    begun.put_json("card.json", card)
    begun.put("card.md", card_of.markdown(card).encode())
    begun.write("sealed")
    vectors |= Embedder(begun, cache).predicted(corpus)
    remember_parents(corpus, cache)
    contents = content_digests(corpus, prepared.inputs.fitted, g.second_step, g.second_weight)
    has = np.isin(corpus.drug_ids, vectors["fused"][0])
    origin = store.VectorOrigin(begun.digest, corpus.drug_ids[has], contents[has])
    metrics = {**metrics, "knowledge": begun.run.get("knowledge")}
    store.write_run(engine, begun.run_id, vectors, rests_on, precision=begun.config().index, metrics=metrics,
                    origin=origin)
    with engine.begin() as connection:
        runs.finish_run(connection, begun.run_id, "complete", counts={k: len(v[0]) for k, v in vectors.items()})


def model_graph(begun: Artefact) -> GraphConfig:
    """How the run reads the graph."""
    return begun.config().graph


def vectors_of(model: AlignmentModel, prepared: PreparedTraining,
               ) -> tuple[dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]], NDArray[np.bool_]]:
    """``({modality: (drug ids, matrix)}, rests_on)`` of every drug that has anything, as the store wants them."""
    data = prepared.inputs.data
    z, fused, present = (part.numpy() for part in embed_all(model, data))
    if not (np.isfinite(z).all() and np.isfinite(fused).all()):
        raise TrainingDiverged("the trained towers give vectors that are not finite", hint="nothing was published")
    return store_form(model.names, data.drug_ids, z, fused, present)


def take_evaluation_snapshot(
    config: PretrainConfig, model: AlignmentModel, prepared: PreparedTraining, labels: EvaluationLabels
) -> EvaluationData:
    """What the run will be measured on, with the model as training began with it beside it."""
    data, corpus = prepared.inputs.data, prepared.corpus
    side = sides(prepared.split, len(corpus))
    rows = chosen_rows(data.present.numpy(), side, labels)
    z, fused, present = (part.numpy() for part in embed_all(model, data, rows))
    fresh = start_model(config, data, training_rows(prepared, config))
    untrained_z, untrained_fused, _ = (part.numpy() for part in embed_all(fresh, data, rows))
    raw = prepared.inputs.raw_of(rows)
    values = (corpus.properties[rows] if corpus.properties.size else np.zeros((len(rows), 0))).astype(np.float32)
    return EvaluationData(
        model.names, z, fused, untrained_z, untrained_fused, without(fresh, "graph", untrained_z, present),
        without(model, "graph", z, present), present, side[rows], data.group.cpu().numpy()[rows],
        np.array([not corpus.smiles[i] for i in rows], bool), corpus.drug_ids[rows], raw, list(corpus.property_names),
        values, labels.take(rows))


@torch.no_grad()
def without(model: AlignmentModel, name: str, z: NDArray[np.float32],
            present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The fused vectors without one modality; zero where nothing else is there."""
    left = present.copy()
    if name in model.names:
        left[:, model.names.index(name)] = False
    device = next(model.parameters()).device
    fused = model.fusion(torch.from_numpy(z).to(device), torch.from_numpy(left).to(device)).cpu().numpy()
    out: NDArray[np.float32] = (fused * left.any(1, keepdims=True)).astype(np.float32)
    return out


def score_held_out(model: AlignmentModel, prepared: PreparedTraining, least: int = 20) -> dict[str, dict[str, float]]:
    """Retrieval between every two towers on the test drugs that have both (at least ``least``), beside chance.

    Of more than ``SCORED`` test drugs so many are drawn."""
    data = prepared.inputs.data
    test = np.sort(np.random.default_rng(0).permutation(prepared.split.test)[:SCORED])
    vectors, _, there = embed_all(model, data, test)
    z, present = vectors.to(data.group.device), there.numpy()
    group = data.group[torch.from_numpy(test).to(data.group.device)]
    out = {}
    for a, first in enumerate(model.names):
        for b, second in enumerate(model.names):
            rows = torch.from_numpy(np.flatnonzero(present[:, a] & present[:, b])).to(z.device)
            if a != b and len(rows) >= least:
                found = retrieve(z[rows, a], z[rows, b], group[rows])
                chance = {"drugs": found.drugs, "chance@10": found.chance[10]}
                out[f"{first}->{second}"] = {**found.figures(), **chance}
    return out
