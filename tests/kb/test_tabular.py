"""The user's own tables: what is declared is read, what is wrong is told by its row, and nothing is lost silently."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from kb.errors import UsageError
from kb.ingest.engine import Summary, ingest, plan
from kb.ledger.verify import verify
from kb.query.names import find_drug
from kb.query.read import conformers, drugs, properties, texts
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.rdkit.compute import embed

COLUMNS = {"key": "Id", "name": "Name", "smiles": "SMILES", "identifier.cas": "CAS", "property.xlogp": "LogP",
           "text": "Description", "atc": "ATC", "synonym": "Other names"}
HEADER = "Id,Name,SMILES,CAS,LogP,Description,ATC,Other names\n"
ROWS = [
    'a1,Aspirin,CC(=O)Oc1ccccc1C(=O)O,50-78-2,1.19,"Relieves pain,\nfever",N02BA01,ASA | acetylsalicylate',
    "a2,Metformin,CN(C)C(=N)NC(=N)N,657-24-9,-0.5,Lowers glucose,A10BA02,",
    "a3,Antibody X,,,,A biologic,,",
]


def run(engine: Engine, path: Path, columns: dict[str, str] | None = None, **options: object) -> Summary:
    return ingest(engine, Settings(workers=1), "tabular",
                  IngestOptions(path=path, columns=COLUMNS if columns is None else columns, **options))  # type: ignore[arg-type]


def write(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def rejected(connection: Connection) -> dict[int, str]:
    rows = connection.execute(text("SELECT key, last_error FROM mkmed.lookup WHERE source LIKE 'tabular/%' AND state = 'rejected'"))
    return {int(row.key.split(":")[2]): row.last_error for row in rows}


def test_declared_columns_are_read(fresh_database: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "drugs.csv", *ROWS)
    assert plan(fresh_database, Settings(), "tabular", IngestOptions(path=path, columns=COLUMNS)).keys == 3
    run(fresh_database, path)
    with fresh_database.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []
        assert sorted(drugs(connection).names) == ["Antibody X", "Aspirin", "Metformin"]
        aspirin = find_drug(connection, "BSYNRYMUTXBXSQ-UHFFFAOYSA-N")
        for handle in ("acetylsalicylate", "cas:50-78-2", "user:a1"):
            assert find_drug(connection, handle) == aspirin
        assert {t.text for t in texts(connection)} == {"Relieves pain,\nfever", "Lowers glucose", "A biologic"}
        table = properties(connection)
        assert table.values[:, table.names.index("xlogp")].tolist() == [1.19, -0.5]
        assert connection.scalar(text("SELECT code FROM mkmed.drug_atc WHERE drug_id = :i"), {"i": aspirin}) == "N02BA01"
        assert connection.scalar(text("SELECT origin FROM mkmed.source WHERE name = 'tabular/drugs'")) == "user"
        before = connection.scalar(text("SELECT max(xmin::text::bigint) FROM mkmed.cell"))
    assert run(fresh_database, path).counts.get("rows", 0) == 0
    with fresh_database.begin() as connection:
        assert connection.scalar(text("SELECT max(xmin::text::bigint) FROM mkmed.cell")) == before


def test_what_is_wrong_is_rejected_by_row_and_the_rest_is_taken(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    lines = [
        HEADER.strip(),
        "b1,Ethanol,CCO,64-17-5,-0.3,,,",  # line 2
        "b2,Too short,CCC",  # 3
        "b3,Bad structure,C1CC,,,,,",  # 4
        "b4,Named structure,CCO evil name,,,,,",  # 5
        "b5,Propane,CCC,not-a-cas,high,,ZZ9,",  # 6: three wrong values, the rest good
        ",,,,,a text without a drug,,",  # 7
        "b1,Again,CCCC,,,,,",  # 8
        "b6,Huge," + "C" * 20_000 + ",,,,,",  # 9
    ]
    path.write_bytes("\n".join(lines).encode() + b"\nb7,Not \xff UTF-8,CCCCC,,,,,\nb8,Butane,CCCC,,,,,\n")
    summary = run(fresh_database, path)
    with fresh_database.begin() as connection:
        found = rejected(connection)
        named = {"Bad structure", "Named structure", "Huge"}  # a refused structure takes nothing else along
        assert set(drugs(connection).names) == {"Butane", "Ethanol", "Propane"} | named
        assert {d for d, s in zip(drugs(connection).names, drugs(connection).smiles, strict=True) if s is None} == named
        assert set(found) == {3, 4, 5, 6, 7, 8, 9, 10}
        assert "3 cells" in found[3] and "cannot read" in found[4] and "something else" in found[5]
        assert "neither" in found[7] and "row 2" in found[8] and "limit" in found[9] and "UTF-8" in found[10]
        six = connection.scalars(
            text("SELECT last_error FROM mkmed.lookup WHERE key LIKE '%:6:%' AND state = 'rejected'")).all()
        assert len(six) == 3
        assert [check for check in verify(connection) if check.broken] == []
    assert summary.counts["rejected_rows"] == 10  # seven rows, and three values of row 6


def test_rows_in_equal_rows_taken_and_rejected(fresh_database: Engine, tmp_path: Path) -> None:
    rows = [f"k{i},Drug {i},{'C' * (i % 40 + 1) if i % 7 else 'not a molecule'},,,,," for i in range(1, 2301)]
    summary = run(fresh_database, write(tmp_path / "many.csv", *rows))
    with fresh_database.begin() as connection:
        records = connection.scalar(text("SELECT count(*) FROM mkmed.drug_record"))
    assert records == len(rows), "the names of refused structures are kept"
    assert summary.counts["rejected_rows"] == 2300 // 7


def test_limit_then_the_whole_file(fresh_database: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "drugs.csv", *ROWS)
    run(fresh_database, path, limit=1)
    with fresh_database.begin() as connection:
        assert drugs(connection).names == ["Aspirin"]
    run(fresh_database, path)
    with fresh_database.begin() as connection:
        assert len(drugs(connection).ids) == 3


def test_the_same_drug_from_two_files_is_one_drug(fresh_database: Engine, tmp_path: Path) -> None:
    run(fresh_database, write(tmp_path / "one.csv", *ROWS))
    other = tmp_path / "two.tsv.gz"
    other.write_bytes(gzip.compress(b"compound\tstructure\nSalicylate acetate\tOC(=O)c1ccccc1OC(C)=O\n"))
    run(fresh_database, other, {"name": "compound", "smiles": "structure"})
    with fresh_database.begin() as connection:
        assert len(drugs(connection).ids) == 3
        assert find_drug(connection, "salicylate acetate") == find_drug(connection, "aspirin")


def test_sdf_brings_structure_and_conformer(fresh_database: Engine, tmp_path: Path) -> None:
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    flat = Chem.MolFromSmiles("CCO")
    rdDepictor.Compute2DCoords(flat)
    solid = embed("CC(=O)Oc1ccccc1C(=O)O").molblock
    path = tmp_path / "two.sdf"
    path.write_text(f"ethanol{Chem.MolToMolBlock(flat)}>  <CAS>\n64-17-5\n\n$$$$\naspirin{solid}$$$$\nbroken\n\n\nM  END\n$$$$\n")
    run(fresh_database, path, {"identifier.cas": "CAS"})
    with fresh_database.begin() as connection:
        assert sorted(drugs(connection).names) == ["aspirin", "ethanol"]
        assert [c.drug_id for c in conformers(connection)] == [find_drug(connection, "BSYNRYMUTXBXSQ-UHFFFAOYSA-N")]
        assert find_drug(connection, "cas:64-17-5") == find_drug(connection, "ethanol")
        assert set(rejected(connection)) == {3}
        assert [check for check in verify(connection) if check.broken] == []


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, "needs to know the columns"),
        ({"smiles": "Smile"}, "no column 'Smile'"),
        ({"colour": "Name"}, "unknown role 'colour'"),
        ({"property.logp": "LogP"}, "unknown role 'property.logp'"),
        ({"identifier.cass": "CAS"}, "unknown role 'identifier.cass'"),
    ],
)
def test_a_wrong_map_is_told(database: Engine, tmp_path: Path, columns: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        run(database, write(tmp_path / "drugs.csv", *ROWS), columns)
    assert caught.value.hint
