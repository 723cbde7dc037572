"""A data set of compounds: a folder with ``dataset.json`` and Parquet parts, each written whole or not at all.

A part's name says what it was made from (the input file, the run of rows, their sha256), so that a stopped encoding
goes on by what is there, and a part is never made twice. Vectors are stored as one column of fixed-size bytes, float16
or int8, uncompressed and without nulls: the file is plain Parquet, and the vectors can be read where they lie.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kb.errors import DataError, NotFound, UsageError
from kb.files import replace_file
from kb.properties import PROPERTIES

FORMAT = 1
MANIFEST = "dataset.json"
PARTS = "parts"
PRECISIONS: Mapping[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "int8": np.dtype("i1")}
PROPERTY_COLUMNS = tuple(name for name in PROPERTIES if name != "complexity")
"""What RDKit computes of a compound."""
ROW_GROUP = 65_536
HEADER = 36
"""Bytes that the header of one data page has at most; those of two have more together."""


@dataclass(frozen=True)
class ScreeningSet:
    """What a data set says of itself: who made its vectors, of what kind, width and precision, and under which licence.

    ``run`` and ``artefact`` name the embedding run and the sha256 of its manifest. ``properties`` says whether the
    compounds' properties were computed. ``parts`` are filled when it is whole.
    """

    folder: Path
    run: str
    artefact: str
    kind: str
    width: int
    precision: str
    licence: str
    release: str
    rows_a_part: int
    properties: bool = True
    state: str = "open"
    rows: int = 0
    rejected: int = 0
    parts: tuple[str, ...] = ()
    digest: str = ""
    made_from: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each input file."""

    def facts(self) -> dict[str, Any]:
        """What a part's own metadata repeats."""
        return {name: getattr(self, name) for name in
                ("run", "artefact", "kind", "width", "precision", "licence", "release", "properties")}

    def write(self) -> None:
        """Write ``dataset.json``."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        replace_file(self.folder / MANIFEST, json.dumps({"format": FORMAT, **values}, indent=1), mode=None)

    def part_paths(self) -> list[Path]:
        """The parts in order; of one that is still open those that are there."""
        if self.state == "complete":
            return [self.folder / PARTS / name for name in self.parts]
        return sorted((self.folder / PARTS).glob("*.parquet"))


def read_set(folder: Path) -> ScreeningSet:
    """The data set in a folder; raises NotFound and DataError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(f"no data set of compounds in {folder}", 
                       hint="mkmed embed encode --in FOLDER --out FOLDER makes one")
    try:
        values = json.loads(path.read_text())
        if values.pop("format") != FORMAT:
            raise DataError(f"{path} is of another format than {FORMAT}", hint="update mkmed, or encode again")
        return ScreeningSet(folder, **{**values, "parts": tuple(values["parts"])})
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} does not describe a data set", hint="encode again into another folder") from None


def begin_set(wanted: ScreeningSet) -> ScreeningSet:
    """The data set, begun or gone on with; raises UsageError when the folder's own was asked for otherwise."""
    try:
        there = read_set(wanted.folder)
    except NotFound:
        (wanted.folder / PARTS).mkdir(parents=True, exist_ok=True)
        wanted.write()
        return wanted
    asked = {**wanted.facts(), "rows_a_part": wanted.rows_a_part}
    held = {**there.facts(), "rows_a_part": there.rows_a_part}
    other = [name for name in asked if asked[name] != held[name]]
    if other:
        name = other[0]
        raise UsageError(f"{wanted.folder} was begun with {name} {held[name]}, not {asked[name]}",
                         hint="name another --out, or the same options")
    return there


def part_name(file: str, number: int, digest: str) -> str:
    """The name of the part made from a run of rows."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", file)[:100]
    return f"{stem}-{number:06d}-{digest[:16]}.parquet"


def part_bytes(one: ScreeningSet, source: str, columns: Mapping[str, Any], properties: NDArray[np.float32],
               vectors: NDArray[np.float32]) -> bytes:
    """A part as Parquet: ``columns`` of strings, ``properties`` (n, F) by ``PROPERTY_COLUMNS``, ``vectors`` (n, D)."""
    stored, scale = stored_form(vectors, one.precision)
    fields = [pa.field(name, pa.string(), nullable=False) for name in columns]
    arrays = [pa.array(values, pa.string()) for values in columns.values()]
    for k, name in enumerate(PROPERTY_COLUMNS):
        fields.append(pa.field(name, pa.float32()))
        arrays.append(pa.array(properties[:, k], pa.float32(), from_pandas=True))
    if scale is not None:
        fields.append(pa.field("scale", pa.float32(), nullable=False))
        arrays.append(pa.array(scale, pa.float32()))
    size = one.width * PRECISIONS[one.precision].itemsize
    fields.append(pa.field("vector", pa.binary(size), nullable=False))
    arrays.append(pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(stored), [None, pa.py_buffer(stored)]))
    about = {"mkmed": json.dumps({**one.facts(), "source": source, "vector": f"{one.precision}, little-endian"})}
    table = pa.table(arrays, schema=pa.schema(fields, metadata=about))
    sink = pa.BufferOutputStream()
    plain = {"vector": "NONE", "scale": "NONE"}
    pq.write_table(table, sink, row_group_size=ROW_GROUP, write_batch_size=ROW_GROUP, data_page_size=1 << 30,
                   compression={field.name: plain.get(field.name, "ZSTD") for field in fields},
                   use_dictionary=False, write_statistics=[field.name for field in fields if field.name != "vector"])
    return bytes(sink.getvalue())


def stored_form(vectors: NDArray[np.float32], precision: str) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """``(numbers, scale)``: float16 as it is, or int8 with each vector's own scale."""
    if precision == "float16":
        return np.ascontiguousarray(vectors, PRECISIONS[precision]), None
    scale = np.maximum(np.abs(vectors).max(1), 1e-12).astype(np.float32) / 127
    return np.ascontiguousarray(np.rint(vectors / scale[:, None]), np.int8), scale


def vector_blocks(path: Path, one: ScreeningSet) -> Iterator[tuple[int, NDArray[Any], NDArray[np.float32] | None]]:
    """``(first row, numbers (n, D), scale)`` of one row group after another, mapped and not copied.

    A file that another program wrote anew, with other pages, is read by pyarrow and copied.
    """
    kind = PRECISIONS[one.precision]
    size = one.width * kind.itemsize
    with path.open("rb") as stream:
        file = pq.ParquetFile(stream)
        place = file.schema_arrow.get_field_index("vector")
        if place < 0 or file.schema_arrow.field(place).type != pa.binary(size):
            raise DataError(f"{path.name} has no vectors of {one.width} numbers in {one.precision}")
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)  # torch takes no arrays that are read-only
        start = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            column = group.column(place)
            rows = group.num_rows
            overhead = column.total_compressed_size - rows * size
            plain = column.compression == "UNCOMPRESSED" and set(column.encodings) == {"PLAIN", "RLE"}
            if plain and 0 < overhead <= HEADER:
                flat = np.frombuffer(mapped, kind, rows * one.width, column.data_page_offset + overhead)
            else:
                chunk = file.read_row_group(number, columns=["vector"]).column(0).combine_chunks()
                flat = np.frombuffer(chunk.buffers()[1], kind, rows * one.width, chunk.offset * size)
            scale = None
            if one.precision == "int8":
                scale = file.read_row_group(number, columns=["scale"]).column(0).to_numpy().astype(np.float32)
            yield start, flat.reshape(rows, one.width), scale
            start += rows


def finish_set(one: ScreeningSet, parts: list[str], made_from: Mapping[str, int]) -> ScreeningSet:
    """The data set with all of its parts counted and hashed: ``digest`` is over the parts' names and contents."""
    sha, rows, rejected = hashlib.sha256(), 0, 0
    for name in parts:
        path = one.folder / PARTS / name
        with path.open("rb") as stream:
            sha.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
        rows += pq.read_metadata(path).num_rows
        beside = rejected_path(path)
        rejected += beside.read_bytes().count(b"\n") if beside.is_file() else 0
    values = {**vars(one), "state": "complete", "rows": rows, "rejected": rejected, "parts": tuple(parts),
              "digest": sha.hexdigest(), "made_from": dict(made_from)}
    whole = ScreeningSet(**values)
    whole.write()
    return whole


def rejected_path(part: Path) -> Path:
    """Where the rows lie that a part has no vectors for, a JSON document a line."""
    return part.with_suffix(".rejected.jsonl")
