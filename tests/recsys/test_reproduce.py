"""The papers' table: every arm trained once, what is there is not trained again, and the rows are the reports' means."""

import json

import numpy as np
import pytest

from kb.errors import NotFound
from kb.settings import Settings
from recsys.cohorts.files import save_cohort
from recsys.experiments.reproduce import ARMS, comparison, comparison_rows, finished, train_missing
from recsys.experiments.run_folders import list_run_folders
from recsys.generators import clusters
from recsys.generators.population import Shape

SMALL = ("vectors=learned", "epochs=2", "dim=8", "batch=16")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path)


def wanted(settings: Settings, seeds: int, *arms: str):
    save_cohort(clusters.generate("synthetic", Shape().scaled(90)), settings)
    return comparison("synthetic", seeds, arms, SMALL)


def test_all_arms_are_compared_seed_after_seed_with_their_own_settings():
    plan = comparison("any", 2)
    assert [(item.arm, item.config.seed) for item in plan] == [(arm, seed) for seed in (0, 1) for arm in ARMS]
    modes = {item.arm: (item.config.recommender, item.config.mode) for item in plan}
    assert modes["mkmed"] == ("mkmed", "auto") and modes["mkmed reference"] == ("mkmed", "reference")
    assert {item.config.split for item in plan} == {"reference"}
    rates = {item.arm: item.config.learning_rate for item in plan}
    assert rates["micron"] < rates["retain"]  # each brings its own defaults
    assert {item.config.learning_rate for item in comparison("any", 1, assignments=("learning_rate=0.5",))} == {0.5}


def test_an_unknown_arm_names_the_known_ones():
    with pytest.raises(NotFound, match="retian"):
        comparison("any", 1, ("retian",))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_trained_is_not_trained_again(settings, jobs):
    first = wanted(settings, 1, "popularity", "mkmed")
    assert {item.arm for item in train_missing(settings, None, first, jobs)} == {"popularity", "mkmed"}
    more = wanted(settings, 1, "popularity", "repeat_last", "mkmed")
    assert [item.arm for item in train_missing(settings, None, more, jobs)] == ["repeat_last"]
    assert list(train_missing(settings, None, more, jobs)) == []
    assert len(list_run_folders(settings)) == 3


def test_a_changed_cohort_is_trained_anew(settings):
    [item] = wanted(settings, 1, "popularity")
    list(train_missing(settings, None, [item]))
    assert finished(settings, None, item) is not None
    save_cohort(clusters.generate("synthetic", Shape().scaled(95)), settings)
    assert finished(settings, None, item) is None


def test_the_rows_are_the_reports_means_and_compare_with_ours(settings):
    plan = wanted(settings, 2, "popularity", "mkmed")
    list(train_missing(settings, None, plan))
    popular, ours = comparison_rows(settings, None, plan)
    assert (popular["recommender"], ours["recommender"]) == ("popularity", "mkmed")
    assert popular["seeds"] == ours["seeds"] == 2
    reports = [json.loads((finished(settings, None, item) / "report.json").read_text()) for item in plan]
    mine = [report["literature"]["jaccard"][0] for report in reports if report["recommender"] == "mkmed"]
    assert ours["jaccard"] == pytest.approx(np.mean(mine)) and ours["± seeds"] == pytest.approx(np.std(mine))
    assert ours["mkmed − it"] is None and " to " in popular["mkmed − it"]
    assert popular["printed, unchecked"] is None  # only MIMIC-III in full has printed figures
