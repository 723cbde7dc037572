"""Identifiers and National Drug Codes are normalised by their issuers' rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.errors import DataError
from kb.normalise import Identifier, clean, clean_json, ndc_was_padded, normalise_ndc, recognise_identifier, tidy


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0002-7597-01", "00002759701"),
        ("50242-040-62", "50242004062"),
        ("60575-4112-1", "60575411201"),
        ("00002759701", "00002759701"),
        ("2759701", "00002759701"),
        ("63323026201.0", "63323026201"),
        ("0", None),
        ("", None),
        ("nan", None),
        ("1234567890", None),
        ("1-2-3", None),
        ("00000000000", None),
    ],
)
def test_ndc(given, expected):
    assert normalise_ndc(given) == expected


@given(st.text(alphabet="0123456789-.", max_size=14))
def test_ndc_is_idempotent(text):
    once = normalise_ndc(text)
    if once is not None:
        assert len(once) == 11
        assert normalise_ndc(once) == once


def test_restored_zeros_are_told():
    assert ndc_was_padded("2759701")
    assert not ndc_was_padded("00002759701")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DRUGBANK:db00945", "drugbank:DB00945"),
        ("CHEBI:15365", "chebi:15365"),
        ("pubchem.compound:2244", "pubchem.compound:2244"),
        ("unii:r16co5y76e", "unii:R16CO5Y76E"),
        ("ndc:0002-7597-01", "ndc:00002759701"),
    ],
)
def test_parse_normalises(text, expected):
    identifier = Identifier.parse(text)
    assert str(identifier) == expected
    assert Identifier.parse(str(identifier)) == identifier


@pytest.mark.parametrize(
    "text", ["drugbank:945", "nowhere:1", "metformin", "pubchem.compound:0", "drugbank:DB00945'; drop table drug"]
)
def test_parse_refuses(text):
    with pytest.raises(DataError) as error:
        Identifier.parse(text)
    assert error.value.hint


def test_recognise():
    assert str(recognise_identifier("DB00945")) == "drugbank:DB00945"
    assert str(recognise_identifier("BSYNRYMUTXBXSQ-UHFFFAOYSA-N")) == "inchikey:BSYNRYMUTXBXSQ-UHFFFAOYSA-N"
    assert recognise_identifier("aspirin") is None


@given(st.text())
def test_clean_is_idempotent_and_fit_for_postgres(text):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert "\0" not in cleaned
    cleaned.encode("utf-8")


def test_lone_surrogates_and_nan():
    assert clean("a\ud800b") == "a�b"
    assert tidy("  a \n b ") == "a b"
    assert clean_json({"x": float("nan"), "y": ["\0z"]}) == {"x": None, "y": ["z"]}
