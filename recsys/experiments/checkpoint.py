"""Recommenders and unfinished training on disk, through embed.runs.checkpoint: tensors and JSON, never a pickle.

A stored recommender carries its vocabularies, its drug table and its interaction matrix, so that using it needs
neither the database nor the cohort.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed.runs import checkpoint
from kb.errors import CheckpointError
from recsys.cohorts.batches import Sizes
from recsys.experiments.calibration import Platt
from recsys.experiments.config import from_json
from recsys.experiments.decode import Decision
from recsys.knowledge.composition import Composition, Tower
from recsys.knowledge.table import Knowledge
from recsys.orders.interactions import DrugInteractions, Interaction, Interactions
from recsys.registry import RECOMMENDERS

if TYPE_CHECKING:
    import torch

    from recsys.recommenders.contract import Recommender
    from recsys.recommenders.network import Network

FORMAT = 1


@dataclass
class Trained:
    """A fitted recommender with all that its answers depend on."""

    recommender: Recommender
    vocabularies: Mapping[str, tuple[str, ...]]
    decision: Decision
    platt: Platt
    meta: dict[str, Any] = field(default_factory=dict)
    """The cohort's fingerprint, the run id, training frequencies, the validation row: JSON."""
    orders: bytes | None = None
    """The map from orders to medications (``recsys.orders.stored``); None for a cohort without a knowledge base."""


def save_recommender(path: Path, trained: Trained) -> str:
    """Write the recommender to ``path`` and return the file's SHA-256."""
    import torch

    model, knowledge = trained.recommender, trained.recommender.knowledge
    arrays = {"vectors": knowledge.vectors, "known": knowledge.known, "rests_on": knowledge.rests_on,
              "interactions": knowledge.interactions.matrix}
    if knowledge.interactions.expected is not None:
        arrays["expected"] = knowledge.interactions.expected
    if knowledge.modality_vectors is not None:
        arrays["modality_vectors"] = knowledge.modality_vectors
    parts = knowledge.composition
    learned = _tensors(model.tensors()) if model.arrays_only else model.tensors()
    tensors: dict[str, Any] = {"model": learned, "knowledge": _tensors(arrays)}
    if parts is not None:
        own = {"medication": parts.medication, "drug": parts.drug, "z": parts.z, "present": parts.present}
        tensors["composition"] = {"parts": _tensors(own), "weights": _tensors(parts.weights)}
        if parts.tower is not None:
            tensors["tower"] = {"weights": _tensors(parts.tower.weights), "drugs": torch.from_numpy(parts.tower.drugs)}
    meta = {
        "format": FORMAT, "recommender": model.name, "config": model.config.as_json(), "sizes": list(model.sizes),
        "extras": model.extras(), "vocabularies": {kind: list(codes) for kind, codes in trained.vocabularies.items()},
        "decision": list(trained.decision), "platt": list(trained.platt), "meta": trained.meta,
        "knowledge": {"medications": list(knowledge.medications), "names": list(knowledge.names),
                      "modalities": list(knowledge.modalities), "smiles": [list(s) for s in knowledge.smiles],
                      "ingredients": [list(keys) for keys in knowledge.ingredients],
                      "drug_interactions": [list(statement) for statement in knowledge.drug_interactions.statements],
                      "vectors_run": knowledge.vectors_run, "interactions_source": knowledge.interactions.source,
                      "interactions_version": knowledge.interactions.version},
        "composition": None if parts is None else {"size": parts.size, "names": list(parts.names),
                                                   "smiles": list(parts.smiles), "fusion": parts.fusion,
                                                   "tower": parts.tower.kwargs if parts.tower else None},
    }
    if trained.orders is not None:
        tensors["orders"] = torch.frombuffer(bytearray(trained.orders), dtype=torch.uint8)
    return checkpoint.save(path, tensors, meta)


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}


def load_recommender(path: Path) -> Trained:
    """The recommender stored at ``path``; raises CheckpointError when it is missing, altered or of another format."""
    tensors, meta = checkpoint.load_checkpoint(path, arrays=True)
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no recommender of format {FORMAT}", hint="train it again with this version")
    try:
        return _trained(path, tensors, meta)
    except checkpoint.UNREADABLE as error:
        raise CheckpointError(f"{path} holds no recommender that can be put together: {type(error).__name__}",
                              hint="train it again with this version") from None


def _trained(path: Path, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> Trained:
    parts = _composition(tensors, meta["composition"]) if meta.get("composition") else None
    knowledge = replace(_knowledge(tensors["knowledge"], meta["knowledge"]), composition=parts)
    if knowledge.interactions.version != meta["knowledge"]["interactions_version"]:
        raise CheckpointError(f"{path}: the interaction matrix is not the one that the model was evaluated with")
    model = RECOMMENDERS[meta["recommender"]](Sizes(*meta["sizes"]), knowledge, from_json(meta["config"]))
    model.restore(tensors["model"] if model.arrays_only else _tensors(tensors["model"]))
    vocabularies = {kind: tuple(codes) for kind, codes in meta["vocabularies"].items()}
    orders = tensors["orders"].tobytes() if "orders" in tensors else None
    return Trained(model, vocabularies, Decision(*meta["decision"]), Platt(*meta["platt"]), meta["meta"], orders)


def _knowledge(arrays: Mapping[str, np.ndarray], words: Mapping[str, Any]) -> Knowledge:
    alone, expected = arrays.get("modality_vectors"), arrays.get("expected")
    return Knowledge(
        medications=tuple(words["medications"]), names=tuple(words["names"]), vectors=arrays["vectors"],
        known=arrays["known"], rests_on=arrays["rests_on"],
        interactions=Interactions(arrays["interactions"].astype(bool), words["interactions_source"], expected),
        ingredients=tuple(tuple(keys) for keys in words.get("ingredients", ())),
        drug_interactions=DrugInteractions(tuple(Interaction(*row) for row in words.get("drug_interactions", ()))),
        modalities=tuple(words["modalities"]), modality_vectors=alone,
        smiles=tuple(tuple(s) for s in words["smiles"]), vectors_run=words["vectors_run"],
    )


def _composition(tensors: Mapping[str, Any], words: Mapping[str, Any]) -> Composition:
    parts, weights = (tensors["composition"][key] for key in ("parts", "weights"))
    tower = None
    if words["tower"] is not None:
        stored = tensors["tower"]
        tower = Tower(words["tower"], stored["weights"], stored["drugs"], None)
    return Composition(int(words["size"]), tuple(words["names"]), smiles=tuple(words["smiles"]),
                       fusion=words["fusion"], weights=weights, tower=tower, **parts)


def save_training(folder: Path, network: Network, optimizer: torch.optim.Optimizer, best: Mapping[str, Any],
                  epochs_done: int, ddi_rate: float | None) -> None:
    """Write ``last.pt``: weights, optimizer, and the best epoch so far with its own weights."""
    row = {name: value for name, value in best.items() if name != "state"}
    tensors = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "best": best.get("state", {})}
    checkpoint.save(folder / "last.pt", tensors, {"best": row, "epochs_done": epochs_done, "ddi_rate": ddi_rate})


def epochs_saved(folder: Path) -> int:
    """How many epochs the ``last.pt`` of a run folder holds; 0 without one."""
    if not _has_training(folder):
        return 0
    try:
        return int(checkpoint.load_checkpoint(folder / "last.pt")[1]["epochs_done"])
    except checkpoint.UNREADABLE:
        raise CheckpointError(f"{folder / 'last.pt'} tells no epochs done", hint="start a new run") from None


def _has_training(folder: Path) -> bool:
    """Whether a checkpoint is there; a kill between two renames leaves only the one before it."""
    return (folder / "last.pt").exists() or (folder / "last.previous.pt").exists()


def resume_training(folder: Path, network: Network,
                    optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any], float | None]:
    """(epochs done, the best epoch's row and weights, the DDI control's rate), with network and optimizer restored.

    Without a ``last.pt`` training starts from the beginning.
    """
    if not _has_training(folder):
        return 0, {"jaccard": -1.0}, None
    tensors, meta = checkpoint.load_checkpoint(folder / "last.pt")
    try:
        network.load_state_dict(tensors["network"])
        optimizer.load_state_dict(tensors["optimizer"])
        best = dict(meta["best"])
        if tensors["best"]:
            best["state"] = tensors["best"]
        return int(meta["epochs_done"]), best, meta["ddi_rate"]
    except checkpoint.UNREADABLE as error:
        raise CheckpointError(f"{folder / 'last.pt'} is of another shape: {(str(error).splitlines() or ['empty'])[0]}",
                              hint="resume with the configuration that the run began with") from None
