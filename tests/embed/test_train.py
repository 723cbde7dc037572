"""The loop: it learns, repeats itself, goes on where it stopped, and gives up on NaN."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import dataset

from embed.config import LossConfig, PretrainConfig, TrainConfig
from embed.evaluation.retrieval import retrieve
from embed.runs import checkpoint
from embed.training.loop import TrainingJob, fit, validate
from embed.training.model import build_model, embed_all, rebuild_model
from kb.errors import ConfigError, TrainingDiverged


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def config(**train) -> PretrainConfig:
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "warmup": 2, "dropout": 0.0, "patience": 99}
    return PretrainConfig(modalities=("text", "graph"), train=TrainConfig(**{**settings, **train}))


def job(folder: Path, setting: PretrainConfig, data=None) -> TrainingJob:
    data = data or dataset(20, missing=0.2)
    return TrainingJob(build_model(setting, data), data, setting, np.arange(16), np.arange(20), folder)


def vectors(one: TrainingJob) -> torch.Tensor:
    return embed_all(one.model, one.data)[1]


def test_overfits_eight_drugs(tmp_path):
    data = dataset(8)
    setting = config(epochs=40, modality_dropout=0.0)
    setting = dataclasses.replace(setting, loss=LossConfig(consistency=0.0))
    one = TrainingJob(build_model(setting, data), data, setting, np.arange(8), np.arange(8), tmp_path)
    before = validate_all(one)
    fit(one)
    after = validate_all(one)
    assert before < 0.8
    assert after == 1.0


def validate_all(one: TrainingJob) -> float:
    # Eight drugs are below the least number of validation pairs, so the scores are taken here.
    z, group = embed_all(one.model, one.data)[0].numpy(), one.data.group.numpy()
    return min(retrieve(z[:, 0], z[:, m], group).recall[1] for m in (1, 2))


def test_a_seed_gives_one_result(tmp_path):
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        one = job(tmp_path / name, dataclasses.replace(config(), seed=seed))
        one.folder.mkdir()
        fit(one)
        results.append(vectors(one))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_equals_uninterrupted(tmp_path, dropout):
    whole = job(tmp_path / "whole", config(dropout=dropout))
    whole.folder.mkdir()
    fit(whole)

    class Stop(Exception):
        pass

    def stop(metrics):
        if metrics["epoch"] == 1:
            raise Stop

    cut = job(tmp_path / "cut", config(dropout=dropout))
    cut.folder.mkdir()
    cut.on_epoch = stop
    with pytest.raises(Stop):
        fit(cut)
    again = job(tmp_path / "cut", config(dropout=dropout))
    at = fit(again, resume=True)
    assert at.epoch == 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [0, 1, 2, 3]


def test_best_is_a_copy_and_rebuilds(tmp_path):
    one = job(tmp_path, config(epochs=6))
    scores = []
    one.on_epoch = lambda metrics: scores.append(metrics["score"])
    at = fit(one)
    assert at.best_epoch == int(np.argmax(scores))
    tensors, meta = checkpoint.load_checkpoint(tmp_path / "best.pt")
    model = rebuild_model(meta["model"], tensors["model"])
    one.model.load_state_dict(tensors["model"])
    assert validate(one.model, one)["score"] == at.best
    assert torch.equal(embed_all(model, one.data)[1], vectors(one))


def test_bf16_stays_close_to_fp32(tmp_path):
    spaces = []
    for precision in ("fp32", "bf16"):
        one = job(tmp_path / precision, dataclasses.replace(config(epochs=2), precision=precision))
        one.folder.mkdir()
        fit(one)
        spaces.append(vectors(one))
    assert not torch.equal(*spaces)
    assert torch.nn.functional.cosine_similarity(*spaces).min() > 0.95


def test_stops_early(tmp_path):
    at = fit(job(tmp_path, config(epochs=50, patience=2, learning_rate=0.0)))
    assert at.epoch <= 5


def test_without_validation_drugs_the_last_epoch_counts(tmp_path):
    one = job(tmp_path, config(patience=1))
    one.validation = np.arange(0)
    at = fit(one)
    assert (at.epoch, at.best_epoch) == (4, 3)


def test_nan_stops_after_three_bad_steps(tmp_path):
    data = dataset(20)
    data.tables["text"].items.columns["vector"][:] = float("nan")
    one = job(tmp_path, config(), data)
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    with pytest.raises(TrainingDiverged, match="3 steps in a row"):
        fit(one)
    assert all(torch.equal(value, before[name]) for name, value in one.model.state_dict().items())
    assert not (tmp_path / "best.pt").exists()


def test_one_bad_step_is_survived(tmp_path, monkeypatch):
    import embed.training.loop as loop

    real = loop.objective
    calls = []

    def sometimes(*args):
        calls.append(1)
        terms = real(*args)
        return {k: v * float("nan") for k, v in terms.items()} if len(calls) == 2 else terms

    monkeypatch.setattr(loop, "objective", sometimes)
    at = fit(job(tmp_path, config()))
    assert at.epoch == 4
    assert at.bad_steps == 0


def test_drugs_with_every_modality_are_drawn_as_often_as_asked(tmp_path, monkeypatch):
    drawn: list[int] = []

    def note(of, optimizer, rows, at):
        drawn.extend(rows.tolist())
        return {"align": 0.0}

    monkeypatch.setattr("embed.training.loop.step", note)
    one = job(tmp_path, config(complete=3, epochs=50))
    complete = one.data.known(torch.arange(16)).all(1).numpy()
    assert 0 < complete.sum() < 16
    fit(one)
    counts = np.bincount(drawn, minlength=16)
    assert len(drawn) == 50 * 16  # as many steps as without
    assert counts[complete].mean() / counts[~complete].mean() == pytest.approx(3, rel=0.15)
    with pytest.raises(ConfigError, match="complete"):
        config(complete=0)
