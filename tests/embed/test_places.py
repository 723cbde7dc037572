"""What the towers read of a drug is the same wherever it was computed, to the bit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from embed.config import PretrainConfig, load_config
from embed.features import work
from embed.features.cache import FeatureCache
from embed.features.derive import derive
from embed.features.frozen import FrozenModel
from embed.source import Corpus
from embed.training import job
from embed.training.inputs import Inputs, build_inputs
from embed.training.split import split_corpus
from kb.compute.places import ComputePlace
from kb.errors import ConfigError, UsageError
from kb.settings import load_settings

CONFIG = load_config(sets=("modalities=image,text,structure,property", "image.components=8"))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Eighty drugs, more than a chunk, with pictures, conformers, properties and texts."""
    smiles = [f"{'C' * (k % 10 + 1)}{('O', 'N', 'C(=O)O', 'c1ccccc1')[k % 4]}{'C' * (k // 20)}" for k in range(80)]
    return derive(smiles, [[f"A liquid of {k} carbon atoms, which smells of fruit."] for k in range(80)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=100 << 20, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})
    yield
    ray.shutdown()


def made(corpus: Corpus, folder: Path, place: ComputePlace, config: PretrainConfig = CONFIG) -> Inputs:
    cache = FeatureCache(folder, place)
    split = split_corpus(corpus, config, cache)
    return build_inputs(corpus, config, cache, torch.device("cpu"), split.train)


def kept(folder: Path) -> dict[tuple[str, bytes], tuple[bytes, ...]]:
    """The bytes of every feature of a cache by encoder and input."""
    found = {}
    for path in folder.rglob("*.arrow"):
        with pa.memory_map(str(path)) as source:
            for row in pa.ipc.open_file(source).read_all().to_pylist():
                key = row.pop("@key")
                found[path.parent.parent.name, key] = tuple(row[name] for name in sorted(row))
    return found


def refuse(*_: object) -> None:
    raise AssertionError("computed in this process")


@pytest.mark.slow
def test_a_cluster_makes_the_bits_of_this_machine(corpus, cluster, tmp_path, monkeypatch):
    here = made(corpus, tmp_path / "here", ComputePlace(workers=1))
    monkeypatch.setattr(work, "featurise_chunk", refuse)
    monkeypatch.setattr(FrozenModel, "encode", property(refuse))
    there = made(corpus, tmp_path / "there", ComputePlace("ray", 2))
    assert list(there.data.tables) == ["molecule", "image", "text", "structure", "property"]
    one, two = kept(tmp_path / "here"), kept(tmp_path / "there")
    assert len({encoder for encoder, _ in one}) == 7 and len(one) > 6 * 60
    assert one == two
    for name, table in here.data.tables.items():
        assert ((table.position >= 0) == (there.data.tables[name].position >= 0)).all(), name
    again = made(corpus, tmp_path / "there", ComputePlace())  # all of it is kept on this side
    np.testing.assert_array_equal(again.raw["text"][0], there.raw["text"][0])


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray (extra scale) is not installed")
def test_a_node_with_another_model_is_refused(corpus, cluster, tmp_path, monkeypatch):
    model = FrozenModel({"name": "scratch-text", "revision": "another"}, refuse)
    chunks = work.frozen_chunks("text", load_config(sets=["text.model=scratch"]).text, model, torch.device("cpu"),
                                corpus.texts.load)
    with pytest.raises(ConfigError, match="a node's text model is"):
        list(chunks(list(range(8)), ComputePlace("ray", 1)))


@pytest.mark.parametrize(("on", "error"), [("spark", UsageError), ("ray", ConfigError)])
def test_a_place_that_is_not_there_is_told_before_anything_is_computed(database, tmp_path, monkeypatch, on, error):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(job, "prepare_training", refuse)
    with pytest.raises(error, match=r"no place to compute|Ray is not installed"):
        job.pretrain(database, load_settings(home=tmp_path), CONFIG, place=ComputePlace(on))
