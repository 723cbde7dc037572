"""A run that is trained by one process is left alone by others, and files with the right hash but no content are told."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cli
from kb.settings import Settings
from recsys.cohorts.files import save_cohort
from recsys.experiments.config import from_json
from recsys.experiments.run_folders import read_metrics
from recsys.experiments.runs import train_run
from recsys.generators import clusters
from recsys.generators.population import Shape

SETTINGS = {"cohort": "locked", "mode": "network", "vectors": "learned", "epochs": 3, "dim": 8, "batch": 8, "least_steps": 1}
HOLDER = """
import sys, json
from pathlib import Path
from kb.settings import Settings
from recsys.experiments.config import from_json
from recsys.experiments.runs import train_run
def wait(row):
    print(row["epoch"], flush=True)
    sys.stdin.readline()
train_run(from_json(json.loads(sys.argv[2])), Settings(home=Path(sys.argv[1])), log=wait)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = Settings(home=tmp_path / "home")
    save_cohort(clusters.generate("locked", Shape().scaled(120)), made)
    monkeypatch.setenv("MKMED_HOME", str(made.home))
    return made


def test_a_run_at_work_is_not_resumed_and_its_holder_is_named(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(settings.home), json.dumps(SETTINGS)], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert child.stdout and child.stdin
    try:
        assert child.stdout.readline() == "1\n"
        folder, = (settings.runs / "recsys").iterdir()
        before = (folder / "metrics.jsonl").read_text()
        assert cli.run(["recsys", "train", "--resume", folder.name[:8]]) == 75
        told = capsys.readouterr().err
        assert f"process {child.pid}" in told and os.uname().nodename in told and "since" in told and "hint" in told
        assert (folder / "metrics.jsonl").read_text() == before, "the refused process touched nothing"
        child.stdin.write("\n" * 9)
        child.stdin.flush()
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stdin.close()
    assert [row["epoch"] for row in read_metrics(folder)] == [1, 2, 3]
    assert cli.run(["recsys", "train", "--resume", folder.name[:8]]) == 0, "who is done holds nothing"


def forged(path: Path, data: bytes) -> None:
    """Put bytes in the place of a checkpoint with a manifest that knows them."""
    path.write_bytes(data)
    path.with_name(f"{path.stem}.previous.pt").unlink(missing_ok=True)
    (path.parent / "manifest.json").write_text(json.dumps({path.name: [hashlib.sha256(data).hexdigest()]}))


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


CONTENTS = {"empty": b"", "text": b"hello", "list": saved([1]), "no meta": saved({"tensors": {}}),
            "meta is no JSON": saved({"tensors": {}, "meta": "{"}), "meta is a list": saved({"tensors": {}, "meta": "[]"}),
            "tensors are none": saved({"tensors": None, "meta": "{}"}), "only a format": saved({"tensors": {}, "meta": '{"format": 1}'}),
            "cut": saved({"tensors": {"a": torch.zeros(100)}, "meta": "{}"})[:-200], "zip": b"PK\5\6" + bytes(18)}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_checkpoint_with_a_valid_hash_but_other_content_is_told(name: str, settings: Settings, tmp_path: Path,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    run = train_run(from_json({**SETTINGS, "epochs": 1}), settings)
    forged(run.folder / "best.pt", CONTENTS[name])
    (tmp_path / "p.json").write_text('{"visits": [{"diagnoses": ["ICD9CM:4280"]}]}')
    assert cli.run(["recsys", "recommend", "--visit", str(tmp_path / "p.json")]) == 1
    told = capsys.readouterr().err
    assert "best.pt" in told and "unexpected" not in told and "aborted" not in told
    forged(run.folder / "last.pt", CONTENTS[name])
    assert cli.run(["recsys", "train", "--resume", run.run_id]) == 1
    told = capsys.readouterr().err
    assert "last.pt" in told and "unexpected" not in told and "aborted" not in told


@pytest.mark.parametrize("text", ["[]", "3", '{"best.pt": 3}', "{", '"x"'])
def test_a_manifest_of_another_shape_is_told(text: str, settings: Settings, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    run = train_run(from_json({**SETTINGS, "epochs": 1}), settings)
    (run.folder / "manifest.json").write_text(text)
    (tmp_path / "p.json").write_text('{"visits": [{"diagnoses": ["ICD9CM:4280"]}]}')
    assert cli.run(["recsys", "recommend", "--visit", str(tmp_path / "p.json")]) == 1
    assert "manifest.json" in capsys.readouterr().err
