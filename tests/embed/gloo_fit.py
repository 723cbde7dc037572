"""One rank of a whole training over all modalities; what it ends with is written to the file on the command line."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import AllChem
from small_corpus import SMILES, molecules

from embed.alignment.objective import Relation
from embed.config import LossConfig, PretrainConfig, StructureConfig, TrainConfig
from embed.features.packed import vectors
from embed.features.radius import conformer_graphs
from embed.runs import checkpoint
from embed.training import distributed
from embed.training.data import Dataset, make_table
from embed.training.loop import TrainingJob, fit
from embed.training.model import build_model, embed_all

DRUGS = 20
MODALITIES = ("image", "text", "structure", "property", "graph")


def everything(device: str = "cpu") -> Dataset:
    """Twenty drugs with a molecule; each modality is missing for some."""
    rng, place_of = np.random.default_rng(3), torch.device(device)
    tables = {"molecule": make_table("molecule", molecules(DRUGS), np.arange(DRUGS), place_of)}
    cause = rng.normal(size=(DRUGS, 12))
    for name in MODALITIES:
        place = np.arange(DRUGS)
        if name == "structure":
            blocks, rows = [], []
            for row, smiles in enumerate(SMILES[:DRUGS]):
                mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
                if AllChem.EmbedMolecule(mol, randomSeed=1) == 0:
                    blocks.append(Chem.MolToMolBlock(mol))
                    rows.append(row)
            done, items = conformer_graphs(blocks, cutoff=4.5, most=8, hydrogens=False)
            place = np.full(DRUGS, -1)
            place[np.array(rows)[done]] = np.arange(len(done))
        else:
            values = cause @ rng.normal(size=(12, 10)) + 0.1 * rng.normal(size=(DRUGS, 10))
            items = vectors(values.astype(np.float32))
            place[rng.random(DRUGS) < 0.3] = -1
        tables[name] = make_table(name, items, place, place_of)
    return Dataset(np.arange(DRUGS), tables, torch.arange(DRUGS, device=place_of))


def stop(metrics: dict) -> None:
    """Fail after the epoch that MKT_STOP names, its checkpoint written."""
    if metrics["epoch"] == int(os.environ.get("MKT_STOP", "-1")):
        raise RuntimeError("stopped on purpose")


def main(target: str, epochs: int, patience: int) -> None:
    torch.set_num_threads(1)
    distributed.join_processes(torch.device("cpu"))
    run = distributed.agree(uuid.uuid4())
    order: list[str] = []
    with distributed.first_alone():  # the first featurises, slowly
        if distributed.rank() == 0:
            time.sleep(float(os.environ.get("MKT_SLOW", "0")))
            Path(target).with_suffix(".features").write_text("made")
        order.append(Path(target).with_suffix(".features").read_text())
    data = everything()
    # Everything random must be alike in all processes but dropout, which each draws of its own rows.
    train = TrainConfig(batch_size=8, dropout=0.0, epochs=epochs, patience=patience, learning_rate=3e-3, warmup=2)
    config = PretrainConfig(modalities=MODALITIES, train=train, structure=StructureConfig(depth=1), width=16,
                            loss=LossConfig(relation_targets=os.environ.get("MKT_TARGETS", "batch"),
                                             relation_neighbours=6), seed=7)
    model = build_model(config, data)
    told = torch.nn.functional.normalize(torch.randn(DRUGS, 6, generator=torch.Generator().manual_seed(5)), dim=1)
    job = TrainingJob(model, data, config, np.arange(16), np.arange(4, 20), Path(target).parent,
                      [Relation(told, torch.arange(DRUGS), tanimoto=False)], on_epoch=stop)
    at = fit(job, resume=(Path(target).parent / "last.pt").exists())
    distributed.wait()
    if distributed.rank() == 0:
        tensors, _ = checkpoint.load_checkpoint(job.folder / "last.pt")
        model.load_state_dict({name.removeprefix("module."): value for name, value in tensors["average"].items()
                               if name.startswith("module.")})
        z, fused, _ = embed_all(model, data)
        losses = [json.loads(line)["loss"] for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
        found = {"world": distributed.world(), "progress": vars(at), "ready": order,
                 "z": z.flatten().tolist(), "fused": fused.flatten().tolist(), "losses": losses}
        Path(target).write_text(json.dumps(found))
    Path(f"{target}.{distributed.rank()}").write_text(str(run))
    distributed.wait()
    distributed.leave()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
