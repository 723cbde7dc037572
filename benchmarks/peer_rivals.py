"""PyHealth 2.1's models as rivals: trained in an interpreter of their own by ``peers/pyhealth_rivals.py``."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.cohorts.batches import Histories
from recsys.recommenders.rivals import Unstored

SCRIPT = Path(__file__).parent / "peers" / "pyhealth_rivals.py"


def peer_samples(visits: Histories, first: int) -> list[dict[str, Any]]:
    """PyHealth's samples of the scored visits: codes up to and with the visit, and medications before it."""
    out = []
    for visit in np.flatnonzero(visits.scored).tolist():
        start = int(visits.starts[visits.patient_of[visit]])
        past = range(start, visit + 1)
        out.append({"patient_id": f"p{first + visits.patient_of[visit]}", "visit_id": f"v{first}-{visit}",
                    "conditions": [[f"d{code}" for code in visits.diagnosis.row(v)] for v in past],
                    "procedures": [[f"r{code}" for code in visits.procedure.row(v)] for v in past],
                    "drugs_hist": [[f"m{code}" for code in visits.medication.row(v)] for v in past[:-1]] + [[]],
                    "drugs": [f"m{code}" for code in visits.medication.row(visit)]})
    return out


class Peer(Unstored):
    """A model of another library that has been asked for all of its answers at once."""

    def __init__(self, model: str, python: Path, settings: Sequence[dict[str, Any]], test: Histories,
                 *given: Any) -> None:
        super().__init__(*given)
        self.model, self.python, self.settings, self.test = model, python, settings, test
        self.told: dict[int, np.ndarray] = {}
        self.tried: list[dict[str, Any]] = []
        self.cpu_seconds = 0.0

    def fit(self, train: Histories, validation: Histories, **_: Any) -> None:
        """Dump the visits, train there with every setting, and keep what the best says of validation and test."""
        sides = {"train": train, "validation": validation, "test": self.test}
        dump: dict[str, Any] = {"samples": [], "medications": self.sizes.medication, "settings": list(self.settings),
                                "seed": self.config.seed, "dim": self.config.dim, "batch": self.config.batch,
                                "epochs": self.config.epochs}
        for turn, (side, visits) in enumerate(sides.items()):
            samples = peer_samples(visits, turn * 10**8)
            dump[side] = list(range(len(dump["samples"]), len(dump["samples"]) + len(samples)))
            dump["samples"] += samples
        with tempfile.TemporaryDirectory() as folder:  # readable by its owner only
            asked, answer = Path(folder) / "dump.json", Path(folder) / "out.npz"
            asked.write_text(json.dumps(dump))
            done = subprocess.run([self.python, SCRIPT, asked, self.model, answer], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{self.model} of the peer failed:\n{done.stderr[-2000:]}")
            with np.load(answer) as found:
                self.tried, self.cpu_seconds = json.loads(str(found["tried"])), float(found["cpu_seconds"])
                for side in ("validation", "test"):
                    whole = np.zeros((sides[side].visits, self.sizes.medication), np.float32)
                    whole[sides[side].scored] = found[side]
                    self.told[id(sides[side])] = whole

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K] of the validation or the test visits."""
        return self.told[id(visits)]
