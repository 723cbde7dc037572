"""``mkmed kb``: ingest, look, check, export. A command parses, calls one library function and renders."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb import completion, output
from kb.compute.places import ON_HELP
from kb.errors import Ambiguous, MkmedError, UsageError
from kb.inputs import SMALL, read_text
from kb.options import FormatOption
from kb.output import Format

if TYPE_CHECKING:
    from kb.sources.contract import Plan, Source

app = typer.Typer(
    no_args_is_help=True, help="The knowledge base: drugs, modalities, graph, interactions, and the ledger."
)

ALWAYS_COUNTED = ("drugs", "rows", "requests")
"""What the summary of an ingest tells even where it is 0: a finished one that runs again says so by that."""


@app.command(epilog="Example: mkmed kb ingest --source corpus   ·   mkmed kb ingest --source pubchem --ids cids.txt")
def ingest(
    source: Annotated[
        str | None, typer.Option("--source", "-s", autocompletion=completion.complete_sources,
                                     help="Name of the source; mkmed kb sources --known lists them.")
    ] = None,
    plugin: Annotated[
        str | None, typer.Option(help="A source of your own: FILE.py:CLASS, in place of --source.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="File with one id or name a line, or - for standard input.")] = None,
    path: Annotated[Path | None, typer.Option(help="File or folder, for sources that read one.")] = None,
    url: Annotated[str | None, typer.Option(help="Download the file from here first.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many drugs.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes or requests at once.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Only these modalities; may be repeated.")] = None,
    heading: Annotated[
        list[str] | None, typer.Option(help="For pubchem: texts also of mechanism, indication, pharmacology, atc"
                                            " or targets; may be repeated, a request a drug each (targets two).")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="For tabular: role=column, e.g. smiles=SMILES.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="For the user's own tables: the dataset's name; by default the file's.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="For the user's own tables: the licence (SPDX id); without one it is not open.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write a new version of a dataset, or take much back, unasked.")
    ] = False,
    also: Annotated[list[str] | None, typer.Option(help="Further files by role, e.g. names=entities.tsv.")] = None,
    on: Annotated[str, typer.Option(help=f"For rdkit: {ON_HELP[0].lower()}{ON_HELP[1:]}")] = "local",
    retry_failed: Annotated[bool, typer.Option(help="Try failed cells again.")] = False,
    refresh: Annotated[float | None, typer.Option(help="Fetch again what is older than this many days.")] = None,
    allow_subset: Annotated[bool, typer.Option(help="Accept a file that is a part of the published one.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print keys, requests, minutes and bytes, and stop.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """Collect from a source into the knowledge base; may be stopped and run again at any time."""
    from kb.db.engine import open_engine
    from kb.ingest.engine import ingest as run_ingest
    from kb.ingest.engine import plan
    from kb.settings import load_settings
    from kb.sources.contract import IngestOptions

    if refresh is not None and not 0 <= refresh < math.inf:
        raise UsageError(f"--refresh {refresh} is not a number of days", hint="e.g. --refresh 30")
    options = IngestOptions(
        ids=_read_ids(ids),
        limit=limit,
        workers=workers,
        retry_failed=retry_failed,
        refresh_days=refresh,
        path=path,
        url=url,
        allow_subset=allow_subset,
        columns=_pairs(column, "--column"),
        also={role: Path(name) for role, name in _pairs(also, "--also").items()},
        modalities=tuple(modality) if modality else None,
        headings=tuple(heading) if heading else None,
        dataset=dataset,
        licence=licence,
        yes=yes,
        on=on,
    )
    settings = load_settings()
    chosen = _source(source, plugin)
    chosen.refuse_other_options(options)  # before anything is started
    engine = open_engine(settings)
    if dry_run:
        output.emit([_plan_row(plan(engine, settings, chosen, options))], form)
        return
    summary = run_ingest(engine, settings, chosen, options)
    counts = {**dict.fromkeys(ALWAYS_COUNTED, 0), **summary.counts}
    row = {"source": summary.source, "seconds": round(summary.seconds, 1), **counts, "run": summary.run_id}
    output.emit([row], form)


@app.command(epilog="Example: mkmed kb build --recipe recipe.toml --card card")
def build(
    recipe: Annotated[Path, typer.Option(help="TOML file that names the sources, their files and options in order.")],
    card: Annotated[
        Path | None, typer.Option(help="Folder for the data card, card.md and card.json; else it is printed.")
    ] = None,
    form: FormatOption = Format.table,
) -> None:
    """Build the knowledge base that a recipe describes; the same files give the same release."""
    from kb.db.engine import open_engine
    from kb.files import replace_file
    from kb.ingest.engine import ingest as run_ingest
    from kb.recipe import as_markdown, read_recipe, recipe_json
    from kb.recipe import follow_recipe as run_build
    from kb.settings import load_settings

    settings, plan_ = load_settings(), read_recipe(recipe)
    found = run_build(open_engine(settings), settings, plan_, run_ingest)
    if card is not None:
        card.mkdir(parents=True, exist_ok=True)
        replace_file(card / "card.md", as_markdown(found), mode=None)
        replace_file(card / "card.json", recipe_json(found), mode=None)
        output.emit([{"release": found["release"], "drugs": found["drugs"], "card": str(card / "card.md")}], form)
    else:
        output.write(recipe_json(found) if form is Format.json else as_markdown(found))


@app.command(epilog="Example: mkmed kb check --source pubchem --live")
def check(
    source: Annotated[str, typer.Option("--source", "-s", help="The source to check; pubchem.")] = "pubchem",
    live: Annotated[bool, typer.Option("--live", help="Ask the service itself, twelve requests.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """Compare what a service answers with what the parser believes; exit 1 where they differ. Nothing is written."""
    from kb.settings import load_settings
    from kb.sources.pubchem.live import check_live

    if source != "pubchem":
        raise UsageError(f"there is no check of {source!r}", hint="--source pubchem")
    if not live:
        raise UsageError("the check asks the service itself", hint="mkmed kb check --source pubchem --live")
    rows = check_live(load_settings())
    output.emit(rows, form)
    wrong = [row["asked"] for row in rows if not row["holds"]]
    if wrong:
        raise MkmedError(f"{len(wrong)} of {len(rows)} answers are not as believed: {', '.join(wrong)}",
                         hint="the parser may need to follow a change of the service: report the table above")


def _source(name: str | None, plugin: str | None) -> Source:
    """The source that was asked for, by name or as a file's class."""
    from kb.registry import load_file
    from kb.sources import SOURCES, adopt

    if plugin is not None:
        adopted = adopt(load_file(plugin))
        if name not in (None, adopted.name):
            raise UsageError(f"--plugin gives the source {adopted.name!r}, not {name!r}", hint="leave --source out")
        return adopted()
    if name is None:
        raise UsageError("no source was named", hint=f"--source with one of: {', '.join(SOURCES)}")
    return SOURCES[name]()


def _plan_row(estimate: Plan) -> dict[str, Any]:
    return {
        "keys": estimate.keys,
        "requests": estimate.requests,
        "minutes": round(estimate.seconds / 60, 1),
        "bytes": estimate.bytes,
        "notes": "; ".join(estimate.notes),
    }


def _read_ids(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    text = sys.stdin.read(SMALL) if given == "-" else read_text(Path(given), "--ids")
    # A comment begins the line or follows a blank: "#" within a word is a triple bond in SMILES.
    lines = (re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for item in given or []:
        left, equals, right = item.partition("=")
        if not (equals and left and right):
            raise UsageError(f"{option} {item!r} is not of the form name=value", hint=f"e.g. {option} smiles=SMILES")
        pairs[left] = right
    return pairs


@app.command(epilog="Example: mkmed kb coverage --plot bucket.svg")
def coverage(
    plot: Annotated[Path | None, typer.Option(help="Draw the buckets as an UpSet picture: svg, png or pdf.")] = None,
    by_source: Annotated[bool, typer.Option(help="Show the ledger's states by source and modality instead.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """Print the bucket matrix: which combinations of modalities the drugs have, and how many of each."""
    from kb.db.engine import open_engine
    from kb.ledger.coverage import bucket_rows, buckets, draw_coverage
    from kb.ledger.entries import count_states
    from kb.pictures import save_figure

    with open_engine().connect() as connection:
        if by_source:
            output.emit(count_states(connection), form)
            return
        found = buckets(connection)
    output.emit(bucket_rows(found), form)
    if plot:
        save_figure(draw_coverage(found), plot)
        output.say(f"drew {plot}")


@app.command(epilog="Example: mkmed kb verify")
def verify(form: FormatOption = Format.table) -> None:
    """Run the invariants I1-I8; exit 1 and print the rows that break one."""
    from kb.db.engine import open_engine
    from kb.identity.undo import list_conflicts
    from kb.ledger.verify import verify as run_verify

    with open_engine().connect() as connection:
        checks = run_verify(connection)
        conflicts = list_conflicts(connection)
    if conflicts:
        output.say(f"{len(conflicts)} claims are in conflict, or were: mkmed kb merges --conflicts lists them")
    output.emit(
        [
            {"invariant": c.number, "holds": not c.broken, "claim": c.claim, "rows": list(c.broken) or None}
            for c in checks
        ],
        form,
    )
    broken = [c.number for c in checks if c.broken]
    if broken:
        raise MkmedError(
            f"invariants broken: {', '.join(broken)}", hint="mkmed kb ingest again may repair what was interrupted"
        )


@app.command(epilog="Example: mkmed kb show metformin   ·   mkmed kb show pubchem.compound:4091 --format json")
def show(
    drug: Annotated[str, typer.Argument(help="Name, synonym, InChIKey or namespace:value.",
                                        autocompletion=completion.complete_drugs)],
    form: FormatOption = Format.table,
) -> None:
    """Print everything known of a drug, each fact with its source."""
    from kb.db.engine import open_engine
    from kb.query.drug import describe, find_drugs

    with open_engine().connect() as connection:
        try:
            head, sections = describe(connection, drug)
        except Ambiguous as several:
            output.emit(several.candidates, form)
            raise
        for other in find_drugs(connection, drug):
            if other.drug_id != head["drug_id"]:
                output.say(f"{other.name} (drug {other.drug_id}) is meant by it too: {other.how} {other.matched}")
    if form is Format.table:
        output.emit([head])
        for name, rows in sections.items():
            if rows:
                output.emit(rows, title=name)
    elif form is Format.csv:
        output.emit([{"section": name, **row} for name, rows in sections.items() for row in rows], form)
    else:
        output.emit([{**head, **sections}], form)


@app.command(epilog="Example: mkmed kb search statin")
def search(
    text: Annotated[str, typer.Argument(help="Part of a name.")],
    limit: Annotated[int, typer.Option(min=1, help="At most this many drugs.")] = 20,
    form: FormatOption = Format.table,
) -> None:
    """Find drugs by a part of a name."""
    from kb.db.engine import open_engine
    from kb.query.drug import search as run_search

    with open_engine().connect() as connection:
        output.emit(
            run_search(connection, text, limit), form, columns=("drug_id", "name", "matched", "kind", "modalities")
        )


@app.command(
    epilog='Example: mkmed kb find "lowers blood glucose"   ·   mkmed kb find --similar "CN(C)C(=N)N=C(N)N"   ·   '
    'mkmed kb find --substructure "c1ccccc1C(=O)N" -k 5'
)
def find(
    text: Annotated[str | None, typer.Argument(help='Words of names and texts; "quoted", or, -without.')] = None,
    similar: Annotated[str | None, typer.Option(help="A SMILES: the drugs with the most similar structure.")] = None,
    substructure: Annotated[str | None, typer.Option(help="A SMARTS: the drugs whose structure has this part.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10000, help="At most this many.")] = 20,
    at_least: Annotated[float, typer.Option(min=0, max=1, help="With --similar: at least this Tanimoto.")] = 0.0,
    form: FormatOption = Format.table,
) -> None:
    """Find drugs by words in names and texts, by a similar structure, or by a part of a structure."""
    from kb.db.engine import open_engine
    from kb.query import find as finding

    if sum(given is not None for given in (text, similar, substructure)) != 1:
        raise UsageError("give a text, --similar or --substructure", hint='mkmed kb find "lowers blood glucose"')
    engine = open_engine()
    if similar is not None:
        output.emit(finding.similar(engine, similar, k, at_least=at_least), form, columns=finding.SIMILAR_COLUMNS)
    elif substructure is not None:
        output.emit(finding.substructure(engine, substructure, k), form, columns=finding.PART_COLUMNS)
    else:
        with engine.connect() as connection:
            output.emit(finding.search_text(connection, text or "", k), form, columns=finding.TEXT_COLUMNS)


@app.command(
    epilog="Example: mkmed kb export --as sqlite --out mkmed.sqlite   ·   mkmed kb export --as parquet --out dump"
)
def export(
    out: Annotated[Path, typer.Option(help="File (sqlite, sdf) or folder (csv, jsonl, parquet) to make.")],
    as_: Annotated[str, typer.Option("--as", help="sqlite, csv, jsonl, parquet or sdf (conformers).")] = "sqlite",
    table: Annotated[list[str] | None, typer.Option(help="Only these tables; may be repeated.")] = None,
    open_only: Annotated[bool, typer.Option(help="Leave out what is not known to be under an open licence.")] = False,
    pictures: Annotated[bool, typer.Option(help="Add the bytes of pictures.")] = False,
    raw: Annotated[
        bool, typer.Option(help="CSV: leave cells as they are, even those a spreadsheet would run.")
    ] = False,
    form: FormatOption = Format.table,
) -> None:
    """Write the knowledge base elsewhere, from one snapshot, every fact with its licence and where it came from."""
    from kb.db.engine import open_engine
    from kb.query.export import ExportFormat
    from kb.query.export import export as run_export

    if as_ not in set(ExportFormat):
        raise UsageError(f"unknown format {as_!r}", hint=f"known: {', '.join(ExportFormat)}")
    counts = run_export(
        open_engine(), out, ExportFormat(as_), tables=table, open_only=open_only, pictures=pictures, raw=raw
    )
    output.emit([{"table": name, "rows": rows} for name, rows in counts.items()], form)


@app.command(epilog="Example: mkmed kb sources")
def sources(
    known: Annotated[bool, typer.Option(help="List every source that mkmed can read, used or not.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """List the sources, with licence and what they gave."""
    if known:
        from kb.sources import SOURCES
        from kb.sources.contract import flag

        output.emit(
            [
                {
                    "name": name,
                    "origin": found.origin,
                    "title": found.title,
                    "url": found.url,
                    "licence": found.licences[0].id,
                    "modalities": ", ".join(map(str, found.modalities)),
                    "options": ", ".join(sorted(map(flag, found.options))),
                }
                for name, found in SOURCES.items()
            ],
            form,
        )
        return
    from kb.db.engine import open_engine
    from kb.query.read import sources as read_sources

    with open_engine().connect() as connection:
        output.emit(read_sources(connection), form)


@app.command(epilog="Example: mkmed kb jobs --limit 5")
def jobs(
    limit: Annotated[int, typer.Option(min=1, help="At most this many runs.")] = 20,
    form: FormatOption = Format.table,
) -> None:
    """List the ingest runs, newest first: status, counts, error."""
    from kb.db.engine import open_engine
    from kb.ledger.entries import list_runs

    with open_engine().connect() as connection:
        rows = list_runs(connection, "ingest", limit)
    output.emit(rows, form, columns=("id", "name", "status", "started_at", "finished_at", "counts", "error"))


@app.command(epilog="Example: mkmed kb merges   ·   mkmed kb merges --undo 7")
def merges(
    undo: Annotated[
        int | None, typer.Option(help="Take back the merge with this number; the record stays apart.")
    ] = None,
    conflicts: Annotated[bool, typer.Option("--conflicts", help="List the conflicts alone.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest first.")] = 100,
    form: FormatOption = Format.table,
) -> None:
    """List how records moved between drugs, or take one move back; and the identifiers that several drugs claim."""
    from kb.db.engine import open_engine
    from kb.identity.undo import COLUMNS, CONFLICT_COLUMNS, list_conflicts, list_merges, undo_merge
    from kb.ledger.entries import finish_run, start_run

    with open_engine().begin() as connection:
        if undo is not None:
            run_id = start_run(connection, "ingest", name="undo merge", config={"merge": undo})
            output.say(f"the record is {undo_merge(connection, undo, run_id)} again")
            finish_run(connection, run_id, "complete")
        found, open_ = list_merges(connection, limit), list_conflicts(connection, limit)
    if conflicts:
        output.emit(open_, form, columns=CONFLICT_COLUMNS)
        return
    output.emit(found, form, columns=COLUMNS)
    if open_ and form is Format.table:
        output.emit(open_, title="conflicts", columns=CONFLICT_COLUMNS)
    elif open_:
        output.say(f"{len(open_)} conflicts: mkmed kb merges --conflicts lists them")


@app.command(epilog="Example: mkmed kb remove --dataset my-drugs --yes   ·   mkmed kb remove --source drkg --yes")
def remove(
    source: Annotated[str | None, typer.Option("--source", "-s", help="Name of a source that has written.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of one of the user's own tables.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """Take a whole source or dataset out at one stroke; mkmed.history keeps what it said."""
    from kb.db.engine import open_engine
    from kb.ingest.retract import remove_named

    if (source is None) == (dataset is None):
        raise UsageError("remove takes either --source or --dataset", hint="mkmed kb sources lists them")
    if not yes and not output.confirm(f"Take out {source or dataset} with everything that it said?"):
        raise UsageError("nothing was removed", hint="--yes removes it without asking")
    output.emit(remove_named(open_engine(), source=source, dataset=dataset), form)


@app.command(epilog="Example: mkmed kb snapshot before-drkg   ·   mkmed kb snapshot")
def snapshot(
    name: Annotated[str | None, typer.Argument(help="Its name; without one they are listed.")] = None,
    remove: Annotated[
        str | None, typer.Option(help="Forget the snapshot of this name, unless an embedding or a cohort cites it.")
    ] = None,
    form: FormatOption = Format.table,
) -> None:
    """Freeze what is known now under a name and a release id, or list what was frozen."""
    from dataclasses import asdict

    from kb.db.engine import open_engine
    from kb.query.snapshot import list_snapshots, remove_snapshot, take_snapshot
    from kb.settings import load_settings

    if name is not None and remove is not None:
        raise UsageError("snapshot takes either a name or --remove", hint="mkmed kb snapshot lists them")
    settings = load_settings()
    with open_engine(settings).begin() as connection:
        if remove is not None:
            output.say(f"snapshot {remove_snapshot(connection, remove, settings.home).name} is forgotten")
        rows = [asdict(take_snapshot(connection, name))] if name else list_snapshots(connection)
    output.emit(rows, form, columns=("name", "release", "at", "counts"))


@app.command(epilog="Example: mkmed kb diff before-drkg after-drkg")
def diff(
    first: Annotated[str, typer.Argument(help="Name of a snapshot.")],
    second: Annotated[str, typer.Argument(help="Name of another one.")],
    form: FormatOption = Format.table,
) -> None:
    """Tell what came and what went between two snapshots, by kind and source."""
    from kb.db.engine import open_engine
    from kb.query.snapshot import diff as run_diff

    with open_engine().connect() as connection:
        rows = run_diff(connection, first, second)
    output.emit(rows, form, columns=("change", "kind", "source", "facts", "examples"))
