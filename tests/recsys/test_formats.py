"""Every EHR format on the bundled open data, and what happens to files that are not as they should be."""

import gzip
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import DataError, MkmedError, NotFound, UnknownName
from kb.settings import load_settings
from recsys.cohorts.cohort import KINDS
from recsys.cohorts.prepare import choose_visits, prepare
from recsys.formats import FORMATS
from recsys.formats.contract import DUPLICATE, KEPT, Ledger, Limits, check_counts
from recsys.formats.meds import recognise
from recsys.formats.rows import distinct_pairs
from recsys.formats.tables import open_export
from recsys.orders.medications import MedicationMap, OrderLabels, map_orders

DATA = Path(__file__).parents[2] / "mkmed" / "demo" / "data"
FOLDERS = {
    "mimic3": "ehr_mimic3_demo", "mimic4": "ehr_mimic4_demo", "meds": "ehr_mimic4_demo_meds",
    "eicu": "ehr_eicu_demo", "synthea": "ehr_synthea", "omop": "ehr_omop_gibleed", "synthetic": "",
    **{form: Path(__file__).parents[1] / "data" / folder for form, folder in (
        ("fhir", "ehr_fhir_synthea"), ("diabetes130", "ehr_diabetes130"), ("nhanes", "ehr_nhanes1314"))},
}
FEWER = {"fhir": (1, 5), "nhanes": (1, 20)}  # visits a patient, visits in all; 2 and 20 for others
ROWS = {
    "mimic3": {"admissions": 129, "patients": 100, "diagnoses_icd": 1761, "procedures_icd": 506, "prescriptions": 10398},
    "mimic4": {"admissions": 275, "patients": 100, "diagnoses_icd": 4506, "procedures_icd": 721, "prescriptions": 14174},
    "meds": {"admissions": 275, "subjects": 100},
    "eicu": {"patient": 2520, "diagnosis": 24978, "treatment": 38290, "medication": 75604},
    "synthea": {"patients": 11, "encounters": 388, "conditions": 273, "procedures": 889, "medications": 173},
    "omop": {"person": 310, "condition_occurrence": 7434, "procedure_occurrence": 4061, "drug_exposure": 7727},
    "synthetic": {"patients": 6350, "visits": 15032},
    "fhir": {"patients": 5, "encounters": 46, "conditions": 24, "procedures": 15, "orders": 12},
    "diabetes130": {"diabetic_data": 206, "diagnoses": 618, "drugs": 4738},
    "nhanes": {"medications": 185, "person": 84, "interviews": 84, "reasons": 555},
}


class Every(MedicationMap):
    """Takes every medication key as a medication of its own, so that no knowledge base is needed."""

    def label(self, order):
        return OrderLabels(((f"KEY:{order.key}", ""),))


def read(name, root=None, **options):
    return FORMATS[name].read(root or DATA / FOLDERS[name], options, Limits())


def seconds(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def cohort_from(name, recorded, requires=None, min_visits=1):
    mapped = map_orders(recorded.pairs["medication"], Every("3"))
    return choose_visits(name, recorded, mapped, requires or FORMATS[name].requires, min_visits)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_row_of_the_open_data_is_accounted_for(name):
    recorded = read(name)
    for table, rows in ROWS[name].items():
        assert recorded.ledger.rows[table] == rows
    least, enough = FEWER.get(name, (2, 20))
    cohort = cohort_from(name, recorded, min_visits=least)
    total = Counter()
    for loss in cohort.accounting:
        assert loss.rows >= 0 and loss.reason
        total[loss.table] += loss.rows
    assert total == recorded.ledger.rows
    kept = {loss.table: loss.rows for loss in cohort.accounting if loss.reason == KEPT}
    assert kept[recorded.visit_table] == cohort.visits > enough
    assert min(np.bincount(cohort.visit_patient)) >= least
    for kind in FORMATS[name].requires:
        assert cohort.codes[kind].lengths.min() >= 1
        assert all(":" in code for code in cohort.vocabularies[kind].codes)
    assert sum(kept.get(recorded.pairs[kind].table, 0) for kind in KINDS) >= cohort.visits


def test_the_tables_are_those_of_the_registry():
    assert sorted(ROWS) == sorted(FOLDERS) == sorted(FORMATS)
    with pytest.raises(UnknownName, match="mimic5") as caught:
        FORMATS["mimic5"]
    assert "mimic" in caught.value.hint


def test_the_two_forms_of_the_mimic4_demo_agree():
    rebuilt, events = read("mimic4"), read("meds")
    assert len(rebuilt.visit_patient) == len(events.visit_patient)
    assert np.array_equal(np.sort(rebuilt.visit_time), np.sort(events.visit_time))
    for kind in KINDS:
        names = [set(r.pairs[kind].names) for r in (rebuilt, events)]
        assert len(names[0] ^ names[1]) <= 0.01 * len(names[0] | names[1])


@pytest.fixture(scope="module")
def duck(tmp_path_factory):
    """The bundled OMOP extract as a DuckDB file, with the types that a database gives its columns."""
    path = tmp_path_factory.mktemp("duck") / "cdm.duckdb"
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE SCHEMA cdm.cdm")
        for table in (DATA / FOLDERS["omop"]).glob("*.csv.gz"):
            name = table.name.removesuffix(".csv.gz").upper()
            database.execute(f"CREATE TABLE cdm.cdm.{name} AS SELECT * FROM read_csv('{table}')")
    return path


def test_a_duckdb_file_gives_the_same_cohort_as_its_tables(duck):
    expected = cohort_from("omop", read("omop"))
    for root in (duck, duck.parent):
        found = cohort_from("omop", read("omop", root))
        assert found.fingerprint == expected.fingerprint and found.accounting == expected.accounting


def test_a_duckdb_file_without_the_table_or_broken_is_named(duck, tmp_path):
    with pytest.raises(NotFound, match="admissions"):
        read("mimic3", duck)
    (tmp_path / "bad.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"bad\.duckdb cannot be opened"):
        read("omop", tmp_path)


# A made MIMIC-III of three patients: 7 has no visit, 5's later visit has the smaller number, 6 has a broken row.
ADMISSIONS = """ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME
1,5,200,2130-01-01 10:00:00
2,5,100,2131-05-05 10:00:00
3,6,300,2120-02-02 00:00:00
4,6,301,
5,6,300,2120-02-02 00:00:00
"""
PATIENTS = "SUBJECT_ID\n5\n6\n7\n5\n"
DIAGNOSES = """SUBJECT_ID,HADM_ID,ICD9_CODE
5,200,0038
5,100,V1582
6,300,42731
6,300,42731
6,999,4280
6,300,
6,300,not-a-code
"""
PROCEDURES = "SUBJECT_ID,HADM_ID,ICD9_CODE\n5,200,0331\n5,100,3893\n6,300,66\n"
PRESCRIPTIONS = """HADM_ID,DRUG,NDC,ROUTE
200,"Aspirin, EC",00536338101,PO
200,"Aspirin, EC",536338101,PO
100,Heparin,0,IV
300,,0,
300,Saline
300,Insulin,1234567890,SC
"""


@pytest.fixture
def made(tmp_path):
    root = tmp_path / "mimic"
    root.mkdir()
    tables = {"ADMISSIONS": ADMISSIONS, "PATIENTS": PATIENTS, "DIAGNOSES_ICD": DIAGNOSES,
              "PROCEDURES_ICD": PROCEDURES, "PRESCRIPTIONS": PRESCRIPTIONS}
    for name, text in tables.items():
        (root / f"{name}.csv").write_text(text)
    return root


def losses(recorded, table):
    return {reason: rows for (where, reason), rows in recorded.ledger.losses.items() if where == table}


def test_broken_rows_are_counted_one_by_one(made):
    recorded = read("mimic3", made)
    assert losses(recorded, "admissions") == {"no admission time": 1, "visit listed again": 1}
    assert losses(recorded, "patients") == {"patient listed again": 1}
    assert losses(recorded, "diagnoses_icd") == {
        DUPLICATE: 1, "visit not in the visit table": 1, "no code": 1, "not a code of its system": 1}
    assert losses(recorded, "prescriptions") == {
        DUPLICATE: 1, "neither drug name nor drug code": 1, "malformed row": 1}
    assert recorded.pairs["diagnosis"].names == ["ICD9CM:0038", "ICD9CM:42731", "ICD9CM:V1582"]
    assert recorded.pairs["procedure"].names == ["ICD9PROC:0331", "ICD9PROC:3893", "ICD9PROC:66"]
    assert recorded.pairs["medication"].names == [
        "NAME:heparin\tROUTE:IV", "NAME:insulin\tROUTE:SC", "NDC:00536338101\tNAME:aspirin, ec\tROUTE:PO"]


def test_visits_go_by_admission_time_and_patients_without_a_visit_are_counted(made):
    cohort = cohort_from("mimic3", read("mimic3", made), min_visits=2)
    assert cohort.patients == 1 and cohort.visits == 2
    first = cohort.codes["diagnosis"].row(0)
    assert [cohort.vocabularies["diagnosis"].codes[i] for i in first] == ["ICD9CM:0038"]  # hadm 200, the earlier one
    found = {loss.reason: loss.rows for loss in cohort.accounting if loss.table == "patients"}
    assert found == {KEPT: 1, "patient without a visit": 1, "no visit of the patient is kept": 1,
                     "patient listed again": 1}


def test_gzipped_lower_case_and_parquet_give_the_same_cohort(made, tmp_path):
    expected = cohort_from("mimic3", read("mimic3", made)).fingerprint
    other = tmp_path / "other"
    other.mkdir()
    for path in made.iterdir():
        head, _, body = path.read_text().partition("\n")
        with gzip.open(other / f"{path.stem.lower()}.csv.gz", "wt") as file:
            file.write("\ufeff" + head.lower() + "\r\n" + body.replace("\n", "\r\n"))
    assert cohort_from("mimic3", read("mimic3", other)).fingerprint == expected
    (other / "procedures_icd.csv.gz").unlink()
    pq.write_table(pa.table({"hadm_id": [200, 100, 300], "icd9_code": ["0331", "3893", "66"]}),
                   other / "procedures_icd.parquet")
    assert cohort_from("mimic3", read("mimic3", other)).fingerprint == expected


@given(st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_the_order_of_the_rows_does_not_matter(seed):
    shuffle = Random(seed).shuffle
    source = DATA / FOLDERS["mimic3"]
    expected = cohort_from("mimic3", read("mimic3")).fingerprint
    with tempfile.TemporaryDirectory() as folder:
        for path in source.glob("*.csv.gz"):
            head, *rows = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
            shuffle(rows)
            (Path(folder) / path.stem).write_text("".join([head, *rows]))
        assert cohort_from("mimic3", read("mimic3", Path(folder))).fingerprint == expected


@given(st.lists(st.tuples(st.integers(-2, 4), st.lists(st.sampled_from("abcd?"), max_size=3)), max_size=40))
@settings(max_examples=25, deadline=None)
def test_pairs_are_distinct_and_every_row_is_counted(rows):
    """Against plain Python: the first code of a row stands for it, a repeated one is a duplicate, ``?`` a reason."""
    def code(row):
        return "no code" if "?" in row[0] or not row[0] else tuple(row[0])

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text("a\n1\n")
        with open_export(Path(folder), Limits(), Ledger()) as export:
            table = export.load(("visit", "key"), [(str(visit), "".join(codes)) for visit, codes in rows])
            export.run(f"CREATE TEMP TABLE typed AS SELECT CAST(visit AS INT) AS visit, key FROM {table}")
            pairs = distinct_pairs(export, "t", "typed", code)
            lost = export.ledger.losses
    kept = [(visit, codes) for visit, codes in rows if visit >= 0 and codes and "?" not in codes]
    found = list(zip(pairs.visits.tolist(), [pairs.names[i] for i in pairs.codes], strict=True))
    assert sorted(found) == sorted({(visit, one) for visit, codes in kept for one in codes})
    assert pairs.names == sorted({one for _, codes in kept for one in codes})
    assert pairs.rows.sum() + lost.get(("t", DUPLICATE), 0) == len(kept)
    assert sum(lost.values()) + pairs.rows.sum() == len(rows)


def test_a_missing_table_or_column_is_named(made):
    (made / "PRESCRIPTIONS.csv").write_text("HADM_ID,DRUG\n")
    with pytest.raises(DataError, match="no column ndc"):
        read("mimic3", made)
    (made / "PRESCRIPTIONS.csv").unlink()
    with pytest.raises(NotFound, match="prescriptions"):
        read("mimic3", made)
    with pytest.raises(NotFound, match="there is no folder"):
        read("mimic3", made / "elsewhere")


def test_files_that_are_cut_off_or_empty_say_so(made):
    packed = gzip.compress(PRESCRIPTIONS.encode() * 2000)
    (made / "PRESCRIPTIONS.csv").unlink()
    (made / "prescriptions.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"prescriptions\.csv\.gz"):
        read("mimic3", made)
    (made / "prescriptions.csv.gz").unlink()
    (made / "prescriptions.csv").write_text("")
    with pytest.raises(DataError, match="no column"):
        read("mimic3", made)


CANARY = "CANARY4711"


def breakages(root):
    """Ways in which a table full of patients' data can be wrong, each after a fresh copy."""
    rows = f"{CANARY},{CANARY},{CANARY},{CANARY}"
    yield "headerless", lambda: (root / "PRESCRIPTIONS.csv").write_text(rows + "\n")
    yield "unclosed quote", lambda: (root / "PRESCRIPTIONS.csv").write_text(PRESCRIPTIONS + f'200,"{rows}\n' * 3)
    yield "too many fields", lambda: (root / "ADMISSIONS.csv").write_text(ADMISSIONS + rows + ",,,,\n")
    yield "no known visit", lambda: (root / "DIAGNOSES_ICD.csv").write_text(f"HADM_ID,ICD9_CODE\n{CANARY},{CANARY}\n")
    yield "not UTF-8", lambda: (root / "PRESCRIPTIONS.csv").write_bytes(
        PRESCRIPTIONS.encode() + b"200,\xff\xfe,0," + CANARY.encode() + b"\n")
    yield "no time", lambda: (root / "ADMISSIONS.csv").write_text(
        f"SUBJECT_ID,HADM_ID,ADMITTIME\n{CANARY},{CANARY},{CANARY}\n")
    yield "not gzip", lambda: ((root / "PRESCRIPTIONS.csv").unlink(),
                               (root / "prescriptions.csv.gz").write_text(rows))


def test_no_identifier_reaches_an_error_a_log_or_a_cohort(made, tmp_path, capfd, caplog):
    """Patients' and visits' identifiers and broken cells appear in no message, no output and no file."""
    names = [name for name, _ in breakages(made)]
    for number, name in enumerate(names):
        root, home = tmp_path / f"r{number}", load_settings(home=tmp_path / f"h{number}")
        shutil.copytree(made, root)
        for path in root.iterdir():  # patient 5 is the canary in every file
            path.write_text(path.read_text().replace("5,", f"{CANARY}5,").replace("200", f"{CANARY}200"))
        dict(breakages(root))[name]()
        said = ""
        try:
            prepared = prepare(form="mimic3", root=root, min_visits=1, settings=home)
            said = str(prepared.accounting) + str(prepared.unmapped) + str(prepared.cohort.fingerprint)
        except MkmedError as error:
            said = f"{error} {error.hint} {error.__cause__} {error.__suppress_context__ or error.__context__}"
        assert CANARY not in said, name
        for path in home.home.rglob("*"):
            assert path.is_dir() or CANARY.encode() not in path.read_bytes(), name
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err + caplog.text


def test_a_cohort_holds_no_identifier(made, tmp_path):
    root = tmp_path / "canary"
    shutil.copytree(made, root)
    for path in root.iterdir():
        path.write_text(path.read_text().replace("\n5\n", f"\n{CANARY}5\n").replace("5,", f"{CANARY}5,"))
        path.write_text(path.read_text().replace("200,", f"{CANARY}200,").replace("100,", f"{CANARY}100,"))
    recorded = read("mimic3", root)
    cohort = cohort_from("mimic3", recorded)
    assert cohort.patients == 2
    assert CANARY not in repr((cohort, cohort.fingerprint, cohort.provenance))


def test_published_counts_are_checked_where_the_files_look_like_the_full_set():
    published = FORMATS["mimic3"].published
    full = dict(published["MIMIC-III 1.4"])
    assert {check.verdict for check in check_counts(published, full)} == {"PASSED"}
    short = {**full, "prescriptions": full["prescriptions"] - 1}
    assert [c.table for c in check_counts(published, short) if c.verdict == "FAILED"] == ["prescriptions"]
    assert check_counts(published, ROWS["mimic3"]) == []


def test_an_incomplete_full_set_stops_unless_a_subset_is_allowed(made, tmp_path, monkeypatch):
    monkeypatch.setattr(type(FORMATS["mimic3"]), "published", {"made": {"admissions": 6, "patients": 4}})
    monkeypatch.setattr("recsys.cohorts.prepare.MedicationMap", Every)
    home = load_settings(home=tmp_path)
    with pytest.raises(MkmedError, match="made admissions: 5 rows, published are 6"):
        prepare(form="mimic3", root=made, min_visits=1, settings=home)
    prepared = prepare(form="mimic3", root=made, min_visits=1, settings=home, allow_subset=True)
    assert [check.verdict for check in prepared.checks] == ["FAILED", "PASSED"]
    assert prepared.cohort.provenance["checks"][0]["verdict"] == "FAILED"


def test_eicu_stays_are_ordered_by_what_eicu_knows(tmp_path):
    (tmp_path / "patient.csv").write_text(
        "patientunitstayid,uniquepid,hospitaldischargeyear,age,patienthealthsystemstayid,hospitaladmitoffset,"
        "unitvisitnumber\n"
        "1,p,2015,61,11,-3000,2\n2,p,2015,61,11,-10,1\n3,p,2014,60,10,-5,1\n4,q,2014,> 89,20,-5,1\n5,q,2014,70,21,-5,1\n")
    (tmp_path / "diagnosis.csv").write_text(
        'patientunitstayid,icd9code\n1,"401.9, I10"\n2,"E950.3"\n3,"E11.9, 250.00"\n4,V58.61\n5,??\n')
    (tmp_path / "treatment.csv").write_text("patientunitstayid,treatmentstring\n1,a|b\n")
    (tmp_path / "medication.csv").write_text(
        "patientunitstayid,drugname,routeadmin,drugordercancelled\n1,HEPARIN,IV,No\n2,HEPARIN,IV,Yes\n2,,IV,No\n")
    recorded = read("eicu", tmp_path)
    order = np.lexsort((recorded.visit_time, recorded.visit_patient))
    assert order.tolist() == [2, 1, 0, 4, 3]  # numbered as their identifiers; stay 3, then 2 and 1 of one hospital stay; 70 before > 89
    assert recorded.pairs["diagnosis"].names == [
        "ICD10CM:E119", "ICD10CM:I10", "ICD9CM:25000", "ICD9CM:4019", "ICD9CM:E9503", "ICD9CM:V5861"]
    assert losses(recorded, "diagnosis") == {"not a code of its system": 1}
    assert losses(recorded, "medication") == {"order cancelled": 1, "neither drug name nor drug code": 1}
    assert recorded.pairs["diagnosis"].rows.sum() == 4


def test_omop_finds_codes_ingredients_and_classes(tmp_path):
    tables = {
        "visit_occurrence": "visit_occurrence_id,person_id,visit_start_date\n1,9,2020-01-02\n",
        "condition_occurrence": "person_id,condition_concept_id,condition_start_date,visit_occurrence_id\n"
                                "9,100,2020-01-02,1\n9,0,2020-01-02,1\n9,100,2019-05-05,2.0\n",
        "drug_exposure": "person_id,drug_concept_id,drug_exposure_start_date,visit_occurrence_id\n"
                         "9,200,2020-01-02,1\n9,200,2019-05-06,2\n9,300,2020-01-02,\n",
        "concept": "concept_id,concept_name,vocabulary_id,concept_class_id,concept_code\n"
                   "100,Asthma,SNOMED,Disorder,195967001\n200,Aspirin 81 MG Oral Tablet,RxNorm,Clinical Drug,243670\n"
                   "201,aspirin,RxNorm,Ingredient,1191\n202,acetylsalicylic acid,ATC,ATC 5th,B01AC06\n",
        "concept_ancestor": "ancestor_concept_id,descendant_concept_id\n201,200\n202.0,200\n100,200\n",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    recorded = read("omop", tmp_path)
    assert recorded.pairs["diagnosis"].names == ["SNOMED:195967001"]
    assert recorded.pairs["medication"].names == [
        "ATC:B01AC06\tRXCUI:243670\tRXCUI:1191\tNAME:aspirin 81 mg oral tablet", "CODE:OMOP:300"]
    assert recorded.notes == {"visits that only events name": 1, "visits made of days with events": 0}
    assert recorded.visit_time.tolist() == [seconds("2020-01-02"), seconds("2019-05-05")]
    assert losses(recorded, "condition_occurrence") == {"concept 0: not mapped in the source": 1}
    assert losses(recorded, "drug_exposure") == {}
    assert recorded.ledger.notes["drug_exposure", "rows without a visit, placed by date"] == 1


def test_meds_events_go_to_the_admission_that_they_lie_in(tmp_path):
    at = [f"2020-01-{d:02d}T{h:02d}:00:00" for d, h in
          ((1, 9), (1, 0), (3, 9), (3, 8), (4, 9), (8, 9), (9, 0), (12, 9))]
    codes = ["HOSPITAL_ADMISSION//A", "PROCEDURE//ICD//9//0331", "HOSPITAL_DISCHARGE//H", "DIAGNOSIS//ICD//10//I10",
             "MEDICATION//START//Heparin", "HOSPITAL_ADMISSION//B", "NDC//00536338101", "DIAGNOSIS//ICD//9//4019"]
    table = pa.table({
        "subject_id": pa.array([1] * 8 + [2, None], pa.int64()),
        "time": pa.array([np.datetime64(t, "us") for t in at] + [None, np.datetime64(at[0], "us")], pa.timestamp("us")),
        "code": [*codes, "GENDER//F", "LAB//1"],
    })
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    recorded = read("meds", tmp_path)
    assert recorded.visit_time.tolist() == [seconds(at[0]), seconds(at[5])]
    visit_of = {kind: recorded.pairs[kind].visits.tolist() for kind in KINDS}
    assert visit_of == {"diagnosis": [0, 1], "procedure": [0], "medication": [1]}
    assert losses(recorded, "events") == {
        "no subject": 1, "no time": 1, "another kind of event": 3, "outside every admission": 1}


@pytest.mark.parametrize(("code", "expected"), [
    ("DIAGNOSIS//ICD//9//0389", ("diagnosis", "ICD9CM:0389")),
    ("PROCEDURE//ICD//10//0BH17EZ", ("procedure", "ICD10PCS:0BH17EZ")),
    ("ICD10CM//I10", ("diagnosis", "ICD10CM:I10")),
    ("RxNorm//1191", ("medication", "RXCUI:1191")),
    ("MEDICATION//START//Aspirin", ("medication", "NAME:aspirin")),
    ("MEDICATION//STOP//Aspirin", "another kind of event"),
    ("PROCEDURE//START//224275", "another kind of event"),
    ("DIAGNOSIS//ICD//11//I10", "not a code of its system"),
])
def test_meds_codes(code, expected):
    assert recognise(code) == expected


def test_a_ledger_that_does_not_add_up_is_refused():
    ledger = Ledger()
    ledger.read("t", 3)
    ledger.lose("t", "why", 1)
    assert {(loss.reason, loss.rows) for loss in ledger.settled({"t": 2})} == {(KEPT, 2), ("why", 1)}
    with pytest.raises(DataError, match="3 rows were read, but 2"):
        ledger.settled({"t": 1})


@pytest.mark.parametrize(("form", "options", "said"), [
    ("synthetic", {"desing": "guidelines"}, "no option 'desing'"), ("synthetic", {"patients": "x"}, "cannot be 'x'"),
    ("synthetic", {"patients": "0"}, "cannot be '0'"), ("synthetic", {"design": "cluster"}, "cluster"),
    ("mimic3", {"seed": "1"}, "no option 'seed'"),
])
def test_an_option_that_a_format_does_not_have_is_refused(made, tmp_path, form, options, said):
    with pytest.raises(MkmedError, match=said):
        prepare(form=form, root=made, options=options, settings=load_settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_dry_run_counts_everything_and_writes_nothing(tmp_path):
    home = load_settings(home=tmp_path)
    arguments = {"form": "synthetic", "options": {"patients": "40"}, "settings": home}
    dry = prepare(**arguments, dry_run=True)
    assert dry.folder is None and not list(tmp_path.iterdir())
    wet = prepare(**arguments)
    assert wet.cohort.fingerprint == dry.cohort.fingerprint and (wet.folder / "cohort.npz").exists()
    for row in wet.accounting:
        assert row["read"] == sum(other["rows"] for other in wet.accounting if other["table"] == row["table"])
