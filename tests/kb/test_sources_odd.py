"""Files as published, but saved otherwise or by a newer release: what is read of them is the same, or they are refused.

A byte order mark, line ends of Windows, gzip, and columns, tables, keys or elements that came later change nothing.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from kb.chemistry import standardise
from kb.errors import MkmedError, UsageError
from kb.ingest.engine import ingest
from kb.settings import Settings
from kb.sources import SOURCES
from kb.sources.contract import Document, IngestOptions
from kb.sources.graphs import GraphSource
from kb.sources.stream import Edges, StreamSource, _plain
from kb.sources.tables.read import UserTable
from kb.sources.unichem import UniChem
from tests.kb.published import SAMPLES, STRUCTURES

PAPER = Document("x", "f", "text/plain", "CC0-1.0", "", datetime.now(UTC), "x", uri="f", sha256=bytes(32))
PACKED = {"chembl", "dailymed", "hetionet, JSON"}
"""Samples that are no text as they lie there."""


def said(name: str, given: dict[str, object]) -> list[object]:
    """Everything that is read of a sample's files: entries, reasons and the graph; or the rows of a user's table."""
    path, also = given["path"], given.get("also", {})
    assert isinstance(path, Path)
    source = SOURCES[SAMPLES[name].source or name]()
    if isinstance(source, UniChem):
        source._drugs = {standardise(smiles).inchikey: key for key, smiles in STRUCTURES.items()}
        source._reference = also["reference"]  # type: ignore[index]
    if isinstance(source, GraphSource):
        table, edges = UserTable(path), Edges()
        job: Any = SimpleNamespace(options=SimpleNamespace(also=also, columns={}))
        source.prepare(job, edges, table)
        left = [source.take(row, edges, PAPER) for row in source.rows(table)]
        return [*graph(edges), left, len(table.problems), _plain(edges.uses)]
    if isinstance(source, StreamSource):
        found = [_plain(item) for item in source.entries(path, PAPER)]
        edges = source.edges(path, PAPER) or Edges()
        return [*found, *graph(edges)]
    return [sorted((role, cell) for role, cell in row.items() if role not in ("added later", "AddedLater")) for _, row in UserTable(path).rows()]


def graph(edges: Edges) -> Iterator[object]:
    coded = edges.encoded()
    yield [coded.entities, coded.relation_names, coded.heads.tolist(), coded.relations.tolist(), coded.tails.tolist()]
    yield sorted(edges.labels.items()), [(triple, repr(note)) for triple, note in sorted(edges.notes.items())]


def rewritten(given: dict[str, object], change: Callable[[bytes], bytes], suffix: str = "") -> dict[str, object]:
    """The sample with each of its files changed."""
    def one(path: Path) -> Path:
        if path.is_dir():
            for file in path.iterdir():
                one(file)
            return path
        place = path.with_name(path.name + suffix)
        place.write_bytes(change(path.read_bytes()))
        return place

    also = {role: one(path) for role, path in given.get("also", {}).items()}  # type: ignore[attr-defined]
    return given | {"path": one(given["path"])} | ({"also": also} if also else {})  # type: ignore[arg-type]


SAVED: dict[str, Callable[[dict[str, object]], dict[str, object]]] = {
    "a byte order mark": lambda given: rewritten(given, lambda data: b"\xef\xbb\xbf" + data),
    "CRLF": lambda given: rewritten(given, lambda data: data.replace(b"\n", b"\r\n")),
    "a byte order mark and CRLF": lambda given: rewritten(given, lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
    "gzip": lambda given: rewritten(given, gzip.compress, ".gz"),
    "gzip under the old name": lambda given: rewritten(given, gzip.compress),
    "an empty line at the end": lambda given: rewritten(given, lambda data: data + b"\n"),
}


@pytest.mark.parametrize("way", SAVED)
@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in PACKED])
def test_saved_another_way_a_file_says_the_same(name: str, way: str, tmp_path: Path) -> None:
    if name == "rxnorm" and way == "gzip":
        pytest.skip("its three files have their names")
    given = SAMPLES[name].write(tmp_path)
    before = said(name, given)
    assert said(name, SAVED[way](given)) == before


def with_sqlite(given: dict[str, object], *statements: str) -> dict[str, object]:
    with sqlite3.connect(str(given["path"])) as base:
        for statement in statements:
            base.execute(statement)
    base.close()
    return given


def with_members(given: dict[str, object], change: Callable[[bytes], bytes]) -> dict[str, object]:
    """The zip with each of its labels changed, those in an inner zip too."""
    def packed(data: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            for info in old.infolist():
                inner = old.read(info)
                if info.filename.endswith(".xml"):
                    inner = change(inner)
                elif info.filename.endswith(".zip") and zipfile.is_zipfile(io.BytesIO(inner)):
                    inner = packed(inner)
                new.writestr(info.filename, inner)
        return out.getvalue()

    return rewritten(given, packed)


def columns(delimiter: bytes) -> Callable[[bytes], bytes]:
    """A further column behind the others."""
    def change(data: bytes) -> bytes:
        head, *rows = data.rstrip(b"\n").split(b"\n")
        return b"\n".join([head + delimiter + b"added later", *(row + delimiter + b"x" for row in rows)]) + b"\n"
    return change


def dump(data: bytes) -> bytes:
    """A further column in every table, and a further table."""
    out, inside = [], False
    for line in data.decode().splitlines():
        if line.startswith("COPY "):
            out.append(line.replace(") FROM", ", added_later) FROM"))
            inside = True
        elif line == "\\.":
            out.append(line)
            inside = False
        else:
            out.append(f"{line}\tx" if inside else line)
    return "\n".join([*out, "COPY public.added_later (id) FROM stdin;", "1", "\\.", ""]).encode()


def keys(data: bytes) -> bytes:
    graph = json.loads(data)
    for label in graph["results"]:
        if isinstance(label, dict):
            label["added_later"] = [{"x": 1}]
            label.get("openfda", {})["added_later"] = ["x"]
    return json.dumps(graph | {"added_later": {}}).encode()


def edges_and_nodes(data: bytes) -> bytes:
    graph = json.loads(bz2.decompress(data))
    for item in [*graph["nodes"], *graph["edges"]]:
        item["added_later"] = {"x": [1]}
    return bz2.compress(json.dumps({"added_later": []} | graph).encode())


LATER = b"<added-later><name>x</name></added-later>"
NEWER: dict[str, Callable[[dict[str, object]], dict[str, object]]] = {
    "chembl": lambda given: with_sqlite(
        given, *(f"ALTER TABLE {table} ADD COLUMN added_later TEXT" for table in
                 ("molecule_dictionary", "compound_structures", "molecule_synonyms", "drug_mechanism", "drug_indication", "activities")),
        "CREATE TABLE added_later (x)"),
    "drugcentral": lambda given: rewritten(given, dump),
    "openfda": lambda given: rewritten(given, keys),
    "dailymed": lambda given: with_members(given, lambda data: data.replace(b"<versionNumber", LATER + b"<versionNumber")),
    "drugbank": lambda given: rewritten(given, lambda data: data.replace(b"<unii>", LATER + b"<unii>")),
    "unichem": lambda given: rewritten(given, columns(b"\t")),
    "hetionet": lambda given: rewritten(given, columns(b"\t")),
    "hetionet, JSON": lambda given: rewritten(given, edges_and_nodes),
    "primekg": lambda given: rewritten(given, columns(b",")),
    "atc": lambda given: rewritten(given, lambda data: data.replace(b"<z:row ", b'<z:row AddedLater="x" ')),
}


@pytest.mark.parametrize("name", NEWER)
def test_what_a_newer_release_adds_changes_nothing(name: str, tmp_path: Path) -> None:
    given = SAMPLES[name].write(tmp_path)
    before = said(name, given)
    assert said(name, NEWER[name](given)) == before


def test_what_chembl_may_lack_is_missing_from_what_is_said(tmp_path: Path) -> None:
    """Bioactivities are optional; what is left says the same."""
    given = SAMPLES["chembl"].write(tmp_path)
    assert "active_at" in repr(said("chembl", given))
    entries = said("chembl", given)[:-2]
    fewer = said("chembl", with_sqlite(given, "DROP TABLE activities", "DROP TABLE assays", "DROP TABLE version"))
    assert fewer[:-2] == entries and "active_at" not in repr(fewer) and "inhibitor" in repr(fewer)


CUT = {
    "rxnorm": r"ends within line", "chembl": r"is damaged", "drugcentral": r"ends (within|without)", "openfda": r"not whole JSON",
    "dailymed": r"damaged", "drugbank": r"not whole XML", "unichem": r"ends within line|has no column|has no header",
    "hetionet": r"ends within line|has no column", "hetionet, JSON": r"damaged|not whole JSON", "primekg": r"ends within line|has no column",
    "graph": r"ends within line|has no column", "atc": r"not whole XML",
}
"""Samples of the publishers, and what is said of one that was cut off."""


def refused(name: str, given: dict[str, object]) -> MkmedError | None:
    try:
        told = said(name, given)
    except MkmedError as error:
        return error
    assert told
    return None


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_off_is_refused_with_a_next_step(name: str, tmp_path: Path) -> None:
    """Within a line, an element, an archive or a page, wherever it is; at the end of a line nobody can tell."""
    chance = random.Random(name)
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        given = SAMPLES[name].write(folder)

        def cut(data: bytes) -> bytes:
            at = chance.randrange(len(data) // 3, len(data) - len(data) // 8)
            while data[at - 1 : at + 1].count(b"\n") or data[at : at + 1] == b"\r":
                at -= 1
            return data[:at]

        error = refused(name, rewritten(given, cut))
        assert error is not None or name in OFTEN, (number, given)
        assert error is None or (re.search(CUT[name], error.message) and error.hint), error


OFTEN = {"unichem", "hetionet", "primekg", "graph", "rxnorm"}
"""Tables of which the last row may be whole by its number of cells."""


@pytest.mark.parametrize("name", [*CUT, "interactions"])
def test_a_packed_file_cut_off_and_an_empty_one_are_refused(name: str, tmp_path: Path) -> None:
    given = SAMPLES[name].write(tmp_path)
    error = refused(name, rewritten(given, lambda data: b""))
    assert error is not None and error.hint, error
    if name not in PACKED:
        error = refused(name, rewritten(SAMPLES[name].write(tmp_path), lambda data: gzip.compress(data * 20)[:-9]))
        assert error is not None and "damaged" in error.message and error.hint, error


def labels(path: Path, numbers: range) -> Path:
    path.write_text(json.dumps({"results": [
        {"set_id": f"c-{n}", "effective_time": "20240101", "indications_and_usage": [f"For disease {n}."],
         "openfda": {"unii": [f"{n:09d}X"], "substance_name": [f"COPY {n}"]}} for n in numbers]}), encoding="utf-8")
    return path


def test_a_part_in_place_of_the_whole_takes_nothing_back_unasked(fresh_database: Engine, tmp_path: Path) -> None:
    """One part of several, or a file cut off at the end of a line, says nothing of what is not in it."""
    def drugs() -> int:
        with fresh_database.begin() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM mkmed.records WHERE source = 'openfda'").scalar_one())

    def take(path: Path, *, yes: bool = False) -> None:
        ingest(fresh_database, Settings(), "openfda", IngestOptions(path=path, yes=yes))

    take(labels(tmp_path / "drug-label-0001-of-0002.json", range(300)))
    second = labels(tmp_path / "drug-label-0002-of-0002.json", range(200, 400))
    with pytest.raises(UsageError, match=r"lacks 200 of 400 drugs of openfda") as error:
        take(second)
    assert drugs() == 400 and error.value.hint and "folder" in error.value.hint
    take(tmp_path)
    assert drugs() == 400
    take(second, yes=True)
    assert drugs() == 200
    take(labels(tmp_path / "newer.json", range(205, 401)))  # a few that are gone are taken back without a question
    assert drugs() == 196


def test_a_dump_that_ends_between_two_tables_is_refused(tmp_path: Path) -> None:
    path = SAMPLES["drugcentral"].write(tmp_path)["path"]
    assert isinstance(path, Path)
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: whole.index("COPY public.synonyms")], encoding="utf-8")
    with pytest.raises(MkmedError, match="before the table synonyms"):
        said("drugcentral", {"path": path})
    path.write_text(path.read_text(encoding="utf-8") + "--\n-- PostgreSQL database dump complete\n--\n", encoding="utf-8")
    assert len(said("drugcentral", {"path": path})) > 2
