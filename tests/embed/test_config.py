"""The configuration: TOML in, TOML and JSON out, and errors that say what was meant."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass

import pytest

from embed.config import PretrainConfig, from_json, load_config, paper, to_json, to_toml
from kb.errors import ConfigError, UsageError


def test_printed_toml_is_the_configuration(tmp_path):
    config = load_config(sets=["train.epochs=3", "modalities=text,graph", "loss.align=0", "molecule.fragments=false"])
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config
    assert from_json(to_json(config)) == config
    assert config.train.epochs == 3
    assert config.modalities == ("text", "graph")
    assert config.loss.align == 0.0
    assert config.molecule.fragments is False


def test_set_wins_over_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("seed = 4\n[train]\nepochs = 7\n")
    config = load_config(path, ["train.epochs=9"])
    assert (config.seed, config.train.epochs) == (4, 9)


def test_every_field_is_documented():
    def check(config):
        for item in fields(config):
            value = getattr(config, item.name)
            if is_dataclass(value):
                check(value)
            else:
                assert len(item.metadata["doc"]) > 2, item.name

    check(PretrainConfig())
    assert tomllib.loads(to_toml(PretrainConfig()))["train"]["fusion"] == "gated"


@pytest.mark.parametrize(("setting", "message"), [
    ("train.epoch=3", "no setting 'train.epoch'"),
    ("train.epochs=many", "train.epochs must be int"),
    ("molecule.fragments=1", "must be true or false"),
    ("train=3", "train is a section"),
    ("arm=some", "arm is 'some'"),
    ("modalities=text,smell", "modalities is 'smell'"),
    ("modalities=", "modalities is empty"),
    ("width=3000", "width is 3000"),
    ("width", "not key=value"),
    ("graph.features=transr", "graph.features is 'transr'"),
])
def test_errors_name_the_setting(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_config(sets=[setting])


def test_a_misspelt_name_is_answered_with_the_near_one():
    with pytest.raises(ConfigError) as caught:
        load_config(sets=["train.epoch=3"])
    assert "train.epochs" in caught.value.hint


def test_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "bad.toml")


def test_the_paper_variant():
    config = paper(seed=3)
    assert config.molecule.fingerprint_bits == 0
    assert config.loss.relation == config.loss.consistency == config.loss.between == 0.0
    assert (config.seed, config.graph.features) == (3, ("transe",))
