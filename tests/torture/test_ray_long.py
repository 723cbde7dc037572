"""A Ray cluster of three nodes in one machine, whose nodes are killed while it encodes: nothing lost, nothing doubled.

``MKT_NODE_KILLS`` sets how many nodes are killed (20). The data set must have the digest of the one that this machine's
processes make.
"""

from __future__ import annotations

import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from kb.output import say

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray (extra scale) is not installed")

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("MKT_NODE_KILLS", "20"))
COMPOUNDS, PART = 600, 10


def compounds() -> list[str]:
    """Chains and rings, every one another molecule."""
    return [f"{'C' * (n % 20 + 1)}{'O' * (n // 20 % 5)}c1ccccc1{'N' * (n // 100)}" for n in range(COMPOUNDS)]


@pytest.fixture(scope="module")
def run(database, tmp_path_factory):
    """A small run of the small knowledge base."""
    sys.path.insert(0, str(ROOT / "tests" / "embed"))
    from small_kb import fill

    from embed.config import load_config
    from embed.runs import artefact
    from embed.training import job
    from kb.settings import load_settings

    fill(database)
    quick = ("text.model=scratch", "image.model=scratch", "train.epochs=1", "train.batch_size=16", "image.components=8",
             "graph.components=6", "molecule.fingerprint_components=16", "structure.depth=1", "device=cpu",
             "property.descriptors=false", "train.test=0.3", "width=16")
    settings = load_settings(home=tmp_path_factory.mktemp("home"))
    return artefact.load(job.pretrain(database, settings, load_config(sets=quick)).folder)


@pytest.fixture
def cluster():
    """A head without CPUs, which this process is on, and three nodes of one CPU each."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    nodes = [made.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(3)]
    path = os.pathsep.join([str(ROOT), *sys.path])
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR",
             runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}})
    yield made, nodes
    ray.shutdown()
    made.shutdown()


def test_nodes_are_killed_at_random_points_and_the_data_set_is_that_of_one_machine(run, cluster, tmp_path):
    from embed.screening.dataset import PARTS
    from embed.screening.encoding import encode_folder
    from embed.screening.rows import CompoundColumns

    source = tmp_path / "compounds"
    source.mkdir()
    (source / "a.smi").write_text("".join(f"{smiles} {n}\n" for n, smiles in enumerate(compounds())))

    def encode(name: str, on: str) -> object:
        return encode_folder(run, source, tmp_path / name, CompoundColumns(), licence="CC0-1.0", on=on, rows_a_part=PART,
                             workers=2 if on == "local" else None)

    expected = encode("local", "local")
    assert (expected.rows, expected.rejected, len(expected.parts)) == (COMPOUNDS, 0, COMPOUNDS // PART)
    made, nodes = cluster
    rng, killed, round_ = random.Random(1), 0, 0
    while killed < KILLS:
        round_ += 1
        parts = tmp_path / f"ray{round_}" / PARTS
        due = sorted(rng.sample(range(1, COMPOUNDS // PART - 5), min(6, KILLS - killed)))
        with ThreadPoolExecutor(1) as encoder:  # Ray starts a node in the main thread only
            encoded = encoder.submit(encode, f"ray{round_}", "ray")
            for count in due:
                while len(list(parts.glob("*.parquet"))) < count and not encoded.done():
                    time.sleep(0.02)
                if encoded.done():
                    break
                # A random node at a random moment, with another put in its place.
                time.sleep(rng.random() * 0.5)
                made.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
                nodes.append(made.add_node(num_cpus=1, object_store_memory=100 << 20))
                killed += 1
            found = encoded.result()
        assert found.digest == expected.digest and found.parts == expected.parts, f"round {round_}, {killed} kills"
        say(f"round {round_}: {killed} of {KILLS} nodes killed, the data set is the same")
    assert killed >= KILLS
