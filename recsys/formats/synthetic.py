"""Synthetic patients as if they had been read: a generator behind the same contract as the real formats.

Options: ``design`` (clusters, guidelines), ``patients``, ``seed``. No folder is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kb.errors import UsageError
from recsys.cohorts.cohort import KINDS
from recsys.formats.contract import CodePairs, Ledger, Limits, Recorded
from recsys.generators import GENERATORS
from recsys.generators.population import Shape


class Synthetic:
    """The generators."""

    name = "synthetic"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {}
    options = ("design", "patients", "seed")

    def read(self, root: Path, options: Mapping[str, Any], limits: Limits) -> Recorded:
        """A generated population; the cohort shape of MIMIC-III unless ``patients`` says otherwise."""
        design = str(options.get("design", "clusters"))
        shape = Shape().scaled(_whole("patients", options["patients"])) if "patients" in options else Shape()
        seeds = {"seed": _whole("seed", options["seed"])} if "seed" in options else {}
        made = GENERATORS[design](shape=shape, **seeds)
        ledger = Ledger()
        ledger.read("visits", made.visits)
        ledger.read("patients", made.patients)
        pairs: dict[str, CodePairs] = {}
        for kind in KINDS:
            table = made.codes[kind]
            ledger.read(kind, len(table.values))
            names = list(made.vocabularies[kind].codes)
            pairs[kind] = CodePairs(kind, table.rows(), table.values.astype(np.int64),
                                    np.ones(len(table.values), np.int64), names)
        return Recorded(made.visit_patient.astype(np.int64), made.visit_time, pairs, ledger, "visits", made.patients,
                        {"design": design, "seed": made.provenance["seed"]})


def _whole(name: str, value: Any) -> int:
    """The whole number of an option; raises UsageError for anything else, and for fewer than 1 patient."""
    text = str(value)
    if not text.isdigit() or (name == "patients" and int(text) < 1):
        raise UsageError(f"option {name} cannot be {text!r}", hint=f"it takes a whole number: {name}=500")
    return int(text)


FORMAT = Synthetic()
