"""Many patients at once: the same answers as one by one, and a line that is no patient costs itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kb.errors import Incomplete, UsageError
from kb.settings import Settings, load_settings
from recsys.answers import score
from recsys.answers.recommend import RecommenderService
from recsys.cohorts.files import load_cohort
from recsys.cohorts.prepare import prepare
from recsys.experiments.config import from_json
from recsys.experiments.run_folders import find_folder
from recsys.experiments.runs import train_run


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = load_settings(home=tmp_path_factory.mktemp("score"))
    prepare(form="synthetic", name="made", options={"patients": "80"}, settings=made)
    train_run(from_json({"cohort": "made", "recommender": "logistic", "vectors": "learned", "resamples": 50}), made)
    return made


@pytest.fixture(scope="module")
def model(settings: Settings) -> Path:
    return find_folder(settings) / "best.pt"


@pytest.fixture(scope="module")
def service(settings: Settings) -> RecommenderService:
    return RecommenderService.open(settings)


def test_a_cohort_is_scored_as_its_patients_are(settings: Settings, service: RecommenderService, model: Path,
                                                tmp_path: Path) -> None:
    cohort = load_cohort("made", settings)
    done = score.score(model, score.from_cohort(cohort), tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert done.patients == cohort.patients == len({row["patient"] for row in table}) and done.rows == len(table)
    assert (tmp_path / "s.parquet").stat().st_mode & 0o077 == 0
    for name, patient, _ in list(score.from_cohort(cohort))[:10]:
        assert patient is not None and not patient.visits[-1].medication
        answer = service.recommend(patient)
        rows = [row for row in table if row["patient"] == name]
        assert [row["medication"] for row in rows if row["medication"]] == [item.code for item in answer.recommended]
        assert [row["probability"] for row in rows if row["rank"]] == pytest.approx(
            [item.probability for item in answer.recommended], abs=1e-6)


def test_lines(service: RecommenderService, model: Path, tmp_path: Path) -> None:
    code = service.vocabularies["diagnosis"].codes[0]
    good = {"id": "p-1", "visits": [{"diagnoses": [code]}]}
    lines = [json.dumps(good), "", "nonsense", '{"visits": []}', json.dumps({"visits": [{"diagnoses": ["X:1"]}]}), "[1]"]
    (tmp_path / "p.ndjson.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    done = score.score(model, score.from_lines(tmp_path / "p.ndjson.gz"), tmp_path / "s.parquet")
    assert (done.patients, done.ok, done.refused, done.failed) == (5, 1, 1, 3)
    table = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [(row["patient"], row["status"]) for row in table if not row["rank"]] == [
        ("3", "failed"), ("4", "failed"), ("5", "refused"), ("6", "failed")]
    assert all(row["patient"] == "p-1" for row in table if row["rank"])
    with pytest.raises(Incomplete):
        score.raise_if_unscored(done)


def test_nothing_is_left_where_it_cannot_be_written(model: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(UsageError):
        score.score(model, score.from_lines(Path(__file__)), tmp_path / "folder.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.parquet"]


def test_several_processes_write_the_same_file(settings: Settings, model: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "BATCH", 9)
    cohort = load_cohort("made", settings)
    done = [score.score(model, score.from_cohort(cohort), tmp_path / f"{n}.parquet", workers=n) for n in (1, 2)]
    assert done[0] == done[1] and done[0].patients == 80
    assert pq.read_table(tmp_path / "1.parquet").equals(pq.read_table(tmp_path / "2.parquet"))
