"""Over several splits: what each column changes, and differences that are paired."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_kb import fill
from sqlalchemy import text

from embed.config import load_config
from embed.evaluation import columns, splits
from embed.evaluation.intervals import over_seeds
from embed.features.cache import FeatureCache
from embed.features.masking import mask
from embed.training.job import pick_device, prepare_training
from kb.errors import UsageError
from kb.settings import load_settings

QUICK = ("text.model=scratch", "modalities=text,graph,property", "train.epochs=2", "train.batch_size=16",
         "graph.components=6", "molecule.fingerprint_components=16", "device=cpu", "property.descriptors=false",
         "graph.features=neighbourhood", "train.test=0.3")


@pytest.fixture(scope="module")
def filled(database):
    fill(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE mkmed.kg_relation SET name = 'Hand::treats::Compound:Gene'"))
    return database


def test_columns_change_what_they_say_and_nothing_else(filled, tmp_path):
    config, cache = load_config(sets=QUICK), FeatureCache(tmp_path)
    made = {name: prepare_training(filled, columns.column_config(config, name), cache, pick_device("cpu"))
            for name in columns.COLUMNS}
    assert "graph" not in made[columns.UNTREATED].inputs.data.tables, "the only edges were treatments"
    plain, masked = made[columns.PLAIN], made[columns.MASKED]
    assert (plain.split.test == masked.split.test).all()
    texts = [str(t) for t in plain.corpus.texts.load(range(len(plain.corpus.texts)))]
    changed = {row for row, t in zip(plain.corpus.texts.row.tolist(), texts, strict=True) if mask(t) != t}
    vectors = [one.inputs.raw["text"][0][one.inputs.raw["text"][1]] for one in (plain, masked)]
    assert not np.allclose(*vectors) or not changed
    with pytest.raises(UsageError, match="there is no column"):
        columns.column_config(config, "everything")


def test_the_masked_column_is_measured_and_a_stopped_study_goes_on(filled, tmp_path, monkeypatch):
    settings, config, told, trainings = load_settings(home=tmp_path), load_config(sets=QUICK), [], []

    def count(*args, own=splits.trained):
        trainings.append(args)
        return own(*args)

    def stop(row):
        told.append(row)
        raise KeyboardInterrupt

    monkeypatch.setattr(splits, "trained", count)
    with pytest.raises(KeyboardInterrupt):
        splits.evaluate_splits(filled, settings, config, splits=(0,), on_training=stop)
    report = splits.evaluate_splits(filled, settings, config, splits=(0,), on_training=told.append)
    assert [row["column"] for row in told] == ["plain", *columns.COLUMNS]
    assert told[0] == told[1] and len(trainings) == 3
    assert {row["column"] for row in report["classes"]} <= set(columns.COLUMNS)
    assert [one["column"] for one in report["trainings"]] == list(columns.COLUMNS)
    again = splits.evaluate_splits(filled, settings, config, splits=(0,), fresh=True)
    assert len(trainings) == 6
    assert again["retrieval"] == report["retrieval"]
    changed = load_config(sets=[*QUICK, "loss.relation=1"])
    splits.evaluate_splits(filled, settings, changed, splits=(0,), columns=(columns.PLAIN,))
    assert len(trainings) == 7


def test_nothing_is_stored_and_the_report_is_kept(filled, tmp_path):
    told = []
    settings = load_settings(home=tmp_path)
    report = splits.evaluate_splits(filled, settings, load_config(sets=QUICK), splits=(0, 1), columns=(columns.PLAIN,),
                                    on_training=told.append)
    assert [row["split"] for row in told] == [0, 1]
    kept = json.loads((tmp_path / "runs" / "splits" / "splits.json").read_text())
    assert kept["splits"] == [0, 1] and len(kept["trainings"]) == 2 == len(report["trainings"])
    with filled.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mkmed.embedding_run")) == 0


def test_differences_are_taken_in_each_split():
    ours, rival = [0.70, 0.80, 0.75], [0.71, 0.78, 0.73]
    found = [{"split": k, "column": "plain", "classes": [
        {"drugs": "d", "vectors": "mkmed, fused", "ours": True, "queries": 9, "level_1": 1, "level_2": 1, "level_3": a},
        {"drugs": "d", "vectors": "rival", "ours": False, "queries": 9, "level_1": 1, "level_2": 1, "level_3": b}]}
        for k, (a, b) in enumerate(zip(ours, rival, strict=True))]
    mine, theirs = splits.summarise_splits(found, "classes")
    expected = over_seeds([a - b for a, b in zip(ours, rival, strict=True)])
    assert (theirs["mkmed minus this"], theirs["low"], theirs["high"]) == pytest.approx(expected)
    assert "low" not in mine
    assert mine["level_3"] == pytest.approx(0.75)


def test_neighbours_of_held_out_drugs_can_be_kept_to_those_that_trained():
    from embed.evaluation.classes import nearest_class

    similarity = np.array([[1, 0.9, 0.5], [0.9, 1, 0.2], [0.5, 0.2, 1]])
    held = np.array([True, True, False])
    among_all = nearest_class(similarity, [["A"], ["A"], ["B"]], ["", "", ""], queries=held, levels=(1,))
    trained = nearest_class(similarity, [["A"], ["A"], ["B"]], ["", "", ""], queries=held, candidates=~held, levels=(1,))
    assert (among_all.accuracy[1], trained.accuracy[1]) == (1.0, 0.0)


