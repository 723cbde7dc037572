"""docs/extending.md followed step by step: each file is written as it stands there, registered and run."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent / "embed"))

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```python\n# file: (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """A function that writes a page's file and adds its line, as the page gives it, to a registry."""

    def install(module, registry):
        (tmp_path / f"{module}.py").write_text(FILES[module])
        monkeypatch.syspath_prepend(str(tmp_path))
        name, target = re.search(rf'`"([\w-]+)": "({module}:\w+)"`', PAGE).groups()
        monkeypatch.setitem(registry._entries, name, target)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return name

    return install


def test_the_page_has_one_file_of_each_kind():
    assert sorted(FILES) == ["by_visit", "clinic", "house_notes", "letters", "straight"]


def test_a_source(plug_in, database, tmp_path):
    from kb.ingest.engine import ingest
    from kb.ledger.verify import verify
    from kb.settings import load_settings
    from kb.sources import SOURCES
    from kb.sources.contract import IngestOptions

    name = plug_in("house_notes", SOURCES)
    notes = tmp_path / "notes.tsv"
    notes.write_text("XZWYZXLIPXDOLR-UHFFFAOYSA-N\tMetformin\tGiven with meals.\n")
    settings, options = load_settings(home=tmp_path), IngestOptions(path=notes)
    assert ingest(database, settings, name, options).counts["drugs"] == 1
    assert ingest(database, settings, name, options).counts.get("drugs", 0) == 0, "a second run changes nothing"
    with database.connect() as connection:
        rows = connection.execute(text("SELECT name, content, licence_id FROM mkmed.texts")).all()
        assert [check.number for check in verify(connection) if check.broken] == []
    assert rows == [("Metformin", "Given with meals.", "LicenseRef-house")]


def test_a_model_for_a_modality(plug_in):
    import torch

    from embed.config import load_config
    from embed.registry import TEXT_MODELS

    name = plug_in("letters", TEXT_MODELS)
    config = load_config(sets=[f"text.model={name}"])
    model = TEXT_MODELS[config.text.model](config.text, torch.device("cpu"))
    np.testing.assert_allclose(model.encode(["abba"])[0, :3], [2**-0.5, 2**-0.5, 0], rtol=1e-6)
    assert model.version


def test_a_tower_learns_and_comes_back_from_its_checkpoint(plug_in, tmp_path):
    import torch
    from small_corpus import dataset

    from embed.config import PretrainConfig, TrainConfig
    from embed.registry import ENCODERS
    from embed.runs import checkpoint
    from embed.training.loop import TrainingJob, fit
    from embed.training.model import build_model, embed_all, rebuild_model

    plug_in("straight", ENCODERS)
    torch.set_num_threads(1)
    data, config = dataset(20), PretrainConfig(modalities=("text", "graph"), train=TrainConfig(
        epochs=12, batch_size=8, learning_rate=5e-3, warmup=2, dropout=0.0, patience=99))
    job = TrainingJob(build_model(config, data), data, config, np.arange(16), np.arange(20), tmp_path)
    tower = job.model.towers["text"]
    assert type(tower).__name__ == "StraightText"
    before = tower.head.weight.detach().clone()
    fit(job)
    assert not torch.equal(before, tower.head.weight), "the training does not reach the tower"
    tensors, facts = checkpoint.load_checkpoint(tmp_path / "last.pt")
    again = rebuild_model(facts["model"], tensors["model"])
    assert torch.equal(embed_all(again, data)[1], embed_all(job.model, data)[1])


def test_an_ehr_format(plug_in, tmp_path):
    from kb.settings import load_settings
    from recsys.cohorts.prepare import prepare
    from recsys.formats import FORMATS

    name = plug_in("clinic", FORMATS)
    tables = {"visits": "visit,patient,day,sex\n1,a,2020-01-02,F\n2,a,2020-02-02,F\n3,b,2020-01-02,M\n",
              "diagnoses": "visit,codes\n1,I10\n1,I10\n2,I10 J18\n3,J18\n", "procedures": "visit,codes\n",
              "medications": "visit,codes\n1,ATC:C07AB02\n2,ATC:C07AB02 ATC:B01AA03\n3,\n"}
    for table, lines in tables.items():
        (tmp_path / f"{table}.csv").write_text(lines)
    made = prepare(form=name, root=tmp_path, min_visits=1, settings=load_settings(home=tmp_path))
    assert (made.cohort.patients, made.cohort.visits) == (1, 2)
    assert made.cohort.vocabularies["medication"].codes == ("ATC:B01A", "ATC:C07A")
    assert made.cohort.attributes["sex"].levels == ("female",)
    assert ("diagnoses", "identical duplicate in the visit", 1) in {
        (row["table"], row["reason"], row["rows"]) for row in made.accounting}


def test_a_recommender(plug_in, tmp_path):
    from kb.settings import load_settings
    from recsys.answers.patient import Patient, Visit
    from recsys.answers.recommend import RecommenderService
    from recsys.cohorts.prepare import prepare
    from recsys.experiments.config import from_json
    from recsys.experiments.runs import train_run
    from recsys.registry import RECOMMENDERS

    name, settings = plug_in("by_visit", RECOMMENDERS), load_settings(home=tmp_path)
    prepare(form="synthetic", options={"patients": "150"}, settings=settings)
    run = train_run(from_json({"recommender": name, "vectors": "learned", "resamples": 50}), settings)
    assert 0 < run.report["per_visit"]["jaccard"] <= 1
    service = RecommenderService.open(settings, run.run_id)
    diagnosis = service.vocabularies["diagnosis"].codes[0]
    first = service.recommend(Patient((Visit(diagnosis=(diagnosis,)),)))
    later = service.recommend(Patient((Visit(diagnosis=(diagnosis,)),) * 2))
    assert [r.probability for r in first.recommended] != [r.probability for r in later.recommended]
