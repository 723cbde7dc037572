"""From rows of compounds to parts of a data set, on any pool: the processes encode, this one writes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from embed.registry import ANCHOR
from embed.runs import artefact
from embed.runs.artefact import Artefact
from embed.runs.schema import PREDICTED
from embed.screening.dataset import (
    PARTS,
    PRECISIONS,
    PROPERTY_COLUMNS,
    ScreeningSet,
    begin_set,
    finish_set,
    part_bytes,
    part_name,
    rejected_path,
)
from embed.screening.rows import CompoundColumns, RawCompound, RowRun, input_files, row_runs
from embed.transfer import head as transfer
from kb.chemistry import read_molblock, read_smiles
from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, PoolTask
from kb.errors import DataError, Incomplete, UsageError
from kb.files import hold, replace_file
from kb.ledger.entries import program_version
from kb.output import progress
from kb.sources.rdkit.compute import compute_properties
from kb.sources.tables.dataset import stated_licence

KINDS = (ANCHOR, PREDICTED)
"""``molecule``: the aligned vector, which texts can be compared with; ``predicted``: what the structure foretells."""
PART_ROWS = 20_000
CHUNK = 512
"""Compounds that go through the model at once."""
WALL = 3600.0
"""Seconds for a part; one that takes longer is rejected as a whole."""


@dataclass(frozen=True)
class EncodedPart:
    """A part as bytes, and the rows that it has nothing of: (row number, id, reason)."""

    data: bytes
    rejected: list[tuple[int, str, str]]


def part_encoder(run: str | Mapping[str, bytes], one: ScreeningSet) -> Callable[[RowRun], EncodedPart]:
    """The function that encodes a run of rows, with the model in memory; ``run`` is a folder, or the run's files."""
    import torch

    from embed.runs.embedder import Embedder

    torch.set_num_threads(1)  # the pool has a process for each core
    if isinstance(run, str):
        embedder = Embedder.open(Path(run))
    else:
        with tempfile.TemporaryDirectory(prefix="mkmed-run-") as folder:
            place = Path(folder) / one.run
            place.mkdir()
            for name, data in run.items():
                (place / name).write_bytes(data)
            embedder = Embedder.open(place)
            _ = embedder.transfer if one.kind == PREDICTED else None
    encode = embedder.smiles if one.kind == ANCHOR else lambda smiles: embedder.foretell(smiles)[1].wide
    return lambda rows: encode_set(rows, one, encode)


def encode_set(run: RowRun, one: ScreeningSet, encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> EncodedPart:
    """The part of a run of rows; what is no molecule, or has no vector, is rejected by row."""
    rejected = [(number, "", reason) for number, reason in run.unreadable]
    kept: list[tuple[str, str, str]] = []
    numbers: list[list[float]] = []
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(run.rows), CHUNK):
        asked, settled, values = _molecules(run.rows[start:start + CHUNK], rejected, one.properties)
        for row, place, vector in _vectors(asked, settled, encode, rejected):
            kept.append((row[1], Chem.MolToInchiKey(Chem.MolFromSmiles(settled[place])), settled[place]))
            numbers.append(values[place])
            vectors.append(vector)
    columns = {name: [row[k] for row in kept] for k, name in enumerate(("id", "inchikey", "smiles"))}
    matrix = np.stack(vectors) if vectors else np.zeros((0, one.width), np.float32)
    table = np.array(numbers, np.float32).reshape(-1, len(PROPERTY_COLUMNS))
    return EncodedPart(part_bytes(one, run.file, columns, table, matrix), sorted(rejected))


def _molecules(rows: Sequence[RawCompound], rejected: list[tuple[int, str, str]], properties: bool,
               ) -> tuple[list[RawCompound], list[str], list[list[float]]]:
    """The rows that are molecules, their canonical SMILES and properties."""
    asked, settled, values = [], [], []
    for row in rows:
        number, name, structure, block = row
        try:
            smiles = Chem.MolToSmiles(read_molblock(structure) if block else read_smiles(structure))
            found = compute_properties(smiles) if properties else {}
        except (DataError, RuntimeError, ValueError) as error:
            rejected.append((number, name, str(error)[:200]))
            continue
        asked.append(row)
        settled.append(smiles)
        values.append([found.get(property_, float("nan")) for property_ in PROPERTY_COLUMNS])
    return asked, settled, values


def _vectors(asked: Sequence[RawCompound], settled: Sequence[str],
             encode: Callable[[Sequence[str]], NDArray[np.float32]], rejected: list[tuple[int, str, str]],
             ) -> Iterator[tuple[RawCompound, int, NDArray[np.float32]]]:
    """(row, place, vector) of each that has one; where the batch fails, one by one."""
    if not asked:
        return
    with suppress(DataError, RuntimeError, ValueError):
        found = encode(settled)
        if len(found) == len(settled) and np.isfinite(found).all():
            yield from zip(asked, range(len(asked)), found, strict=True)
            return
    for place, row in enumerate(asked):
        try:
            one = encode([settled[place]])
        except (DataError, RuntimeError, ValueError) as error:
            rejected.append((row[0], row[1], str(error)[:200]))
            continue
        if len(one) == 1 and np.isfinite(one).all():
            yield row, place, one[0]
        else:
            rejected.append((row[0], row[1], "the run has no vector for this molecule"))


def run_files(run: Artefact, kind: str) -> dict[str, bytes]:
    """The files of a run that encoding needs, to be sent where the run's folder is not."""
    names = ["run.json", "config.json", "fitted.safetensors", "weights.safetensors"]
    names += [transfer.FILE] if kind == PREDICTED else []
    return {artefact.MANIFEST: (run.folder / artefact.MANIFEST).read_bytes(),
            **{name: run.bytes_of(name) for name in names}}


def encode_folder(run: Artefact, source: Path, target: Path, columns: CompoundColumns, *, kind: str = ANCHOR,
                  precision: str = "float16", licence: str | None = None, on: str = LOCAL, workers: int | None = None,
                  rows_a_part: int = PART_ROWS, properties: bool = True) -> ScreeningSet:
    """Encode all compounds of the files in ``source`` into the data set ``target``; what is there is not done again.

    Raises UsageError for options that do not fit, and Busy when another process writes the same data set.
    """
    width = _width(run, kind)
    if precision not in PRECISIONS:
        raise UsageError(f"--precision is {precision!r}", hint=f"one of: {', '.join(PRECISIONS)}")
    files = input_files(source)
    wanted = ScreeningSet(target, run.folder.name, run.digest, kind, width, precision, stated_licence(licence).id,
                          program_version(), rows_a_part, properties)
    target.mkdir(parents=True, exist_ok=True)
    with hold(target / ".lock", f"the data set {target}"):
        one = begin_set(wanted)
        for left in (target / PARTS).glob(".*"):  # what a killed process had not finished
            left.unlink()
        order: list[str] = []
        task = PoolTask(f"{__name__}:part_encoder", seconds=WALL, memory=None, gpus=0.0, arguments={
            "run": str(run.folder) if on == LOCAL else run_files(run, kind), "one": replace(one, folder=Path())})
        due = _due(one, row_runs(files, columns, rows_a_part), order)
        sizes = {path.name: path.stat().st_size for path in files}
        first = next(due, None)
        if first is not None:
            sent: dict[int, RowRun] = {}
            with open_pool(on, task, workers) as pool, progress() as shown:
                bar = shown.add_task("compounds", total=None)
                for number, found in pool.map(_noted(first, due, sent), share=1):
                    own = sent.pop(number)
                    if isinstance(found, Failure):
                        raise DataError(f"{own.file}, part {own.number}: {found.reason}",
                                        hint="run again; a smaller --part-rows narrows it down")
                    _write(one, own, found)
                    shown.advance(bar, len(own.rows))
        return finish_set(one, order, sizes)


def _due(one: ScreeningSet, runs: Iterator[RowRun], order: list[str]) -> Iterator[RowRun]:
    """The runs of rows that have no part yet; ``order`` fills with the names of all parts."""
    for run in runs:
        name = part_name(run.file, run.number, run.digest)
        order.append(name)
        if not (one.folder / PARTS / name).is_file():
            yield run


def _noted(first: RowRun, rest: Iterator[RowRun], sent: dict[int, RowRun]) -> Iterator[RowRun]:
    for number, run in enumerate(_chained(first, rest)):
        sent[number] = run
        yield run


def _chained(first: RowRun, rest: Iterator[RowRun]) -> Iterator[RowRun]:
    yield first
    yield from rest


def _write(one: ScreeningSet, run: RowRun, found: EncodedPart) -> None:
    """The rejected rows first: where the part is there, all of it is."""
    path = one.folder / PARTS / part_name(run.file, run.number, run.digest)
    if found.rejected:
        lines = [json.dumps({"file": run.file, "row": row, "id": name, "reason": reason})
                 for row, name, reason in found.rejected]
        replace_file(rejected_path(path), "\n".join(lines) + "\n", mode=None)
    replace_file(path, found.data, mode=None)


def _width(run: Artefact, kind: str) -> int:
    """The width of a kind of the run's vectors; raises UsageError for a kind that it has not."""
    if kind == ANCHOR:
        return int(run.weights()[1]["width"])
    if kind == PREDICTED:
        head = transfer.TransferHead.of(run)
        if head is None:
            raise UsageError("this run foretells nothing from a structure", hint="--vectors molecule")
        return head.wide.width
    raise UsageError(f"--vectors is {kind!r}", hint=f"one of: {', '.join(KINDS)}")


def raise_if_rejected(one: ScreeningSet) -> None:
    """Raise Incomplete when rows were rejected."""
    if one.rejected:
        raise Incomplete(f"{one.rejected:,} of {one.rows + one.rejected:,} rows have no vector",
                         hint=f"{one.folder}/{PARTS}/*.rejected.jsonl say why")
