"""A run end to end: cohort on disk, training, report, resume, comparison, command line."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import make_encoded, make_knowledge, sides
from typer.testing import CliRunner

from kb.errors import ConfigError, DataError, NotFound
from kb.settings import Settings
from recsys.cohorts.files import load_cohort, save_cohort
from recsys.commands import app
from recsys.experiments.compare import compare
from recsys.experiments.config import Config, from_json, load_recommender_config
from recsys.experiments.evaluate import choose_rule, evaluate
from recsys.experiments.run_folders import find_folder, list_run_folders, load_run, read_metrics, read_sums, report_rows
from recsys.experiments.runs import load_data, train_run
from recsys.experiments.signatures import signatures, training_signatures
from recsys.generators import clusters
from recsys.generators.population import Shape
from recsys.knowledge.table import no_knowledge, with_modalities, with_random_vectors
from recsys.registry import RECOMMENDERS


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    made = Settings(home=home)
    save_cohort(clusters.generate("synthetic", Shape().scaled(90)), made)
    return made


def small(**values: object) -> Config:
    return from_json({"mode": "network", "vectors": "learned", "epochs": 3, "dim": 8, "batch": 16, **values})


@pytest.fixture(scope="module")
def runs(settings: Settings) -> list[str]:
    return [train_run(small(recommender=name), settings).run_id for name in ("mkmed", "popularity")]


def test_a_run_leaves_a_complete_folder(settings: Settings, runs: list[str]) -> None:
    folder = find_folder(settings, runs[0])
    for name in ("config.json", "metrics.jsonl", "last.pt", "best.pt", "env.json", "report.json", "curves.svg"):
        assert (folder / name).stat().st_size > 0
    report = json.loads((folder / "report.json").read_text())
    assert len(read_metrics(folder)) == 3
    assert report["cohort"].startswith("90 patients") and report["learned_vectors"] > 100
    low, high = report["intervals"]["jaccard"]
    assert low <= report["per_visit"]["jaccard"] <= high
    assert sum(row["visits"] for row in report["by_visits"].values()) == report["visits"]
    assert set(report["ddi"]) == {"matrix", "source", "target"}
    listed = list_run_folders(settings)
    assert {row["run"] for row in listed} == set(runs) and all(row["jaccard"] is not None for row in listed)


def test_a_loaded_run_predicts_as_it_was_evaluated(settings: Settings, runs: list[str]) -> None:
    trained = load_run(settings, runs[0])
    data = load_data(small(), settings, None)
    choices = choose_rule(trained.recommender, data.validation)
    assert choices.safe == trained.decision
    again = evaluate(trained.recommender, data.train, data.test, choices)
    np.testing.assert_array_equal(again.sums.sums, read_sums(settings, find_folder(settings, runs[0])).sums)


def test_two_runs_compare_on_the_same_patients(settings: Settings, runs: list[str]) -> None:
    rows = {row["metric"]: row for row in compare(settings, *runs)}
    jaccard = rows["jaccard"]
    assert jaccard["difference"] == pytest.approx(jaccard["first"] - jaccard["second"])
    assert jaccard["low"] <= jaccard["difference"] <= jaccard["high"]
    other = train_run(small(recommender="popularity", seed=1), settings)
    with pytest.raises(DataError, match="seed"):
        compare(settings, runs[0], other.run_id)


def test_a_stopped_run_goes_on_to_the_same_report(settings: Settings) -> None:
    class Stopped(Exception):
        pass

    def stop(row: dict) -> None:
        if row["epoch"] == 2:
            raise Stopped

    whole = train_run(small(), settings)
    with pytest.raises(Stopped):
        train_run(small(), settings, log=stop)
    started = [path.parent.name for path in (settings.runs / "recsys").glob("*/config.json")
               if not (path.parent / "report.json").exists()]
    resumed = train_run(small(), settings, resume=started[0])
    assert len(read_metrics(resumed.folder)) == 3
    assert resumed.report["per_visit"] == whole.report["per_visit"]


def test_the_order_time_task_and_the_temporal_split_run(settings: Settings) -> None:
    report = train_run(small(task="order-time", split="temporal", recommender="repeat_last"), settings).report
    assert "first" not in report["by_visits"] and report["visits"] > 0


def test_no_patient_level_data_is_in_a_run_folder(settings: Settings, runs: list[str]) -> None:
    folder = find_folder(settings, runs[0])
    report = json.loads((folder / "report.json").read_text())

    def longest(value: object) -> int:
        if isinstance(value, dict):
            return max((longest(item) for item in value.values()), default=0)
        return max(len(value), *map(longest, value)) if isinstance(value, list) and value else 0

    assert longest(report) < report["patients"]


def test_published_vectors_need_the_database(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="database"):
        load_data(small(vectors="published"), settings, None)
    with pytest.raises(NotFound, match="no cohort"):
        load_data(small(cohort="none"), settings, None)


def test_the_command_line_trains_evaluates_and_recommends(settings: Settings, monkeypatch: pytest.MonkeyPatch,
                                                          tmp_path: Path) -> None:
    monkeypatch.setenv("MKMED_HOME", str(settings.home))
    tell = CliRunner()
    made = tell.invoke(app, ["train", "--set", "mode=network", "--set", "vectors=learned", "--set", "epochs=2", "--set", "dim=8", "-f", "json"])
    assert made.exit_code == 0, made.output
    assert 0 < json.loads(made.stdout)[0]["jaccard"] < 1
    plan = tell.invoke(app, ["train", "--set", "mode=network", "--set", "vectors=learned", "--dry-run", "-f", "json"])
    assert json.loads(plan.stdout)[0]["parameters"] > 1000
    for by in ("summary", "visits", "rarity", "bucket", "calibration", "literature"):
        shown = tell.invoke(app, ["evaluate", "--by", by, "-f", "json"])
        assert shown.exit_code == 0 and json.loads(shown.stdout), by
    trained = load_run(settings)
    patient = {"visits": [{"diagnoses": [trained.vocabularies["diagnosis"][0], "ICD9CM:NOPE"]}]}
    (tmp_path / "patient.json").write_text(json.dumps(patient))
    told = tell.invoke(app, ["recommend", "--visit", str(tmp_path / "patient.json"), "--explain", "-f", "json",
                             "--picture", str(tmp_path / "why.svg")])
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    assert answer["coverage"]["not_understood"] == {"diagnosis": ["ICD9CM:NOPE"]} and "not a medical device" in answer["warning"]
    assert answer["recommended"] and (tmp_path / "why.svg").exists()
    table = tell.invoke(app, ["recommend", "--visit", str(tmp_path / "patient.json")])
    assert "not a medical device" in table.stdout and "ICD9CM:NOPE" in table.output
    lines = tell.invoke(app, ["recommend", "--visit", str(tmp_path / "patient.json"), "--explain", "-f", "csv"])
    rows = list(csv.DictReader(io.StringIO(lines.stdout)))
    assert {row["row"] for row in rows} >= {"recommended", "not understood"} and all(None not in row for row in rows)
    assert all("not a medical device" in row["warning"] for row in rows)
    assert [row["code"] for row in rows if row["row"] == "recommended"] == [m["code"] for m in answer["recommended"]]
    assert [row["code"] for row in rows if row["row"] == "not understood"] == ["ICD9CM:NOPE"]
    assert "not a medical device" in (tmp_path / "why.svg").read_text()


def test_every_table_is_printed_with_its_cohort(settings: Settings, runs: list[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKMED_HOME", str(settings.home))
    tell, fingerprint = CliRunner(), load_cohort("synthetic", settings).fingerprint.sha256[:12]
    for words in (["evaluate", "--run", runs[0]], ["compare", *runs], ["cohorts"],
                  ["train", "--set", "vectors=learned", "--set", "epochs=1", "--recommender", "popularity"]):
        assert fingerprint in tell.invoke(app, words, env={"COLUMNS": "400"}).output, words
    shown = tell.invoke(app, ["evaluate", "--run", runs[0], "--by", "visits", "-f", "json"])
    numbers = [row["visit number"] for row in json.loads(shown.stdout)]
    assert numbers[0] == "first" and len(set(numbers)) == len(numbers)
    buckets = json.loads(tell.invoke(app, ["evaluate", "--run", runs[0], "--by", "bucket", "-f", "json"]).stdout)
    assert [row["bucket"] for row in buckets] == ["no vector"]


def test_configuration_from_toml_and_assignments(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('epochs = 3\nlearning_rate = 1e-3\nfrozen = false\n')
    config = load_recommender_config(path, ["epochs=7", "frozen=yes"])
    assert (config.epochs, config.learning_rate, config.frozen) == (7, 1e-3, True)
    assert from_json(config.as_json()) == config
    for wrong in ("epoch=3", "epochs=three", "epochs=0", "mode=other", "epochs", "dropout=1"):
        with pytest.raises(ConfigError):
            load_recommender_config(None, [wrong])
    path.write_text("epochs = [")
    with pytest.raises(ConfigError, match="TOML"):
        load_recommender_config(path)


def test_knowledge_variants_and_a_report_by_bucket() -> None:
    encoded = make_encoded()
    knowledge = make_knowledge(encoded)
    other = with_random_vectors(knowledge, 3)
    assert not np.allclose(other.vectors, knowledge.vectors)
    assert (np.abs(other.vectors).sum(1) > 0).tolist() == knowledge.known.tolist()
    text = with_modalities(knowledge, ("text",))
    assert text.known.tolist() == (knowledge.known & knowledge.rests_on[:, 1]).tolist()
    with pytest.raises(DataError):
        with_modalities(no_knowledge(knowledge.medications, knowledge.interactions), ("text",))
    train, validation, test = sides(encoded)
    model = RECOMMENDERS["repeat_last"](train.sizes, knowledge, from_json({}))
    model.fit(train, validation)
    report = evaluate(model, train, test, choose_rule(model, validation)).report
    assert sum(row["medications"] for row in report["by_bucket"].values()) == len(knowledge.medications)
    assert sum(row["occurrences"] for row in report["by_rarity"].values()) == int(test.target().sum())
    count = knowledge.rests_on[:, :5].sum(1)[knowledge.known]  # the sixth column, the molecule, is no modality
    assert report["by_bucket"]["no vector"]["medications"] == 2
    for n in set(count.tolist()):
        assert report["by_bucket"][f"{n} modalities"]["medications"] == (count == n).sum()
    assert report_rows({**report, "recommender": "repeat_last"}, "bucket")


def test_signatures_name_what_goes_wrong() -> None:
    calm = [{"epoch": i, "loss": 1 / i, "loss_max": 1.2 / i, "jaccard": i / 20, "beta": 1.0} for i in range(1, 12)]
    assert training_signatures(calm) == []
    spike = [*calm, {**calm[-1], "epoch": 12, "loss_max": 5.0}]
    assert "spike" in training_signatures(spike)[0]
    rising = [*calm, {**calm[-1], "epoch": 12, "loss": 1.0, "loss_max": 1.1, "jaccard": 0.1}]
    assert any("rises" in line for line in training_signatures(rising))
    long_past = [{**row, "jaccard": 1 / row["epoch"]} for row in calm]
    assert any("overfitting" in line for line in training_signatures(long_past))
    assert any("β" in line for line in training_signatures([{**calm[0], "beta": 0.01}]))


def test_a_report_names_unsafe_output_weakness_on_the_rare_and_uniform_attention() -> None:
    encoded = make_encoded()
    train, validation, _ = sides(encoded)
    model = RECOMMENDERS["molerec"](train.sizes, make_knowledge(encoded), from_json({"epochs": 1, "dim": 8}))
    model.fit(train, validation)
    good = {"ddi": {"target": 0.06}, "per_visit": {"ddi_rate": 0.05, "jaccard": 0.5},
            "by_rarity": {"rare (< 1 %)": {"medications": 3, "occurrences": 9, "average_precision": 0.4, "chance": 0.02}},
            "rare_without_vector": {"count": 1, "codes": ["ATC:X01X"]}}
    model.network.attention = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])
    assert signatures([], good, model) == []
    bad = {**good, "per_visit": {"ddi_rate": 0.09, "jaccard": 0.5},
           "by_rarity": {"rare (< 1 %)": {"medications": 3, "occurrences": 9, "average_precision": 0.025, "chance": 0.02}}}
    model.network.attention = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    said = "\n".join(signatures([], bad, model))
    assert "β is too low" in said and "uniform" in said
    assert "1 of these 3 have no vector: ATC:X01X" in said
