"""mode=auto: the closed form, unless the validation patients say that the network is better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kb.settings import Settings
from recsys.cohorts.batches import Histories, histories
from recsys.cohorts.cohort import encode
from recsys.cohorts.files import load_cohort, save_cohort
from recsys.cohorts.tasks import TASKS, patient_split
from recsys.experiments import runs
from recsys.experiments.config import Config, contenders, from_json, settled
from recsys.experiments.evaluate import choose_rule, evaluate
from recsys.experiments.modes import choose_mode
from recsys.experiments.run_folders import find_finished, read_metrics, read_run_config
from recsys.experiments.runs import knowledge_for, train_run
from recsys.generators import clusters
from recsys.generators.population import Shape
from recsys.knowledge.gather import bundled_knowledge


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(home=tmp_path_factory.mktemp("home"))
    save_cohort(clusters.generate("synthetic", Shape().scaled(120)), made)
    return made


class Says:
    """A recommender that knows the answer to within some noise."""

    def __init__(self, config: Config, noise: float, names: tuple[str, ...]) -> None:
        self.config, self.noise, self.knowledge = config, noise, bundled_knowledge(names)

    def predict_proba(self, asked: Histories) -> np.ndarray:
        truth = asked.target(np.arange(asked.visits)).astype(np.float32)
        rng = np.random.default_rng(int(self.noise * 100))
        drawn = rng.random(truth.shape, dtype=np.float32)
        truth = np.where(rng.random(truth.shape) < 0.02, 1 - truth, truth)  # nobody is right about everything
        return np.clip(0.05 + 0.9 * ((1 - self.noise) * truth + self.noise * drawn), 0.01, 0.99)


@pytest.mark.parametrize(("pairs", "network", "taken"), [(0.6, 0.1, "network"), (0.1, 0.6, "pairs"), (0.4, 0.4, "pairs")])
def test_the_validation_patients_decide(settings: Settings, pairs: float, network: float, taken: str) -> None:
    cohort = load_cohort("synthetic", settings)
    encoded = encode(cohort, patient_split(cohort, 0), least=1)
    validation = histories(encoded, "validation", TASKS["stay"])
    names = encoded.vocabularies["medication"].codes
    noise = {"pairs": pairs, "network": network}
    asked: list[str] = []

    def fit(config: Config):
        asked.append(config.mode)
        model = Says(config, noise[config.mode], names)
        return evaluate(model, validation, validation, choose_rule(model, validation)).sums

    choice = choose_mode(from_json({"resamples": 100, "ddi_target": 0}), cohort, fit)
    assert asked == ["pairs", "network"] and choice.config.mode == taken
    assert choice.validation["patients"] == validation.patients
    assert (choice.validation["jaccard"]["network"] > choice.validation["jaccard"]["pairs"]) == (network < pairs)


def test_nothing_is_compared_where_nothing_is_open(settings: Settings) -> None:
    cohort = load_cohort("synthetic", settings)

    def fit(config: Config):
        raise AssertionError("nothing to fit")

    for values, mode in (({"mode": "network"}, "network"), ({"frozen": False}, "network"),
                         ({"recommender": "popularity"}, "auto")):
        config = from_json(values)
        assert choose_mode(config, cohort, fit).config.mode == mode == settled(config, cohort).mode
    assert contenders(from_json({}), cohort) == ("pairs", "network")


def test_a_run_keeps_what_was_asked_and_chosen_and_is_found_by_both(settings: Settings) -> None:
    asked = from_json({"vectors": "learned", "titles": "off", "epochs": 1, "dim": 8, "resamples": 50})
    run = train_run(asked, settings)
    assert run.report["asked"]["mode"] == "auto" and run.report["mode"] in ("pairs", "network")
    assert set(run.report["choice"]["jaccard"]) == {"pairs", "network"}
    assert read_run_config(settings, run.run_id).mode == run.report["mode"]
    for config in (asked, from_json(run.report["config"])):
        assert find_finished(settings, config, run.report["cohort"]) == run.folder
    other = from_json({"vectors": "learned", "titles": "off", "epochs": 2, "dim": 8, "resamples": 50})
    assert find_finished(settings, other, run.report["cohort"]) is None
    (Path(run.folder) / "report.json").unlink()
    again = train_run(asked, settings, resume=run.run_id)
    assert again.report["choice"] == json.loads((run.folder / "choice.json").read_text())["choice"]
    assert again.report["mode"] == run.report["mode"]


def test_the_chosen_form_is_fitted_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[str] = []
    fit = runs.fit_recommender

    def counted(config: Config, *given, **more):
        fitted.append(config.mode)
        return fit(config, *given, **more)

    monkeypatch.setattr(runs, "fit_recommender", counted)
    asked = from_json({"vectors": "learned", "titles": "off", "epochs": 2, "dim": 8, "resamples": 50, "seed": 3})
    run = train_run(asked, settings)
    assert fitted == ["pairs", "network"]
    direct = train_run(from_json(run.report["config"]), settings)
    assert direct.report["per_visit"] == run.report["per_visit"]
    assert len(read_metrics(run.folder)) == len(read_metrics(direct.folder))


@pytest.mark.parametrize(("name", "reads"), [("popularity", False), ("repeat_last", False), ("logistic", False),
                                             ("logistic_history", False), ("mkmed", True)])
def test_a_plain_recommender_asks_for_no_vectors(settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str,
                                                 reads: bool) -> None:
    class Asked(Exception):
        pass

    def read(*_, vectors: bool, **__):
        raise Asked(vectors)

    monkeypatch.setattr("recsys.knowledge.gather.read_knowledge", read)
    cohort, config = load_cohort("synthetic", settings), from_json({"recommender": name, "titles": "off"})
    with pytest.raises(Asked) as asked:
        knowledge_for(settled(config, cohort), cohort, encode(cohort, patient_split(cohort, 0), least=1), object(), settings)
    assert asked.value.args == (reads,)
