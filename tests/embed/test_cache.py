"""The feature cache computes only what is new, remembers what has none, and survives damage."""

from __future__ import annotations

import numpy as np
import pytest

from embed.features.cache import FeatureCache, sha256, version_of
from embed.features.packed import vectors


class Counting:
    def __init__(self, texts):
        self.texts, self.asked = texts, []

    def __call__(self, indices):
        self.asked += [self.texts[i] for i in indices]
        done = [i for i in indices if self.texts[i] != "bad"]
        return done, vectors(np.array([[len(self.texts[i])] for i in done], np.float32).reshape(-1, 1))


def get(folder, texts, version="1", shard=512):
    compute = Counting(texts)
    position, items = FeatureCache(folder).get("length", version, [sha256(t) for t in texts], compute, shard=shard)
    values = [None if p < 0 else float(items.columns["vector"][p, 0]) for p in position]
    return compute.asked, values


def test_only_the_new_is_computed(tmp_path):
    assert get(tmp_path, ["a", "bb", "a"]) == (["a", "bb"], [1.0, 2.0, 1.0])
    assert get(tmp_path, ["bb", "ccc", "a"]) == (["ccc"], [2.0, 3.0, 1.0])
    assert get(tmp_path, ["bb", "ccc"])[0] == []
    assert get(tmp_path, ["bb"], version="2")[0] == ["bb"]


def test_what_has_none_is_remembered(tmp_path):
    assert get(tmp_path, ["a", "bad"]) == (["a", "bad"], [1.0, None])
    assert get(tmp_path, ["bad", "a"]) == ([], [None, 1.0])
    assert get(tmp_path / "empty", ["bad"])[1] == [None]


def test_shards_do_not_change_the_answer(tmp_path):
    texts = [f"{'x' * (k % 7)}{k}" for k in range(40)]
    assert get(tmp_path / "one", texts)[1] == get(tmp_path / "many", texts, shard=3)[1]
    assert len(list((tmp_path / "many").rglob("*.arrow"))) == 1


def test_a_damaged_shard_is_computed_again(tmp_path, capsys):
    get(tmp_path, ["a", "bb"])
    shard = next(tmp_path.rglob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:100])
    assert get(tmp_path, ["a", "bb"]) == (["a", "bb"], [1.0, 2.0])
    assert str(shard) in capsys.readouterr().err


@pytest.mark.parametrize("place", ["first", "middle", "key", "last"])
def test_one_flipped_bit_is_told_and_computed_again(tmp_path, capsys, place):
    texts = [f"{'x' * k}" for k in range(1, 40)]
    get(tmp_path, texts)
    shard = next(tmp_path.rglob("*.arrow"))
    data = bytearray(shard.read_bytes())
    at = {"first": 8, "middle": len(data) // 2, "key": data.index(sha256(texts[3])), "last": len(data) - 3}[place]
    data[at] ^= 1
    shard.write_bytes(data)
    assert get(tmp_path, texts) == (texts, [float(len(t)) for t in texts])
    assert str(shard) in capsys.readouterr().err
    assert get(tmp_path, texts)[0] == []


def test_leftovers_of_a_kill_are_ignored(tmp_path):
    get(tmp_path, ["a"])
    folder = next(tmp_path.rglob("*.arrow")).parent
    (folder / ".dead.tmp").write_bytes(b"half")
    assert get(tmp_path, ["a"])[0] == []


def test_versions_differ_by_every_setting():
    assert version_of(a=1, b="x") == version_of(b="x", a=1)
    assert version_of(a=1, b="x") != version_of(a=1, b="y")
