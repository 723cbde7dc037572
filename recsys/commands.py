"""``mkmed recsys``: prepare a cohort, train, evaluate, compare, recommend, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kb import output
from kb.compute.places import LOCAL, ON_HELP
from kb.errors import NotUnderstood, UsageError
from kb.output import Format
from recsys import completion
from recsys.study_commands import register

app = typer.Typer(no_args_is_help=True, help="Medication recommendation: cohorts, training, evaluation, answers.")
register(app)

FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
RunOption = Annotated[str, typer.Option("--run", "-r", help="Run id or its beginning; the latest run if left out.",
                                       autocompletion=completion.runs)]


MapOption = typer.Option("--map", help="CSV with columns order,means (a drug, several joined by +, ATC:code or none); "
                                       "wins over everything.")


@app.command(epilog="Example: mkmed recsys prepare --format mimic3 --root ~/mimic-iii   ·   "
                    "mkmed recsys prepare --format synthetic")
def prepare(
    form: Annotated[str, typer.Option("--format", help="EHR format: mimic3, mimic4, eicu, omop, meds, fhir, "
                                                       "synthea, diabetes130, nhanes, synthetic.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the export: CSV, plain or .gz, Parquet, or a .duckdb "
                                                   "file.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the cohort; the format's by default.")] = None,
    level: Annotated[str, typer.Option(help="ATC level 1 to 5, or ingredient.")] = "3",
    protocol: Annotated[str, typer.Option(help="one: one class for each ingredient, by route and form; literature: "
                                               "every class that the ATC table lists.")] = "one",
    own_map: Annotated[Path | None, MapOption] = None,
    keep_vehicles: Annotated[bool, typer.Option(help="Make labels of diluents that only carry drugs, too.")] = False,
    min_visits: Annotated[int, typer.Option(min=1, help="Patients with fewer visits are left out, and counted.")] = 2,
    require: Annotated[str, typer.Option(help="What a visit must have, e.g. diagnosis,medication; the format's own "
                                              "rule if left out.")] = "",
    option: Annotated[list[str] | None, typer.Option(help="For the format: name=value, e.g. patients=500.")] = None,
    allow_subset: Annotated[bool, typer.Option(help="Accept other row counts than the published ones.")] = False,
    memory: Annotated[str, typer.Option(help="What reading may hold in memory; the rest is spilled to disk.")] = "4GB",
    dry_run: Annotated[bool, typer.Option(help="Read and account for everything, and write nothing.")] = False,
    output_form: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.table,
) -> None:
    """Make a cohort of an EHR export, every row accounted for; patient data stays on this disk."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.cohorts.prepare import prepare as run_prepare

    settings = load_settings()
    arguments: dict[str, Any] = {"form": form, "root": root, "name": name, "level": level, "min_visits": min_visits,
                                 "allow_subset": allow_subset, "options": dict(_pair(item) for item in option or []),
                                 "requires": [kind.strip() for kind in require.split(",") if kind.strip()] or None,
                                 "settings": settings, "dry_run": dry_run, "memory": memory, "protocol": protocol,
                                 "own_map": _own_map(own_map), "keep_vehicles": keep_vehicles}
    if form == "synthetic":
        made = run_prepare(**arguments)
    else:
        with open_engine(settings).connect() as connection:
            made = run_prepare(connection=connection, **arguments)
    output.say(f"{made.cohort.name}: {made.cohort.fingerprint}")
    output.say("dry run: nothing was written" if dry_run else f"in {made.folder}")
    for check in made.checks:
        output.say(f"{check.verdict}: {check.dataset} {check.table} has {check.found} of {check.published} rows")
    output.emit(made.accounting, output_form, title="rows in, and where they went; of each table they sum to read")
    if made.unmapped and output_form is Format.table:
        output.emit(made.unmapped[:20], output_form, title="not mapped, most frequent first")


def _own_map(path: Path | None) -> Any:
    from recsys.orders.own_map import read_map_file

    return read_map_file(path) if path else None


@app.command(epilog="Example: mkmed recsys unmapped --format eicu --root ~/eicu --output csv > map.csv")
def unmapped(
    form: Annotated[str, typer.Option("--format", help="EHR format; see mkmed recsys prepare.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the export.")] = None,
    own_map: Annotated[Path | None, MapOption] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many orders.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="Vehicles and what is no drug, too.")] = False,
    option: Annotated[list[str] | None, typer.Option(help="For the format: name=value.")] = None,
    memory: Annotated[str, typer.Option(help="What reading may hold in memory; the rest is spilled to disk.")] = "4GB",
    output_form: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.table,
) -> None:
    """List the orders of an export that name no drug, most frequent first; fill in `means` and use it as --map."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.cohorts.prepare import unmapped as run_unmapped

    with open_engine(load_settings()).connect() as connection:
        found = run_unmapped(form=form, root=root, connection=connection, own_map=_own_map(own_map), limit=limit,
                             options=dict(_pair(item) for item in option or []), memory=memory,
                             everything=everything)
    output.say(f"{found.mapped_rows:,} of {found.rows:,} rows and {found.mapped_orders:,} of {found.orders:,} "
               "different orders name a drug or its class")
    output.emit(found.listed, output_form, columns=("order", "means", "reason", "rows", "nearest"))
    if output_form is Format.table:
        output.emit(found.evidence, output_form, title="how ingredients were found, and what was odd")


@app.command(epilog="Example: mkmed recsys attributes --cohort mimic3")
def attributes(
    cohort: Annotated[str, typer.Option(help="A prepared cohort.", autocompletion=completion.cohort_names)],
    form: FormatOption = Format.table,
) -> None:
    """List what a cohort has of demographics and outcomes; whatever fewer than five patients have is not named."""
    from kb.settings import load_settings
    from recsys.cohorts.files import load_cohort

    output.emit(load_cohort(cohort, load_settings()).listed_attributes(), form,
                columns=("attribute", "level", "patients", "visits"))


@app.command(epilog="Example: mkmed recsys interactions --cohort mimic3")
def interactions(
    cohort: Annotated[str, typer.Option(help="A prepared cohort.", autocompletion=completion.cohort_names)],
    matrix: Annotated[Path | None, typer.Option(help="CSV of a matrix of medications (codes, then 0 or 1) to check "
                                                     "against the one rebuilt for this cohort.")] = None,
    form: FormatOption = Format.table,
) -> None:
    """Count the listed pairs of drugs that were ordered together, beside what a matrix of classes flags."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.cohorts.files import load_cohort
    from recsys.knowledge.gather import check_matrix, cohort_interactions

    settings = load_settings()
    if matrix is not None:
        output.emit([check_matrix(open_engine(settings), load_cohort(cohort, settings), matrix)], form)
        return
    output.emit(cohort_interactions(open_engine(settings), load_cohort(cohort, settings)).rows(), form)


def _pair(item: str) -> tuple[str, str]:
    name, mark, value = item.partition("=")
    if not mark:
        raise UsageError(f"{item!r} is not of the form name=value")
    return name, value


@app.command(epilog="Example: mkmed recsys train --set epochs=10 --set vectors=random   ·   "
                    "mkmed recsys train --recommender logistic_history --cohort mimic3")
def train(
    recommender: Annotated[str | None, typer.Option(help="mkmed or a baseline; see mkmed recsys recommenders.",
                                                    autocompletion=completion.recommenders)] = None,
    cohort: Annotated[str | None, typer.Option(help="A prepared cohort.",
                                               autocompletion=completion.cohort_names)] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="key=value; wins over the file.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run.")] = None,
    name: Annotated[str, typer.Option(help="Your own name for the run.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A word to find the run by; may be repeated.")] = None,
    track: Annotated[list[str] | None, typer.Option(help="Tell a tracker: csv, tensorboard, mlflow or wandb; may be "
                                                         "repeated.")] = None,
    print_config: Annotated[bool, typer.Option(help="Print the settings as JSON and stop.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Load everything, print sizes and steps, and stop.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """Train a recommender on a prepared cohort against the published vectors, and evaluate it on the test patients."""
    import json

    from kb.settings import load_settings
    from recsys.experiments.config import load_recommender_config
    from recsys.registry import RECOMMENDERS

    chosen = [f"recommender={recommender}"] if recommender else []
    chosen += [f"cohort={cohort}"] if cohort else []
    chosen += [f"device={device}"] if device else []
    settings, assigned = load_settings(), [*chosen, *(assign or [])]
    values = _resumed(settings, resume, config, assigned) if resume else load_recommender_config(config, assigned)
    RECOMMENDERS[values.recommender]
    if print_config:
        output.write(json.dumps(values.as_json(), indent=1))
        return
    from recsys.experiments.evaluate import headline
    from recsys.experiments.runs import plan_run, train_run

    engine = _engine(settings, values)
    if dry_run:
        output.emit([plan_run(values, settings, engine)], form)
        return
    from embed.runs.tracking import tracked

    with tracked(track, settings, "recsys", values.as_json()) as told, output.progress() as bar:
        follow = _Follow(bar, values)

        def heard(row: dict[str, Any]) -> None:
            follow(row)
            told(row)

        run = train_run(values, settings, engine, log=heard, resume=resume, name=name, tags=tag or ())
        told({f"test.{key}": value for key, value in run.report["per_visit"].items()})
        told.run = run.run_id
    output.say(f"{run.report['cohort']}\nrun {run.run_id} in {run.folder}")
    for line in run.report["signatures"]:
        output.say(f"signature: {line}")
    output.emit([headline(run.report, name=run.report["recommender"])], form)


def _resumed(settings: Any, run: str, config: Path | None, assigned: list[str]) -> Any:
    """The configuration that a run began with; raises UsageError when another one is asked for."""
    from recsys.experiments.run_folders import read_run_config

    if config is not None or assigned:
        raise UsageError("a resumed run goes on with its own settings", hint="leave --config, --set and the like out")
    return read_run_config(settings, run)


def _engine(settings: Any, config: Any) -> Any:
    """The database, or None when a synthetic cohort is trained with learned vectors and none is running."""
    from kb.db.engine import open_engine
    from recsys.cohorts.files import load_cohort

    synthetic = load_cohort(config.cohort, settings).provenance.get("format") == "synthetic"
    return None if synthetic and config.vectors == "learned" else open_engine(settings)


class _Follow:
    """Shows each epoch on the progress bar, and names failure signatures as they appear."""

    def __init__(self, bar: Any, config: Any) -> None:
        self.bar, self.rows = bar, []  # type: Any, list[dict[str, Any]]
        self.target = config.ddi_target if config.ddi_loss else 0.0
        self.task = bar.add_task("training", total=config.epochs, note="")
        self.said: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> None:
        from recsys.experiments.signatures import training_signatures

        self.rows.append(row)
        note = f"Jaccard {row['jaccard']:.4f}" if "jaccard" in row else ""
        self.bar.update(self.task, advance=1, note=note)
        for line in training_signatures(self.rows, self.target):
            kind = line.split(";")[-1]
            if kind not in self.said:
                self.said.add(kind)
                output.say(f"signature: {line}")


@app.command(epilog="Example: mkmed recsys evaluate --by rarity")
def evaluate(
    run: RunOption = "",
    by: Annotated[str, typer.Option(help="summary, visits, subgroup, rarity, bucket, calibration, sets or "
                                       "literature.")] = "summary",
    form: FormatOption = Format.table,
) -> None:
    """Print the evaluation of a run on its test patients, with 95 % bootstrap intervals."""
    from kb.settings import load_settings
    from recsys.experiments.run_folders import read_report, report_rows

    report = read_report(load_settings(), run)
    output.say(f"{report['cohort']}; {report['visits']} test visits of {report['patients']} patients; DDI matrix "
               f"{report['ddi']['matrix']} ({report['ddi']['source']}), target {report['ddi']['target']:g}")
    output.say(f"run {report['run']}: {report['recommender']}, {report['split']}, task {report['config']['task']}")
    output.emit(report_rows(report, by), form)


@app.command(epilog="Example: mkmed recsys compare 4f1c 77ab --by patient")
def compare(
    first: Annotated[str, typer.Argument(help="Run id or its beginning.")],
    second: Annotated[str, typer.Argument(help="Run id or its beginning.")],
    by: Annotated[str, typer.Option(help="Mean over each visit or each patient.")] = "visit",
    draws: Annotated[int, typer.Option(min=1000, help="Bootstrap draws.")] = 1000,
    form: FormatOption = Format.table,
) -> None:
    """Print the paired bootstrap of the difference between two runs on the same patients."""
    from kb.settings import load_settings
    from recsys.experiments.compare import compare as run_compare
    from recsys.experiments.run_folders import read_report

    if by not in ("visit", "patient"):
        raise UsageError(f"--by {by!r} is neither visit nor patient")
    settings = load_settings()
    rows, report = run_compare(settings, first, second, by=by, draws=draws), read_report(settings, first)
    output.say(f"{report['cohort']}; {report['visits']} test visits of {report['patients']} patients")
    output.emit(rows, form)


@app.command(epilog="Example: mkmed recsys recommend --visit patient.json --explain --picture reasons.svg")
def recommend(
    visit: Annotated[Path, typer.Option(help='JSON: {"visits": [{"diagnoses": [...], "procedures": [...], '
                                             '"medications": [...]}, ...]}; the last visit is asked for.')],
    run: RunOption = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many medications.")] = None,
    explain: Annotated[bool, typer.Option(help="Add the strongest reasons of each medication.")] = False,
    medication: Annotated[list[str] | None, typer.Option(help="Explain only these, recommended or not.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the first medication's reasons: svg, png, pdf.")] = None,
    min_coverage: Annotated[float, typer.Option(min=0, max=1, help="The share of the patient's codes that must be "
                                                                   "understood; below it there is no answer, exit 3."
                                                )] = 0.5,
    form: FormatOption = Format.table,
) -> None:
    """Recommend medications for a visit, with reasons; research software, not a medical device."""
    from kb.settings import load_settings
    from recsys.answers.listing import (
        CSV_COLUMNS,
        avoided_rows,
        coverage_lines,
        csv_rows,
        drift_lines,
        recommended_rows,
        set_lines,
    )
    from recsys.answers.patient import read_patient
    from recsys.answers.recommend import UNDERSTANDING, WARNING, RecommenderService
    from recsys.experiments.run_folders import private_files

    settings = load_settings()
    patient = read_patient(visit)
    service = RecommenderService.open(settings, run)
    answer = service.recommend(patient, min_coverage=min_coverage)
    wanted = medication or [item.code for item in answer.recommended][:limit]
    reasons = []
    if (explain or medication or picture) and not answer.refused:
        from recsys.answers.explain import draw, explain_with_fragments  # torch, for networks

        reasons = explain_with_fragments(service, patient, wanted, settings, min_coverage=min_coverage)
        if picture and reasons:
            with private_files():
                draw(reasons[0], picture)
    if form is Format.json:
        document = answer.as_json()
        if not answer.refused:
            document["recommended"] = document["recommended"][:limit]
            document["explanations"] = [reason.as_json() for reason in reasons]
        output.write(output.as_json(document))
    elif form is Format.csv:
        output.emit(csv_rows(answer, reasons, limit), form, columns=CSV_COLUMNS)
    for line in (*coverage_lines(answer.coverage), *drift_lines(answer)):
        output.say(line)
    if answer.refused:
        raise NotUnderstood(answer.refused, hint=UNDERSTANDING)
    if form is not Format.table:
        return
    output.emit(recommended_rows(answer.recommended[:limit]), form, title=WARNING)
    for line in set_lines(answer):
        output.say(line)
    if answer.avoided:
        output.emit(avoided_rows(answer.avoided), form, title="left out because of interactions")
    if answer.alerts:
        rows = [alert.row() for alert in answer.alerts[:limit]]
        shown = [{name: value for name, value in row.items() if name != "text"} for row in rows]
        left = len(answer.alerts) - len(shown)
        more = f"; {left} more, and all texts: --format json" if left else ""
        output.emit(shown, form, title=f"interactions, gravest first{more}")
    if answer.indications:
        output.emit([{"medication": one.code, "indication": one.path} for one in answer.indications[:limit]], form,
                    title="what sources and the graph say they are given for")
    if reasons:
        output.emit([row for reason in reasons for row in reason.rows()], form, title=f"reasons: {reasons[0].method}")


@app.command(epilog="Example: mkmed recsys reproduce --format mimic3 --root ~/mimic-iii --seeds 3 --jobs 8")
def reproduce(
    form: Annotated[str, typer.Option("--format", help="EHR format; see mkmed recsys prepare.")] = "mimic3",
    root: Annotated[Path | None, typer.Option(help="Folder of the export; not needed for a prepared cohort.")] = None,
    cohort: Annotated[str | None, typer.Option(help="Name of the cohort; the format's by default.")] = None,
    recommender: Annotated[list[str] | None, typer.Option(help="Only these; all of them if left out.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="key=value for every training.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each recommender.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once, of one thread each.")] = 1,
    min_visits: Annotated[int, typer.Option(min=1, help="Patients with fewer visits are left out, and counted.")] = 2,
    allow_subset: Annotated[bool, typer.Option(help="Accept other row counts than the published ones.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would be trained, and stop.")] = False,
    output_form: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.table,
) -> None:
    """Fill the papers' table on one cohort: prepare it, train every recommender, compare; goes on where it was."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.cohorts.files import load_cohort
    from recsys.experiments import reproduce as comparison

    settings, name = load_settings(), cohort or form
    wanted = comparison.comparison(name, seeds, recommender or tuple(comparison.ARMS), assign or [])
    if dry_run:
        output.emit([{"recommender": item.arm, **item.config.as_json()} for item in wanted], output_form)
        return
    engine = open_engine(settings)
    comparison.fill_knowledge(engine, settings, output.say)
    comparison.prepare_missing(engine, settings, form=form, root=root, name=name, min_visits=min_visits,
                               allow_subset=allow_subset)
    output.say(f"{load_cohort(name, settings).fingerprint}; {len(wanted)} trainings")
    for done in comparison.train_missing(settings, engine, wanted, jobs):
        output.say(f"{done.arm}, seed {done.config.seed}: done")
    output.emit(comparison.comparison_rows(settings, engine, wanted), output_form, title=comparison.TITLE)


@app.command(epilog="Example: mkmed recsys score --cohort mimic4 --out scores.parquet   ·   "
                    "mkmed recsys score --in patients.ndjson --out scores.parquet")
def score(
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write; only you can read it.")],
    cohort: Annotated[str | None, typer.Option(help="A prepared cohort: each patient's last visit.",
                                               autocompletion=completion.cohort_names)] = None,
    source: Annotated[Path | None, typer.Option("--in", help="One patient a line, as --visit of recommend takes one, "
                                                              "with an id.")] = None,
    run: RunOption = "",
    min_coverage: Annotated[float, typer.Option(min=0, max=1, help="The share of codes that must be understood."
                                                )] = 0.5,
    on: Annotated[str, typer.Option("--on", help=ON_HELP)] = LOCAL,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    form: FormatOption = Format.table,
) -> None:
    """Write the recommendations for many patients; a line that is no patient has a row that says why, exit 3."""
    from dataclasses import asdict

    from kb.settings import load_settings
    from recsys.answers import score as scoring
    from recsys.cohorts.files import load_cohort
    from recsys.experiments.run_folders import find_folder

    if (cohort is None) == (source is None):
        raise UsageError("give either --cohort or --in", hint="mkmed recsys score --cohort NAME --out scores.parquet")
    settings = load_settings()
    asked = scoring.from_lines(source) if source else scoring.from_cohort(load_cohort(str(cohort), settings))
    done = scoring.score(find_folder(settings, run) / "best.pt", asked, out, min_coverage=min_coverage, on=on,
                         workers=workers)
    output.emit([{**asdict(done), "file": out}], form)
    scoring.raise_if_unscored(done)


@app.command(epilog="Example: mkmed recsys runs --where recommender=mkmed --sort=-jaccard --columns run,jaccard,f1")
def runs(
    columns: Annotated[str, typer.Option(help="Names with commas between: any setting or metric.")] = "",
    sort: Annotated[str, typer.Option(help="By this column; -name has the largest first.")] = "",
    where: Annotated[list[str] | None, typer.Option(help="Only runs with name=value, also != < <= > >=; may be "
                                                         "repeated.")] = None,
    form: FormatOption = Format.table,
) -> None:
    """List the recommender runs on this disk, newest first; a beginning of an id names a run everywhere."""
    from kb.listing import arrange, shortened
    from kb.settings import load_settings
    from recsys.experiments.run_folders import RUN_COLUMNS, list_run_folders

    rows, shown = arrange(list_run_folders(load_settings()), RUN_COLUMNS, columns=columns, sort=sort, where=where or ())
    output.emit(shortened(rows, "run") if form is Format.table else rows, form, columns=shown)


@app.command(epilog="Example: mkmed recsys sweep --cohort eicu --over learning_rate=1e-4..1e-2:log --over dim=32,64")
def sweep(
    over: Annotated[list[str], typer.Option(help="name=low..high, name=low..high:log or name=a,b,c; may be repeated.")],
    recommender: Annotated[str | None, typer.Option(help="See mkmed recsys recommenders.",
                                                    autocompletion=completion.recommenders)] = None,
    cohort: Annotated[str | None, typer.Option(help="A prepared cohort.",
                                               autocompletion=completion.cohort_names)] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="key=value, the same in all trials.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; those of an earlier call count.")] = 20,
    by: Annotated[str, typer.Option(help="jaccard or prauc, of the validation patients.")] = "jaccard",
    name: Annotated[str, typer.Option(help="A sweep of this name is gone on with.")] = "sweep",
    form: FormatOption = Format.table,
) -> None:
    """Search a recommender's settings with Optuna on the validation patients; the test patients are not looked at."""
    from kb.settings import load_settings
    from recsys.experiments.config import load_recommender_config
    from recsys.experiments.sweeps import sweep_recommender

    chosen = [f"recommender={recommender}"] if recommender else []
    chosen += [f"cohort={cohort}"] if cohort else []
    settings, config = load_settings(), load_recommender_config(None, [*chosen, *(assign or [])])
    given = dict(item.split("=", 1) for item in [*chosen, *(assign or [])])
    with output.progress() as bar:
        task = bar.add_task("sweep", total=trials, note="")
        rows = sweep_recommender(settings, _engine(settings, config), given, over, trials=trials, name=name, metric=by,
                                 told=lambda n, value, _: bar.update(task, completed=n + 1, note=f"{value:.4f}"))
    output.emit(rows, form)
    if rows and rows[0]["validation"] is not None:
        best = [f"{key}={value}" for key, value in rows[0].items() if key not in ("trial", "validation", "state")]
        words = " ".join(f"--set {item}" for item in [*chosen, *(assign or []), *best])
        output.say(f"the best: mkmed recsys train {words}")


@app.command(epilog="Example: mkmed recsys rm 4f1c")
def rm(
    run: Annotated[list[str], typer.Argument(help="Run ids or their beginnings.", autocompletion=completion.runs)],
) -> None:
    """Remove runs: their folders, and what lies of them beside their cohorts."""
    from kb.settings import load_settings
    from recsys.experiments.run_folders import find_folder, remove_run

    settings = load_settings()
    for wanted in run:
        find_folder(settings, wanted)  # all are there, or none goes
    for wanted in run:
        output.say(f"removed {remove_run(settings, wanted)}")


@app.command(epilog="Example: mkmed recsys formats")
def formats(form: FormatOption = Format.table) -> None:
    """List the EHR formats that can be read, with the options that each takes."""
    from recsys.formats import FORMATS

    output.emit([{"format": name, "what": _first_line(found), "options": ", ".join(getattr(found, "options", ()))}
                 for name, found in FORMATS.items()], form)


@app.command(epilog="Example: mkmed recsys cohorts")
def cohorts(form: FormatOption = Format.table) -> None:
    """List the prepared cohorts on this disk with their fingerprints."""
    from kb.settings import load_settings
    from recsys.cohorts.files import list_cohorts, load_cohort

    settings = load_settings()
    rows = []
    for name in list_cohorts(settings):
        cohort = load_cohort(name, settings)
        cited = cohort.provenance.get("knowledge") or {}
        knowledge = cited.get("snapshot") or cited.get("release")
        rows.append({"cohort": name, "fingerprint": str(cohort.fingerprint), "knowledge": knowledge})
    output.emit(rows, form)


@app.command(epilog="Example: mkmed recsys export mimic4 --as meds --to ~/mimic4-meds")
def export(
    cohort: Annotated[str, typer.Argument(help="A prepared cohort.", autocompletion=completion.cohort_names)],
    to: Annotated[Path, typer.Option(help="A new folder; only you can read it.")],
    form: Annotated[str, typer.Option("--as", help="meds: Medical Event Data Standard.")] = "meds",
) -> None:
    """Write a cohort's visits for other programs. They are patients' data: keep them as such."""
    from kb.settings import load_settings
    from recsys.cohorts.files import load_cohort
    from recsys.formats.meds_writer import write_meds

    if form != "meds":
        raise UsageError(f"a cohort cannot be written as {form!r}", hint="--as meds")
    files = write_meds(load_cohort(cohort, load_settings()), to.expanduser())
    output.say(f"{len(files)} file{'s' if len(files) > 1 else ''} of events in {to}")


@app.command(epilog="Example: mkmed recsys recommenders")
def recommenders(form: FormatOption = Format.table) -> None:
    """List the recommenders that can be trained."""
    from recsys.registry import RECOMMENDERS

    output.emit([{"recommender": name, "what": _first_line(found)} for name, found in RECOMMENDERS.items()], form)


def _first_line(plugin: Any) -> str:
    from importlib import import_module

    return (import_module(plugin.__module__).__doc__ or plugin.__doc__ or plugin.__name__).strip().splitlines()[0]
