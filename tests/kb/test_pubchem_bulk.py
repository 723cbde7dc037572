"""The source ``pubchem-bulk``: SD files and Extras tables, streamed, in parts, with what is malformed told apart."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from kb.errors import SourceError, UsageError
from kb.ingest.engine import Summary, ingest, plan
from kb.ledger.verify import verify
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.pubchem import bulk as pubchem_bulk
from kb.sources.pubchem.bulk import SortedTable, find_bulk_files

DATA = Path(__file__).parents[1] / "data"
SAMPLE = DATA / "pubchem_bulk" / "Compound_sample.sdf.gz"
ASPIRIN_3D = DATA / "pubchem" / "recorded" / "asprin_sdf_3d.sdf"
PARTS = [part for part in gzip.decompress(SAMPLE.read_bytes()).split(b"$$$$\n") if part]
CID = PARTS[0].split(b"\n", 1)[0]
KEY = PARTS[0].split(b"<PUBCHEM_IUPAC_INCHIKEY>")[1].split(b"\n")[1]
ASPIRIN = "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"


def run(engine: Engine, path: Path, **options: Any) -> Summary:
    home = Settings(home=path if path.is_dir() else path.parent)  # type: ignore[call-arg]
    return ingest(engine, home, "pubchem-bulk", IngestOptions(path=path, **options))


def fetch(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def everything(engine: Engine) -> list[list[tuple[Any, ...]]]:
    tables = (
        "drug",
        "drug_record",
        "drug_name",
        "identifier",
        "property_set",
        "conformer",
        "cell",
        "lookup",
        "artifact",
        "artifact_seen",
    )
    return [fetch(engine, f"SELECT t::text FROM mkmed.{table} t ORDER BY 1") for table in tables]


def sound(engine: Engine) -> bool:
    with engine.connect() as connection:
        return not [check for check in verify(connection) if check.broken]


Tables = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Tables:
    def make(**tables: str) -> Path:
        names = {
            "key": "CID-InChI-Key.gz",
            "smiles": "CID-SMILES.gz",
            "title": "CID-Title.gz",
            "synonym": "CID-Synonym-filtered.gz",
            "parent": "CID-Parent.gz",
        }
        for role, content in tables.items():
            (tmp_path / names[role]).write_bytes(gzip.compress(content.encode()))
        return tmp_path

    return make


def test_characters_that_postgres_refuses_are_taken_out_of_titles_and_spoil_a_record(fresh_database: Engine,
                                                                                       folder: Tables) -> None:
    spoiled = re.sub(rb"(_FORMULA>.*\n)", rb"\1\0", PARTS[1])
    path = folder(title=f"{CID.decode()}\tname\0 with\ud7ffNUL\n")
    (path / "Compound_1.sdf").write_bytes(PARTS[0] + b"$$$$\n" + spoiled + b"$$$$\n")
    counts = run(fresh_database, path).counts
    assert (counts["drugs"], counts["rejected"]) == (1, 1)
    assert fetch(fresh_database, "SELECT name, formula FROM mkmed.drug") == [("name with\ud7ffNUL", "C3H5NO3")]


def test_ingest_twice_is_ingest_once(fresh_database: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    estimate = plan(fresh_database, Settings(home=DATA), "pubchem-bulk", IngestOptions(path=SAMPLE))  # type: ignore[call-arg]
    assert estimate.requests == 0 and 20 < estimate.keys < 100
    counts = run(fresh_database, SAMPLE).counts
    assert counts["drugs"] == 48 and counts.get("rejected", 0) == 0
    assert "48 compounds in" in capsys.readouterr().err
    before = everything(fresh_database)
    assert run(fresh_database, SAMPLE).counts.get("rows", 0) == 0
    assert everything(fresh_database) == before and sound(fresh_database)
    values = fetch(fresh_database, "SELECT count(*), count(values->'tpsa') FROM mkmed.property_set")
    assert values == [(48, 48)]
    rules = fetch(fresh_database, "SELECT evidence FROM mkmed.cell WHERE modality = 'structure'")
    assert rules and all(row[0].startswith("rule:pubchem3d:") for row in rules)


def test_malformed_records_are_filed_under_their_number(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "Compound_x.sdf"
    path.write_bytes(
        b"$$$$\n".join([PARTS[1], PARTS[0].replace(KEY, KEY[:-3]), PARTS[2], b"<html>Busy</html>\n", PARTS[3], b""])
    )
    counts = run(fresh_database, path).counts
    assert (counts["drugs"], counts["rejected"]) == (3, 2)
    filed = fetch(fresh_database, "SELECT key, last_error FROM mkmed.lookup WHERE state = 'rejected' ORDER BY 1")
    assert [key.rpartition(":")[2] for key, _ in filed] == ["2", "4"]
    assert "InChIKey" in filed[0][1] and "no counts line" in filed[1][1]
    assert run(fresh_database, path).counts.get("rejected", 0) == 0 and sound(fresh_database)


def test_parts_resume_where_a_run_stopped(
    fresh_database: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pubchem_bulk, "PART", 10)
    original, seen = pubchem_bulk.parse_flat, []

    def stopping(raw: bytes) -> Any:
        seen.append(raw)
        if len(seen) == 25:
            raise KeyboardInterrupt
        return original(raw)

    monkeypatch.setattr(pubchem_bulk, "parse_flat", stopping)
    with pytest.raises(Exception, match="stopped"):
        run(fresh_database, SAMPLE)
    kept = fetch(fresh_database, "SELECT count(*) FROM mkmed.drug")[0][0]
    assert kept in (10, 20)
    assert run(fresh_database, SAMPLE).counts["drugs"] == 48 - kept
    assert len(seen) == 25 + 48 - kept and sound(fresh_database)


def test_limit_and_ids(fresh_database: Engine) -> None:
    assert run(fresh_database, SAMPLE, limit=5).counts["drugs"] == 5
    wanted = (f"pubchem.compound:{CID.decode()}", PARTS[40].split(b"\n", 1)[0].decode())
    run(fresh_database, SAMPLE, ids=wanted)
    assert len(fetch(fresh_database, "SELECT id FROM mkmed.drug")) == 6


SMILES = "2244\tCC(=O)OC1=CC=CC=C1C(=O)O\n2245\tnot a smiles\n23665411\tCC(=O)OC1=CC=CC=C1C(=O)[O-].[Na+]\n"
TITLES = "1\tAcetylcarnitine\n2244\tAspirin\n23665411\tAspirin sodium\n"
SYNONYMS = "2244\taspirin\n2244\tacetylsalicylic acid\n2244\t50-78-2\n2244\tUNII-R16CO5Y76E\nbroken\n"


def test_extras_alone(fresh_database: Engine, folder: Tables) -> None:
    path = folder(smiles=SMILES, title=TITLES, synonym=SYNONYMS)
    counts = run(fresh_database, path).counts
    assert (counts["drugs"], counts["rejected"]) == (2, 1)
    drugs = fetch(fresh_database, "SELECT name, inchikey, smiles FROM mkmed.drug ORDER BY name")
    assert drugs[0] == ("Aspirin", ASPIRIN, "CC(=O)Oc1ccccc1C(=O)O") and drugs[1][0] == "Aspirin sodium"
    found = fetch(
        fresh_database,
        "SELECT namespace || ':' || value FROM mkmed.identifier JOIN mkmed.drug d"
        " ON d.id = drug_id WHERE d.name = 'Aspirin' ORDER BY 1",
    )
    assert [row[0] for row in found] == [
        "cas:50-78-2",
        f"inchikey:{ASPIRIN}",
        "pubchem.compound:2244",
        "unii:R16CO5Y76E",
    ]


def test_keys_win_over_smiles_and_take_them_along(fresh_database: Engine, folder: Tables) -> None:
    inchi = "InChI=1S/C9H8O4/c1-6(10)13-8-5-3-2-4-7(8)9(11)12/h2-5H,1H3,(H,11,12)"
    keys = f"2244\t{inchi}\t{ASPIRIN}\n9\tInChI=x\n10\t{inchi}\tRYYVLZVUVIJVGH-UHFFFAOYSA-N\n"
    counts = run(fresh_database, folder(key=keys, smiles=SMILES, title=TITLES)).counts
    assert (counts["drugs"], counts["rejected"]) == (1, 2), "a key that is another InChI's is refused"
    assert fetch(fresh_database, "SELECT name, smiles FROM mkmed.drug") == [("Aspirin", "CC(=O)Oc1ccccc1C(=O)O")]


def test_conformers_of_drugs_and_of_their_salts(fresh_database: Engine, folder: Tables) -> None:
    path = folder(smiles=SMILES, parent="2244\t2244\n23665411\t2244\n")
    (path / "00000001_00025000.sdf").write_bytes(ASPIRIN_3D.read_bytes().rstrip() + b"\n" + b"junk\n$$$$\n")
    assert find_bulk_files(path).spatial and not find_bulk_files(path).flat
    counts = run(fresh_database, path).counts
    assert counts["rejected"] == 2
    rows = fetch(
        fresh_database,
        "SELECT r.key, c.heavy_atoms, c.note FROM mkmed.conformer c JOIN mkmed.drug_record r"
        " USING (drug_id) ORDER BY 1",
    )
    assert rows == [
        ("pubchem.compound:2244", 13, None),
        ("pubchem.compound:23665411", 13, "of the parent compound, pubchem.compound:2244"),
    ]
    before = everything(fresh_database)
    run(fresh_database, path)
    assert everything(fresh_database) == before and sound(fresh_database)


def test_a_table_is_read_once_in_order_and_again_when_the_cids_go_back(folder: Tables) -> None:
    path = folder(title="1\ta\n2\tb\n2\tbb\nx\ty\n5\te\n") / "CID-Title.gz"
    table = SortedTable(path)
    assert table.of([2, 1]) == {1: ["a"], 2: ["b", "bb"]}
    assert table.of([4, 5, 9]) == {5: ["e"]} and table.skipped == 1
    assert table.of([1]) == {1: ["a"]}
    table.close()


def test_damaged_and_foreign_files(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "Compound_1.sdf.gz"
    path.write_bytes(SAMPLE.read_bytes()[:-5000])
    with pytest.raises(SourceError, match="damaged"):
        run(fresh_database, path)
    path.unlink()
    with pytest.raises(UsageError, match="no bulk file"):
        run(fresh_database, tmp_path)
    assert sound(fresh_database)
