"""``mkmed recsys curve``, ``coldstart``, ``transfer``, ``ablate``: where knowledge helps, so that it can be refuted.

``mkmed recsys dial`` is their control: synthetic patients whose prescriptions follow the knowledge base to a share λ.
``mkmed recsys outcomes`` sets what became of visits beside how far they agree with a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb import output
from kb.compute.places import LOCAL, ON_HELP
from kb.errors import UsageError
from kb.options import FormatOption
from kb.output import Format

if TYPE_CHECKING:
    from recsys.experiments.studies import Study

CohortOption = Annotated[str, typer.Option(help="A prepared cohort.")]
SeedsOption = Annotated[int, typer.Option(min=2, help="How many splits.")]
FirstOption = Annotated[int, typer.Option(min=0, help="The first seed; not one that choices were made on.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes; each trains one model on one thread.")]
OnOption = Annotated[str, typer.Option("--on", help=f"{ON_HELP} A cluster must see this home and database.")]
OutOption = Annotated[Path | None, typer.Option(help="Write table, verdicts, settings, machine and picture there.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="A setting of all arms, name=value.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``mkmed recsys``."""
    app.command(epilog="Example: mkmed recsys curve --cohort eicu --seeds 8 --out curve-eicu")(curve)
    app.command(epilog="Example: mkmed recsys coldstart --cohort eicu --shots 0,1,3,10,30")(coldstart)
    app.command(epilog="Example: mkmed recsys transfer --cohort eicu --other mimic4   ·   "
                       "mkmed recsys transfer --cohort eicu --leave hospital")(transfer)
    app.command(epilog="Example: mkmed recsys ablate --cohort eicu --sizes 200,all")(ablate)
    app.command(epilog="Example: mkmed recsys dial --follow 0,0.5,1 --sizes 50,200 --seeds 4")(dial)
    app.command(epilog="Example: mkmed recsys outcomes --format json")(outcomes)


def curve(
    cohort: CohortOption,
    sizes: Annotated[str, typer.Option(help="Training patients, e.g. 50,200,all; from 25 doubling by default.")] = "",
    seeds: SeedsOption = 8, first_seed: FirstOption = 0, workers: WorkersOption = 1, on: OnOption = LOCAL,
    out: OutOption = None,
    settings_: SetOption = None, form: FormatOption = Format.table,
) -> None:
    """How much knowledge is worth with few training patients and with many; a job that is done is not done again."""
    from kb.settings import load_settings
    from recsys.cohorts.files import load_cohort
    from recsys.experiments.studies import ARMS, Study, curve_points

    points = _sizes(sizes)
    if not points:
        points = curve_points(round(load_cohort(cohort, load_settings()).patients * 2 / 3))
    _run(Study("curve", cohort, points, tuple(range(first_seed, first_seed + seeds)), ARMS, _settings(settings_)),
         workers, on, out, form)


def coldstart(
    cohort: CohortOption,
    shots: Annotated[str, typer.Option(help="Training visits that show each hidden medication.")] = "0,1,3,10,30",
    edgeless: Annotated[str, typer.Option(help="An embedding run whose graph has no treatment edges, for two more "
                                               "arms: no indication of a hidden drug reaches them.")] = "",
    seeds: SeedsOption = 8, first_seed: FirstOption = 0, workers: WorkersOption = 1, on: OnOption = LOCAL,
    out: OutOption = None,
    settings_: SetOption = None, form: FormatOption = Format.table,
) -> None:
    """How well medications that nobody was given yet are ranked: each split hides a fifth of them."""
    from recsys.experiments.studies import COLD_ARMS, Study, without_treat_edges

    points = tuple(part.strip() for part in shots.split(",") if part.strip())
    if bad := [point for point in points if not point.isdecimal()]:
        raise UsageError(f"{bad[0]!r} is no number of visits", hint="--shots 0,1,3,10,30")
    arms = COLD_ARMS
    if edgeless:
        from kb.db.engine import open_engine
        from kb.settings import load_settings
        from recsys.knowledge.gather import refuse_treat_edges

        engine = open_engine(load_settings())
        try:
            refuse_treat_edges(engine, edgeless)
        finally:
            engine.dispose()
        arms = (*COLD_ARMS, *without_treat_edges(edgeless))
    _run(Study("coldstart", cohort, points, tuple(range(first_seed, first_seed + seeds)), arms,
               _settings(settings_)), workers, on, out, form)


def transfer(
    cohort: CohortOption,
    other: Annotated[str, typer.Option(help="Test on this cohort, all of it.")] = "",
    leave: Annotated[str, typer.Option(help="Test on a sixth of the values of this attribute of visits.")] = "",
    seeds: SeedsOption = 8, first_seed: FirstOption = 0, workers: WorkersOption = 1, on: OnOption = LOCAL,
    out: OutOption = None,
    settings_: SetOption = None, form: FormatOption = Format.table,
) -> None:
    """What carries over to hospitals or an export that gave no training patient."""
    from recsys.experiments.studies import ARMS, Study

    if bool(other) == bool(leave):
        raise UsageError("a transfer needs --other COHORT or --leave ATTRIBUTE, one of them", hint="--leave hospital")
    arms = tuple(arm for arm in ARMS if arm.name != "oracle" or not other)
    _run(Study("transfer", cohort, (other or leave,), tuple(range(first_seed, first_seed + seeds)), arms,
               _settings(settings_), other=other), workers, on, out, form)


def ablate(
    cohort: CohortOption,
    sizes: Annotated[str, typer.Option(help="Training patients, e.g. 50,200,all.")] = "all",
    seeds: SeedsOption = 8, first_seed: FirstOption = 0, workers: WorkersOption = 1, on: OnOption = LOCAL,
    out: OutOption = None,
    settings_: SetOption = None, form: FormatOption = Format.table,
) -> None:
    """What each modality is worth: one to five of them, one left out, random and shuffled vectors, and an oracle."""
    from recsys.experiments.studies import ABLATE_ARMS, Study

    _run(Study("ablate", cohort, _sizes(sizes), tuple(range(first_seed, first_seed + seeds)), ABLATE_ARMS,
               _settings(settings_)), workers, on, out, form)


def dial(
    follow: Annotated[str, typer.Option(help="Shares λ of prescribing that follow the knowledge base.")] = "0,0.5,1",
    patients: Annotated[int, typer.Option(min=100, help="Synthetic patients of each λ.")] = 1000,
    sizes: Annotated[str, typer.Option(help="Training patients, e.g. 50,200,all.")] = "50,200,all",
    seeds: SeedsOption = 8, first_seed: FirstOption = 0, workers: WorkersOption = 1, on: OnOption = LOCAL,
    out: OutOption = None,
    settings_: SetOption = None, form: FormatOption = Format.table,
) -> None:
    """What knowledge gains on synthetic patients whose prescriptions follow it to a share λ; at 0 it must be none."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.experiments.dial import dial_study, dial_table, make_cohort
    from recsys.experiments.studies import run_study, save_study, verdicts
    from recsys.generators.prescribing import read_facts

    try:
        levels = [float(part) for part in follow.split(",")]
    except ValueError:
        raise UsageError(f"{follow!r} are no shares", hint="--follow 0,0.5,1") from None
    settings = load_settings()
    engine = open_engine(settings)
    try:
        with engine.connect() as connection:
            facts = read_facts(connection)
    finally:
        engine.dispose()
    rows, told = [], []
    with output.progress() as bar:
        task = bar.add_task("dial", total=None, note="")
        for level in levels:
            make_cohort(level, patients, facts, settings)
            study = dial_study(level, patients, _sizes(sizes), range(first_seed, first_seed + seeds),
                               _settings(settings_))
            found = run_study(study, settings, workers=workers, on=on,
                              told=lambda done, total: bar.update(task, completed=done, total=total))
            own, said = dial_table(level, study, found), verdicts(study, found)
            if out is not None:
                save_study(study, own, said, out / f"{level:g}", settings)
            rows += own
            told += [{"λ": level, **row} for row in said]
    if out is not None:
        output.say(f"in {out}")
    output.emit(rows, form, title="dial: means, and the differences from the arm without knowledge")
    if form is Format.table:
        output.emit(told, form, title="what can be said")


def _sizes(text: str) -> tuple[str, ...]:
    points = tuple(part.strip() for part in text.split(",") if part.strip())
    if bad := [point for point in points if point != "all" and not point.isdecimal()]:
        raise UsageError(f"{bad[0]!r} is no number of patients", hint="--sizes 50,200,all")
    return points


def outcomes(
    run: Annotated[str, typer.Option(help="Run id or its beginning; the latest by default.")] = "",
    draws: Annotated[int, typer.Option(min=50, help="Bootstrap draws over patients.")] = 200,
    form: FormatOption = Format.table,
) -> None:
    """Outcomes of test visits whose prescriptions agree more or less with the run; this proves no effect of it."""
    from kb.settings import load_settings
    from recsys.experiments.outcomes import both_sides, recommended_visits

    visits = recommended_visits(load_settings(), run)
    output.say(f"weighted by {len(visits.names)} covariates; what this cannot prove: docs/outcomes.md")
    output.emit(both_sides(visits, draws=draws), form, title="visits that agree more and less with the recommendation")


def _settings(assignments: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in assignments or []]
    if bad := [name for name, mark, _ in pairs if not mark]:
        raise UsageError(f"{bad[0]!r} is not of the form name=value")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _run(study: Study, workers: int, on: str, out: Path | None, form: Format) -> None:
    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from recsys.experiments.studies import run_study, save_study, study_table, verdicts

    settings = load_settings()
    open_engine(settings).dispose()  # the server is up before the workers ask for it
    with output.progress() as bar:
        task = bar.add_task(study.kind, total=None, note="")
        found = run_study(study, settings, workers=workers, on=on,
                          told=lambda done, total: bar.update(task, completed=done, total=total))
    rows, said = study_table(study, found), verdicts(study, found)
    if out is not None:
        save_study(study, rows, said, out, settings)
        output.say(f"in {out}")
    output.emit(rows, form, title=f"{study.kind}: means, and the differences from the arm without knowledge")
    if said and form is Format.table:
        output.emit(said, form, title="what can be said")
