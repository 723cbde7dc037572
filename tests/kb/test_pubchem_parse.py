"""The parsers on answers that PubChem really gave, and on what the stand-in says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kb.errors import DataError
from kb.properties import PROPERTIES
from kb.sources.pubchem.ask import Expected, Kind, Verdict, classify
from kb.sources.pubchem.parse import (
    TAGS,
    VALUES,
    ContentError,
    Structure,
    parse_cids,
    parse_conformers,
    parse_lists,
    parse_properties,
    parse_record,
    parse_view,
)
from kb.sources.pubchem.proof import is_cas, licence_of, record_of, three_d_rule
from kb.sources.pubchem.source import KeyQuestion, read_question
from tests.standin import catalogue

RECORDED = Path(__file__).parents[1] / "data" / "pubchem" / "recorded"


def test_recorded_registry_numbers() -> None:
    body = (RECORDED / "CAS_as_json.json").read_bytes()
    asked = frozenset({2244, 135398570})
    told = classify(200, {"content-type": "application/json"}, body, Expected(Kind.information, asked, ("RN",)))
    assert told.verdict is Verdict.present
    numbers = parse_lists(body, "RN", asked).values
    assert numbers[135398570] == ("231-641-6", "40732-48-7", "7665-99-8")
    assert "50-78-2" in numbers[2244]
    assert [n for n in numbers[2244] if not is_cas(n)] == ["200-064-1"], "an EC number"


def test_recorded_conformer() -> None:
    body = (RECORDED / "asprin_sdf_3d.sdf").read_bytes()
    expected = Expected(Kind.sdf, frozenset({2244}))
    assert classify(200, {"content-type": "chemical/x-mdl-sdfile"}, body, expected).verdict is Verdict.present
    conformer = parse_conformers(body, {2244: ASPIRIN}).values[2244]
    assert (conformer.cid, conformer.heavy_atoms, conformer.conformer_id) == (2244, 13, "000008C400000001")
    assert conformer.energy == pytest.approx(39.5952)
    from rdkit import Chem

    molecule = Chem.MolFromMolBlock(conformer.molblock)
    assert Chem.MolToInchiKey(molecule) == "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"
    assert molecule.GetConformer().Is3D()


def test_recorded_views_keep_every_reference_licence() -> None:
    penicillin = parse_view((RECORDED / "pugview_penicillin.json").read_bytes(), frozenset({2349})).passages
    assert {p.cid for p in penicillin} == {2349}
    (description,) = (p for p in penicillin if p.heading == "Record Description")
    assert description.content.startswith("Cillin has been reported in Penicillium chrysogenum")
    assert licence_of(description.provider, description.licence_note, description.licence_url).id == "CC0-1.0"
    lactation = [p for p in penicillin if p.heading == "Effects During Pregnancy and Lactation"]
    assert lactation and {p.licence_url for p in lactation} == {"https://www.nlm.nih.gov/copyright.html"}
    body = (RECORDED / "pugview_bromopentane.json").read_bytes()
    assert [p.cid for p in parse_view(body, frozenset({8057}), ("Record Description",)).passages] == [8057]


@pytest.mark.parametrize(("provider", "note", "url", "licence"), [
    ("ChEBI", None, None, "CC-BY-4.0"),
    ("DrugBank", "Creative Common's Attribution-NonCommercial 4.0 (http://creativecommons.org/licenses/by-nc/4.0/x)",
     "https://www.drugbank.ca/legal/terms_of_use", "CC-BY-NC-4.0"),
    ("CAS", "The data is provided under a CC-BY-NC 4.0 license", None, "CC-BY-NC-4.0"),
    ("PharmGKB", "subject to the Creative Commons Attribution-ShareALike 4.0 license"
     " (https://creativecommons.org/licenses/by-sa/4.0/)", "https://www.pharmgkb.org/page/policies", "CC-BY-SA-4.0"),
    ("ChEMBL", "Unported License (http://creativecommons.org/licenses/by-sa/3.0/).", "http://e.org", "CC-BY-SA-3.0"),
    ("Thieme", "provided under a CC-BY-NC-ND 4.0 license", None, "CC-BY-NC-ND-4.0"),
    ("Wikidata", "CCZero", "https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
    ("LactMed", None, "https://www.nlm.nih.gov/copyright.html", "LicenseRef-US-Government"),
    ("NJDOH", None, "https://www.nj.gov/nj/legal.html", "LicenseRef-provider-terms"),
    ("CSCP", None, "https://www.cdph.ca.gov/Pages/Conditions-of-Use.aspx", "LicenseRef-provider-terms"),
    ("HMDB", "HMDB is offered to the public", "https://www.hmdb.ca/citing", "LicenseRef-provider-terms"),
    ("Somebody", None, None, "LicenseRef-unstated"),
])
def test_licences(provider: str, note: str | None, url: str | None, licence: str) -> None:
    assert licence_of(provider, note, url).id == licence


def test_a_property_table_and_a_full_record_say_the_same() -> None:
    """The table by tag names, the record through PubChemPy: two ways to the same numbers."""
    for cid in list(catalogue.compounds())[:30]:
        row = parse_properties(json.dumps(catalogue.properties([cid], list(TAGS))).encode(), frozenset({cid})).values[cid]
        record = parse_record(json.dumps(catalogue.record(cid)).encode(), frozenset({cid})).values[cid]
        for name in ("formula", "smiles", "inchikey", "iupac_name", "units", "values"):
            assert getattr(row, name) == getattr(record, name), (cid, name)


def test_property_names_are_the_canonical_ones() -> None:
    assert set(VALUES) <= set(PROPERTIES)
    assert len(set(TAGS)) == len(TAGS) == 17


def test_cid_0_is_no_compound() -> None:
    assert parse_cids(b'{"IdentifierList": {"CID": [0]}}') == ()
    assert parse_cids(b'{"InformationList": {"Information": [{"SID": 1, "CID": [7, 8]}, {"SID": 2, "CID": [7]}]}}') == (
        7, 8)


@pytest.mark.parametrize("said", ["false", "0", "[false]", "[0.0]", "[0, 0]", "[0, 5]", "[]", "null", '["5"]', "[-1]",
                                  "[5.0]", "[1e3]", "{}", "[99999999999]", "[true]"])
def test_what_is_no_list_of_cids(said: str) -> None:
    with pytest.raises(ContentError):
        parse_cids(b'{"IdentifierList": {"CID": %s}}' % said.encode())


@pytest.mark.parametrize("coords", [
    [{"type": [1], "aid": [1]}], [{"aid": [1], "conformers": [{"x": [0.0], "y": [0.0]}]}], [], {}, [[1]], 7,
    [{"aid": [{}], "conformers": [{"x": [0.0], "y": [0.0]}]}], [{"aid": None, "conformers": None}],
])
def test_a_record_that_pubchempy_cannot_read(coords: object) -> None:
    record = catalogue.record(2244)
    assert record is not None
    record["PC_Compounds"][0]["coords"] = coords
    refused = parse_record(json.dumps(record).encode(), frozenset({2244})).refused
    assert "PubChemPy" in refused[2244]


ASPIRIN = Structure("CC(=O)OC1=CC=CC=C1C(=O)O", "C9H8O4")


def test_a_flat_conformer_is_refused() -> None:
    flat = (RECORDED / "asprin_sdf_3d.sdf").read_text().replace("4033D", "4032D", 1)
    assert "3D" in parse_conformers(flat.encode(), {2244: ASPIRIN}).refused[2244]
    told = classify(200, {"content-type": "chemical/x-mdl-sdfile"}, flat.encode(), Expected(Kind.sdf, frozenset({2244})))
    assert told.verdict is Verdict.retry and told.unusable


def test_a_conformer_of_another_compound_is_refused() -> None:
    record = catalogue.conformers()[2244].encode()
    assert parse_conformers(record, {2244: ASPIRIN}).values
    for formula in ("C9H8O3", "C10H8O4", "C9H8O4Cl", "C9H8NO4", "C9H9O4"):
        assert parse_conformers(record, {2244: Structure(None, formula)}).refused
    assert parse_conformers(record, {2244: Structure("CC(=O)OC1=CC=CC(C(=O)O)=C1", "C9H8O4")}).refused, "an isomer"


LONG = "C" * 20
"""Seventeen of its bonds can be rotated."""


@pytest.mark.parametrize(("smiles", "formula", "rotatable", "rule"), [
    ("C" * 51, "C51H104", 48, "rule:pubchem3d:heavy-atoms>50"), ("c1ccccc1" * 8, "C48H34", 7, None),
    (LONG, "C20H42", 16, "rule:pubchem3d:rotatable-bonds>15"), ("CCO", "C2H6O", 16, None), (None, "C20H42", 16, None),
    (None, "Cl2H6N2Pt", 0, "rule:pubchem3d:element:Pt"), (None, "C6H5BO2", 0, "rule:pubchem3d:element:B"),
    (None, "C14H20BrClFIN2O3PSSi+", 0, None), (None, "", 0, None),
])
def test_what_pubchem_cannot_have_in_3d(smiles: str | None, formula: str, rotatable: int, rule: str | None) -> None:
    assert three_d_rule(smiles, formula, rotatable) == rule


@pytest.mark.parametrize(("text", "question"), [
    ("2244", KeyQuestion("pubchem.compound", "2244")), ("cid: 2244", KeyQuestion("pubchem.compound", "2244")),
    ("pubchem.compound:2244", KeyQuestion("pubchem.compound", "2244")),
    ("  Aspirin ", KeyQuestion("name", "aspirin")), ("name:CCO", KeyQuestion("name", "cco")),
    ("CCO", KeyQuestion("smiles", "CCO")), ("smiles:C#N", KeyQuestion("smiles", "C#N")),
    ("DB00945", KeyQuestion("drugbank", "DB00945")), ("drugbank:db00945", KeyQuestion("drugbank", "DB00945")),
    ("BSYNRYMUTXBXSQ-UHFFFAOYSA-N", KeyQuestion("inchikey", "BSYNRYMUTXBXSQ-UHFFFAOYSA-N")),
    ("50-78-2", KeyQuestion("name", "50-78-2")), ("chebi:15365", KeyQuestion("name", "chebi:15365")),
    ("acetylsalicylic acid", KeyQuestion("name", "acetylsalicylic acid")),
    ("x'; DROP TABLE drug; --", KeyQuestion("name", "x'; drop table drug; --")),
])
def test_what_a_line_asks_for(text: str, question: KeyQuestion) -> None:
    assert read_question(text) == question
    assert KeyQuestion.parse_key(question.key) == question


@pytest.mark.parametrize("text", ["", "cid:x", "cid:0", "atc:N02BA01", "name:", "n" * 501, "smiles:" + "C" * 10_001])
def test_lines_that_ask_for_nothing(text: str) -> None:
    with pytest.raises(DataError):
        read_question(text)


def test_only_the_users_own_drugbank_id_becomes_an_identifier() -> None:
    from tests.kb.test_pubchem import document_of

    body = json.dumps(catalogue.properties([2244], list(TAGS))).encode()
    compound = parse_properties(body, frozenset({2244})).values[2244]
    synonyms = ("Aspirin", "acetylsalicylic acid", "DB99999", "UNII-R16CO5Y76E")
    record = record_of(compound, document_of(b"x"), synonyms, ("50-78-2", "200-064-1"),
                         [KeyQuestion("drugbank", "DB00945"), KeyQuestion("name", "aspirin")])
    assert {str(i) for i in record.identifiers} == {
        "pubchem.compound:2244", "inchikey:BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "cas:50-78-2", "unii:R16CO5Y76E",
        "drugbank:DB00945"}
    assert (record.name, record.smiles) == ("Acetylsalicylic acid", "CC(=O)Oc1ccccc1C(=O)O")
