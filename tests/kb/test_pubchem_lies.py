"""Each lie by its name: what a row, a list, a record, a text, a picture or a conformer may not say."""

from __future__ import annotations

import copy
import json
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kb.errors import Blocked, Interrupted
from kb.http.client import Request
from kb.http.pace import Colour, Pace, Policy
from kb.sources.pubchem.parse import (
    TAGS,
    ContentError,
    Structure,
    parse_conformers,
    parse_lists,
    parse_properties,
    parse_record,
    parse_view,
)
from tests.standin import catalogue
from tests.standin.quick import FAST, transport_to

CID, NEXT = 2244, 4091
ASKED = frozenset({CID, NEXT})


def table() -> dict[str, Any]:
    document = catalogue.properties([CID, NEXT], list(TAGS))
    assert document is not None
    return document


def refused(**changes: Any) -> str:
    """Why a row with these changes is refused; the other row must be taken."""
    document = table()
    document["PropertyTable"]["Properties"][0] |= changes
    found = parse_properties(json.dumps(document).replace("Infinity", "1e999").encode(), ASKED)
    assert list(found.values) == [NEXT] and list(found.refused) == [CID]
    return found.refused[CID]


NUMBERS = [tag for tag in TAGS if tag not in ("Title", "IUPACName", "MolecularFormula", "SMILES", "InChIKey")]
ODD = [None, True, "1_000", "١٢", " 7 ", "NaN", "Infinity", float("inf"), -1e29, 1e29, [], {}, "", "0x1F", "1e5", "1,5", 10**40]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("tag", NUMBERS)
def test_a_number_is_a_number_in_its_range(tag: str, value: Any) -> None:
    assert tag in refused(**{tag: value})


@pytest.mark.parametrize("tag", [t for t in NUMBERS if t not in ("XLogP", "Charge")])
def test_no_count_and_no_mass_is_negative(tag: str) -> None:
    assert refused(**{tag: -3})


@pytest.mark.parametrize(("tag", "value"), [
    ("HeavyAtomCount", 51), ("HeavyAtomCount", 12), ("Charge", 1), ("CovalentUnitCount", 2), ("MolecularWeight", "181.17"),
    ("MonoisotopicMass", "181.05"), ("RotatableBondCount", 16), ("HBondDonorCount", 40), ("HBondAcceptorCount", 40),
    ("AtomStereoCount", 40), ("TPSA", 2000.0),
])
def test_what_the_structure_contradicts_is_refused(tag: str, value: Any) -> None:
    assert "the structure has" in refused(**{tag: value}) or "covalent" in refused(**{tag: value})


@pytest.mark.parametrize("tag", ["SMILES", "InChIKey", "MolecularFormula", "MolecularWeight", "MonoisotopicMass",
                                 "HeavyAtomCount"])
def test_a_value_of_the_next_compound_is_refused(tag: str) -> None:
    assert refused(**{tag: table()["PropertyTable"]["Properties"][1][tag]})


@pytest.mark.parametrize(("tag", "value"), [
    ("InChIKey", "bsynrymutxbxsq-uhfffaoysa-n"), ("InChIKey", "BSYNRYMUTXBXSQ-UHFFFAOYSA"), ("MolecularFormula", "C9H8O4é"),
    ("MolecularFormula", "Xx4"), ("SMILES", "C" * 10_001), ("SMILES", "C C"), ("Title", "t" * 1_000_000), ("Title", 5),
    ("InChIKey", "RYYVLZVUVIJVGH-UHFFFAOYSA-N"), ("SMILES", "not a structure"), ("IUPACName", None),
])
def test_texts_have_their_form(tag: str, value: Any) -> None:
    assert refused(**{tag: value})


@pytest.mark.parametrize("cid", [0, False, {}, [], None, "2244", 2244.0, -5, 10**12])
def test_a_row_without_a_cid_is_nobodys(cid: Any) -> None:
    document = table()
    document["PropertyTable"]["Properties"][0]["CID"] = cid
    found = parse_properties(json.dumps(document).encode(), ASKED)
    assert list(found.values) == [NEXT] and list(found.refused) == [CID]


@pytest.mark.parametrize("change", [
    {"Synonym": None}, {"Synonym": "aspirin"}, {"Synonym": [5]}, {"Synonym": ["x"] * 25_000}, {"Synonym": ["x" * 30_000]},
    {"CID": None, "SID": 5}, {"CID": False},
], ids=lambda change: repr(change)[:30])
def test_a_list_is_of_texts(change: dict[str, Any]) -> None:
    document = catalogue.information([CID, NEXT], "Synonym")
    assert document is not None
    rows = document["InformationList"]["Information"]
    at = next(n for n, row in enumerate(rows) if row["CID"] == CID)
    rows[at] |= change
    found = parse_lists(json.dumps(document).encode(), "Synonym", ASKED)
    assert list(found.values) == [NEXT] and list(found.refused) == [CID]


def record(change: Callable[[dict[str, Any]], Any]) -> str:
    document = copy.deepcopy(catalogue.record(CID))
    assert document is not None
    change(document["PC_Compounds"][0])
    found = parse_record(json.dumps(document).encode(), frozenset({CID}))
    assert not found.values
    return found.refused[CID]


def test_a_record_has_atoms_properties_and_decimal_numbers() -> None:
    assert "atoms" in record(lambda r: r.pop("atoms"))
    assert "atoms" in record(lambda r: r["atoms"].update(aid=[], element=[]))
    assert "props" in record(lambda r: r.update(props=[]))
    assert "props" in record(lambda r: r.update(props={}))
    weight = next(n for n, prop in enumerate(record_of()["props"]) if prop["urn"]["label"] == "Molecular Weight")
    for value in ("1_000", "NaN", "١٢", "1e29", "-3"):
        assert record(lambda r, v=value: r["props"][weight]["value"].update(sval=v))


def record_of() -> dict[str, Any]:
    document = catalogue.record(CID)
    assert document is not None
    found: dict[str, Any] = document["PC_Compounds"][0]
    return found


def view(change: Callable[[dict[str, Any]], Any]) -> str:
    document = copy.deepcopy(catalogue.view(CID, "Record Description"))
    assert document is not None
    change(document["Record"])
    with pytest.raises(ContentError) as error:
        parse_view(json.dumps(document).encode(), frozenset({CID}), ("Record Description",))
    return str(error.value)


def test_a_text_has_its_reference_and_is_a_text() -> None:
    def first(r: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = r["Section"][0]["Section"][0]["Information"][0]
        return found

    for number in ([], {}, None, True, "1", 1.0, 99):
        assert "eference" in view(lambda r, n=number: first(r).update(ReferenceNumber=n))
    assert "URL" in view(lambda r: r["Reference"][0].update(LicenseURL="http://["))
    assert "SourceName" in view(lambda r: r["Reference"][0].update(SourceName="s" * 1_000_000))
    assert "one number" in view(lambda r: r["Reference"].append(r["Reference"][0]))
    assert "String" in view(lambda r: first(r)["Value"]["StringWithMarkup"][0].update(String="x" * 20_000_000))
    assert view(lambda r: first(r)["Value"].update(StringWithMarkup=[{"String": f"{n}"} for n in range(20_000)]))

    def nuls(r: dict[str, Any]) -> None:
        for information in r["Section"][0]["Section"][0]["Information"]:
            information["Value"]["StringWithMarkup"] = [{"String": "\0" * 100}]

    assert "without a text" in view(nuls)


CHIRAL = 5793


def isomer(smiles: str) -> bytes:
    """A 3D record as PubChem writes it, of the isomer that the SMILES says."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)  # type: ignore[attr-defined]
    block = Chem.MolToMolBlock(molecule).split("\n")
    block[0], block[1] = str(CHIRAL), "  -OEChem-09082514033D"
    return ("\n".join(block) + f"> <PUBCHEM_COMPOUND_CID>\n{CHIRAL}\n\n$$$$\n").encode()


L_ALANINE, D_ALANINE = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"


@pytest.mark.parametrize(("left", "right"), [(L_ALANINE, D_ALANINE), ("C/C=C/Cl", "C/C=C\\Cl"),
                                             ("O[C@H](C)[C@H](C)Cl", "O[C@@H](C)[C@H](C)Cl")])
def test_the_coordinates_of_an_isomer_are_another_compounds(left: str, right: str) -> None:
    for given, asked, right_one in ((left, left, True), (right, right, True), (left, right, False), (right, left, False)):
        found = parse_conformers(isomer(given), {CHIRAL: Structure(asked)})
        assert bool(found.values) is right_one and bool(found.refused) is not right_one


def geometry(change: Callable[[list[str], range], Any]) -> str:
    lines = catalogue.conformers()[CID].split("\n")
    change(lines, range(4, 4 + int(lines[3][:3])))
    structure = Structure(catalogue.compounds()[CID]["smiles"], "C9H8O4")
    found = parse_conformers("\n".join(lines).encode(), {CID: structure})
    assert not found.values
    return found.refused[CID]


def test_a_conformer_has_a_possible_geometry() -> None:
    def everywhere(put: Callable[[str], str]) -> Callable[[list[str], range], None]:
        def change(lines: list[str], atoms: range) -> None:
            for n in atoms:
                lines[n] = put(lines[n])
        return change

    assert "bond" in geometry(everywhere(lambda line: "    0.0000    0.0000    0.0000" + line[30:]))
    assert geometry(everywhere(lambda line: line[:20] + "    0.0000" + line[30:]))
    for number in ("     1.0e9", "       nan", " 9999.0000", "     1_000", "          "):
        assert "coordinates" in geometry(lambda ls, at, x=number: ls.__setitem__(4, x + ls[4][10:])) or number == " 9999.0000"
    assert geometry(lambda ls, at: ls.__setitem__(at.stop, "  1 99" + ls[at.stop][6:]))
    assert geometry(lambda ls, at: ls.__setitem__(4, ls[4] + "\0"))

    def bald(lines: list[str], atoms: range) -> None:
        heavy = [lines[n] for n in atoms if lines[n][31:34].strip() != "H"]
        bonds = int(lines[3][3:6])
        kept = [b for b in lines[atoms.stop : atoms.stop + bonds] if int(b[:3]) <= 13 and int(b[3:6]) <= 13]
        lines[3 : atoms.stop + bonds] = [f"{len(heavy):3d}{len(kept):3d}{lines[3][6:]}", *heavy, *kept]

    assert "hydrogens" in geometry(bald)


@pytest.mark.parametrize("cid", [4075, 5430], ids=["mesalazine", "thiabendazole"])
def test_a_planar_molecule_pressed_flat_at_an_angle_is_refused(cid: int) -> None:
    lines = catalogue.conformers()[cid].split("\n")
    structure = Structure(catalogue.compounds()[cid]["smiles"], "")
    assert parse_conformers("\n".join(lines).encode(), {cid: structure}).values
    for n in range(4, 4 + int(lines[3][:3])):
        lines[n] = lines[n][:20] + "    0.0000" + lines[n][30:]
    assert "bonds" in parse_conformers("\n".join(lines).encode(), {cid: structure}).refused[cid]


def test_no_true_conformer_is_refused_for_its_geometry() -> None:
    for cid, text in catalogue.conformers().items():
        assert parse_conformers(text.encode(), {cid: Structure(catalogue.compounds()[cid]["smiles"], "")}).values, cid


class Desynchronised(socketserver.BaseRequestHandler):
    """Answers every question, and a little later once more without being asked, on the same connection."""

    delay = 0.0

    def handle(self) -> None:
        with suppress(OSError):  # the client hung up
            while question := self.request.recv(65536):
                path = question.split(b" ", 2)[1]
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path)
                time.sleep(self.delay)
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02, 0.08])
def test_a_response_that_nobody_asked_for_answers_nothing(delay: float, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Desynchronised, "delay", delay)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Desynchronised) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with transport_to(f"http://127.0.0.1:{server.server_address[1]}/rest", tmp_path) as transport:
            for number in range(12):
                answer = transport.fetch(Request(f"/{number}"), lambda answer: answer)
                assert answer.body == b"/rest/%d" % number
                time.sleep(delay / 2)
        server.shutdown()


def test_a_long_pause_ends_the_run_in_true_words_whatever_was_answered_meanwhile(tmp_path: Path) -> None:
    policy = replace(FAST, longest_pause=900.0, blocks=5)
    pace = Pace(tmp_path / "pace.sqlite", "host", policy)
    before = time.monotonic()
    pace.refused(before, 2000.0)
    pace.heard(Colour.green, before - 0.1)
    for _ in range(2):  # a later run meets the same pause
        with pytest.raises(Blocked, match=r"asked to be left alone for 33 minutes more") as error:
            pace.paused()
        assert "33 minutes" in str(error.value.hint) and "row" not in error.value.message
        pace.close()
        pace = Pace(tmp_path / "pace.sqlite", "host", policy)
    pace.close()


def test_a_pause_that_is_waited_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(tmp_path / "pace.sqlite", "host", Policy(longest_pause=900.0))
    pace.refused(time.monotonic(), 60.0)
    threading.Timer(0.3, pace.stop).start()
    with pytest.raises(Interrupted):
        pace.clear()
    assert capsys.readouterr().err.count("host asked for a pause: going on in") == 1
