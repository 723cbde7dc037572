"""The failure signatures on trainings that really go wrong, each beside one that does not."""

import pytest
import torch
from small_cohort import make_encoded, make_knowledge, sides

from kb.settings import Settings
from recsys.cohorts.files import save_cohort
from recsys.experiments.config import from_json
from recsys.experiments.evaluate import choose_rule, evaluate, random_average_precision
from recsys.experiments.metrics import average_precision
from recsys.experiments.runs import Data, fit_recommender, load_data
from recsys.experiments.signatures import attention_entropy, signatures, training_signatures
from recsys.generators import clusters, guidelines
from recsys.generators.population import Shape
from recsys.registry import RECOMMENDERS

SPIKE, UNSAFE, UNIFORM, RARE = "lower learning_rate", "too low; raise kappa", "near uniform", "weak on rare"
KINDS = {SPIKE, UNSAFE, UNIFORM, RARE}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    save_cohort(guidelines.generate("guidelines", Shape().scaled(400)), settings)
    save_cohort(clusters.generate("clusters", Shape().scaled(400)), settings)
    return settings


def found(home, cohort, **settings):
    """The kinds of signatures of a training; also that what is said at the end was said while training."""
    config = from_json({"cohort": cohort, "mode": "network", "vectors": "learned", "epochs": 8, "dim": 16, "resamples": 100, **settings})
    data = load_data(config, home, None)
    told, rows = [], []

    def listen(row):
        rows.append(row)
        told.extend(training_signatures(rows, config.ddi_target))

    fitted = fit_recommender(config, data, log=listen)
    report = evaluate(fitted.recommender, data.train, data.test, fitted.choices).report
    said = signatures(fitted.rows, report, fitted.recommender)
    for line in said:
        assert line in told or RARE in line or "test patients" in line, line
    return {kind for kind in KINDS for line in said if kind in line}


def test_a_healthy_training_shows_none(home):
    assert found(home, "clusters") == set()


def test_interactions_that_the_loss_does_not_hold_down_are_named(home):
    assert found(home, "guidelines", kappa=0.001) & {UNSAFE, SPIKE} == {UNSAFE}
    assert UNSAFE not in found(home, "guidelines")


def test_a_learning_rate_that_is_far_too_high_is_named(home):
    assert SPIKE in found(home, "clusters", learning_rate=0.5)


def test_rare_medications_ranked_as_by_chance_are_named_with_their_lack_of_knowledge(home):
    assert found(home, "clusters", recommender="popularity") == {RARE}
    assert RARE not in found(home, "clusters", recommender="logistic_history")


def test_fragment_attention_that_learns_nothing_is_named():
    encoded = make_encoded()
    train, validation, test = sides(encoded)
    model = RECOMMENDERS["molerec"](train.sizes, make_knowledge(encoded), from_json({"recommender": "molerec", "dim": 8}))
    for name, weight in model.network.named_parameters():
        if name.startswith("pieces"):  # fragments that all look alike
            torch.nn.init.zeros_(weight)
    model.network(train.batch(torch.arange(4).numpy()))
    assert attention_entropy(model) > 0.98
    row = {"loss": 1.0, "loss_max": 1.0, "jaccard": 0.3, "epoch": 3, "attention_entropy": attention_entropy(model)}
    assert any(UNIFORM in line for line in training_signatures([row] * 3))
    config = from_json({"recommender": "molerec", "dim": 8, "epochs": 6, "learning_rate": 0.05, "batch": 8})
    fitted = fit_recommender(config, Data(encoded, train, validation, test, make_knowledge(encoded)))
    model, last = fitted.recommender, fitted.rows[-1]
    assert 0 < last["attention_entropy"] < 0.98 and attention_entropy(model) < 0.98
    report = evaluate(model, train, validation, choose_rule(model, validation)).report
    assert not any(UNIFORM in line for line in signatures([], report, model))
    assert attention_entropy(RECOMMENDERS["popularity"](train.sizes, make_knowledge(encoded), from_json({}))) is None


@pytest.mark.parametrize(("positives", "visits"), [(1, 9), (3, 40), (20, 40), (40, 40)])
def test_chance_is_the_mean_over_random_orders(positives, visits):
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(4000, visits, generator=generator).numpy()
    target = torch.zeros(4000, visits)
    target[:, :positives] = 1
    drawn = average_precision(score, target.numpy())
    expected = random_average_precision(torch.tensor([positives]).numpy(), visits)[0]
    assert drawn.mean() == pytest.approx(expected, abs=4 * drawn.std() / 4000**0.5 + 1e-9)
    assert random_average_precision(torch.tensor([0]).numpy(), visits)[0] == 0
