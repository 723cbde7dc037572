"""Processes of a Ray cluster train what one process does (Ray Train's TorchTrainer), and what they raise is told here."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from small_kb import fill
from sqlalchemy import text
from test_distributed import JOB, assert_same_vectors

from embed.config import load_config
from embed.runs import folder as run_folder
from embed.training import job
from embed.training.on_cluster import pretrain_on_cluster
from kb.compute.places import ComputePlace
from kb.errors import ConfigError, Interrupted, UsageError
from kb.settings import Settings, load_settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray Train warns of its own settings
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.train")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    path = os.pathsep.join([str(ROOT), *sys.path])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=100 << 20, runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}})
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def settings(database, tmp_path_factory) -> Settings:
    """A home, and the small knowledge base by its address, as another process would find it."""
    fill(database)
    url = SecretStr(database.url.render_as_string(hide_password=False))
    return load_settings(home=tmp_path_factory.mktemp("home"), database_url=url)


@pytest.mark.slow
def test_two_processes_of_a_cluster_make_the_vectors_of_one(cluster, database, settings):
    config = load_config(sets=JOB)
    one = job.pretrain(database, settings, config)
    epochs: list[dict] = []
    two = pretrain_on_cluster(database, settings, config, ComputePlace("ray"), 2, on_epoch=epochs.append, name="two")
    assert two.run_id != one.run_id and two.epochs == 3 and two.folder.parent == one.folder.parent
    assert_same_vectors(database, str(one.run_id), str(two.run_id))
    assert [row["epoch"] for row in epochs] == [0, 1, 2]
    with database.connect() as connection:
        row = connection.execute(text("SELECT status, name FROM mkmed.run WHERE id = :id"), {"id": two.run_id}).one()
    assert tuple(row) == ("complete", "two")


@pytest.mark.slow
def test_what_a_process_of_the_cluster_raises_is_told_here(cluster, database, settings):
    config = dataclasses.replace(load_config(sets=JOB), device="cuda")
    with pytest.raises(ConfigError, match="device is cuda, but torch sees no CUDA card"):
        pretrain_on_cluster(database, settings, config, ComputePlace("ray"), 2)


@pytest.mark.slow
def test_ctrl_c_ends_them_all_and_the_run_goes_on_later(cluster, database, settings):
    """Ray Train takes the signal and would leave with exit code 0 and no word."""
    config = load_config(sets=[*JOB, "train.epochs=200", "train.patience=200"])
    pressed: list[int] = []

    def press(row: dict) -> None:
        if not pressed:
            pressed.append(row["epoch"])
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="its epochs are kept") as caught:
        pretrain_on_cluster(database, settings, config, ComputePlace("ray"), 2, on_epoch=press)
    assert pressed and signal.getsignal(signal.SIGINT) is before
    run_id = caught.value.message.split()[1]
    with database.connect() as connection:
        assert connection.scalar(text("SELECT status FROM mkmed.run WHERE id = :id"), {"id": run_id}) == "interrupted"
    kept = len(run_folder.read_metrics(run_folder.pretrain_folder(settings) / run_id))
    assert 0 < kept < 200
    on = pretrain_on_cluster(database, settings, config, ComputePlace("ray"), 2, resume=run_id)
    assert str(on.run_id) == run_id and on.epochs == 200


def test_this_machine_alone_is_no_cluster(database, settings):
    with pytest.raises(UsageError, match="Ray cluster") as caught:
        pretrain_on_cluster(database, settings, load_config(sets=JOB), ComputePlace(), 2)
    assert "torchrun --nproc-per-node 2" in (caught.value.hint or "")
