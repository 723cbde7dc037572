"""Exports: types, keys and licences in every format, one snapshot, and nothing left of one that did not end."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from facts import begin, document, small_batch
from sqlalchemy import Engine, text

from kb.db.address import bare
from kb.errors import DataError, DiskFull, UsageError
from kb.graph.load import DescribedRelation, encode_rows, load_triples
from kb.ingest.write import write_batch
from kb.ledger.coverage import buckets, draw_coverage
from kb.pictures import save_figure
from kb.query.export import TABLES, ExportFormat, export
from kb.sources.contract import ConformerRecord

ROOT = Path(__file__).resolve().parents[2]


def facts(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = begin(connection)
        batch = small_batch()
        batch.payloads = [p for p in batch.payloads if not isinstance(p, ConformerRecord)]
        molblock = "\n  test  3D\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.1000 C   0  0\nM  END"
        batch.payloads.append(ConformerRecord("drugbank:DB00945", document("3d"), molblock, 1, "by\n$$$$\nhand"))
        write_batch(connection, run_id, "hand", batch)
        graph = document("graph")
        relation = {"r": DescribedRelation("r", "Gene", "Gene", "somebody", "CC-BY-NC-4.0")}
        load_triples(connection, run_id, graph, encode_rows([("Gene::1", "r", "Gene::2")]), relation)


@pytest.fixture(scope="module")
def filled(database: Engine) -> Engine:
    facts(database)
    return database


def test_every_format_has_every_table(filled: Engine, tmp_path: Path) -> None:
    for form in (ExportFormat.sqlite, ExportFormat.csv, ExportFormat.jsonl, ExportFormat.parquet):
        counts = export(filled, tmp_path / "deep" / form, form)
        assert set(counts) == set(TABLES) - {"vectors"} and counts["drugs"] == 3 and counts["triples"] == 1
        again = export(filled, tmp_path / f"{form}-open", form, open_only=True)
        assert again["texts"] == 1 and again["triples"] == 0 and counts["texts"] == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize(("name", "options"), [("csv", {}), ("x", {"tables": ("drug; drop",)})])
def test_usage(filled: Engine, tmp_path: Path, name: str, options: dict) -> None:
    (tmp_path / "csv").mkdir()
    with pytest.raises(UsageError):
        export(filled, tmp_path / name, ExportFormat.csv, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["csv"]


def test_sqlite_has_types_keys_indexes_and_empty_tables(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "x.sqlite", ExportFormat.sqlite, pictures=True, open_only=True)
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as exported:
        columns = {row[1]: row[2] for row in exported.execute("PRAGMA table_info(properties)")}
        assert columns["value"] == "REAL" and columns["drug_id"] == "INTEGER" and columns["licence_id"] == "TEXT"
        assert exported.execute("SELECT count(*) FROM triples").fetchone() == (0,)
        assert exported.execute("PRAGMA foreign_key_check").fetchall() == []
        assert exported.execute("SELECT count(*) FROM pragma_foreign_key_list('texts')").fetchone() == (2,)
        assert ("drug_id",) in exported.execute("SELECT name FROM pragma_table_info('drugs') WHERE pk = 1").fetchall()
        assert exported.execute("SELECT count(*) FROM sqlite_master WHERE type = 'index'").fetchone()[0] > 15
        assert exported.execute("SELECT picture FROM images").fetchone() == (b"png",)
        assert exported.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = json.loads(exported.execute("SELECT identifiers FROM drugs WHERE name = 'Aspirin'").fetchone()[0])
        assert "cas:50-78-2" in names


def test_parquet_has_lists_and_licences_in_its_schema(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "p", ExportFormat.parquet)
    schema = pq.read_schema(tmp_path / "p" / "drugs.parquet")
    assert schema.field("identifiers").type == pa.list_(pa.string()) and schema.field("drug_id").type == pa.int64()
    told = {name: [x["id"] for x in json.loads(pq.read_schema(tmp_path / "p" / f"{name}.parquet").metadata[b"mkmed.licences"])]
            for name in ("texts", "triples", "drugs", "interactions")}
    assert told == {"texts": ["CC-BY-NC-4.0", "CC0-1.0"], "triples": ["CC-BY-NC-4.0"], "drugs": ["CC0-1.0"],
                    "interactions": ["CC0-1.0"]}
    assert isinstance(pq.read_table(tmp_path / "p" / "drugs.parquet")["identifiers"][0].as_py(), list)
    assert pq.read_schema(tmp_path / "p" / "provenance.parquet").field("retrieved_at").type == pa.timestamp("us", "UTC")


def test_text_formats(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "c", ExportFormat.csv, pictures=True)
    with (tmp_path / "c" / "texts.csv").open() as file:
        assert "'=cmd()" in {row["provider"] for row in csv.DictReader(file)}
    with (tmp_path / "c" / "images.csv").open() as file:
        assert [(tmp_path / "c" / row["picture"]).read_bytes() for row in csv.DictReader(file)] == [b"png"]
    export(filled, tmp_path / "j", ExportFormat.jsonl, tables=("texts", "images"), open_only=True)
    lines = [json.loads(line) for line in (tmp_path / "j" / "texts.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["Metformin"]
    assert {"source", "retrieved_from", "licence_id", "retrieved_at", "sha256"} <= set(lines[0])
    assert "picture" not in json.loads((tmp_path / "j" / "images.jsonl").read_text())


def test_sdf(filled: Engine, tmp_path: Path) -> None:
    from rdkit import Chem

    assert export(filled, tmp_path / "x.sdf", ExportFormat.sdf) == {"conformers": 1}
    (molecule,) = Chem.SDMolSupplier(str(tmp_path / "x.sdf"))
    assert molecule.GetNumAtoms() == 1 and molecule.GetProp("name") == "Aspirin"
    assert molecule.GetProp("licence_id") == "CC0-1.0" and molecule.GetProp("method") == "by $$$$ hand"
    with pytest.raises(UsageError):
        export(filled, tmp_path / "y.sdf", ExportFormat.sdf, tables=("texts",))


def test_all_tables_are_of_one_moment(fresh_database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts(fresh_database)
    from kb.query import export as module

    read = module._Rows.batches

    def writing_meanwhile(self: module._Rows) -> Iterator:
        if self.name == "bucket":
            with fresh_database.begin() as other:
                other.execute(text("DELETE FROM mkmed.drug_name; DELETE FROM mkmed.text"))
        yield from read(self)

    monkeypatch.setattr(module._Rows, "batches", writing_meanwhile)
    counts = export(fresh_database, tmp_path / "x", ExportFormat.jsonl)
    assert counts["texts"] == 2 and counts["names"] > 0
    assert export(fresh_database, tmp_path / "y", ExportFormat.jsonl)["texts"] == 0


CHILD = """
import sys, time
from pathlib import Path
from kb.db.address import parse_url
from kb.db.engine import engine_for
from kb.query import export as module
read = module._Rows.batches
def slow(self):
    yield from read(self)
    if self.name == "names":
        print("here", flush=True)
        time.sleep(60)
module._Rows.batches = slow
import cli
if __name__ == "__main__":
    sys.argv = ["mkmed", "kb", "export", "--as", sys.argv[1], "--out", sys.argv[2]]
    cli.main()
"""


@pytest.mark.parametrize("form", ["sqlite", "parquet"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_killed_export_leaves_nothing_to_pick_up(filled: Engine, tmp_path: Path, form: str, number: int) -> None:
    target = tmp_path / "out"
    environment = os.environ | {"MKMED_DATABASE_URL": bare(filled.url), "MKMED_HOME": str(tmp_path / "home")}
    with subprocess.Popen([sys.executable, "-c", CHILD, form, str(target)], cwd=ROOT, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == "here\n"
        child.send_signal(number)
        if number == signal.SIGINT:
            time.sleep(0.05)
            child.send_signal(number)
        _, said = child.communicate(timeout=30)
    assert "Traceback" not in said and not target.exists()
    if number != signal.SIGKILL:
        assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    assert export(filled, target, ExportFormat(form))["drugs"] == 3


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, which mkmed's files do not fit into."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
                                           capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("form", [ExportFormat.sqlite, ExportFormat.csv, ExportFormat.parquet, ExportFormat.jsonl])
def test_a_full_disk_is_told_and_leaves_nothing(filled: Engine, tiny: Path, form: ExportFormat) -> None:
    (tiny / "ballast").write_bytes(b"x" * 40_000)
    with pytest.raises(DiskFull, match="no space left"):
        export(filled, tiny / "out", form)
    assert [p.name for p in tiny.iterdir()] == ["ballast"]


def test_a_figure_is_drawn_whole_or_not_at_all(filled: Engine, tiny: Path) -> None:
    (tiny / "ballast").write_bytes(b"x" * 60_000)
    with filled.connect() as connection:
        drawn = draw_coverage(buckets(connection))
    with pytest.raises(OSError, match="No space"):
        save_figure(drawn, tiny / "bucket.png")
    assert [p.name for p in tiny.iterdir()] == ["ballast"]


def test_a_conformer_that_is_none_is_named(fresh_database: Engine, tmp_path: Path) -> None:
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", small_batch())
        connection.execute(text("UPDATE mkmed.conformer SET molblock = 'a' || chr(10) || '$$$$' || chr(10) || 'M  END'"))
    with pytest.raises(DataError, match="by hand is not an MDL block"):
        export(fresh_database, tmp_path / "x.sdf", ExportFormat.sdf)
    assert list(tmp_path.iterdir()) == []
