"""Tables and SD files as people and broken pipes leave them: one bad row or record costs no other."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

import cli
from kb import csvfile, sdf
from kb.csvfile import open_csv
from kb.errors import DataError, Incomplete, SourceError
from kb.ingest.engine import Summary, ingest
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.pubchem.bulk import PubChemBulk
from tests.kb.test_pubchem_files import PARTS

NAMED = {"name": "name", "smiles": "smiles"}


def read(path: Path, content: str | bytes) -> tuple[list[tuple[str, ...]], dict[int, str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with open_csv(path) as table:
        rows = list(table.rows())
    return [r.cells for r in rows if not r.reason], {r.line: r.reason for r in rows if r.reason}


def load(engine: Engine, path: Path, columns: dict[str, str] | None = None, source: str = "tabular", **more: Any
         ) -> Summary:
    columns = NAMED if columns is None else columns
    return ingest(engine, Settings(workers=1), source, IngestOptions(path=path, columns=columns, **more))


def fetch(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def names(engine: Engine) -> list[str]:
    return [name for (name,) in fetch(engine, "SELECT name FROM mkmed.drug ORDER BY 1")]


@pytest.mark.parametrize("at", [0, 3, 537, 540])
def test_an_open_quote_costs_its_own_row_only(at: int, tmp_path: Path) -> None:
    lines = [f"{n},drug {n},x" for n in range(541)]
    lines[at] = f'{at},"drug {at},x'
    rows, bad = read(tmp_path / "orders.csv", "id,name,more\n" + "\n".join(lines) + "\n")
    assert len(rows) == 540 and bad == {at + 2: csvfile.OPEN_QUOTE}


def test_an_open_quote_that_a_later_quote_closes(tmp_path: Path) -> None:
    content = 'id,name\n1,"aspirin\n2,caffeine\n3,"metformin"\n4,"two\nlines"\n5,a "quoted" word\n6,5" tube\n7,"a""b"\n'
    rows, bad = read(tmp_path / "t.csv", content)
    assert bad == {2: csvfile.OPEN_QUOTE}
    assert rows == [("2", "caffeine"), ("3", "metformin"), ("4", "two\nlines"), ("5", 'a "quoted" word'),
                    ("6", '5" tube'), ("7", 'a"b')]


def test_a_row_that_swallows_rows_of_the_right_width_gives_them_back(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "t.csv", 'id,name\n1,"a,b\n2,caffeine\n3,x",y\n4,z\n')
    assert rows == [("2", "caffeine"), ("4", "z")] and set(bad) == {2, 4}


def test_many_open_quotes_do_not_take_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvfile, "MAX_AGAIN", 1 << 20)
    rows, bad = read(tmp_path / "t.csv", "id,name\n" + '1,"a\n' * 50_000 + "2,b\n")
    assert rows == [("2", "b")] and len(bad) == 50_000


def test_cells_of_a_megabyte_are_read_and_longer_ones_told(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "t.csv", f"id,text\n1,{'a' * 140_000}\n2,{'b' * ((1 << 20) + 1)}\n3,c\n")
    assert [len(cells[1]) for cells in rows] == [140_000, 1] and "a cell of more than" in bad[3]
    rows, bad = read(tmp_path / "t.csv", f"id,text\n1,{'a' * (5 << 20)}\n2,b\n")
    assert rows == [("2", "b")] and "a line of more than" in bad[2]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(codec: str, end: str, tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "t.csv", end.join(["name,smiles", "naïve ethanol,CCO", ""]).encode(codec))
    assert rows == [("naïve ethanol", "CCO")] and not bad


@pytest.mark.parametrize(("content", "reason"), [
    (b"name;smiles;xlogp\nethanol;CCO;-0,1\n", "separated by ';'"), (b"name\tsmiles\nethanol\tCCO\n", "by a tab"),
    ("naïve,smiles\na,C\n".encode("cp1252"), "not UTF-8"), (b"", "no header"), (b"\n", "no header"),
    (b'"name,smiles\nethanol,CCO\n', "no header"), (b"a,a\n1,2\n", "one name"),
    ("name,smiles\na,C\n".encode("utf-16-le"), "UTF-16"), (b"\x89PNG\r\n\x1a\n\0\0\0\0\0\0\0\0\0\0\0\0", "not UTF-8 text"),
])
def test_what_is_no_table_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason) as error:
        read(tmp_path / "t.csv", content)
    assert error.value.hint


def test_cp1252_and_nul_cost_no_other_row(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"name,smiles\nna\xefve ethanol,CCO\nmethanol,CO\nbe\0fore,CCC\n")
    load(fresh_database, path)
    assert names(fresh_database) == ["before", "methanol"]
    ((error,),) = fetch(fresh_database, "SELECT last_error FROM mkmed.lookup WHERE state = 'rejected'")
    assert "not UTF-8" in error and "Windows-1252" in error


@pytest.mark.parametrize("name", ["t.csv.gz", "t.sdf.gz"])
def test_a_bomb_is_refused_in_words(name: str, fresh_database: Engine, tmp_path: Path) -> None:
    with gzip.open(tmp_path / name, "wb", 9) as out:
        out.write(b"name,smiles\n")
        for _ in range(200):
            out.write(b"a" * (1 << 20))
    with pytest.raises(SourceError, match=r"unpacks to more than 67,108,864 bytes"):
        load(fresh_database, tmp_path / name, {} if "sdf" in name else NAMED)


def test_names_that_no_index_holds_are_told_by_row(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"name,smiles,other\n{'n' * 9000},CCO,\nmethanol,CO,{'s' * 9000}|wood alcohol\n{'n' * 9000},,\n")
    load(fresh_database, path, {**NAMED, "synonym": "other"})
    told = {int(key.split(":")[2]): error for key, error in fetch(fresh_database, "SELECT key, last_error FROM mkmed.lookup"
                                                                 " WHERE state = 'rejected' AND last_error LIKE '%bytes%'")}
    assert told.keys() == {2, 3, 4} and "9,000 bytes" in told[2]
    assert len(names(fresh_database)) == 2
    path = tmp_path / "interactions.csv"
    path.write_text(f"drug_a,drug_b,provider\nmethanol,{'n' * 9000},x\nmethanol,CCO,{'p' * 9000}\n")
    assert load(fresh_database, path, {}, "interactions").counts["rejected"] == 2


RECORD = "\n".join(["{}", "  x", "", "  1  0  0  0  0  0  0  0  0  0999 V2000",
                    "    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0", "M  END", ""])
WITH_ITEM = RECORD + "> <code>\n{}\n\n"


def sd(*titles: str) -> str:
    return "".join(WITH_ITEM.format(title, title) + "$$$$\n" for title in titles)


@pytest.mark.parametrize(("tail", "kept"), [
    (RECORD.format("last"), True), (RECORD.format("last").rstrip("\n"), True), (WITH_ITEM.format("last", "z"), True),
    (RECORD.format("last").replace("M  END", "M  E"), False), (RECORD.format("last")[:-20], False),
    ("last\n", False), ("last\n  x\n\n  9  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n", False),
    (WITH_ITEM.format("last", "z").rstrip("\n"), True), (WITH_ITEM.format("last", "z") + "$$$", True),
])
def test_the_last_record_of_an_sdf_is_kept_if_it_is_whole_and_told_if_not(
    tail: str, kept: bool, fresh_database: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "t.sdf"
    path.write_text(sd("first", "second") + tail)
    whole = kept and not tail.endswith("\nz")
    for _ in range(2):  # the second run says it again
        if whole:
            load(fresh_database, path, {"name": "title"})
        else:
            with pytest.raises(Incomplete, match=r"the file ends within|fewer atoms"):
                load(fresh_database, path, {"name": "title"})
    assert ("last" in fetch_titles(fresh_database)) == kept
    if not whole:
        failed = fetch(fresh_database, "SELECT key, last_error FROM mkmed.lookup WHERE state = 'failed'")
        assert len(failed) == 1 and re.search(r":3:", failed[0][0])


def fetch_titles(engine: Engine) -> set[str]:
    return {name for (name,) in fetch(engine, "SELECT name FROM mkmed.drug_record")}


def test_the_exit_code_of_a_cut_sdf_is_3(database_environment: Engine, tmp_path: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.sdf"
    path.write_text(sd("first") + RECORD.format("cut")[:-30])
    assert cli.run(["kb", "ingest", "--source", "tabular", "--path", str(path), "--column", "name=title"]) == 3
    assert "'cut'" in capsys.readouterr().err


def test_an_sdf_that_begins_with_its_delimiter_and_odd_records(tmp_path: Path) -> None:
    records = list(sdf.split_bytes(b"$$$$\n" + sd("a").encode() + b"\xff\n$$$$\n" + sd("b").encode()))
    assert [raw.number for raw in records] == [1, 2, 3, 4]
    outcomes = []
    for raw in records:
        try:
            outcomes.append(sdf.parse_sd_record(raw).title)
        except DataError as error:
            outcomes.append(error.message)
    assert outcomes == ["an empty record", "a", "a record that is not UTF-8", "b"]
    for spoiled in ("M  END", "> <", "$$$$"):  # in the connection table, and in what follows it
        with pytest.raises(DataError, match="NUL"):
            sdf.parse_sd_record(sdf.Raw(1, (RECORD.format("a") + "> <x>\n1\n\n$$$$").replace(spoiled, f"\0\n{spoiled}").encode()))


def test_bulk_files_that_are_cut_are_incomplete(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "Compound_1.sdf"
    path.write_bytes(b"$$$$\n".join([PARTS[0], PARTS[1], PARTS[2][: len(PARTS[2]) // 2]]))
    for _ in range(2):
        with pytest.raises(Incomplete, match="ends within"):
            ingest(fresh_database, Settings(), PubChemBulk.name, IngestOptions(path=path))
    assert len(names(fresh_database)) == 2
