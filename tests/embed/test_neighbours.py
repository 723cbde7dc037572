"""Relation targets beyond the batch, against plain loops, and a training that goes on with what it remembered."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import dataset

from embed.alignment import neighbours
from embed.alignment.loss import relation
from embed.alignment.neighbours import nearest_by_fusion, neighbour_memory
from embed.alignment.objective import Relation, teacher, teacher_scores
from embed.config import LossConfig, PretrainConfig, TrainConfig, load_config
from embed.training.loop import TrainingJob, fit
from embed.training.model import build_model, embed_all
from kb.errors import ConfigError

LOSS = LossConfig(relation_targets="neighbours", relation_neighbours=5)


def relations(n: int = 20) -> list[Relation]:
    """Bits of every drug, and numbers of most."""
    rng = np.random.default_rng(1)
    bits = torch.from_numpy(rng.integers(0, 256, (n, 8)).astype(np.uint8))
    place = torch.arange(n)
    place[3::4] = -1
    numbers = torch.from_numpy(rng.normal(size=(n, 6)).astype(np.float32))
    return [Relation(bits, torch.arange(n), tanimoto=True, weight=0.5, mean=0.3, spread=0.1),
            Relation(numbers, place, tanimoto=False, mean=0.0, spread=0.4)]


def test_the_graph_made_block_by_block_is_the_sorted_table(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 3)
    monkeypatch.setattr(neighbours, "COLUMNS", 4)
    drugs, group = torch.tensor([1, 2, 3, 5, 8, 9, 12, 15, 17, 19]), torch.tensor([0, 1, 2, 3, 4, 4, 4, 7, 8, 9])
    near, score = nearest_by_fusion(relations(), drugs, group, LOSS, 8)
    table = teacher_scores(relations(), drugs, drugs, LOSS)
    for row in range(len(drugs)):
        others = [k for k in range(len(drugs)) if group[k] != group[row]]
        expected = sorted(table[row, others].tolist(), reverse=True)[:8]  # several may be equally near
        found = [k for k in near[row].tolist() if k >= 0]
        assert len(set(found)) == len(found) == len(expected) and set(found) <= set(others)
        assert table[row, found].tolist() == pytest.approx(expected, abs=1e-6)
        assert score[row, :len(found)].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_drug_is_told_of_its_neighbours_outside_of_the_batch_and_of_none_twice():
    train = np.arange(16)
    vectors = torch.nn.functional.normalize(torch.randn(16, 4, generator=torch.Generator().manual_seed(2)), dim=1)
    memory = neighbour_memory(relations(), train, torch.arange(20), LOSS, vectors.clone())
    drugs = torch.tensor([0, 4, 7])
    beyond = memory.beyond(drugs)
    same = torch.eye(3, dtype=torch.bool)
    told = teacher(relations(), drugs, same, LOSS, beyond)
    table = teacher_scores(relations(), torch.arange(16), torch.arange(16), LOSS)
    scale, z = torch.tensor(3.0), vectors[drugs]
    loss = 0.0
    for drug in drugs.tolist():
        near = [k for k in memory.near[drug].tolist() if k not in drugs.tolist()]
        whom = [k for k in drugs.tolist() if k != drug] + near
        weight = [math.exp(float(table[drug, k]) / LOSS.relation_temperature) for k in whom]
        sizes = [math.exp(float(scale * (vectors[drug] @ vectors[k]))) for k in whom]
        loss -= sum(w / sum(weight) * math.log(s / sum(sizes)) for w, s in zip(weight, sizes, strict=True)) / 3
    assert float(relation(z, told, scale, same, beyond.vectors, beyond.known)) == pytest.approx(loss, rel=1e-4)
    memory.remember(drugs, torch.ones(3, 4))
    assert memory.vectors[drugs].eq(1).all() and memory.vectors[1].equal(vectors[1])


def training(folder: Path, loss: LossConfig = LOSS, stop: int = -1) -> TrainingJob:
    folder.mkdir(exist_ok=True)
    data = dataset(20, missing=0.2)
    config = PretrainConfig(modalities=("text", "graph"), loss=loss, width=8,
                            train=TrainConfig(epochs=4, batch_size=4, warmup=2, dropout=0.1, learning_rate=5e-3))

    def leave(metrics):
        if metrics["epoch"] == stop:
            raise KeyboardInterrupt

    return TrainingJob(build_model(config, data), data, config, np.arange(16), np.arange(20), folder, relations(),
                       on_epoch=leave)


def test_a_training_that_was_stopped_goes_on_with_what_it_remembered(tmp_path):
    whole = training(tmp_path / "whole")
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(training(tmp_path / "part", stop=1))
    rest = training(tmp_path / "part")
    fit(rest, resume=True)
    assert torch.equal(embed_all(whole.model, whole.data)[1], embed_all(rest.model, rest.data)[1])
    assert torch.equal(whole.memory.vectors, rest.memory.vectors)
    batch = training(tmp_path / "batch", dataclasses.replace(LOSS, relation_targets="batch"))
    fit(batch)
    assert batch.memory is None
    assert not torch.allclose(embed_all(whole.model, whole.data)[1], embed_all(batch.model, batch.data)[1], atol=1e-3)


def test_settings_that_make_no_sense_are_refused():
    for wrong in ("relation_targets=queue", "relation_neighbours=0"):
        with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
            load_config(sets=[f"loss.{wrong}"])
