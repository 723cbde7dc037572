"""What a card must give: the CPU's vectors, one wait a step, the same bits where they are asked for."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_fit import DRUGS, MODALITIES, everything

from embed.alignment.objective import Relation
from embed.config import GraphConfig, PretrainConfig, StructureConfig, TrainConfig
from embed.training import data, kge
from embed.training.job import set_determinism
from embed.training.loop import Progress, TrainingJob, fit, step
from embed.training.model import build_model, embed_all

CARD = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")


def job(folder: Path, device: str, **train: object) -> TrainingJob:
    data = everything(device)
    settings = TrainConfig(batch_size=8, dropout=0.0, learning_rate=3e-3, warmup=2, **train)  # type: ignore[arg-type]
    config = PretrainConfig(modalities=MODALITIES, train=settings, structure=StructureConfig(depth=1), width=16, seed=7,
                            precision="fp32")
    told = torch.nn.functional.normalize(torch.randn(DRUGS, 6, generator=torch.Generator().manual_seed(5)), dim=1)
    relation = Relation(told.to(device), torch.arange(DRUGS, device=device), tanimoto=False)
    return TrainingJob(build_model(config, data).to(device), data, config, np.arange(16), np.arange(4, 20), folder,
                       [relation])


def test_the_same_weights_give_the_same_vectors(tmp_path):
    here, there = job(tmp_path, "cpu"), job(tmp_path, "cuda")
    there.model.load_state_dict(here.model.state_dict())
    for one, two in zip(embed_all(here.model, here.data), embed_all(there.model, there.data), strict=True):
        np.testing.assert_allclose(two.float().numpy(), one.float().numpy(), atol=1e-4)


def test_a_training_goes_as_it_does_on_the_cpu(tmp_path):
    vectors = []
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        one = job(tmp_path / device, device, epochs=3)
        fit(one)
        vectors.append(embed_all(one.model, one.data)[1].numpy())
    assert np.abs(vectors[0]).max() > 0.1
    np.testing.assert_allclose(vectors[1], vectors[0], atol=5e-3)


def test_features_that_stay_in_main_memory_give_the_same_vectors(tmp_path, monkeypatch):
    here = job(tmp_path, "cuda")
    monkeypatch.setattr(data, "_has_room", lambda device, size: False)
    there = job(tmp_path, "cuda")
    there.model.load_state_dict(here.model.state_dict())
    assert {table.items.device.type for table in there.data.tables.values()} == {"cpu"}
    for one, two in zip(embed_all(here.model, here.data), embed_all(there.model, there.data), strict=True):
        np.testing.assert_allclose(two.float().numpy(), one.float().numpy(), atol=1e-5)


def test_a_step_waits_for_the_card_once(tmp_path):
    one = job(tmp_path, "cuda")
    optimizer = torch.optim.AdamW(one.model.parameters(), fused=True)
    step(one, optimizer, torch.arange(8), Progress())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step(one, optimizer, torch.arange(8), Progress())
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "called a synchronizing" in str(w.message)]
    assert len(waits) <= 1, waits


def test_deterministic_means_the_same_bits(tmp_path):
    found = []
    try:
        set_determinism(CARD, True)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            one = job(tmp_path / name, "cuda", epochs=2)
            fit(one)
            found.append(embed_all(one.model, one.data)[0])
    finally:
        set_determinism(CARD, False)
    assert torch.equal(*found)


def test_bf16_trains_and_leaves_geometry_in_fp32(tmp_path):
    one = job(tmp_path, "cuda")
    seen = []
    one.model.towers["structure"].head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    one.model.towers["text"].head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    with torch.autocast("cuda", torch.bfloat16):
        one.model(one.data.batch(torch.arange(8)))
    assert seen == [torch.bfloat16, torch.float32] or seen == [torch.float32, torch.bfloat16], seen


def test_transe_trains_on_the_card():
    rng = np.random.default_rng(0)
    triples = np.stack([rng.integers(40, size=400), rng.integers(2, size=400), rng.integers(40, size=400)], 1)
    model = kge.train_entities(triples, 40, 2, GraphConfig(dimension=16, epochs=2, batch_size=64), 0, CARD)
    assert next(model.parameters()).is_cuda
    assert set(kge.link_prediction(model, triples[:350], triples[350:], 0)) >= {"mrr", "hits@10"}
