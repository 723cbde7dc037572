"""The demo's recommender: open patient data, baselines beside ours, and one recommendation with its reasons."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kb import output
from mkmed.demo.step import Demo, Stage
from mkmed.demo.steps_kb import COUNTED, bundled
from recsys.experiments.config import Config

TRAINED_ON = "eicu"
"""The bundled set with the most patients; the MIMIC demos are prepared to show their accounting."""


def _prepared(demo: Demo) -> str | None:
    from recsys.cohorts.files import list_cohorts

    here = set(list_cohorts(demo.settings))
    return "done already" if here >= set(demo.scale.cohorts) and set(_finished(demo)) >= _plain(demo) else None


def _prepare(demo: Demo) -> None:
    """Prepare the cohorts, and train what needs no vectors."""
    from recsys.cohorts.files import list_cohorts
    from recsys.cohorts.prepare import prepare

    for name in sorted(set(demo.scale.cohorts) - set(list_cohorts(demo.settings))):
        with demo.engine.connect() as connection:
            prepare(form=name, root=bundled(f"ehr_{name}_demo"), connection=connection, min_visits=1,
                    allow_subset=True, settings=demo.settings)
    _train(demo, _plain(demo))


def _show_cohorts(demo: Demo) -> None:
    from recsys.cohorts.files import load_cohort

    rows: list[dict[str, Any]] = []
    for name in demo.scale.cohorts:
        cohort = load_cohort(name, demo.settings)
        lost = sum(loss.rows for loss in cohort.accounting if loss.reason != "kept")
        kept = sum(loss.rows for loss in cohort.accounting if loss.reason == "kept")
        rows.append({"cohort": name, "patients": cohort.patients, "visits": cohort.visits,
                     "medications": len(cohort.vocabularies["medication"].codes), "rows kept": kept,
                     "rows accounted for as lost": lost})
    output.emit(rows, title="cohorts of open patient data")


def recommender_config(demo: Demo, name: str) -> Config:
    """The configuration of one recommender."""
    from recsys.experiments.config import from_json

    return from_json({"recommender": name, "cohort": TRAINED_ON, "epochs": demo.scale.recommender_epochs})


def _plain(demo: Demo) -> set[str]:
    """The wanted recommenders that read no vectors."""
    from recsys.registry import RECOMMENDERS

    return {name for name in demo.scale.recommenders if not RECOMMENDERS[name].reads_vectors}


def _finished(demo: Demo) -> dict[str, Path]:
    """The newest finished run folder of each wanted recommender, on the cohort and vectors as they are now."""
    from embed.runs.store import published_run
    from kb.errors import NotFound
    from recsys.cohorts.files import load_cohort
    from recsys.experiments.run_folders import find_finished

    cohort, plain = str(load_cohort(TRAINED_ON, demo.settings).fingerprint), _plain(demo)
    try:
        vectors = str(published_run(demo.engine))
    except NotFound:
        vectors = "none yet"
    found = {name: find_finished(demo.settings, recommender_config(demo, name), cohort,
                                 None if name in plain else vectors) for name in demo.scale.recommenders}
    return {name: folder for name, folder in found.items() if folder is not None}


def _trained(demo: Demo) -> str | None:
    return "trained already" if set(_finished(demo)) >= set(demo.scale.recommenders) else None


def _train(demo: Demo, wanted: Iterable[str]) -> None:
    from recsys.experiments.runs import train_run

    found = _finished(demo)
    for name in sorted(set(wanted) - set(found)):
        train_run(recommender_config(demo, name), demo.settings, demo.engine)


def _train_all(demo: Demo) -> None:
    _train(demo, demo.scale.recommenders)


def _show_recommenders(demo: Demo) -> None:
    reports = [json.loads((folder / "report.json").read_text()) for folder in _finished(demo).values()]
    rows = []
    for report in sorted(reports, key=lambda r: -r["per_visit"]["jaccard"]):
        low, high = report["intervals"]["jaccard"]
        rows.append({"recommender": report["recommender"], "jaccard": report["per_visit"]["jaccard"],
                     "95 %": f"{low:.3f}–{high:.3f}", **{k: report["per_visit"][k] for k in ("f1", "prauc")},
                     "ddi_rate": report["per_visit"]["ddi_rate"], "a visit": report["per_visit"]["medications"]})
    first = reports[0]
    output.emit(rows, title=f"recommenders on {first['patients']} test patients of {TRAINED_ON}")
    output.say("      eICU's treatments, an input of this task, name many medications: it is easier than MIMIC's")
    output.say("      one small test set and one seed: the path works, and no more than that is shown")


def _compare(demo: Demo) -> None:
    from recsys.experiments.compare import compare

    found = _finished(demo)
    baseline = next(name for name in ("logistic_history", "logistic") if name in found)
    rows = compare(demo.settings, found["mkmed"].name, found[baseline].name)
    output.emit(rows, title=f"mkmed (first) beside {baseline} (second), paired over patients")


def _recommend(demo: Demo) -> None:
    from mkmed.demo.paths import patient_path
    from mkmed.report.explained import explain_patient

    shown = demo.recommendation = explain_patient(demo.settings, patient_path(), _finished(demo)["mkmed"].name)
    output.emit([{"medication": f"{row['code']} {row['name']}", "probability": row["probability"],
                  "rests on": ", ".join(row["rests_on"]) or "prescriptions alone",
                  "because of": ", ".join(f"{text} {change:+.2f}" for text, change in row["reasons"][:3])}
                 for row in shown["recommended"]], title=shown["patient"])
    output.say(f"      {shown['warning']}")


STEPS = (
    Stage("open patient data", "mkmed recsys prepare --ehr eicu --root mkmed/demo/data/ehr_eicu_demo --min-visits 1;"
         " mkmed recsys train --cohort eicu --recommender logistic", _prepare, _prepared, _show_cohorts, after=COUNTED),
    Stage("recommenders", "mkmed recsys train --cohort eicu --recommender mkmed",
         _train_all, _trained, _show_recommenders),
    Stage("comparison", "mkmed recsys compare MKMED BASELINE", _compare),
    Stage("a recommendation with reasons", "mkmed recsys recommend --visit patient.json --explain", _recommend),
)
