"""Cases from public bug reports, by the command line as a user types it: what it says, and what is then known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

import cli
from kb.db.address import bare
from tests.standin import catalogue
from tests.standin.faults import Reply, fault_body
from tests.standin.quick import NO_LIMITS
from tests.standin.server import StandIn

CASES = Path(__file__).resolve().parents[1] / "data" / "cases"
Rows = list[tuple[Any, ...]]


class Shell:
    """``mkmed`` on a database of its own; ``said`` is what it last wrote to stderr."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.engine, self.said = engine, ""
        self.environment = os.environ | {"MKMED_DATABASE_URL": bare(engine.url), "MKMED_HOME": str(home), "MKMED_WORKERS": "1",
                                         "MKMED_CONTACT": "tests@example.org"}

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> Any:
        done = subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, timeout=300,
                              env=self.environment | environment, cwd=Path(cli.__file__).parent)
        self.said = done.stderr
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("[", "{")) else done.stdout

    def read(self, name: str, *columns: str) -> dict[str, Any]:
        """The summary of reading a table of the cases."""
        given = [part for column in columns for part in ("--column", column)]
        (row,) = self("kb", "ingest", "--source", "tabular", "--path", str(CASES / "tabular" / name), *given, "-f", "json")
        return row

    def known(self, query: str) -> Rows:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]


@pytest.fixture
def mkmed(fresh_database: Engine, tmp_path: Path) -> Iterator[Shell]:
    """The command; every invariant holds when the test is over."""
    shell = Shell(fresh_database, tmp_path)
    yield shell
    assert all(check["holds"] for check in shell("kb", "verify", "-f", "json"))


def test_structures_that_are_none_cost_no_name(mkmed: Shell) -> None:
    """C01, C02, C03, C05: the row and its reason are kept, and nothing merges that has no structure."""
    row = mkmed.read("T01_structures.csv", "key=id", "name=name", "smiles=smiles")
    assert (row["drugs"], row["rejected_rows"]) == (20, 14)
    assert len(mkmed.known("SELECT DISTINCT drug_id FROM mkmed.drug_record")) == 20
    reasons = dict(mkmed.known("SELECT split_part(key, ':', 3)::int, last_error FROM mkmed.lookup WHERE state = 'rejected'"))
    assert "FBr(F)F" in reasons[3] and "1500 heavy atoms" in reasons[20] and "charge 999999999" in reasons[21]
    assert reasons[13] == reasons[14] == "InChI has no key for this molecule"
    assert "row 15: RDKit cannot read this SMILES: CCO>>CC=O" in mkmed.said


def test_substances_that_differ_are_different_drugs(mkmed: Shell) -> None:
    """C06, C07: stereo, isotopes, water and counter-ions count; another spelling does not."""
    mkmed.read("T02_identity.csv", "key=id", "name=name", "smiles=smiles")
    drugs = dict(mkmed.known("SELECT right(key, 3), drug_id FROM mkmed.drug_record"))
    assert drugs["i05"] == drugs["i06"] and len(set(drugs.values())) == 11
    ((smiles,),) = mkmed.known("SELECT smiles FROM mkmed.drug_record WHERE right(key, 3) = 'i04'")
    assert smiles.count("[2H]") == 6
    assert mkmed("kb", "show", "carbidopa monohydrate", "-f", "json")[0]["relations"]


def test_identifiers_that_a_spreadsheet_spoilt_are_refused_by_value(mkmed: Shell) -> None:
    """C10, C15, C16: dates, wrong check digits, floats and zeros; the rows keep their names."""
    row = mkmed.read("T04_identifiers.csv", "key=id", "name=name", "identifier.cas=cas", "identifier.pubchem.compound=cid",
                     "inchikey=inchikey", "identifier.ndc=ndc")
    assert (row["drugs"], row["rejected_rows"]) == (15, 10)
    for value in ("2001-95-08 00:00:00", "9/2/1975", "126-22-7:", "2244.0", "2.244E+03", "00019N120", "0002-0800"):
        assert repr(value) in mkmed.said
    assert "'50-78-3' is not a cas identifier: its check digit is wrong" in mkmed.said
    assert mkmed.known("SELECT namespace, value FROM mkmed.identifier WHERE namespace IN ('cas', 'pubchem.compound', 'ndc')"
                       " ORDER BY 1, 2") == [("cas", "50-78-2"), ("ndc", "00002080001"), ("ndc", "00002080001"),
                                             ("pubchem.compound", "2244")]
    same = mkmed.known("SELECT DISTINCT drug_id FROM mkmed.drug_record WHERE right(key, 3) IN ('d01', 'd09')")
    assert len(same) == 1, "a labelled key in small letters is the same key"


@pytest.mark.parametrize(("name", "columns", "drugs", "said"), [
    ("T05_nul.csv", ("name=name", "text=text"), 2, ""),
    ("T05_utf16.csv", ("name=name", "smiles=smiles"), 1, ""),
    ("T05_bom_crlf.csv", ("name=name", "smiles=smiles"), 1, ""),
    ("T05_cr_only.csv", ("name=name", "smiles=smiles"), 1, ""),
    ("T05_cp1252.csv", ("name=name", "smiles=smiles"), 1, "row 2: not UTF-8 (saved as Windows-1252"),
    ("T05_short_rows.csv", ("name=name", "smiles=smiles", "text=text"), 0, "row 4: a quote is opened and not closed"),
])
def test_files_as_other_programs_save_them(mkmed: Shell, name: str, columns: tuple[str, ...], drugs: int, said: str) -> None:
    """C18, C19: read, or told by row what the matter is."""
    assert mkmed.read(name, *columns)["drugs"] == drugs
    assert said in mkmed.said
    if name == "T05_nul.csv":
        assert mkmed.known("SELECT content FROM mkmed.text ORDER BY 1") == [("beforeafter",), ("fine",)]


def test_another_delimiter_is_named(mkmed: Shell) -> None:
    """C19: one message that tells what to do."""
    mkmed("kb", "ingest", "--source", "tabular", "--path", str(CASES / "tabular" / "T05_semicolon.csv"),
          "--column", "name=name", code=1)
    assert "separated by ';', not by ','" in mkmed.said


def test_pairs_of_drugs_said_in_several_ways(mkmed: Shell) -> None:
    """G10: one pair with two statements, and three rejected rows."""
    pairs = CASES / "graph" / "interactions.csv"
    mine = mkmed.environment["MKMED_HOME"] + "/two.csv"
    Path(mine).write_text("name,db\nwarfarin,DB00682\naspirin,DB00945\n")
    mkmed("kb", "ingest", "--source", "tabular", "--path", mine, "--column", "name=name", "--column", "identifier.drugbank=db")
    (row,) = mkmed("kb", "ingest", "--source", "interactions", "--path", str(pairs), "-f", "json")
    assert row["rejected"] == 3
    found = mkmed.known("SELECT least(drug_a, drug_b), greatest(drug_a, drug_b), severity FROM mkmed.interaction ORDER BY 3")
    assert [severity for *_, severity in found] == ["major", "minor"] and len({pair[:2] for pair in found}) == 1


def test_the_edition_of_atc_is_told(mkmed: Shell) -> None:
    """E40: a code comes with the edition that it is of."""
    mine = Path(mkmed.environment["MKMED_HOME"]) / "one.csv"
    mine.write_text("name,db\nmetformin,DB00331\n")
    mkmed("kb", "ingest", "--source", "tabular", "--path", str(mine), "--column", "name=name", "--column", "identifier.drugbank=db")
    mkmed("kb", "ingest", "--source", "atc")
    (code,) = mkmed("kb", "show", "metformin", "-f", "json")[0]["atc"]
    assert (code["code"], code["version"]) == ("A10BA02", "2025-10-31")


DEAD, SALT = 999007, 14219


def _ingest(mkmed: Shell, standin: StandIn, *ids: str, code: int = 0, modality: str = "property") -> None:
    listed = Path(mkmed.environment["MKMED_HOME"]) / "ids.txt"
    listed.write_text("\n".join(ids) + "\n")
    mkmed("kb", "ingest", "--source", "pubchem", "--ids", str(listed), "--modality", modality, code=code,
          MKMED_PUBCHEM_URL=standin.url, MKMED_REQUESTS_PER_SECOND="5", MKMED_REQUEST_DEADLINE="5")


def test_numbers_that_are_no_cid_are_refused_by_form(mkmed: Shell) -> None:
    """C10: before anything is asked."""
    with StandIn(NO_LIMITS) as standin:
        for bad in ("0", "-1", "2244.0"):
            _ingest(mkmed, standin, bad, code=2)
            assert bad in mkmed.said
        assert standin.requests == 0


def test_a_cid_that_is_not_live_any_more_is_an_alias_of_the_live_one(mkmed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """C12: PubChem answers an old CID with the structure that the live one has: one drug that is known by both."""
    monkeypatch.setitem(catalogue.compounds(), DEAD, catalogue.compounds()[2244])
    with StandIn(NO_LIMITS) as standin:
        _ingest(mkmed, standin, str(DEAD), "2244")
    assert mkmed.known("SELECT count(*) FROM mkmed.drug") == [(1,)]
    shown = [mkmed("kb", "show", f"pubchem.compound:{cid}", "-f", "json")[0]["drug_id"] for cid in (DEAD, 2244)]
    assert shown[0] == shown[1]


@pytest.mark.parametrize(("said", "state"), [("gone", "absent"), ("another", "rejected")])
def test_what_an_answer_proves_is_all_that_is_taken(mkmed: Shell, said: str, state: str) -> None:
    """C14: NotFound is a proof of absence, the row of another CID is nobody's; neither is a drug."""

    def change(endpoint: str, cids: list[int], reply: Reply) -> Reply:
        if said == "gone":
            return fault_body("PUGREST.NotFound", "No CID found", 404)
        return replace(reply, body=reply.body.replace(b"2244", b"2245"))

    with StandIn(NO_LIMITS) as standin:
        standin.change = change
        _ingest(mkmed, standin, "2244")
    assert mkmed.known("SELECT count(*) FROM mkmed.drug") == [(0,)]
    assert mkmed.known("SELECT state FROM mkmed.lookup WHERE key = 'pubchem.compound:2244'") == [(state,)], mkmed.said


@pytest.mark.parametrize("parents", [True, False])
def test_a_salt_has_no_conformer_of_its_own(mkmed: Shell, parents: bool) -> None:
    """C09: absent with its proof, or its parent's and told as its parent's."""

    def change(endpoint: str, cids: list[int], reply: Reply) -> Reply:
        none = endpoint == "3d" and (not parents or SALT in cids)
        return fault_body("PUGREST.NotFound", "No records found for the given CID(s)", 404) if none else reply

    with StandIn(NO_LIMITS) as standin:
        standin.change = change
        _ingest(mkmed, standin, str(SALT), modality="structure")
    (cell,) = mkmed.known("SELECT c.state, a.http_status, a.url FROM mkmed.cell c JOIN mkmed.artifact a ON a.id = c.artifact"
                          " WHERE c.modality = 'structure'")
    notes = mkmed.known("SELECT note FROM mkmed.conformer")
    assert (cell[0], cell[1]) == (("present", 200) if parents else ("absent", 404))
    assert ("4091" in notes[0][0]) if parents else not notes
