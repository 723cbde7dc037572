"""Codes carry their system and keep their zeros; drug texts become names worth looking up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.orders.codes import SYSTEMS, icd, icd_of_either_version, normalised, prefixed


@given(st.sampled_from(sorted(SYSTEMS)), st.text(max_size=12))
def test_prefixing_twice_is_prefixing_once(system, text):
    once = prefixed(system, text)
    assert once is None or prefixed(system, once) == once
    assert once is None or once.startswith(system + ":")


@given(st.sampled_from(sorted(SYSTEMS)), st.data())
def test_every_code_of_a_system_is_taken_as_it_is(system, data):
    code = data.draw(st.from_regex(SYSTEMS[system], fullmatch=True).filter(str.isascii))
    assert prefixed(system, code) == f"{system}:{code}"


@pytest.mark.parametrize(("written", "kind", "code"), [
    ("ICD10CM:I50.9", "diagnosis", "ICD10CM:I509"), ("icd10cm:i50.9", "diagnosis", "ICD10CM:I509"),
    ("ICD-10-CM: I50.9 ", "diagnosis", "ICD10CM:I509"), ("ICD10CM|I50.9", "diagnosis", "ICD10CM:I509"),
    ("http://hl7.org/fhir/sid/icd-10-cm|I50.9", "diagnosis", "ICD10CM:I509"),
    ("https://hl7.org/fhir/sid/icd-10-cm/|i509", "diagnosis", "ICD10CM:I509"),
    ("urn:oid:2.16.840.1.113883.6.90|I50.9", "diagnosis", "ICD10CM:I509"),
    ("ICD9CM/042", "diagnosis", "ICD9CM:042"), ("ICD9:042", "diagnosis", "ICD9CM:042"),
    ("ICD9:38.93", "procedure", "ICD9PROC:3893"), ("http://hl7.org/fhir/sid/icd-9-cm|38.93", "procedure", "ICD9PROC:3893"),
    ("ICD10:0bh17ez", "procedure", "ICD10PCS:0BH17EZ"), ("SNOMED//38341003", "diagnosis", "SNOMED:38341003"),
    ("http://snomed.info/sct|38341003", "procedure", "SNOMED:38341003"),
    ("http://snomed.info/sct/731000124108|38341003", "diagnosis", "SNOMED:38341003"),
    ("EICU:Pulmonary|Ventilation  and x|a: b/c", "procedure", "EICU:pulmonary|ventilation and x|a: b/c"),
    ("atc:b01a", "medication", "ATC:B01A"), ("RxNorm/1191", "medication", "RXCUI:1191"),
    ("http://www.nlm.nih.gov/research/umls/rxnorm|1191", "medication", "RXCUI:1191"),
    ("ndc:0002-8215-01", "medication", "NDC:00002821501"), ("Name:  Aspirin 81 MG", "medication", "NAME:aspirin 81 mg"),
    ("OMOP:444", "diagnosis", "OMOP:444"), ("I10", "diagnosis", None), ("428.0", "diagnosis", None),
    ("ICD10CM:401.9", "diagnosis", None), ("ICD10CM:I\u0661\u0660", "diagnosis", None), ("ICD9CM:4\u00b2", "diagnosis", None),
    (":I10", "diagnosis", None), ("", "diagnosis", None), ("pulmonary / oxygen: mask", "procedure", None),
    ("hydrocodone/acetaminophen", "medication", None),
])
def test_every_way_to_write_a_code_is_one_code(written, kind, code):
    assert normalised(written, kind) == code
    assert code is None or normalised(code, kind) == code


@given(st.sampled_from(sorted(SYSTEMS)), st.data())
def test_normalising_keeps_what_readers_write(system, data):
    code = f"{system}:{data.draw(st.from_regex(SYSTEMS[system], fullmatch=True))}"
    assert normalised(code, "procedure" if system in ("ICD9PROC", "ICD10PCS") else "diagnosis") == code


def test_what_collides_as_bare_text_does_not_collide():
    # E8300 is a watercraft accident in ICD-9-CM, a disorder of copper metabolism in ICD-10-CM.
    assert icd("E8300", "9", procedure=False) != icd("E8300", "10", procedure=False)
    assert icd("4280", "9", procedure=False) != icd("4280", "9", procedure=True)
    assert icd("00320", "9", procedure=False) == "ICD9CM:00320" and prefixed("ICD9CM", "0320") == "ICD9CM:0320"
    assert icd("4280", "11", procedure=False) is None and icd("", "9", procedure=False) is None


@pytest.mark.parametrize(("field", "codes"), [
    ("401.9, I10", ("ICD9CM:4019", "ICD10CM:I10")),
    ("E950.3, X78.9", ("ICD9CM:E9503", "ICD10CM:X789")),
    ("E11.9", ("ICD10CM:E119",)),
    ("V58.61", ("ICD9CM:V5861",)),
    ("038.9, A41.9, 038.9", ("ICD9CM:0389", "ICD10CM:A419")),
    ("", ()),
    ("sepsis", ()),
])
def test_fields_of_both_versions(field, codes):
    assert icd_of_either_version(field) == codes
