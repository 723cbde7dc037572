"""The mistakes of a first day: each gets one line that says what is wrong, a next step, and no traceback."""

import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

import cli

sys.path.insert(0, str(Path(__file__).parent / "kb"))

from facts import Hand, begin, small_batch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def filled(database):
    from kb.ingest.write import write_batch

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
    (["recsys", "prepare", "--ehr", "mimic33", "--root", "."], 2, "unknown EHR format 'mimic33'", "did you mean 'mimic3'"),
    (["recsys", "train", "--recommender", "gamnet", "--set", "vectors=learned"], 2, "unknown recommender 'gamnet'", "gamenet"),
    (["recsys", "train", "--set", "epoch=3"], 2, "epoch", "epochs"),
    (["embed", "pretrain", "--set", "train.epoch=3"], 2, "train.epoch", "train.epochs"),
    (["embed", "pretrain", "--modalities", "text,grap"], 2, "'grap'", "graph"),
    (["kb", "show", "metfromin"], 1, "no drug 'metfromin'", "did you mean metformin"),
    (["kb", "show", "pubchem.compound:999999999"], 1, "pubchem.compound:999999999", "kb search"),
    (["kb", "show", "pubchem.compound:22x44"], 1, "'22x44' is not", "pubchem.compound:2244"),
    (["kb", "show", "pubchem:2244"], 1, "pubchem:2244", "did you mean pubchem.compound:2244"),
    (["kb", "coverage", "--plot", "buckets.xyz"], 2, "buckets.xyz", ".svg"),
    (["kb", "coverage", "--format", "xml"], 2, "'xml'", "--help"),
    (["recsys", "recommend", "--visit", str(ROOT / "pyproject.toml")], 1, "not JSON", "mkmed/demo/patient.json"),
    (["recsys", "prepare", "--ehr", "mimic4", "--root", str(ROOT / "mkmed/demo/data/ehr_mimic3_demo")], 1, "icd_code", "column"),
    (["kb", "ingest", "--source", "drkg"], 2, "reads a file", "--path"),
    (["kb", "ingest", "--source", "drkg", "--url", "ftp://x/y"], 2, "ftp://x/y", "https://"),
    (["kb", "ingest", "--source", "corpus", "--workers", "0"], 2, "--workers", "--help"),
    (["embed", "neighbours", "metformin"], 1, "published", "mkmed embed pretrain"),
    (["embed", "publish", "zzzz"], 1, "zzzz", ""),
    (["recsys", "evaluate"], 1, "no finished recommender run", "mkmed recsys train"),
    (["recsys", "train", "--cohort", "mimic3"], 1, "no cohort 'mimic3'", "mkmed recsys prepare"),
    (["recsys", "recommend", "--visit", "nowhere.json"], 2, "nowhere.json", ""),
    (["recsys", "prepare", "--ehr", "mimic3"], 2, "needs the folder", "--root"),
    (["kb", "ingest", "--source", "corpus", "--ids", "nowhere.txt"], 2, "nowhere.txt does not exist", "--ids"),
    (["kb", "ingest", "--source", "tabular"], 2, "reads a file", "--path"),
    (["kb", "ingest", "--source", "tabular", "--path", "nowhere.csv"], 2, "nowhere.csv does not exist", "--path"),
    (["kb", "export", "--as", "xlsx", "--out", "x"], 2, "'xlsx'", "sqlite"),
    (["kb", "ingest"], 2, "no source was named", "--source"),
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
    code, line, hint = told("recsys", "prepare", "--ehr", "mimic3", "--root", str(tmp_path / "wrong"))
    assert code == 1 and "wrong" in line
    (tmp_path / "mimic").mkdir()
    for name in ("patients", "admissions"):
        shutil.copy(ROOT / "mkmed/demo/data/ehr_mimic3_demo" / f"{name}.csv.gz", tmp_path / "mimic")
    code, line, hint = told("recsys", "prepare", "--ehr", "mimic3", "--root", str(tmp_path / "mimic"))
    assert code == 1 and "diagnoses_icd" in (line + hint).lower()


def test_a_download_that_stopped_half_way(told, tmp_path):
    folder = tmp_path / "mimic"
    shutil.copytree(ROOT / "mkmed/demo/data/ehr_mimic3_demo", folder)
    path = folder / "prescriptions.csv.gz"
    path.write_bytes(path.read_bytes()[:20_000])
    code, line, _ = told("recsys", "prepare", "--ehr", "mimic3", "--root", str(folder))
    assert code == 1 and "prescriptions" in line.lower()
    cut = tmp_path / "drugs.csv.gz"
    cut.write_bytes(gzip.compress(b"name,smiles\n" + b"aspirin,CC(=O)Oc1ccccc1C(=O)O\n" * 2000)[:60])
    code, line, _ = told("kb", "ingest", "--source", "tabular", "--path", str(cut), "--column", "name=name")
    assert code in (1, 3) and "drugs.csv.gz" in line


@pytest.fixture(params=["silent", "http", "hangs up"])
def stranger(request, monkeypatch):
    """The port of something on this machine that is not PostgreSQL."""
    listening = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve():
        while True:
            try:
                caller, _ = listening.accept()
            except OSError:
                return
            held.append(caller)
            if request.param == "http":
                caller.recv(100)
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            if request.param == "hangs up":
                caller.close()

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for caller in held:
        caller.close()


def test_a_port_where_something_else_listens(told, monkeypatch, stranger):
    monkeypatch.setattr("kb.db.engine.CONNECT_SECONDS", 2)
    monkeypatch.setenv("MKMED_DATABASE_URL", f"postgresql://me@127.0.0.1:{stranger}/mkmed")
    code, line, hint = told("kb", "coverage")
    assert code == 75 and str(stranger) in line and "MKMED_DATABASE_URL" in hint


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/mkmed", "mysql://x/y", "not a url", "postgresql://u:geheim@127.0.0.1:1/m"])
def test_a_wrong_database_url(told, monkeypatch, url):
    monkeypatch.setenv("MKMED_DATABASE_URL", url)
    code, line, hint = told("kb", "coverage")
    assert code in (1, 2, 75) and hint
    assert "geheim" not in line + hint


def test_a_wrong_pubchem_url(told, monkeypatch, tmp_path):
    monkeypatch.setenv("MKMED_PUBCHEM_URL", "http://127.0.0.1:9/rest")
    monkeypatch.setenv("MKMED_REQUEST_DEADLINE", "1")
    from kb.http import client as transport

    patient = transport.policy_for
    monkeypatch.setattr(transport, "policy_for", lambda *given: replace(patient(*given), attempts=3, first_wait=0.05))
    ids = tmp_path / "ids"
    ids.write_text("2244\n")
    code, line, hint = told("kb", "ingest", "--source", "pubchem", "--ids", str(ids))
    assert code == 3 and "Connection refused" in line and "--retry-failed" in hint


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


@pytest.fixture
def checkout(tmp_path):
    """What ``make`` reads, without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder, *arguments):
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=clean)


def test_make_with_the_wrong_python_says_which_is_needed(checkout):
    old = checkout / "python3.9"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 9); exec(sys.argv[1])' \"$2\"\n")
    old.chmod(0o755)
    for python, said in ((str(old), "is 3.9: make PYTHON="), ("no-such-python", "there is no no-such-python")):
        done = make(checkout, "install", f"PYTHON={python}")
        assert done.returncode != 0 and "Python 3.11, 3.12 or 3.13 is needed" in done.stderr and said in done.stderr
        assert not (checkout / ".venv").exists()


def test_make_mends_an_environment_that_broke(checkout):
    """Its Python went away, as after an upgrade of the system: both marks are there, and nothing works."""
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3")
    for mark in (".made", ".installed"):
        (checkout / ".venv" / mark).touch()
    planned = make(checkout, "-n", "demo").stdout
    assert "venv --clear .venv" in planned and "pip install" in planned


def test_make_says_what_it_can_do(checkout):
    done = make(checkout)
    assert done.returncode == 0 and {"make demo", "make test"} <= {line.split("\t")[0].strip()[:9] for line in done.stdout.splitlines()}


def test_a_home_that_cannot_be_made(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"
    monkeypatch.setenv("MKMED_HOME", str(home))
    for command in (["kb", "coverage"], ["demo", "--quick"], ["report"]):
        assert cli.run(command) == 2
        said = capsys.readouterr().err
        assert "cannot be made" in said and "hint: set MKMED_HOME to a folder of yours" in said and "Traceback" not in said
    assert cli.run(["doctor", "--format", "json"]) == 1
    assert "cannot be written" in capsys.readouterr().out


@pytest.fixture
def small_disk():
    """A folder on a disk of its own, and a function that gives it a size."""
    folder = Path(tempfile.mkdtemp(prefix="mkd-", dir="/tmp"))

    def mount(*options):
        return subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True).returncode == 0

    if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=1M,mode=711", "tmpfs"):
        folder.rmdir()
        pytest.skip("only root can mount a small disk")
    yield folder, lambda size: mount("-o", f"remount,size={size}")
    from kb.db.server import embedded

    for home in (folder / "h", folder / "h" / "demo"):
        embedded(home).stop(force=True)
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_disk_too_small_for_a_database_and_then_larger(small_disk, monkeypatch, capsys):
    folder, resize = small_disk
    monkeypatch.setenv("MKMED_HOME", str(folder / "h"))
    for size in ("12M", "30M"):
        assert resize(size)
        for command in (["db", "init"], ["demo", "--quick"]):
            assert cli.run(command) == 74, size
            said = capsys.readouterr().err
            assert said.count("error: ") == 1 and "space" in said and "hint: free" in said and "Traceback" not in said
    assert resize("170M")
    assert cli.run(["db", "init"]) == 0
    capsys.readouterr()
    assert cli.run(["demo", "--quick"]) == 74
    assert "MiB are free" in capsys.readouterr().err


def test_a_database_whose_home_is_gone_is_found(tmp_path, monkeypatch, capsys):
    from kb.db import cluster, shared

    for name in ("kept", "gone"):
        root = tmp_path / "clusters" / name
        root.mkdir(parents=True)
        shared.sign(root, tmp_path / name)
        shared.sign(root, tmp_path / "another")
        assert shared.home_of(root) == tmp_path / name
    (tmp_path / "kept").mkdir()
    (tmp_path / "clusters" / "unsigned").mkdir()
    monkeypatch.setattr(cluster, "SHARED_HOMES", tmp_path / "clusters")
    assert shared.abandoned(tmp_path / "clusters") == [tmp_path / "clusters" / "gone"]
    from kb.doctor import check_disk
    from kb.settings import load_settings

    found = [check for check in check_disk(load_settings()) if check.name == "old databases"]
    assert [check.found.split()[0] for check in found] == ["1"] and "gone" in found[0].remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's database lies apart from its home")
def test_clearing_a_demo_removes_a_database_that_lies_apart(tmp_path, monkeypatch):
    from kb.db import cluster
    from kb.db.server import Server, embedded
    from kb.settings import load_settings
    from mkmed.demo.clearing import clear

    apart = Path(tempfile.mkdtemp(prefix="mks-", dir="/tmp"))
    apart.chmod(0o711)
    monkeypatch.setattr(cluster, "SHARED_HOMES", apart / "clusters")
    settings = load_settings(home=tmp_path / "demo")
    server: Server = embedded(settings.home)
    server.start()
    (settings.home / "report.html").write_text("x")
    root = server.cluster.root
    assert root.parent == apart / "clusters" and (root / "home").read_text() == str(settings.home)
    clear(settings)
    assert not root.exists() and [path.name for path in settings.home.iterdir()] == ["report.html"]
    shutil.rmtree(apart)


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
