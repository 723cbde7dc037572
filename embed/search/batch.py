"""A file of molecules or texts to a file of vectors, in batches, so that memory does not grow with the file.

Every row of the input gives one row of the output, in order, with what went wrong where something did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rdkit import Chem
from sqlalchemy import Engine

from embed.features.derive import DERIVED, derive
from embed.registry import ANCHOR
from embed.runs.embedder import Embedded, Embedder
from embed.search.molecules import MoleculeSearch
from embed.search.predicted import Predictions
from kb.chemistry import read_molblock, read_smiles
from kb.errors import DataError, Incomplete, NotFound, UsageError
from kb.files import written
from kb.identity.forms import forms
from kb.sources.tables.read import MOLBLOCK, UserTable

BATCH = 512
KEEP, SKIP, STOP = "keep", "skip", "stop"
ON_ERROR = (KEEP, SKIP, STOP)


@dataclass(frozen=True)
class Columns:
    """Which columns hold the id, the SMILES and a text; an SDF's structures are its connection tables."""

    id: str | None = None
    smiles: str | None = None
    text: str | None = None


@dataclass
class Row:
    """One row of the input, by its number, with the readable molecule and text that it has, or the error."""

    number: int
    id: str
    smiles: str = ""
    text: str = ""
    error: str = ""
    inchikey: str = ""
    matches: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Done:
    """How many rows were read, encoded and failed."""

    rows: int = 0
    encoded: int = 0
    failed: int = 0


def encode_file(engine: Engine, run: Embedder, source: Path, target: Path, columns: Columns, *, nearest: int = 5,
                on_error: str = KEEP, skip: Sequence[str] = (), batch: int = BATCH) -> Done:
    """Write ``target`` (Parquet) with the vectors of every row of ``source`` (CSV, TSV, SDF, Parquet).

    ``on_error`` keeps a row that failed with its reason, skips it, or stops with DataError and no file. ``skip`` leaves
    kinds of derived knowledge out, e.g. ``structure``, which takes longest.
    """
    if on_error not in ON_ERROR:
        raise UsageError(f"--on-error is {on_error!r}", hint=f"one of: {', '.join(ON_ERROR)}")
    if columns.smiles is None and columns.text is None and not UserTable(source).is_sdf:
        raise UsageError("no column of SMILES or of texts is named", hint="--smiles COLUMN or --text COLUMN")
    if target.suffix.lower() != ".parquet":
        raise UsageError(f"{target.name} is no Parquet file", hint="name the output NAME.parquet")
    if columns.text is not None and "text" not in run.able:
        raise UsageError("this run has no text tower", hint=f"it has: {', '.join(run.names)}")
    search, done = MoleculeSearch(engine, run), Done()
    schema = _schema(run.width, search.predictions.head.wide.width if search.predictions else 0)
    with written(target, mode=None) as temporary, pa.parquet.ParquetWriter(temporary, schema) as writer:
        for rows in _in_batches(_read(source, columns), batch):
            table = _encode(run, search, rows, nearest, skip)
            done.rows += len(rows)
            done.failed += sum(bool(row.error) for row in rows)
            if on_error == STOP and (wrong := next((row for row in rows if row.error), None)):
                raise DataError(f"row {wrong.number} of {source.name}: {wrong.error}",
                                hint="--on-error keep writes it with its reason, skip leaves it out")
            kept = [one for one in table if on_error == KEEP or one["status"] == "ok"]
            if kept:
                writer.write_table(pa.Table.from_pylist(kept, schema=schema))
    done.encoded = done.rows - done.failed
    return done


def raise_if_incomplete(done: Done) -> None:
    """Raise Incomplete when some rows failed."""
    if done.failed:
        raise Incomplete(f"{done.failed:,} of {done.rows:,} rows have no vector", hint="column error says why")


def _schema(width: int, wide: int) -> Any:
    near = pa.struct([("drug", pa.string()), ("name", pa.string()), ("similarity", pa.float32())])
    return pa.schema([
        ("row", pa.int64()), ("id", pa.string()), ("status", pa.string()), ("error", pa.string()),
        ("inchikey", pa.string()), ("relation", pa.string()), ("matched_drug", pa.string()),
        ("matched_name", pa.string()), ("rests_on", pa.list_(pa.string())), ("unusual", pa.float32()),
        ("vector", pa.list_(pa.float32(), width)), ("nearest", pa.list_(near)),
        *([("predicted", pa.list_(pa.float32(), wide)), ("sure", pa.float32())] if wide else []),
    ])


def _read(source: Path, columns: Columns) -> Iterator[Row]:
    """The rows of the file, each with a readable molecule or text, or with an error."""
    if not source.is_file():
        raise NotFound(f"no such file: {source}")
    if source.suffix.lower() == ".parquet":
        yield from _read_parquet(source, columns)
        return
    table = UserTable(source)
    table.require({name: value for name, value in vars(columns).items() if value})
    told = 0
    for number, cells in table.rows():
        for problem in table.problems[told:]:
            yield Row(problem.row, str(problem.row), error=problem.reason)
        told = len(table.problems)
        yield _row(number, cells, columns)
    for problem in table.problems[told:]:
        yield Row(problem.row, str(problem.row), error=problem.reason)


def _read_parquet(source: Path, columns: Columns) -> Iterator[Row]:
    try:
        file = pa.parquet.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source.name} is not a Parquet file: {error}") from None
    wanted = [name for name in vars(columns).values() if name]
    missing = [name for name in wanted if name not in file.schema_arrow.names]
    if missing:
        raise UsageError(f"{source.name} has no column {missing[0]!r}",
                         hint=f"it has: {', '.join(file.schema_arrow.names)}")
    number = 0
    for batch in file.iter_batches(batch_size=BATCH, columns=wanted):
        for cells in batch.to_pylist():
            number += 1
            yield _row(number, {k: "" if v is None else str(v) for k, v in cells.items()}, columns)


def _row(number: int, cells: dict[str, str], columns: Columns) -> Row:
    own = Row(number, cells.get(columns.id or "title", "") or str(number))
    smiles = cells.get(columns.smiles, "") if columns.smiles else ""
    own.text = (cells.get(columns.text, "") if columns.text else "").strip()
    try:
        mol = None
        if smiles.strip():
            mol = read_smiles(smiles)
        elif cells.get(MOLBLOCK):
            mol = read_molblock(cells[MOLBLOCK])
        if mol is not None:
            own.smiles, own.inchikey = Chem.MolToSmiles(mol), Chem.MolToInchiKey(mol)
        elif not own.text:
            own.error = "no SMILES and no text"
    except DataError as error:
        own.error = error.message
    return own


def _in_batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _encode(run: Embedder, search: MoleculeSearch, rows: list[Row], nearest: int,
            skip: Sequence[str]) -> list[dict[str, Any]]:
    """One output row for each input row."""
    good = [row for row in rows if not row.error]
    wanted = [name for name in DERIVED if name in run.able and name not in skip]
    corpus = derive([row.smiles for row in good], [[row.text] if row.text else [] for row in good], wanted)
    names = [ANCHOR, *wanted, *(["text"] if "text" in run.able else [])]
    found = run.encode(corpus, names)
    place = {id(row): k for k, row in enumerate(good)}
    for k, row in enumerate(good):
        if not found.present[k].any():
            row.error = "nothing that the run has a tower for"
    told = [_told(search, row, found, place.get(id(row)), nearest) for row in rows]
    if search.predictions is not None:
        _add_predictions(search, search.predictions, rows, told, nearest)
    return told


def _add_predictions(search: MoleculeSearch, predictions: Predictions, rows: list[Row], told: list[dict[str, Any]],
                     nearest: int) -> None:
    """What the structures of the rows foretell; a row without a text has its nearest drugs by that."""
    drugs = search.known.drugs
    asked = [k for k, row in enumerate(rows) if row.smiles and not row.error]
    read, foretold = search.run.foretell([rows[k].smiles for k in asked])
    alone = [place for place, at in enumerate(read.tolist()) if not rows[asked[at]].text]
    nearby = dict(zip(alone, predictions.nearest(foretold.take(np.array(alone, np.int64)), nearest), strict=True))
    for place, at in enumerate(read.tolist()):
        number = asked[at]
        own = told[number]
        own |= {"predicted": foretold.wide[place].tolist(), "sure": predictions.sure(foretold, place)}
        if rows[number].text:
            continue
        near = []
        for k, similarity in zip(*nearby[place], strict=True):
            known = search.known.row.get(int(predictions.stored.drug_ids[k]))
            if known is not None:
                near.append({"drug": drugs.identities[known], "name": drugs.names[known],
                             "similarity": float(similarity)})
        own["nearest"] = near


def _told(search: MoleculeSearch, row: Row, found: Embedded, at: int | None, nearest: int) -> dict[str, Any]:
    told: dict[str, Any] = {"row": row.number, "id": row.id, "status": "failed" if row.error else "ok",
                            "error": row.error or None, "inchikey": row.inchikey or None}
    if row.error or at is None:
        return told
    drugs = search.known.drugs
    names = tuple(name for k, name in enumerate(found.names) if found.present[at, k])
    matches = search.known.matches(forms(Chem.MolFromSmiles(row.smiles))) if row.smiles else []
    if matches:
        number = search.known.row[matches[0].drug_id]
        told |= {"relation": matches[0].relation, "matched_drug": drugs.identities[number],
                 "matched_name": drugs.names[number]}
    near = []
    for k, similarity in zip(*search.library.nearest(found.fused[at], names, nearest), strict=True):
        place = search.known.row.get(int(search.library.ids[k]))
        if place is not None:
            near.append({"drug": drugs.identities[place], "name": drugs.names[place], "similarity": float(similarity)})
    return told | {"rests_on": list(names), "unusual": search.unusual(row.smiles) if row.smiles else None,
                   "vector": np.asarray(found.fused[at]).tolist(), "nearest": near}
