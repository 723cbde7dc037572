"""A model of another library as a rival: what it is given of a visit, and that its answers come back to their visits."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from small_cohort import make_encoded, make_knowledge, sides

from recsys.experiments.config import from_json

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STANDIN = """
import json, sys
from pathlib import Path
import numpy as np
dump = json.loads(Path(sys.argv[1]).read_text())
found = {}
for side in ("validation", "test"):
    found[side] = np.zeros((len(dump[side]), dump["medications"]), np.float32)
    for row, number in enumerate(dump[side]):
        found[side][row, [int(label[1:]) for label in dump["samples"][number]["drugs"]]] = 1
np.savez(sys.argv[3], **found, tried=json.dumps([{**dump["settings"][0], "prauc": 1.0}]), cpu_seconds=2.5)
"""


@pytest.fixture(scope="module")
def peers():
    spec = importlib.util.spec_from_file_location("peer_rivals", BENCHMARKS / "peer_rivals.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_peer_is_told_codes_up_to_the_visit_and_medications_before_it(peers) -> None:
    visits = sides(make_encoded())[0]
    samples = peers.peer_samples(visits, 0)
    assert len(samples) == visits.scored.sum() and len({one["visit_id"] for one in samples}) == len(samples)
    for visit, one in zip(np.flatnonzero(visits.scored).tolist(), samples, strict=True):
        before = int(visits.past[visit])
        assert one["patient_id"] == f"p{visits.patient_of[visit]}"
        assert len(one["conditions"]) == len(one["procedures"]) == len(one["drugs_hist"]) == before + 1
        assert one["conditions"][-1] == [f"d{code}" for code in visits.diagnosis.row(visit)]
        assert one["drugs"] == [f"m{code}" for code in visits.medication.row(visit)] and one["drugs_hist"][-1] == []
        assert one["drugs_hist"][:-1] == [[f"m{code}" for code in visits.medication.row(visit - before + back)]
                                          for back in range(before)]


def test_answers_come_back_to_the_visits_that_were_asked_about(peers, tmp_path, monkeypatch) -> None:
    encoded = make_encoded()
    train, validation, test = sides(encoded)
    (tmp_path / "standin.py").write_text(STANDIN)
    monkeypatch.setattr(peers, "SCRIPT", tmp_path / "standin.py")
    model = peers.Peer("RETAIN", Path(sys.executable), [{"learning_rate": 0.1}], test, train.sizes,
                       make_knowledge(encoded), from_json({"recommender": "transformer"}))
    model.fit(train, validation)
    for visits in (validation, test):
        assert np.array_equal(model.predict_proba(visits)[visits.scored] > 0, visits.target()[visits.scored])
    assert model.tried == [{"learning_rate": 0.1, "prauc": 1.0}] and model.cpu_seconds == 2.5
    (tmp_path / "standin.py").write_text("raise SystemExit('no such model')")
    with pytest.raises(SystemExit, match="no such model"):
        model.fit(train, validation)
