"""Where a recommender trains, and that a card gives what the CPU gives."""

from __future__ import annotations

import pytest
import torch
from small_cohort import make_encoded, make_knowledge

from kb.errors import ConfigError
from recsys.cohorts.batches import histories
from recsys.experiments.config import Config
from recsys.experiments.device import CARD_VISITS, training_device
from recsys.registry import RECOMMENDERS

CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")


def test_a_card_is_taken_for_large_cohorts_or_when_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device("auto", CARD_VISITS, True, "mkmed").type == "cuda"
    assert training_device("auto", CARD_VISITS - 1, True, "mkmed").type == "cpu"
    assert "99,999 training visits" in capsys.readouterr().err
    assert training_device("auto", CARD_VISITS, False, "safedrug").type == "cpu"
    assert training_device("cuda", 10, True, "mkmed").type == "cuda"
    with pytest.raises(ConfigError, match="safedrug trains on the CPU only"):
        training_device("cuda", 10, False, "safedrug")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("auto", 10**7, True, "mkmed").type == "cpu"
    with pytest.raises(ConfigError, match="sees no CUDA card"):
        training_device("cuda", 10**7, True, "mkmed")


@CARD
@pytest.mark.parametrize(("name", "mode"), [("mkmed", "network"), ("mkmed", "reference"), ("retain", "auto"),
                                            ("transformer", "auto")])
def test_a_card_gives_what_the_cpu_gives(name, mode):
    encoded = make_encoded(patients=120)
    train, validation = histories(encoded, "train"), histories(encoded, "validation")
    found = {}
    for device in ("cpu", "cuda"):
        config = Config(recommender=name, mode=mode, epochs=6, dropout=0.0, code_dropout=0.0, device=device)
        model = RECOMMENDERS[name](train.sizes, make_knowledge(encoded), config)
        model.fit(train, validation)
        found[device] = model.predict_proba(validation)
        assert all(t.device.type == "cpu" for t in model.tensors().values())
    assert abs(found["cuda"] - found["cpu"]).mean() < 0.02
