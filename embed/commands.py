"""``mkmed embed``: pretrain, look, evaluate, explain. A command parses, calls one library function and renders."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kb import completion, output
from kb.compute.places import ON_HELP
from kb.errors import UsageError
from kb.options import FormatOption
from kb.output import Format

app = typer.Typer(no_args_is_help=True, help="The embedding store: pretrain, publish, search, evaluate, explain.")

RunOption = Annotated[str, typer.Option("--run", help="published, last, or the start of a run's id.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="A TOML file; --print-config shows all keys.")]
ColumnsOption = Annotated[
    str, typer.Option(help="Of plain, class words masked, without treatment edges; with commas between.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Train again what was measured before.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. train.epochs=20; may be repeated.")]


@app.command(
    epilog="Example: mkmed embed pretrain --set train.epochs=30   ·   torchrun --nproc-per-node 4 -m cli embed pretrain"
)
def pretrain(
    config: ConfigOption = None,
    set_: SetOption = None,
    arm: Annotated[
        str | None, typer.Option(help="all, or intersection: train only on drugs that have everything.")
    ] = None,
    modalities: Annotated[str | None, typer.Option(help="Comma-separated, e.g. text,graph.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    paper: Annotated[bool, typer.Option(help="Start from the published variant instead of our defaults.")] = False,
    resume: Annotated[str | None, typer.Option(help="last, or the start of a run's id: go on with it.")] = None,
    publish: Annotated[bool, typer.Option(help="Make the finished run the one that SQL reads.")] = True,
    name: Annotated[str, typer.Option(help="A name for the run.")] = "",
    on: Annotated[str, typer.Option(help=f"For the inputs of the towers. {ON_HELP}")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for them; one for each core.")] = None,
    ranks: Annotated[
        int, typer.Option(min=1, help="With --on ray: so many of its processes train, on cards where there are enough.")
    ] = 1,
    track: Annotated[list[str] | None, typer.Option(help="Tell a tracker: csv, tensorboard, mlflow or wandb; may be "
                                                         "repeated.")] = None,
    print_config: Annotated[bool, typer.Option(help="Print the configuration as TOML, and stop.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Estimate memory and time, and stop.")] = False,
    form: FormatOption = Format.table,
) -> None:
    """Align the modalities to the molecule and write a vector for every drug."""
    from embed.config import load_config, to_toml
    from embed.config import paper as paper_config

    given = {"arm": arm, "modalities": modalities, "device": device, "seed": seed}
    sets = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    loaded = load_config(config, sets, paper_config() if paper else None)
    if print_config:
        output.write(to_toml(loaded))
        return
    from embed.training import job
    from kb.compute.places import ComputePlace
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    if dry_run:
        from embed.training.estimate import estimate

        output.emit([asdict(estimate(engine, settings, loaded))], form)
        return
    from embed.config import to_json
    from embed.runs.tracking import tracked
    from embed.training.on_cluster import pretrain_on_cluster

    # under torchrun one process tells
    kinds = track if os.environ.get("RANK", "0") == "0" else None
    with tracked(kinds, settings, "pretrain", to_json(loaded)) as told, output.progress() as bar:
        task = bar.add_task("pretrain", total=loaded.train.epochs, note="")

        def show(row: dict[str, Any]) -> None:
            bar.update(task, advance=1, note=_note(row))
            told(row)

        place = ComputePlace(on, workers)
        how: dict[str, Any] = {"resume": resume, "publish": publish, "name": name, "on_epoch": show}
        done = (pretrain_on_cluster(engine, settings, loaded, place, ranks, **how) if ranks > 1
                else job.pretrain(engine, settings, loaded, place=place, **how))
        told.run = str(done.run_id)
    if os.environ.get("RANK", "0") != "0":  # under torchrun, one process speaks
        return
    row = {"run": done.run_id, "epochs": done.epochs, "score": done.metrics["score"], "published": publish}
    output.emit([{**row, "folder": done.folder}], form)


def _note(row: dict[str, Any]) -> str:
    temperatures = [value for key, value in row.items() if key.startswith("temperature.")]
    warmth = f" τ {min(temperatures):.3f}–{max(temperatures):.3f}" if temperatures else ""
    return f"loss {row['loss']:.3f}{warmth} recall@1 {row['recall@1']:.3f}"


@app.command(
    epilog="Example: mkmed embed neighbours metformin -k 10   ·   "
    'mkmed embed neighbours "insulin human" --has text --atc A10'
)
def neighbours(
    drug: Annotated[str, typer.Argument(help="Name, synonym, InChIKey or namespace:value.",
                                        autocompletion=completion.complete_drugs)],
    k: Annotated[int, typer.Option("-k", min=1, max=10000, help="How many.")] = 10,
    modality: Annotated[str, typer.Option(help="fused, molecule, or one of the five.",
                                          autocompletion=completion.vector_kinds)] = "fused",
    to: Annotated[str | None, typer.Option(help="Search among the vectors of this modality (cross-modal).",
                                           autocompletion=completion.vector_kinds)] = None,
    atc: Annotated[str | None, typer.Option(help="Only drugs of this ATC class, at any level.")] = None,
    has: Annotated[list[str] | None, typer.Option(help="Only drugs that have this modality; may be repeated.",
                                                  autocompletion=completion.modalities)] = None,
    by: Annotated[
        str | None, typer.Option(help="Compare by mechanism, structure, use, or late (all kinds of vectors).")
    ] = None,
    form: FormatOption = Format.table,
) -> None:
    """List the drugs most like a drug, with the modalities that each answer rests on.

    With --by, by one facet: what a drug does to its targets, its structure alone, or what it is given for; the answer
    says which facet speaks, and because of what.
    """
    from embed.search import neighbours as search
    from kb.db.engine import open_engine

    if by is not None and (to is not None or modality != "fused"):
        raise UsageError("--by has vectors of its own", hint="leave --modality and --to out")
    output.emit(search(open_engine(), drug, k, modality=modality, to=to, atc=atc, has=has, by=by), form)


@app.command(
    epilog='Example: mkmed embed query --text "lowers blood glucose"   ·   mkmed embed query --smiles "CN(C)C(=N)N"'
)
def query(
    text: Annotated[str | None, typer.Option(help="A description.")] = None,
    smiles: Annotated[str | None, typer.Option(help="A molecule.")] = None,
    to: Annotated[
        str | None, typer.Option(help="text or graph: the drugs whose texts or graph fit what a structure foretells.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10000, help="How many.")] = 10,
    form: FormatOption = Format.table,
) -> None:
    """List the drugs that a text or a molecule from outside names, is a form of, or is most like.

    sure is the cosine to expect between what the structure foretells and the truth. unusual is the share of the run's
    training drugs, in per cent, that lie nearer to the others than the question does; from 95 on it is far from all
    that the run was trained on, and its neighbours mean little.
    """
    if (text is None) == (smiles is None):
        raise UsageError("give either --text or --smiles", hint='mkmed embed query --text "lowers blood glucose"')
    if to is not None and smiles is None:
        raise UsageError("--to goes with --smiles")
    from embed.runs.found import open_embedder, open_text_embedder
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    if text is not None:
        from embed.search.texts import TextSearch

        output.emit(TextSearch(engine, open_text_embedder(engine, settings)).ask(text, k), form)
    else:
        from embed.search.molecules import MoleculeSearch

        search = MoleculeSearch(engine, open_embedder(engine, settings))
        output.emit(search.ask(str(smiles), k) if to is None else search.across(str(smiles), to, k), form)


@app.command(
    epilog="Example: mkmed embed encode --in mine.csv --smiles SMILES --out enc.parquet   ·   "
    "mkmed embed encode --in compounds --out screen --licence CC0-1.0"
)
def encode(
    source: Annotated[Path, typer.Option("--in", help="CSV, TSV, SDF or Parquet; or a folder of such files or .smi.")],
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write; for a folder, the data set.")],
    smiles: Annotated[str | None, typer.Option(help="The column of SMILES.")] = None,
    text: Annotated[str | None, typer.Option(help="The column of texts.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The column of ids; row numbers by default.")] = None,
    nearest: Annotated[int, typer.Option("-k", min=0, max=1000, help="How many nearest drugs a row.")] = 5,
    on_error: Annotated[str, typer.Option(help="keep a bad row with its reason, skip it, or stop.")] = "keep",
    skip: Annotated[
        list[str] | None, typer.Option(help="Leave out: image, structure (the slowest) or property.")
    ] = None,
    vectors: Annotated[str, typer.Option(help="For a folder: molecule (aligned) or predicted.")] = "molecule",
    precision: Annotated[str, typer.Option(help="For a folder: float16 or int8.")] = "float16",
    licence: Annotated[str | None, typer.Option(help="For a folder: the licence of the compounds (SPDX id).")] = None,
    part_rows: Annotated[int, typer.Option(min=100, max=10_000_000, help="For a folder: compounds a part.")] = 20_000,
    properties: Annotated[bool, typer.Option(help="For a folder: compute properties too (half of the time).")] = True,
    on: Annotated[str, typer.Option(help=f"For a folder. {ON_HELP}")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="For a folder: processes; one for each core.")] = None,
    run: RunOption = "published",
    form: FormatOption = Format.table,
) -> None:
    """Write the vectors of molecules or texts from a file, with the drugs that they are or are like.

    A folder becomes a data set for mkmed embed screen: vectors and properties in Parquet parts, gone on with by part.
    """
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    if source.is_dir():
        from embed.runs.found import load_run
        from embed.screening.encoding import encode_folder, raise_if_rejected
        from embed.screening.rows import CompoundColumns

        if text is not None:
            raise UsageError("--text is for a file: a data set holds molecules", hint="--smiles COLUMN")
        whole = encode_folder(load_run(engine, settings, run), source, out, CompoundColumns(id_, smiles), kind=vectors,
                              precision=precision, licence=licence, on=on, workers=workers, rows_a_part=part_rows,
                              properties=properties)
        output.emit([{"folder": out, "compounds": whole.rows, "rejected": whole.rejected, "parts": len(whole.parts),
                      "vectors": whole.kind, "precision": whole.precision, "digest": whole.digest[:16]}], form)
        raise_if_rejected(whole)
        return
    from embed.runs.found import open_embedder
    from embed.search.batch import Columns, encode_file, raise_if_incomplete

    columns = Columns(id_, smiles, text)
    done = encode_file(engine, open_embedder(engine, settings, run), source, out, columns, nearest=nearest,
                       on_error=on_error, skip=skip or ())
    output.emit([{**asdict(done), "file": out}], form)
    raise_if_incomplete(done)


@app.command(epilog="Example: mkmed embed screen --like metformin --in screen -k 1000 --out hits.csv")
def screen(
    source: Annotated[Path, typer.Option("--in", help="The data set that mkmed embed encode made of a folder.")],
    like: Annotated[str | None, typer.Option(help="A drug of the knowledge base.")] = None,
    text: Annotated[str | None, typer.Option(help="A description in words.")] = None,
    smiles: Annotated[str | None, typer.Option(help="A molecule.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1_000_000, help="How many compounds.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", help="Write the hits to this CSV file.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Bring the hits into the knowledge base.")] = False,
    on: Annotated[str, typer.Option(help=ON_HELP)] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads or processes; one for each core.")] = None,
    form: FormatOption = Format.table,
) -> None:
    """Find the nearest compounds of a data set, exactly: every vector is compared, nothing is loaded whole."""
    given = [name for name, value in (("--like", like), ("--text", text), ("--smiles", smiles)) if value is not None]
    if len(given) != 1:
        raise UsageError(f"{' and '.join(given) or 'nothing'} is given to compare with",
                         hint="one of --like DRUG, --text WORDS and --smiles SMILES")
    from embed.screening import question
    from embed.screening.dataset import read_set
    from embed.screening.search import screen as search
    from embed.screening.search import write_hits
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings, one = load_settings(), read_set(source)
    if like is not None:
        asked = question.ask_drug(open_engine(settings), like, one, settings)
    elif text is not None:
        asked = question.ask_text(text, one, settings)
    else:
        asked = question.ask_smiles(smiles or "", one, settings)
    hits = search(source, asked, k, on=on, workers=workers)
    if out is not None:
        write_hits(out, one, hits)
    if promote:
        from embed.screening.promote import promote as bring

        output.emit([bring(open_engine(settings), settings, one, hits)], form)
        output.say("mkmed kb ingest --source rdkit computes what they lack, mkmed embed update gives them vectors")
    elif out is not None:
        output.emit([{"file": out, "hits": len(hits)}], form)
    else:
        output.emit([{"rank": hit.rank, "id": hit.id, "inchikey": hit.inchikey, "similarity": round(hit.similarity, 4),
                      "smiles": hit.smiles} for hit in hits], form)


@app.command(epilog="Example: mkmed embed update")
def update(run: RunOption = "published", form: FormatOption = Format.table) -> None:
    """Give every drug that is new or changed its vectors in a trained run; nothing is trained again."""
    from embed.runs.found import open_embedder
    from embed.runs.update import update as run_update
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    output.emit([asdict(run_update(engine, open_embedder(engine, settings, run)))], form)


@app.command(epilog="Example: mkmed embed export published --out run.tar.gz")
def export(
    run: Annotated[str, typer.Argument(help="published, last, or the start of a run's id.")] = "published",
    out: Annotated[Path | None, typer.Option("--out", help="The file; mkmed-<run>.tar.gz by default.")] = None,
) -> None:
    """Write a finished run as one file that needs no database to be used."""
    from embed.runs import artefact
    from embed.runs import folder as run_folder
    from kb.settings import load_settings

    settings = load_settings()
    if run == "published":
        from embed.runs.found import load_run
        from kb.db.engine import open_engine

        found = load_run(open_engine(settings), settings)
    else:
        found = artefact.load(run_folder.find_folder(settings, run))
    path = out or Path(f"mkmed-{found.folder.name[:8]}.tar.gz")
    artefact.export_run(found, path)
    output.write(str(path))


@app.command("import", epilog="Example: mkmed embed export --out run.tar.gz && mkmed embed import run.tar.gz")
def import_(file: Annotated[Path, typer.Argument(help="What mkmed embed export wrote.")]) -> None:
    """Bring an exported run here; an update of it gives this knowledge base's drugs its vectors."""
    from embed.runs import artefact
    from embed.runs.folder import pretrain_folder
    from kb.settings import load_settings

    found, new = artefact.import_(file, pretrain_folder(load_settings()))
    output.say("imported" if new else "it was here already")
    output.write(str(found.folder))


@app.command(epilog="Example: mkmed embed runs")
def runs(
    columns: Annotated[str, typer.Option(help="Names with commas between.")] = "",
    sort: Annotated[str, typer.Option(help="By this column; -name has the largest first.")] = "",
    where: Annotated[list[str] | None, typer.Option(help="Only runs with name=value, also != < <= > >=.")] = None,
    form: FormatOption = Format.table,
) -> None:
    """List the embedding runs, newest first; one of them is published."""
    from embed.runs.store import list_embedding_runs
    from kb.db.engine import open_engine
    from kb.listing import arrange, shortened

    with open_engine().connect() as connection:
        rows = list_embedding_runs(connection)
    for row in rows:
        row["score"] = (row["metrics"] or {}).get("score")
        cited = (row["metrics"] or {}).get("knowledge") or {}
        row["knowledge"] = cited.get("snapshot") or cited.get("release")
    usual = ("run_id", "name", "published", "width", "precision", "drugs", "score", "knowledge",
             "created_at")
    rows, shown = arrange(rows, usual, columns=columns, sort=sort, where=where or ())
    output.emit(shortened(rows, "run_id") if form is Format.table else rows, form, columns=shown)


@app.command(epilog="Example: mkmed embed publish 4f1c")
def publish(run: Annotated[str, typer.Argument(help="The start of the run's id.")]) -> None:
    """Make a run the one that views, functions and the recommender read."""
    from embed.runs import store
    from embed.runs.found import digest_at_hand
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    with engine.connect() as connection:
        run_id = store.find_run(connection, run)
    store.publish(engine, run_id, artefact=digest_at_hand(settings, run_id))
    output.say(f"published {run_id}")


@app.command(epilog="Example: mkmed embed sweep --over train.learning_rate=1e-4..1e-2:log --over width=64,128")
def sweep(
    over: Annotated[list[str], typer.Option(help="name=low..high, name=low..high:log or name=a,b,c; may be repeated.")],
    set_: SetOption = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; those of an earlier call count.")] = 10,
    name: Annotated[str, typer.Option(help="A sweep of this name is gone on with.")] = "sweep",
    form: FormatOption = Format.table,
) -> None:
    """Search a pretraining's settings with Optuna by retrieval on validation drugs; nothing is published."""
    from embed.config import load_config, to_json
    from embed.runs import store
    from embed.runs.sweeping import read_space
    from embed.runs.sweeping import sweep as run_sweep
    from embed.training import job
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    space, fixed = read_space(over), load_config(None, set_ or [])
    for key in space:
        load_config(None, [*(set_ or []), f"{key}={space[key][1]}"])  # refuses an unknown setting before anything runs
    settings = load_settings()
    engine = open_engine(settings)

    def objective(chosen: dict[str, Any]) -> float:
        config = load_config(None, [*(set_ or []), *(f"{key}={value}" for key, value in chosen.items())])
        done = job.pretrain(engine, settings, config, publish=False, name=f"sweep {name}", on_epoch=lambda _: None)
        store.drop(engine, done.run_id)
        return float(done.metrics["score"])

    with output.progress() as bar:
        task = bar.add_task("sweep", total=trials, note="")
        rows = run_sweep(settings.runs / "sweeps" / f"embed-{name}.journal", to_json(fixed), space, objective, trials,
                         fixed.seed, lambda n, value, _: bar.update(task, completed=n + 1, note=f"{value:.4f}"))
    output.emit(rows, form)


@app.command(epilog="Example: mkmed embed drop 4f1c")
def drop(run: Annotated[str, typer.Argument(help="The start of the run's id.")]) -> None:
    """Remove a run's vectors from the database; its folder stays."""
    from embed.runs import store
    from kb.db.engine import open_engine

    engine = open_engine()
    with engine.connect() as connection:
        run_id = store.find_run(connection, run)
    store.drop(engine, run_id)
    output.say(f"dropped {run_id}")


@app.command(epilog="Example: mkmed embed evaluate --run published --part classes")
def evaluate(
    run: RunOption = "published",
    part: Annotated[
        str, typer.Option(help="retrieval, classes, interactions, indications, all of these, or questions.")
    ] = "all",
    splits: Annotated[int, typer.Option(min=0, help="Train anew on so many splits, in all columns; 0: only RUN.")] = 0,
    columns: ColumnsOption = "plain,class words masked,without treatment edges",
    fresh: FreshOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    form: FormatOption = Format.table,
) -> None:
    """Measure a run on held-out drugs beside chance, the model before training and rivals that are not trained.

    The part questions asks the judged questions of free-text search, among the drugs that are here now. With --splits
    nothing is stored: each split is trained anew as it is, with class words left out of the texts, and without the
    graph's treatment edges, and differences come with their interval over splits. What was measured before, of the same
    knowledge base and settings, is not trained again, so that a study that was stopped goes on.
    """
    from embed.evaluation.run import evaluate_run as run_evaluate
    from embed.runs.found import load_run
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    parts = ("retrieval", "classes", "interactions", "indications")
    if part not in (*parts, "all", "questions"):
        raise UsageError(f"unknown part {part!r}", hint=f"known: {', '.join(parts)}, all, questions")
    engine, settings = open_engine(), load_settings()
    if part == "questions":
        from embed.evaluation.questions import question_rows
        from embed.runs.found import open_text_embedder
        from embed.search.texts import TextSearch

        output.emit(question_rows(engine, TextSearch(engine, open_text_embedder(engine, settings, run))), form)
        return
    if splits:
        from embed.config import load_config
        from embed.evaluation.columns import chosen_columns
        from embed.evaluation.splits import evaluate_splits

        report = evaluate_splits(engine, settings, load_config(config, set_ or []), splits=range(splits),
                                 columns=chosen_columns(columns), fresh=fresh,
                                 on_training=lambda row: output.say(", ".join(f"{k} {v}" for k, v in row.items())))
    else:
        report = run_evaluate(load_run(engine, settings, run))
    for name in parts if part == "all" else (part,):
        output.emit(report[name], form, title=name)


@app.command(epilog="Example: mkmed embed ablate --seeds 5")
def ablate(
    config: ConfigOption = None,
    set_: SetOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every arm, each with its own split.")] = 5,
    subsets: Annotated[
        str, typer.Option(help="cumulative: add one modality after the other; ends: the first, and all of them;"
                          " all: every combination.")
    ] = "cumulative",
    columns: ColumnsOption = "plain,class words masked",
    paper: Annotated[bool, typer.Option(help="The published variant instead of our defaults, as many steps.")] = False,
    fresh: FreshOption = False,
    on: Annotated[str, typer.Option("--on", help=ON_HELP)] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with the arms of one seed.")] = 1,
    form: FormatOption = Format.table,
) -> None:
    """Train with 1 to 5 modalities, and on all drugs against those that have everything; table and picture.

    All arms have the same width, steps, patience and settings. What was measured before, of the same knowledge base and
    settings, is not trained again, so that an ablation that was stopped goes on.
    """
    from embed.config import load_config
    from embed.config import paper as paper_config
    from embed.evaluation.ablation import ablate as run_ablate
    from embed.evaluation.ablation import readable_rows
    from embed.evaluation.columns import chosen_columns
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    name = "paper" if paper else "ablation"
    report = run_ablate(
        open_engine(settings),
        settings,
        load_config(config, set_ or [], paper_config() if paper else None),
        seeds=range(seeds),
        subsets=subsets,
        columns=chosen_columns(columns),
        name=name,
        fresh=fresh,
        on=on,
        workers=workers,
        on_arm=lambda row: output.say(
            f"seed {row['seed']}, {row['column']}, {row['arm']}: {row['modalities']}: "
            f"fused level 3 {row['fused level 3']:.3f}"
        ),
    )
    output.emit(readable_rows(report["rows"]) if form is Format.table else report["rows"], form)
    output.say(f"drew {settings.runs / 'ablation' / f'{name}.svg'}")


@app.command("map", epilog="Example: mkmed embed map --by atc --out map.svg")
def map_(
    out: Annotated[Path | None, typer.Option(help="The picture; map.svg in the run's folder by default.")] = None,
    by: Annotated[str, typer.Option(help="Colours: atc or bucket.")] = "atc",
    coded_only: Annotated[bool, typer.Option(help="Leave out drugs without a colour.")] = False,
) -> None:
    """Draw the published vectors in two dimensions."""
    from embed.atlas import draw_map
    from embed.runs.found import find_run_folder
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    path = out or find_run_folder(engine, settings, "published") / "map.svg"
    drawn = draw_map(engine, path, by=by, coded_only=coded_only, places=None if out else path.with_suffix(".json"))
    output.say(f"drew {drawn} drugs")
    output.write(str(path))


@app.command(
    epilog="Example: mkmed embed explain metformin phenformin --picture alike.svg   ·   "
    'mkmed embed explain --smiles "CN(C)C(=N)N"'
)
def explain(
    first: Annotated[str | None, typer.Argument(help="A drug.")] = None,
    second: Annotated[str | None, typer.Argument(help="Another one.")] = None,
    smiles: Annotated[str | None, typer.Option(help="Instead of drugs, a molecule that nobody described.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw both molecules with what makes them alike, as SVG.")
    ] = None,
    form: FormatOption = Format.table,
) -> None:
    """Tell which modalities and which fragments make two drugs alike, or what carries a structure's predictions."""
    if (smiles is None) == (first is None or second is None):
        raise UsageError("give two drugs, or --smiles", hint="mkmed embed explain metformin phenformin")
    if smiles is not None:
        _explain_structure(smiles, form)
        return
    from embed.explain import draw_likeness
    from embed.explain import explain_likeness as run_explain
    from kb.db.engine import open_engine
    from kb.files import replace_file
    from kb.settings import load_settings

    settings = load_settings()
    found = run_explain(open_engine(settings), settings, str(first), str(second))
    rows = [{"because of": name, "alone": alone, "share": share} for name, (alone, share) in found.modalities.items()]
    rows += [{"because of": f"{f.smiles} in {f.drug}", "alone": None, "share": f.share} for f in found.fragments[:8]]
    output.emit(
        [{"because of": f"{found.first} and {found.second}: fused", "alone": found.fused, "share": None}, *rows], form
    )
    if picture:
        replace_file(picture, draw_likeness(found), mode=None)
        output.say(f"drew {picture}")


def _explain_structure(smiles: str, form: Format) -> None:
    from embed.explain import explain_structure
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    found = explain_structure(open_engine(settings), settings, smiles)
    rows: list[dict[str, Any]] = [
        {"foretells": kind, "because of": one.drug, "similarity": one.similarity, "share": one.share,
         "sure": found.sure[kind]} for kind, members in found.carriers.items() for one in members]
    rows += [{"foretells": "all", "because of": f"fragment {one.smiles}", "similarity": None, "share": one.share,
              "sure": None} for one in found.fragments[:8]]
    output.emit(rows, form)
