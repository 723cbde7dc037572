"""The whole path on every open demo: rows accounted for, cohort, five splits, four recommenders, pooled over patients.

    python benchmarks/bench_open_demos.py [--seeds 5] [--only mimic3 eicu]
    python benchmarks/bench_open_demos.py --only omop --root omop=~/eunomia.duckdb --name open_demos_gibleed

Needs a filled knowledge base and published vectors (``mkmed kb ingest --source corpus``, ``mkmed embed pretrain``); the
cohorts themselves go to a temporary folder. The data are the bundled extracts, or the folder that ``--root`` names.

These sets are tiny: a figure here shows that the path works and roughly where it stands, nothing more. Each seed draws
another split, so a patient may be tested under several seeds; the 95 % intervals resample patients, each with all of
its tests, not tests. ``÷ popularity`` is the ratio to the floor of the same run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from record import report
from sqlalchemy import Engine

from kb.db.engine import open_engine
from kb.errors import DataError
from kb.output import emit, say
from kb.settings import Settings, load_settings
from mkmed.demo.paths import data_path
from recsys.cohorts.cohort import Cohort
from recsys.cohorts.prepare import prepare
from recsys.cohorts.tasks import split_cohort
from recsys.experiments.bootstrap import NAMES, PatientSums, intervals, paired_difference
from recsys.experiments.config import from_json
from recsys.experiments.evaluate import evaluate
from recsys.experiments.runs import fit_recommender, load_data, with_mode
from recsys.knowledge.gather import cohort_interactions

FOLDERS = {"mimic3": "ehr_mimic3_demo", "mimic4": "ehr_mimic4_demo", "meds": "ehr_mimic4_demo_meds",
           "eicu": "ehr_eicu_demo", "omop": "ehr_omop_gibleed", "synthea": "ehr_synthea"}
LEAST = {"synthea": {"least_patients": 1}}
"""Settings of sets that are too small for the default: eleven patients, all of them synthetic."""
RECOMMENDERS = ("mkmed", "logistic_history", "repeat_last", "popularity")


@dataclass
class Pooled:
    """The tests of one recommender over all seeds, summed by patient of the cohort."""

    sums: PatientSums

    @classmethod
    def none(cls, patients: int) -> Pooled:
        """No test yet."""
        return cls(PatientSums(np.zeros(patients), np.zeros((patients, len(NAMES) - 1)), np.zeros(patients),
                               np.zeros(patients)))

    def add(self, patients: np.ndarray, found: PatientSums) -> None:
        """Take the tests of one seed; ``patients`` are their numbers in the cohort."""
        if len(patients) != len(found.visits):
            raise DataError(f"{len(patients)} patients were tested, but {len(found.visits)} have sums")
        for mine, new in ((self.sums.visits, found.visits), (self.sums.sums, found.sums),
                          (self.sums.interacting, found.interacting), (self.sums.pairs, found.pairs)):
            mine[patients] += new

    def tested(self) -> PatientSums:
        """The patients that any seed tested."""
        held = self.sums.visits > 0
        return PatientSums(self.sums.visits[held], self.sums.sums[held], self.sums.interacting[held],
                           self.sums.pairs[held])


def accounted(cohort: Cohort) -> dict[str, int]:
    """Rows read, kept and lost over all tables; raises DataError when they do not add up to what the files held."""
    by: Counter[str] = Counter()
    for loss in cohort.accounting:
        by["kept" if loss.reason == "kept" else "lost"] += loss.rows
    return {"rows": by["kept"] + by["lost"], "kept": by["kept"], "lost": by["lost"]}


def trained(name: str, seed: int, cohort: Cohort, engine: Engine, settings: Settings) -> tuple[str, PatientSums]:
    """The mode, and the per-patient sums of one recommender on one split, by the rule at the DDI target."""
    config = from_json({"recommender": name, "seed": seed, "cohort": cohort.name, **LEAST.get(cohort.name, {})})
    choice, fits = with_mode(config, settings, engine)
    config = choice.config
    if config.mode in fits:
        data, fitted = fits[config.mode]
    else:
        data = load_data(config, settings, engine)
        fitted = fit_recommender(config, data)
    return config.mode, evaluate(fitted.recommender, data.train, data.test, fitted.choices).sums


def measure(form: str, root: Path, seeds: int, engine: Engine,
            settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row a recommender on one export, and the pairs of drugs ordered together, listed and flagged."""
    with engine.connect() as connection:
        cohort = prepare(form=form, root=root, connection=connection, min_visits=1, allow_subset=True,
                         settings=settings).cohort
    say(f"{form}: {cohort.fingerprint}")
    emit([vars(loss) for loss in cohort.accounting], title=f"{form}: rows in, and where they went")
    modes: Counter[str] = Counter()
    pooled = {name: Pooled.none(cohort.patients) for name in RECOMMENDERS}
    for seed in range(seeds):
        asked = from_json({"cohort": form, "seed": seed, **LEAST.get(form, {})})
        test = split_cohort(cohort, asked.split, seed).test
        for name in RECOMMENDERS:
            mode, sums = trained(name, seed, cohort, engine, settings)
            pooled[name].add(test, sums)
            if name == "mkmed":
                say(f"{form}, split {seed}: mode {mode}")
                modes[mode] += 1
    pairs = [{"data": form, **row} for row in cohort_interactions(engine, cohort).rows()]
    found = rows(form, cohort, seeds, {name: one.tested() for name, one in pooled.items()})
    found[0]["mode"] = ", ".join(f"{mode} {count}" for mode, count in modes.most_common())
    return found, pairs


def rows(form: str, cohort: Cohort, seeds: int, tested: dict[str, PatientSums]) -> list[dict[str, Any]]:
    """The table of one export."""
    found = []
    place = {name: NAMES.index(name) for name in ("jaccard", "prauc", "ddi_rate", "medications")}
    means = {name: sums.means(np.ones((1, len(sums.visits))))[0] for name, sums in tested.items()}
    for name, sums in tested.items():
        low, high = intervals(sums)["jaccard"]
        row = {"data": form, "patients": cohort.patients, "visits": cohort.visits,
               **{kind: len(cohort.vocabularies[kind]) for kind in cohort.codes}, **accounted(cohort),
               "tested": len(sums.visits), "seeds": seeds, "recommender": name,
               "jaccard": round(float(means[name][place["jaccard"]]), 3), "95 %": f"{low:.3f}–{high:.3f}",
               "÷ popularity": round(float(means[name][0] / means["popularity"][0]), 2),
               "prauc": round(float(means[name][place["prauc"]]), 3),
               "ddi_rate": round(float(means[name][place["ddi_rate"]]), 3),
               "a visit": round(float(means[name][place["medications"]]), 1)}
        if name != RECOMMENDERS[0]:
            gap = paired_difference(tested[RECOMMENDERS[0]], sums)["jaccard"]
            row["ours − it"] = f"{gap['difference']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
        found.append(row)
    return found


def main() -> None:
    """Run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(FOLDERS), default=list(FOLDERS))
    parser.add_argument("--root", action="append", default=[], help="format=folder, in place of the bundled extract")
    parser.add_argument("--name", default="open_demos", help="name of the file below benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = dict(text.partition("=")[::2] for text in options.root)
    settings = load_settings()
    engine = open_engine(settings)
    found: list[dict[str, Any]] = []
    interactions: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        aside = settings.model_copy(update={"home": Path(home)})
        aside.runs.symlink_to(settings.runs)  # the embedding run, which is read only
        for form in options.only:
            root = Path(given[form]).expanduser() if form in given else data_path(FOLDERS[form])
            table, pairs = measure(form, root, options.seeds, engine, aside)
            found, interactions = found + table, interactions + pairs
            report(options.name, found, shown=False, command="python benchmarks/bench_open_demos.py",
                   rule="the best on validation patients at a DDI rate of at most 0.06", interactions=interactions,
                   labels="ATC level 3, one class for each ingredient ordered")
    shown = ("data", "patients", "visits", "medication", "kept", "lost", "tested", "recommender", "jaccard", "95 %",
             "÷ popularity", "ddi_rate", "a visit", "ours − it")
    emit(found, columns=shown, title="tiny sets: that the path works is shown, no more")


if __name__ == "__main__":
    main()
