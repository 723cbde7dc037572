"""``mkmed recsys dial``: what knowledge gains when prescribing follows it to a share λ, beside an oracle of the links.

For each λ a cohort of ``recsys.generators.prescribing`` and a learning curve on it. λ = 0 is the negative control: the
same number of links, none of them known. The oracle is the same model with the generator's own links as its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kb.errors import NotFound
from kb.files import written
from kb.settings import Settings
from recsys.cohorts.files import load_cohort, save_cohort
from recsys.experiments.crossed import gather_units, recovered
from recsys.experiments.studies import ARMS, NULL, ORACLE, TRUTH, Found, Study, deciding, study_table
from recsys.generators.population import Shape
from recsys.generators.prescribing import DESIGN, Dials, PrescribingFacts, generate, make_world, truth

SEED = 13
DIAL_ARMS = tuple(arm for arm in ARMS if arm.name in (NULL, "all", "shuffled", ORACLE, "logistic_history"))


def cohort_name(follows: float, patients: int) -> str:
    """What the cohort of a λ is called."""
    return f"{DESIGN}-{follows:g}-{patients}"


def make_cohort(follows: float, patients: int, facts: PrescribingFacts, settings: Settings) -> str:
    """The name of the cohort of a λ, with the truth beside it; one that is there from the same facts is kept."""
    name = cohort_name(follows, patients)
    made = generate(name, Shape().scaled(patients), SEED, follows=follows, facts=facts)
    try:
        if load_cohort(name, settings).fingerprint == made.fingerprint:
            return name
    except NotFound:
        pass
    folder = save_cohort(made, settings)
    world = make_world(SEED, facts, follows, Dials(), len(made.vocabularies["procedure"]))
    with written(folder / TRUTH) as path, path.open("wb") as file:
        np.savez_compressed(file, codes=np.array(facts.diagnoses), medications=np.array(facts.medications),
                            table=truth(world))
    return name


def dial_study(follows: float, patients: int, sizes: Sequence[str], seeds: Sequence[int],
               settings: Mapping[str, str]) -> Study:
    """The learning curve on the cohort of a λ."""
    return Study("curve", cohort_name(follows, patients), tuple(sizes), tuple(seeds), DIAL_ARMS, dict(settings))


def dial_table(follows: float, study: Study, found: Mapping[tuple[str, str], Sequence[Found]]) -> list[dict[str, Any]]:
    """The study's table with λ, and the share of the oracle's gain that knowledge, and shuffled knowledge, has."""
    units = 1 + max(int(part[0].max(initial=0)) for parts in found.values() for part in parts)
    rows = [{"λ": follows, **row} for row in study_table(study, found)]
    for row in rows:
        row["of the oracle's gain"] = None
        if row["arm"] in ("all", "shuffled"):
            arms = [gather_units(found[row["point"], name], units) for name in (row["arm"], NULL, ORACLE)]
            share, low, high = recovered(arms[0], arms[1], arms[2], deciding(study))
            row["of the oracle's gain"] = f"{share:.2f} ({low:.2f} to {high:.2f})"
    return rows
