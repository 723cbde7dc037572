"""The index of a run's vectors: what it takes is said before, and how far it is while it is built."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy import text

from embed.runs import building, store
from embed.runs.building import estimate_index
from kb.ledger.entries import start_run
from mkmed.plan.estimate import RATES

COUNT, WIDTH = 6000, 32


class Bar:
    """A display that remembers what it was told."""

    def __init__(self):
        self.tasks, self.seen = [], []

    def add_task(self, title, **_):
        self.tasks.append(title)
        return 0

    def update(self, _, **fields):
        self.seen.append(fields)


@pytest.fixture
def bar(monkeypatch):
    made = Bar()

    @contextmanager
    def progress():
        yield made

    monkeypatch.setattr(building.output, "progress", progress)
    monkeypatch.setattr(building, "SECONDS", 0.005)
    monkeypatch.setattr(store, "HNSW_ABOVE", 1000)
    return made


def written(engine, precision):
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(COUNT, WIDTH)).astype(np.float32)
    with engine.begin() as connection:
        run = start_run(connection, "pretrain", name="index", config={})
        connection.execute(text("INSERT INTO mkmed.drug (kind, name, identity, run_id) SELECT 'unknown', 'd' || n,"
                                " 'name:d' || n, :run FROM generate_series(1, :n) n"), {"n": COUNT, "run": run})
        ids = np.array(connection.scalars(text("SELECT id FROM mkmed.drug ORDER BY id LIMIT :n"), {"n": COUNT}).all())
    store.write_run(engine, run, {"fused": (ids, matrix)}, np.ones((COUNT, 6), bool), precision=precision)
    with engine.connect() as connection:
        return connection.scalar(text("SELECT pg_relation_size(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
                                      " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw' AND c.relname LIKE :name"),
                                 {"name": f"embedding_{run.hex}%"})


@pytest.mark.parametrize("precision", ["vector", "halfvec", "bit"])
def test_an_index_is_as_large_as_was_said(fresh_database, bar, capsys, precision):
    size = written(fresh_database, precision)
    said = estimate_index(COUNT, WIDTH, precision, 16)
    assert 0.7 < said.disk * 2**20 / size < 1.4
    assert f"an index of {COUNT:,} vectors of width {WIDTH}" in capsys.readouterr().err
    assert bar.tasks == ["fused index"]
    assert any(seen["note"].startswith("building index") and seen["completed"] for seen in bar.seen)


def test_memory_grows_with_vectors_and_width_and_the_rate_is_the_measured_one():
    small, large = estimate_index(100_000, 64, "vector", 16), estimate_index(1_000_000, 64, "vector", 24)
    assert small.memory < 200 < 1024 < large.memory < 2048
    assert large.seconds > 10 * small.seconds
    assert estimate_index(100_000, 256, "halfvec", 16).memory < estimate_index(100_000, 256, "vector", 16).memory
    rate = json.loads(RATES.read_text())["rates"]["index"]
    assert (rate["per_s"], rate["at"]) == (building.RATE, building.MEASURED)
