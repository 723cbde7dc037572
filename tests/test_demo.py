"""The demo's bookkeeping: what counts as done, what a change brings back, and where it writes; the whole runs in CI's make demo."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kb.errors import Busy, MkmedError, NotFound
from kb.settings import load_settings
from mkmed.demo import aside, paths, pipeline, steps_embed, steps_kb, steps_recsys
from mkmed.demo.clearing import clear
from mkmed.demo.paths import patient_path
from mkmed.demo.pipeline import demo_settings, steps
from mkmed.demo.step import FULL, QUICK, Demo, Extent, Stage

TINY = Extent("tiny", 30, ("metformin", "warfarin", "insulin human"), 5, ("graph.features=neighbourhood", "text.model=scratch", "image.model=scratch", "train.epochs=2", "modalities=text,graph",
             "graph.components=6", "molecule.fingerprint_components=16", "width=16"), ("mimic3",), ("popularity", "logistic", "mkmed"), 2, ablation=("train.epochs=1",))


@pytest.fixture(scope="module")
def demo(database, tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    settings = load_settings(home=tmp_path_factory.mktemp("home"), workers=1)
    return Demo(settings, TINY, database)


@pytest.fixture
def trained_on_mimic(monkeypatch, tmp_path):
    """The MIMIC-III demo in the place of eICU's, and an invented patient in its codes."""
    monkeypatch.setattr(steps_recsys, "TRAINED_ON", "mimic3")
    visit = {"diagnoses": ["ICD9CM:401.9", "ICD9CM:428.0", "ICD9CM:427.31"], "procedures": ["ICD9PROC:38.93"]}
    before = visit | {"medications": ["ATC:B01A", "ATC:A10A", "insulin human"]}
    (tmp_path / "patient.json").write_text(json.dumps({"about": "Invented.", "visits": [before, before, visit]}))
    monkeypatch.setattr(paths, "patient_path", lambda: tmp_path / "patient.json")


def test_it_has_a_home_and_a_server_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    monkeypatch.setenv("MKMED_DATABASE_URL", "postgresql://somebody@elsewhere/theirs")
    settings = demo_settings(load_settings())
    assert settings.home == tmp_path.resolve() / "demo" and settings.database_url is None


def test_both_scales_name_real_things():
    from embed.config import load_config
    from recsys.formats import FORMATS
    from recsys.registry import RECOMMENDERS

    for scale in (FULL, QUICK):
        load_config(sets=[*scale.pretrain, *scale.ablation])
        assert set(scale.recommenders) <= set(RECOMMENDERS) and set(scale.cohorts) <= set(FORMATS)
        assert steps_recsys.TRAINED_ON in scale.cohorts
        assert {"mkmed", "logistic", "popularity"} <= set(scale.recommenders)


def test_the_example_is_invented_and_readable():
    from recsys.answers.patient import read_patient

    patient = read_patient(patient_path())
    assert len(patient.visits) == 2 and not patient.visits[-1].medication
    assert "invented" in json.loads(patient_path().read_text())["about"]


def test_a_step_is_done_once_and_shown_every_time(demo, capsys):
    log, there = [], []
    step = Stage("a step", "mkmed x", lambda d: (log.append("work"), there.append(1)), lambda d: "it is there" if there else None,
                lambda d: log.append("show"))
    for _ in range(2):
        pipeline._run(demo, step, "[1/1]")
    assert log == ["work", "show", "show"]
    assert "it is there, skipped" in capsys.readouterr().err


def test_the_whole_path_small_and_again(demo, trained_on_mimic, capsys):
    """Every step on a few drugs and the MIMIC-III demo; the second time nothing is worked on that leaves a result."""
    for step in steps():
        pipeline._run(demo, step, "")
    first = capsys.readouterr()
    page = (demo.settings.home / "report.html").read_text()
    assert len(page) > 50_000 and "mkmed (pairs)" in page and "One seed is too few to rank the rows" in page
    recommendation = demo.recommendation
    assert recommendation["recommended"] and recommendation["recommended"][0]["reasons"]
    assert "medical device" in recommendation["warning"]
    for part in ("one modality and all of them", "most like metformin", "most like insulin human", "recommenders on", "jaccard", "held-out"):
        assert part in first.out + first.err, part
    for step in steps():
        pipeline._run(demo, step, "")
    again = capsys.readouterr().err
    assert again.count("skipped") == 8


def test_a_changed_setting_brings_back_its_own_step(demo, trained_on_mimic):
    """Runs after the path above, on what it left."""
    changed = replace(demo, scale=replace(TINY, pretrain=(*TINY.pretrain, "seed=1")))
    assert steps_embed._pretrained(demo) and not steps_embed._pretrained(changed)
    assert steps_embed._ablated(demo) and "not part" in steps_embed._ablated(replace(demo, scale=replace(TINY, ablation=())))
    assert steps_kb._corpus_done(changed)
    longer = replace(demo, scale=replace(TINY, recommender_epochs=3))
    assert steps_recsys._trained(demo) and not steps_recsys._trained(longer)
    assert not steps_kb._computed(replace(demo, scale=replace(TINY, pictures=9)))
    assert not steps_kb._corpus_done(replace(demo, scale=FULL))


def test_a_second_demo_in_the_same_home_waits_outside(tmp_path):
    with pipeline._alone(tmp_path):
        with pytest.raises(Busy, match="another mkmed demo") as error, pipeline._alone(tmp_path):
            raise AssertionError("two at work")
        assert "MKMED_HOME" in error.value.hint
    with pipeline._alone(tmp_path):
        pass


def test_clearing_leaves_the_report(tmp_path):
    settings = load_settings(home=tmp_path / "demo")
    (settings.home / "runs" / "x").mkdir(parents=True)
    for name in ("report.html", "buckets.svg"):
        (settings.home / name).write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (settings.home / "link").symlink_to(outside)
    clear(settings)
    assert [p.name for p in settings.home.iterdir()] == ["report.html"] and outside.is_dir()


def test_a_missing_file_is_named():
    with pytest.raises(NotFound, match="nothing"):
        steps_kb.bundled("nothing.csv")
    assert isinstance(steps_kb.bundled("MANIFEST.json"), Path)


def _slow(demo):
    import time

    (demo.settings.home / "begun").write_text("x")
    time.sleep(600)


def _refused(demo):
    raise NotFound("no such thing", hint="make one")


def _died(demo):
    import os

    os._exit(9)


def test_a_step_beside_the_others_is_waited_for_and_tells_its_error(demo):
    with aside.open_aside() as early:
        for title, work, error in (("refused", _refused, "no such thing"), ("died", _died, "died")):
            step = Stage(title, "mkmed x", work)
            early.begin(demo, step)
            with pytest.raises(MkmedError, match=error):
                early.finish(step)


def test_nothing_outlives_the_demo(demo):
    import time

    with aside.open_aside() as early:
        early.begin(demo, Stage("slow", "mkmed x", _slow))
        process = early.begun["slow"][0]
        until = time.monotonic() + 120
        while not (demo.settings.home / "begun").exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert process.is_alive()
    assert not process.is_alive()


def test_what_runs_beside_the_others_begins_at_its_point():
    after = {step.title: step.after for step in steps() if step.after}
    assert after == {"open patient data": steps_kb.COUNTED, "ablation": steps_embed.COMPUTED}
    assert steps_kb.COUNTED in [step.title for step in steps()]


def test_a_point_begins_what_waits_for_it_once_and_not_what_is_done(demo):
    begun = []

    class Early:
        def __init__(self):
            self.begun = {}

        def begin(self, _, step):
            begun.append(step.title)
            self.begun[step.title] = None

    def nothing(_):
        pass

    todo = [Stage("here", "x", nothing, after="a point"), Stage("done", "x", nothing, lambda _: "there", after="a point"),
            Stage("later", "x", nothing, after="another")]
    early = Early()
    for _ in range(2):
        pipeline._begin_after(demo, early, todo, "a point")
    assert begun == ["here"]


def test_the_pretraining_says_when_its_features_are_there(demo, monkeypatch):
    points = []

    def pretrain(*_, on_epoch, **__):
        on_epoch({"recall@10": 0.5})
        return type("Done", (), {"epochs": 1, "metrics": {"score": 0.5}, "run_id": "x"})

    monkeypatch.setattr("embed.training.job.pretrain", pretrain)
    steps_embed._pretrain(replace(demo, reached=points.append))
    assert points == [steps_embed.COMPUTED]
