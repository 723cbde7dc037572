"""Several gloo processes do what one does: a step, and a whole training with early stop, resume and slow features."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from gloo_fit import everything
from small_kb import fill

from embed.runs import store
from embed.training import data, distributed, ranks
from embed.training.job import pick_device
from embed.training.split import DrugSplit
from kb.errors import ConfigError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(target: Path, processes: int, job: str = "gloo_job.py", *arguments: str, **more: str) -> dict:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1",
                    f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, str(HERE / job), str(target), *arguments], env=environment, cwd=ROOT, timeout=400,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text())


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    one, two = run(tmp_path / "one.json", 1), run(tmp_path / "two.json", 2)
    assert (one["world"], two["world"]) == (1, 2)
    assert one["terms"].keys() == two["terms"].keys() >= {"align.text", "consistency", "relation"}
    for name, value in one["terms"].items():
        np.testing.assert_allclose(two["terms"][name], value, rtol=1e-5)
    assert any(np.abs(g).max() > 1e-3 for n, g in one["grads"].items() if n.startswith("towers.molecule"))
    for name, grad in one["grads"].items():
        np.testing.assert_allclose(two["grads"][name], grad, atol=1e-5, err_msg=name)


def train(folder: Path, processes: int, epochs: int, patience: int = 99, **more: str) -> dict:
    folder.mkdir(exist_ok=True)
    return run(folder / "end.json", processes, "gloo_fit.py", str(epochs), str(patience), **more)


def assert_alike(found: dict, expected: dict) -> None:
    assert found["progress"]["epoch"] == expected["progress"]["epoch"]
    assert found["progress"]["best_epoch"] == expected["progress"]["best_epoch"]
    # Not the weights: of those that no vector hangs on (the bias of an attention's keys) Adam magnifies the rounding.
    for name in ("z", "fused", "losses"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4, rtol=1e-4, err_msg=name)
    assert np.abs(expected["z"]).max() > 0.1


@pytest.mark.slow
def test_a_training_of_four_processes_over_all_modalities_equals_that_of_one(tmp_path):
    one = train(tmp_path / "one", 1, 4)
    several = train(tmp_path / "several", 4, 4, MKT_SLOW="2")
    assert several["world"] == 4 and several["ready"] == ["made"]
    assert_alike(several, one)
    names = [(tmp_path / "several" / f"end.json.{rank}").read_text() for rank in range(4)]
    assert len(set(names)) == 1, "the processes agree about the run"


@pytest.mark.slow
def test_two_processes_remember_the_neighbours_that_one_does(tmp_path):
    one = train(tmp_path / "one", 1, 3, MKT_TARGETS="neighbours")
    assert_alike(train(tmp_path / "two", 2, 3, MKT_TARGETS="neighbours"), one)
    batch = train(tmp_path / "batch", 1, 3)
    assert np.abs(np.array(batch["losses"]) - one["losses"]).max() > 1e-3, "it is another loss"


@pytest.mark.slow
def test_several_processes_stop_early_as_one_does(tmp_path):
    whole = train(tmp_path / "whole", 1, 60, patience=1)
    # Early: Adam magnifies rounding, and after a dozen epochs two trainings of one seed have come apart.
    assert 2 <= whole["progress"]["epoch"] < 10, "it stopped early"
    stopped = train(tmp_path / "stopped", 2, 60, patience=1)
    assert_alike(stopped, whole)


@pytest.mark.slow
def test_a_training_of_two_processes_goes_on_from_where_it_stopped(tmp_path):
    full = train(tmp_path / "full", 2, 4)
    # The learning rate hangs on the number of epochs, so a training is stopped, not shortened: its third epoch fails.
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(AssertionError, match="stopped on purpose"):
        run(broken / "end.json", 2, "gloo_fit.py", "4", "99", MKT_STOP="2")
    assert (broken / "last.pt").is_file() and not (broken / "end.json").exists()
    assert_alike(train(broken, 2, 4), full)


JOB = ("text.model=scratch", "image.model=scratch", "train.epochs=3", "train.batch_size=16", "train.dropout=0",
       "image.components=8", "graph.components=6", "molecule.fingerprint_components=16", "structure.depth=1", "device=cpu",
       "graph.features=neighbourhood", "transfer.encoder=none", "width=16")
"""All modalities of the small knowledge base, without what is drawn for each drug."""


def assert_same_vectors(engine, one: str, other: str) -> None:
    """Each kind of vector of both runs, within what rounding makes of three epochs."""
    for kind in ("fused", "molecule", "image", "text", "structure", "property", "graph", "predicted"):
        first, second = (store.read(engine, uuid.UUID(run), kind) for run in (one, other))
        assert first.drug_ids.tolist() == second.drug_ids.tolist() and len(first.drug_ids) > 15
        np.testing.assert_allclose(second.matrix, first.matrix, atol=1e-4, err_msg=kind)


@pytest.mark.slow
def test_a_job_of_two_processes_shares_the_features_and_makes_the_vectors_of_one(database_environment, tmp_path):
    fill(database_environment)
    done = {}
    for name, processes in (("two", 2), ("one", 1)):
        done[name] = run(tmp_path / f"{name}.json", processes, "gloo_pretrain.py", *JOB, MKMED_HOME=str(tmp_path / name))
        # The same features in the same order, or singular vectors of one size come out turned.
        shutil.copytree(tmp_path / "two" / "cache", tmp_path / "one" / "cache", dirs_exist_ok=True)
    assert_same_vectors(database_environment, done["one"]["run"], done["two"]["run"])
    # Each made what it could of its half of the drugs, in a file of its own, and maps what the first prepared.
    for encoder in ("molecule", "morgan", "scaffold", "descriptors", "scratch-image"):
        files = list((tmp_path / "two").rglob(f"*{encoder}/*/*.arrow"))
        counts = []
        for path in files:
            with pa.memory_map(str(path)) as source:
                counts.append(pa.ipc.open_file(source).read_all().num_rows)
        assert len(counts) == 2 and min(counts) >= 0.3 * sum(counts), f"{encoder}: {counts}"
    saw = [json.loads((tmp_path / f"two.json.{rank}").read_text()) for rank in (0, 1)]
    assert min(one.pop("mapped") for one in saw) >= 30, "tensors lie in files of the run folder"
    assert saw[0] == saw[1] and saw[0]["rows"]["molecule"] >= 40
    assert not list(Path(done["two"]["folder"]).glob("shared")), "what they mapped is gone"


def test_what_a_card_has_no_room_for_goes_up_batch_by_batch(tmp_path, monkeypatch):
    """A card without numbers (``meta``): what comes there has the shapes and types of the batch cut on the host."""
    card, drugs = torch.device("meta"), torch.tensor([3, 0, 17, 3])
    here = everything("cpu")
    ranks.write_shared(tmp_path / "shared", here, [], DrugSplit(*[np.arange(2)] * 3))
    sent: list[tuple[torch.Tensor, ...]] = []
    monkeypatch.setattr(data, "_has_room", lambda device, size: False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: sent.append(self) or self)
    there, _, _ = ranks.read_shared(tmp_path / "shared", card)
    assert {table.items.device.type for table in there.tables.values()} == {"cpu"}
    one, two = here.batch(drugs), there.batch(drugs)
    for name, (where, inputs) in one.inputs.items():
        at, other = two.inputs[name]
        assert at.device == card and at.shape == where.shape
        assert inputs.keys() == other.keys()
        for key, tensor in inputs.items():
            assert (other[key].shape, other[key].dtype) == (tensor.shape, tensor.dtype), (name, key)
            assert other[key].device.type == ("meta" if tensor.dim() else "cpu"), (name, key)
    went = torch.cat([part.double().flatten() for part in sent])
    wanted = torch.cat([t.double().flatten() for _, inputs in one.inputs.values() for t in inputs.values() if t.dim()])
    assert set(wanted.tolist()) <= set(went.tolist()), "the numbers that went up are those of the batch"
    assert len(went) < 1.2 * len(wanted), "and no other rows"


def test_a_process_that_does_not_see_the_home_is_told(tmp_path):
    with pytest.raises(ConfigError, match="does not see") as caught:
        ranks.read_shared(tmp_path / "nowhere", torch.device("cpu"))
    assert "MKMED_HOME" in (caught.value.hint or "")


def test_each_process_takes_its_own_card_before_it_joins(monkeypatch):
    """Two cards that are not there: what is asked of torch is written down, in order."""
    said: list[tuple[str, object]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: said.append(("set_device", device)))
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **more: said.append((backend, more.get("device_id"))))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: said.append(("left", None)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        said.clear()
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        device = pick_device("auto")
        assert device == torch.device("cuda", rank)
        distributed.join_processes(device)
        distributed.leave()
        distributed.leave()  # once is enough
        assert said == [("set_device", device), ("nccl", device), ("left", None)]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="process 3 of this machine has no card"):
        pick_device("cuda")
