"""Plug-ins of an installed package and of a file: found, named when they are broken, never in the way of the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from kb.errors import PluginError, UnknownName, UsageError
from kb.registry import Registry, load_file

ROOT = Path(__file__).resolve().parent.parent
SOURCE = '''
from kb.licences import CC0
from kb.sources.contract import Plan, Source

class {name}(Source):
    """A source that has nothing."""

    name, title, url, origin, licences = "{known}", "nothing", "file", "user", (CC0,)

    def plan(self, job):
        return Plan(0)

    def read(self, job):
        return iter(())
'''
POINTS = """[mkmed.sources]
nothing = tiny_plugin:Nothing
broken = tiny_broken:Missing
leaving = tiny_leaving:Gone
corpus = tiny_plugin:Nothing

[mkmed.modalities]
text.tiny = tiny_plugin:model
image.tiny = tiny_plugin:model
tower.tiny = tiny_plugin:model
fusion.tiny = tiny_plugin:model

[mkmed.formats]
tiny = tiny_plugin:FORMAT

[mkmed.recommenders]
tiny = tiny_plugin:ByNothing
"""
REST = '''
def model(config, device):
    """A model of nothing."""

class Format:
    name, requires, published = "tiny", ("diagnosis",), {}
    def read(self, root, options):
        """Nothing."""

FORMAT = Format()

class ByNothing:
    """Recommends nothing."""
    name = "tiny"
    def predict_proba(self, visits):
        """Nothing."""
'''


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a tiny package and what pip writes about it."""
    about = tmp_path / "tiny_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    (tmp_path / "tiny_plugin.py").write_text(SOURCE.format(name="Nothing", known="nothing") + REST)
    (tmp_path / "tiny_broken.py").write_text("raise ZeroDivisionError('made in a hurry')\n")
    (tmp_path / "tiny_leaving.py").write_text("import sys\nsys.exit(5)\n")
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished program with the folder on its path."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run([sys.executable, "-m", "cli", *arguments], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path} | environment, timeout=120)


def test_installed_sources_are_listed_and_broken_ones_named(installed: Path) -> None:
    answer = run(installed, "kb", "sources", "--known", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    listed = {row["name"]: row["title"] for row in json.loads(answer.stdout)}
    assert listed["nothing"] == "nothing" and {"pubchem", "drkg"} <= set(listed) and "broken" not in listed
    assert listed["corpus"] != "nothing", "mkmed's own names cannot be taken"
    assert "'broken' of tiny-plugin 1.0" in answer.stderr and "made in a hurry" in answer.stderr
    assert "'leaving' of tiny-plugin 1.0" in answer.stderr and "Traceback" not in answer.stderr
    assert run(installed, "--help").returncode == run(installed, "kb", "ingest", "--help").returncode == 0


def test_an_installed_source_runs_and_a_broken_one_is_an_error(installed: Path, database_environment) -> None:
    answer = run(installed, "kb", "ingest", "--source", "nothing", "--format", "json")
    assert answer.returncode == 0 and json.loads(answer.stdout)[0]["source"] == "nothing", answer.stderr
    answer = run(installed, "kb", "ingest", "--source", "broken")
    assert answer.returncode == 1 and "tiny-plugin" in answer.stderr and "Traceback" not in answer.stderr
    answer = run(installed, "kb", "ingest", "--source", "nothing", "--limit", "3")
    assert answer.returncode == 2 and "has no --limit" in answer.stderr


def test_every_group_is_read(installed: Path) -> None:
    code = ("from embed.registry import *\nfrom recsys.formats import FORMATS\nfrom recsys.registry import RECOMMENDERS\n"
            "print([type(r['tiny']).__name__ for r in (TEXT_MODELS, IMAGE_MODELS, ENCODERS, FUSIONS, FORMATS, RECOMMENDERS)])")
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])})
    assert answer.stdout.strip() == "['function', 'function', 'function', 'function', 'Format', 'type']", answer.stderr
    listed = run(installed, "recsys", "recommenders", "--format", "json")
    assert {"tiny", "mkmed"} <= {row["recommender"] for row in json.loads(listed.stdout)}, listed.stderr


def test_a_file_is_a_plug_in_for_once(installed: Path, tmp_path: Path, database_environment, capfd) -> None:
    file = tmp_path / "once.py"
    file.write_text(SOURCE.format(name="Once", known="once"))
    assert cli.run(["kb", "ingest", "--plugin", f"{file}:Once", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["source"] == "once"
    file.write_text(SOURCE.format(name="Corpus", known="corpus"))
    assert cli.run(["kb", "ingest", "--plugin", f"{file}:Corpus"]) == 2
    assert "already" in capfd.readouterr().err
    listed = run(tmp_path / "elsewhere", "--plugin", f"{installed / 'tiny_plugin.py'}:FORMAT", "recsys", "prepare", "--help")
    assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("wrong", ["nowhere.py:X", "file.py", "file.py:", "file.txt:X", "file.py:1x"])
def test_what_names_no_plug_in_is_a_usage_error(wrong: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.py").write_text("Y = 1\n")
    with pytest.raises(UsageError):
        load_file(wrong)
    with pytest.raises(UsageError, match="has no X"):
        load_file("file.py:X")
    (tmp_path / "worse.py").write_text("Y = = 1\n")
    with pytest.raises(PluginError, match="SyntaxError"):
        load_file("worse.py:Y")


def test_a_registry_without_a_group_reads_none() -> None:
    registry: Registry[object] = Registry("thing", {"one": "json:loads"})
    assert list(registry) == ["one"] and registry["one"] is json.loads
    with pytest.raises(UnknownName, match="thing 'ones'") as caught:
        registry["ones"]
    assert "did you mean 'one'" in caught.value.hint
