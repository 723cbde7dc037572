"""Codes carry their system and keep their zeros; drug texts become names worth looking up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.orders.codes import SYSTEMS, icd, icd_of_either_version, normalised, prefixed
from recsys.orders.names import medication_key, name_candidates, shorthand


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


@pytest.mark.parametrize(("text", "wanted"), [
    ("5 ML VIAL : DILTIAZEM HCL 25 MG/5ML IV SOLN", "diltiazem"),
    ("WARFARIN SODIUM 5 MG PO TABS", "warfarin"),
    ("HYDROmorphone (Dilaudid)", "hydromorphone"),
    ("HYDROmorphone (Dilaudid)", "dilaudid"),
    ("OxyCODONE (Immediate Release) ", "oxycodone"),
    ("Lidocaine 5% Patch", "lidocaine"),
    ("Heparin Flush (10 units/ml)", "heparin"),
    ("metoprolol tartrate 25 MG Oral Tablet [Lopressor]", "metoprolol tartrate"),
    ("Potassium Chloride", "potassium chloride"),
    ("ondansetron 2 mg/1 ml 2ml sdv inj", "ondansetron"),
    ("1000 ML FLEX CONT : SODIUM CHLORIDE 0.9 % IV SOLN", "sodium chloride"),
    ("120 ACTUAT Fluticasone propionate 0.044 MG/ACTUAT Metered Dose Inhaler [Flovent]", "fluticasone propionate"),
    ("NS", "ns"),
])
def test_the_name_rule(text, wanted):
    assert (wanted,) in name_candidates(text.lower())


def test_combinations_are_taken_apart():
    assert ("acetaminophen", "caff", "butalbital") in name_candidates("acetaminophen-caff-butalbital")
    assert ("amoxicillin", "clavulanate") in name_candidates("amoxicillin 250 mg / clavulanate 125 mg oral tablet")


@given(st.text(max_size=60))
def test_any_text_gives_names_without_blanks_around_them(text):
    for candidate in name_candidates(text):
        assert candidate and all(name == name.strip() and name for name in candidate)


def test_the_whole_text_comes_first_and_a_lone_salt_never():
    assert name_candidates("sodium bicarbonate")[0] == ("sodium bicarbonate",)
    assert ("sodium",) not in name_candidates("sodium something strange")


def test_a_key_holds_what_identifies_an_order_best_first():
    assert medication_key(ndc="0", names=("", "0")) == ""
    assert medication_key(ndc="0", names=("Aspirin EC",), route=" po ") == "NAME:aspirin ec\tROUTE:PO"
    key = medication_key(ndc="0005-3618-01", atc=("B01AC06",), rxcuis=("1191",), names=("A\tB", "a b"))
    assert key == "ATC:B01AC06\tNDC:00005361801\tRXCUI:1191\tNAME:a b"
    assert medication_key(route="PO") == ""


def test_shorthand_means_names_or_real_classes():
    for order, (names, atc) in shorthand().items():
        assert names or atc, order
        assert all(5 <= len(code) <= 7 and code[0].isalpha() and code[1:3].isdigit() for code in atc), order
        assert order == order.lower().strip()
    assert shorthand()["lovenox"] == (("enoxaparin",), ("B01AB05",))
    assert shorthand()["duoneb"] == (("ipratropium", "albuterol"), ())
