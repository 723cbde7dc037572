"""Knowledge graph embeddings: they learn, rank by the definition, are kept by content, and published ones import."""

from __future__ import annotations

import numpy as np
import pytest

from embed.config import GraphConfig, PretrainConfig
from embed.training import kge
from kb.errors import ConfigError, DataError
from kb.query.read import Triples

G = GraphConfig(dimension=16, epochs=8, batch_size=4, learning_rate=0.05, negatives=4)


def stars(hubs: int = 5, leaves: int = 7) -> Triples:
    """A graph that TransE can hold: each leaf is tied to its hub by both relations, so one tells the other."""
    n = hubs * (leaves + 1)
    leaf = np.arange(hubs, n)
    head, tail = np.tile(leaf, 2), np.tile((leaf - hubs) // leaves, 2)
    relation = np.repeat([0, 1], len(leaf))
    return Triples(head.astype(np.int32), relation.astype(np.int32), tail.astype(np.int32),
                   [f"Compound::{i}" for i in range(n)], ["Compound"] * n, np.arange(n, dtype=np.int32), ["next", "after"])


def test_transe_learns_held_out_links():
    triples = stars()
    train, test = kge.hold_out(kge.mapped(triples), 0.1, 0)
    model = kge.train_entities(train, 40, 2, G, seed=0)
    untrained = kge.train_entities(train, 40, 2, GraphConfig(dimension=16, epochs=0, batch_size=256), seed=0)
    scores = kge.link_prediction(model, train, test, 0)
    chance = kge.link_prediction(untrained, train, test, 0)
    assert scores["ranked"] == len(test) == 7
    assert scores["mrr"] > 2 * chance["mrr"]
    assert 0 <= scores["hits@1"] <= scores["hits@3"] <= scores["hits@10"] <= 1


def test_filtered_mrr_is_the_definition():
    triples = kge.mapped(stars(3, 3))
    train, test = kge.hold_out(triples, 0.2, 1)
    model = kge.train_entities(train, 12, 2, GraphConfig(dimension=4, epochs=2, batch_size=64), seed=1)
    entity = model.entity_representations[0]().detach().numpy()
    relation = model.relation_representations[0]().detach().numpy()
    known = set(map(tuple, triples.tolist()))

    def rank(h, r, t, side):
        def score(x):
            a, b = (x, t) if side == 0 else (h, x)
            return -np.linalg.norm(entity[a] + relation[r] - entity[b])

        own = (h, t)[side]
        others = [x for x in range(12) if x != own and ((x, r, t) if side == 0 else (h, r, x)) not in known]
        better = sum(score(x) > score(own) for x in others)
        equal = sum(score(x) == score(own) for x in others)
        return 1 + better + equal / 2

    expected = np.mean([1 / rank(h, r, t, side) for h, r, t in test.tolist() for side in (0, 1)])
    assert kge.link_prediction(model, train, test, 1)["mrr"] == pytest.approx(expected, rel=1e-4)


def test_hold_out_leaves_no_entity_unseen():
    triples = kge.mapped(stars())
    train, test = kge.hold_out(triples, 0.3, 3)
    assert len(train) + len(test) == len(triples)
    assert set(np.unique(train[:, [0, 2]])) == set(range(40))
    assert set(train[:, 1]) == {0, 1}
    assert np.array_equal(test, kge.hold_out(triples, 0.3, 3)[1])
    assert len(kge.hold_out(triples[:0], 0.3, 3)[1]) == 0


def test_vectors_are_trained_once_and_checked(tmp_path, capsys):
    config = PretrainConfig(graph=GraphConfig(dimension=8, epochs=2, batch_size=64))
    first = kge.entity_vectors(stars(), config, tmp_path)
    assert "TransE" in capsys.readouterr().err
    again = kge.entity_vectors(stars(), config, tmp_path)
    assert capsys.readouterr().err == ""
    assert np.array_equal(first.matrix, again.matrix)
    assert first.identity["held_out"]["mrr"] > 0
    path = next(tmp_path.rglob("entities.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert np.array_equal(kge.entity_vectors(stars(), config, tmp_path).matrix, first.matrix)
    assert "altered" in capsys.readouterr().err
    for harm in (b"\x93NUMPY\x09", b""):  # not even a header that numpy knows
        path.write_bytes(harm)
        assert np.array_equal(kge.entity_vectors(stars(), config, tmp_path).matrix, first.matrix)
        assert "altered" in capsys.readouterr().err
    path.with_name("identity.json").write_text("{")
    assert np.array_equal(kge.entity_vectors(stars(), config, tmp_path).matrix, first.matrix)


def test_published_vectors_are_laid_out_by_name(tmp_path):
    np.save(tmp_path / "entity.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    (tmp_path / "entities.tsv").write_text("Compound::2\t0\nGene::1\t1\nCompound::0\t2\n")
    got = kge.import_vectors(tmp_path / "entity.npy", ["Compound::0", "Compound::1", "Compound::2"])
    assert got.matrix.tolist() == [[4, 5], [0, 1]] and got.names == ["Compound::0", "Compound::2"]
    entities = ["Compound::0", "Compound::1", "Compound::2"]
    linked = (np.array([0, 1, 3]), np.array([0, 1, 2]))
    matrix, position, centred = kge.drug_vectors(got, entities, linked, 4, np.array([0, 3]))
    assert position.tolist() == [0, -1, -1, 1] and centred.mean.tolist() == [2, 3]
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), np.sqrt(2), rtol=1e-5)
    alone, place, _ = kge.drug_vectors(centred, entities, (np.array([0]), np.array([0])), 1, np.array([0]))
    np.testing.assert_allclose(alone[place[0]], matrix[0], rtol=1e-6)  # a drug's vector does not hang on the others


def test_published_vectors_that_do_not_fit(tmp_path):
    np.save(tmp_path / "entity.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(ConfigError, match=r"a \.tsv"):
        kge.import_vectors(tmp_path / "entity.npy", [])
    (tmp_path / "entity.tsv").write_text("a\t5\n")
    with pytest.raises(DataError, match="names row 5"):
        kge.import_vectors(tmp_path / "entity.npy", ["a"])
