"""The mistakes of a first day: each gets one line that says what is wrong, a next step, and no traceback."""

import gzip
import shutil
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

import cli

sys.path.insert(0, str(Path(__file__).parent / "kb"))

from facts import Hand, begin, small_batch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def filled(database):
    from kb.write import write_batch

    with database.begin() as connection:
        write_batch(connection, begin(connection), Hand.name, small_batch())


@pytest.fixture
def told(database_environment, capsys):
    """A function that runs the program and gives (exit code, error line, hint line)."""

    def run(*arguments):
        code = cli.run(list(arguments))
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        lines = said.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        hints = [line for line in lines if line.startswith("hint: ")]
        assert len(errors) == 1, said.err
        return code, errors[0], hints[0] if hints else ""

    return run


@pytest.mark.parametrize(("arguments", "code", "error", "hint"), [
    (["kb", "ingest", "--source", "corpsu"], 2, "unknown source 'corpsu'", "did you mean 'corpus'"),
    (["kb", "ingest", "--source", "rdkit", "--modality", "imagee"], 2, "'imagee'", "image"),
    (["recsys", "prepare", "--format", "mimic33", "--root", "."], 2, "unknown EHR format 'mimic33'", "did you mean 'mimic3'"),
    (["recsys", "train", "--recommender", "gamnet", "--set", "vectors=learned"], 2, "unknown recommender 'gamnet'", "gamenet"),
    (["recsys", "train", "--set", "epoch=3"], 2, "epoch", "epochs"),
    (["embed", "pretrain", "--set", "train.epoch=3"], 2, "train.epoch", "train.epochs"),
    (["embed", "pretrain", "--modalities", "text,grap"], 2, "'grap'", "graph"),
    (["kb", "show", "metfromin"], 1, "no drug 'metfromin'", "did you mean metformin"),
    (["kb", "show", "pubchem.compound:999999999"], 1, "pubchem.compound:999999999", "kb search"),
    (["embed", "neighbours", "metformin"], 1, "published", "mkmed embed pretrain"),
    (["embed", "publish", "zzzz"], 1, "zzzz", ""),
    (["recsys", "evaluate"], 1, "no finished recommender run", "mkmed recsys train"),
    (["recsys", "train", "--cohort", "mimic3"], 1, "no cohort 'mimic3'", "mkmed recsys prepare"),
    (["recsys", "recommend", "--visit", "nowhere.json"], 1, "nowhere.json", ""),
    (["recsys", "prepare", "--format", "mimic3"], 2, "needs the folder", "--root"),
    (["kb", "ingest", "--source", "corpus", "--ids", "nowhere.txt"], 2, "nowhere.txt is not a file", "--ids takes"),
    (["kb", "ingest", "--source", "tabular"], 2, "reads a file", "--path"),
    (["kb", "ingest", "--source", "tabular", "--path", "nowhere.csv"], 2, "nowhere.csv does not exist", "--path"),
    (["kb", "export", "--as", "xlsx", "--out", "x"], 2, "'xlsx'", "sqlite"),
    (["kb", "ingest"], 2, "--source", "--help"),
    (["kb", "ingset"], 2, "ingset", "--help"),
    (["demo", "--fast"], 2, "--fast", "--help"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_is_misspelt_or_missing(told, tmp_path, monkeypatch, arguments, code, error, hint):
    monkeypatch.chdir(tmp_path)
    found, line, next_step = told(*arguments)
    assert found == code
    assert error in line
    assert hint in next_step


def test_missing_mimic_files_are_named(told, tmp_path):
    code, line, hint = told("recsys", "prepare", "--format", "mimic3", "--root", str(tmp_path / "wrong"))
    assert code == 1 and "wrong" in line
    (tmp_path / "mimic").mkdir()
    for name in ("patients", "admissions"):
        shutil.copy(ROOT / "demo/data/ehr_mimic3_demo" / f"{name}.csv.gz", tmp_path / "mimic")
    code, line, hint = told("recsys", "prepare", "--format", "mimic3", "--root", str(tmp_path / "mimic"))
    assert code == 1 and "diagnoses_icd" in (line + hint).lower()


def test_a_download_that_stopped_half_way(told, tmp_path):
    folder = tmp_path / "mimic"
    shutil.copytree(ROOT / "demo/data/ehr_mimic3_demo", folder)
    path = folder / "prescriptions.csv.gz"
    path.write_bytes(path.read_bytes()[:20_000])
    code, line, _ = told("recsys", "prepare", "--format", "mimic3", "--root", str(folder))
    assert code == 1 and "prescriptions" in line.lower()
    cut = tmp_path / "drugs.csv.gz"
    cut.write_bytes(gzip.compress(b"name,smiles\n" + b"aspirin,CC(=O)Oc1ccccc1C(=O)O\n" * 2000)[:60])
    code, line, _ = told("kb", "ingest", "--source", "tabular", "--path", str(cut), "--column", "name=name")
    assert code in (1, 3) and "drugs.csv.gz" in line


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/mkmed", "mysql://x/y", "not a url", "postgresql://u:geheim@127.0.0.1:1/m"])
def test_a_wrong_database_url(told, monkeypatch, url):
    monkeypatch.setenv("MKMED_DATABASE_URL", url)
    code, line, hint = told("kb", "coverage")
    assert code in (1, 2, 75) and hint
    assert "geheim" not in line + hint


def test_a_wrong_pubchem_url(told, monkeypatch, tmp_path):
    monkeypatch.setenv("MKMED_PUBCHEM_URL", "http://127.0.0.1:9/rest")
    monkeypatch.setenv("MKMED_REQUEST_DEADLINE", "1")
    ids = tmp_path / "ids"
    ids.write_text("2244\n")
    code, _line, hint = told("kb", "ingest", "--source", "pubchem", "--ids", str(ids))
    assert code in (1, 3, 75) and hint


def test_no_network_for_a_model_that_has_to_be_fetched(told, monkeypatch):
    pytest.importorskip("transformers", reason="the [pretrained] extra is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sets = [part for s in ("text.model=transformers", "text.name=nobody/nothing", "modalities=text") for part in ("--set", s)]
    code, line, hint = told("embed", "pretrain", *sets)
    assert code == 1 and "nobody/nothing" in line and "download" in hint


def test_a_gpu_that_is_not_there(told):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, line, hint = told("embed", "pretrain", "--device", "cuda")
    assert code == 2 and "CUDA" in line and "--device cpu" in hint


@pytest.mark.parametrize(("revision", "said"), [("9999", "9999"), ("0001", "0001")])
def test_a_database_of_another_version(told, database, revision, said):
    with database.begin() as connection:
        current = connection.scalar(text("SELECT version_num FROM mkmed.alembic_version"))
        connection.execute(text("UPDATE mkmed.alembic_version SET version_num = :v"), {"v": revision})
    try:
        code, line, hint = told("kb", "coverage")
        assert code == 1 and hint, line
    finally:
        with database.begin() as connection:
            connection.execute(text("UPDATE mkmed.alembic_version SET version_num = :v"), {"v": current})


def test_a_wrong_setting_is_named(told, monkeypatch):
    monkeypatch.setenv("MKMED_REQUESTS_PER_SECOND", "50")
    code, line, hint = told("kb", "coverage")
    assert code == 2 and "requests_per_second" in line and "MKMED_REQUESTS_PER_SECOND" in hint


def test_make_in_the_wrong_python_says_which_is_needed():
    rule = (ROOT / "Makefile").read_text()
    assert "Python 3.11, 3.12 or 3.13 is needed" in rule and "make PYTHON=" in rule


def test_running_as_root_has_a_home_that_the_server_can_reach(monkeypatch):
    from kb import settings

    monkeypatch.delenv("MKMED_HOME", raising=False)
    monkeypatch.setattr(settings.os, "geteuid", lambda: 0)
    assert settings.default_home() == Path("/var/lib/mkmed")


def test_a_home_that_is_a_file_is_refused(tmp_path, monkeypatch):
    taken = tmp_path / "home"
    taken.write_text("")
    monkeypatch.setenv("MKMED_HOME", str(taken))
    from kb.errors import ConfigError
    from kb.settings import load_settings

    with pytest.raises(ConfigError, match="is a file") as error:
        load_settings()
    assert "MKMED_HOME" in str(error.value.hint)
