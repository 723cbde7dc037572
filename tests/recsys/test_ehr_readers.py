"""Reading to the row: at high cardinality, in every kind of file, from broken, hostile and endless ones."""

import csv
import gzip
import os
import stat
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.duck import identifier, open_duck, spill_folder
from kb.errors import DataError, MkmedError, UsageError
from recsys.cohorts.prepare import choose_visits
from recsys.formats import FORMATS
from recsys.formats.contract import DUPLICATE, Ledger, Limits
from recsys.formats.scan import Bounds, Careful, survey
from recsys.formats.tables import MALFORMED, open_export
from recsys.orders.medications import MedicationMap, OrderLabels, map_orders

DATA = Path(__file__).parents[2] / "mkmed" / "demo" / "data"


class Every(MedicationMap):
    """Takes every order as a medication of its own."""

    def label(self, order):
        return OrderLabels(((f"KEY:{order.key}", ""),))


def read(name, root, **limits):
    return FORMATS[name].read(Path(root), {}, Limits(**limits))


def cohort(name, recorded, requires=None, min_visits=1):
    return choose_visits(name, recorded, map_orders(recorded.pairs["medication"], Every("3")),
                  requires or FORMATS[name].requires, min_visits)


def write_mimic4(root, rows=70_000, seed=0):
    """A MIMIC-IV export whose columns all have about as many distinct values as rows: their product outgrows int64."""
    rng = np.random.default_rng(seed)
    root.mkdir()
    visits = rng.permutation(rows) + 10**7
    owner = rng.integers(rows // 2, size=rows)
    times = np.datetime64("2150-01-01T00:00:00") + rng.permutation(rows)
    names = np.array([f"drug {i} of many" for i in range(rows)])
    tables = {
        "admissions": {"subject_id": owner, "hadm_id": visits, "admittime": times,
                       "dischtime": times + np.timedelta64(2, "D")},
        "prescriptions": {"subject_id": owner, "hadm_id": rng.permutation(visits), "drug": rng.permutation(names),
                          "ndc": rng.permutation(rows) + 10**10, "route": rng.permutation(names),
                          "gsn": rng.permutation(rows) + 1, "prod_strength": rng.permutation(names)},
        "diagnoses_icd": {"hadm_id": rng.choice(visits, rows), "icd_code": rng.integers(10_000, 99_999, rows),
                          "icd_version": np.full(rows, 9)},
        "procedures_icd": {"hadm_id": rng.choice(visits, rows), "icd_code": rng.integers(1000, 9999, rows),
                           "icd_version": np.full(rows, 9)},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), root / f"{name}.parquet")
    return tables


def test_a_high_cardinality_export_is_read_as_plain_python_and_the_engine_read_it(tmp_path):
    tables = write_mimic4(tmp_path / "x")
    recorded = read("mimic4", tmp_path / "x")
    rows = len(tables["admissions"]["hadm_id"])
    order = {int(visit): i for i, visit in enumerate(np.sort(tables["admissions"]["hadm_id"]))}
    assert len(recorded.visit_patient) == rows
    assert recorded.ledger.losses["admissions", "visit listed again"] == 0
    # By plain Python: visit -> time and patient.
    times = {order[int(visit)]: int(time.astype("datetime64[s]").astype(int)) for visit, time in
             zip(tables["admissions"]["hadm_id"], tables["admissions"]["admittime"], strict=True)}
    assert recorded.visit_time.tolist() == [times[i] for i in range(rows)]
    # By plain Python: every diagnosis and every order stands with its own visit.
    for kind, table, code in (("diagnosis", "diagnoses_icd", "ICD9CM:{}"), ("procedure", "procedures_icd", "ICD9PROC:{}")):
        given = Counter((order[int(visit)], code.format(text)) for visit, text in
                        zip(tables[table]["hadm_id"], tables[table]["icd_code"], strict=True))
        pairs = recorded.pairs[kind]
        assert {(int(v), pairs.names[c]) for v, c in zip(pairs.visits, pairs.codes, strict=True)} == set(given)
        assert recorded.ledger.losses[table, DUPLICATE] == sum(n - 1 for n in given.values())
    pairs, drugs = recorded.pairs["medication"], tables["prescriptions"]
    assert len(pairs.visits) == rows and len(pairs.names) == rows
    of_visit = {int(visit): (name, int(ndc)) for visit, name, ndc in
                zip(drugs["hadm_id"], drugs["drug"], drugs["ndc"], strict=True)}
    visits = np.sort(tables["admissions"]["hadm_id"])
    for place in range(0, rows, 997):
        name, ndc = of_visit[int(visits[pairs.visits[place]])]
        key = pairs.names[pairs.codes[place]].split("\t")
        assert key[0] == f"NDC:{ndc}" and f"NAME:{name}" in key
    # By the engine's own answer on the same files.
    path = tmp_path / "x" / "diagnoses_icd.parquet"
    engine = duckdb.sql(f"SELECT count(*) FROM (SELECT DISTINCT hadm_id, icd_code FROM '{path}')")
    assert engine.fetchall()[0][0] == len(recorded.pairs["diagnosis"].visits)


def write_omop(root, rows=70_000, seed=0):
    """An OMOP export with as many visits, persons, moments, days and concepts as rows."""
    rng = np.random.default_rng(seed)
    root.mkdir()
    visit, concept = rng.permutation(rows) + 10**6, rng.permutation(rows) + 10**7
    days = np.datetime64("1900-01-01") + rng.permutation(rows) % 40_000
    person = rng.permutation(rows) + 1
    tables = {
        "visit_occurrence": {"visit_occurrence_id": visit, "person_id": person, "visit_start_date": days.astype(str),
                             "visit_start_datetime": [f"{day} {i % 24:02d}:{i % 60:02d}:{i % 59:02d}" for i, day in
                                                      enumerate(days.astype(str))]},
        "condition_occurrence": {"person_id": person, "condition_concept_id": concept, "visit_occurrence_id": visit,
                                 "condition_start_date": days.astype(str)},
        "drug_exposure": {"person_id": person, "drug_concept_id": concept, "visit_occurrence_id": visit,
                          "drug_exposure_start_date": days.astype(str)},
        "concept": {"concept_id": concept, "concept_name": [f"concept named {i}" for i in concept],
                    "vocabulary_id": ["SNOMED"] * rows, "concept_class_id": [f"class {i % 1000}" for i in range(rows)],
                    "concept_code": rng.permutation(rows) + 10**8},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), root / f"{name}.parquet")
    return tables


def test_an_omop_export_of_high_cardinality_loses_no_visit_and_mixes_no_code(tmp_path):
    tables = write_omop(tmp_path / "x")
    recorded = read("omop", tmp_path / "x")
    visits, concepts, facts = (tables[name] for name in ("visit_occurrence", "concept", "condition_occurrence"))
    order = np.argsort(visits["visit_occurrence_id"])
    persons = np.argsort(np.argsort(visits["person_id"]))
    assert recorded.visit_patient.tolist() == persons[order].tolist()
    moments = np.array(visits["visit_start_datetime"], "datetime64[s]").astype(np.int64)
    assert recorded.visit_time.tolist() == moments[order].tolist()
    code = dict(zip(concepts["concept_id"].tolist(), concepts["concept_code"].tolist(), strict=True))
    place = {visit: i for i, visit in enumerate(visits["visit_occurrence_id"][order].tolist())}
    expected = {(place[visit], f"SNOMED:{code[number]}") for visit, number in
                zip(facts["visit_occurrence_id"].tolist(), facts["condition_concept_id"].tolist(), strict=True)}
    pairs = recorded.pairs["diagnosis"]
    assert {(int(v), pairs.names[c]) for v, c in zip(pairs.visits, pairs.codes, strict=True)} == expected
    assert not recorded.ledger.losses


@pytest.mark.parametrize("name", ["mimic3", "omop", "eicu", "synthea"])
def test_every_kind_of_file_gives_the_same_cohort(name, tmp_path):
    source = DATA / {"mimic3": "ehr_mimic3_demo", "omop": "ehr_omop_gibleed", "eicu": "ehr_eicu_demo",
                     "synthea": "ehr_synthea"}[name]
    expected = cohort(name, read(name, source))
    texts = {path.name.removesuffix(".csv.gz"): path for path in source.glob("*.csv.gz")}
    forms = {form: tmp_path / form for form in ("tsv", "parquet", "shards", "duckdb")}
    for folder in forms.values():
        folder.mkdir()
    base = duckdb.connect(str(forms["duckdb"] / "all.duckdb"))
    for table, path in texts.items():
        with gzip.open(path, "rt", newline="") as file:
            rows = list(csv.reader(file))
        with (forms["tsv"] / f"{table}.tsv").open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(rows)
        columns = {c: [row[i] for row in rows[1:]] for i, c in enumerate(rows[0])}
        pq.write_table(pa.table(columns), forms["parquet"] / f"{table.upper()}.parquet")
        shards = forms["shards"] / table
        shards.mkdir()
        half = len(rows) // 2 + 1
        for number, part in enumerate((rows[1:half], rows[half:])):
            with gzip.open(shards / f"part-{number:05d}.csv.gz", "wt", newline="") as file:
                csv.writer(file).writerows([rows[0], *part])
        base.execute(f"CREATE TABLE {identifier(table)} AS SELECT * FROM read_csv('{path}', all_varchar = true)")
    base.close()
    for form, folder in forms.items():
        found = cohort(name, read(name, folder))
        assert found.fingerprint == expected.fingerprint, form
        assert Counter(found.accounting) == Counter(expected.accounting), form


def test_shards_beside_each_other_are_one_table(tmp_path):
    (tmp_path / "t_000.csv").write_text("a,b\n1,2\n")
    (tmp_path / "T-00001-of-00002.csv").write_text("b,a\n4,3\n")
    (tmp_path / "t_other.csv").write_text("a,b\n9,9\n")
    with open_export(tmp_path, Limits(), Ledger()) as export:
        staged = export.stage("t", {"a": True, "b": True})
        assert sorted(export.fetch(f"SELECT a, b FROM {staged}")) == [("1", "2"), ("3", "4")]
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with open_export(tmp_path, Limits(), Ledger()) as export, pytest.raises(DataError, match="more than once"):
        export.has("t")


# Broken lines.

HEADER, WIDTH = "id,name,route", 3


def staged_rows(folder, text, table="t"):
    (folder / f"{table}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    ledger = Ledger()
    with open_export(folder, Limits(), ledger) as export:
        staged = export.stage(table, {"id": True, "name": True, "route": False})
        rows = sorted(export.fetch(f"SELECT id, name, route FROM {staged}"))
    assert ledger.rows[table] == len(rows) + ledger.losses[table, MALFORMED]
    return rows, ledger.losses[table, MALFORMED], ledger


def test_an_unclosed_quote_costs_its_own_line(tmp_path):
    lines = [f"{i},drug {i},PO" for i in range(541)]
    lines[3] = '3,"drug 3,PO'
    rows, malformed, ledger = staged_rows(tmp_path, "\n".join([HEADER, *lines]) + "\n")
    assert malformed == 1 and len(rows) == 540
    assert ledger.notes["t", "line of its first malformed row"] == 5
    lines[500] = '500,"drug, 500",PO'
    lines[501] = '501,"drug ""501""",PO'
    rows, malformed, _ = staged_rows(tmp_path, "\n".join([HEADER, *lines]) + "\n")
    assert malformed == 1 and len(rows) == 540 and ("500", "drug, 500", "PO") in rows and ("501", 'drug "501"', "PO") in rows


@pytest.mark.parametrize(("text", "kept", "malformed"), [
    ('1,a,PO\n2,"b\n3,c,IV\n', 2, 1),  # to the end of the file
    ('1,"a"x,PO\n2,b,PO\n', 1, 1),  # something after a quote
    ('1,5" tube,PO\n2,b,PO\n', 2, 0),  # a quote inside a plain cell is a character
    ('1,"a\nb",PO\n2,c,PO\n', 2, 0),  # a cell of two lines
    ('1,"a\n2,"b\n3,"c\n4,d,PO\n', 1, 3),
    ("1,a\n2,b,c,d\n3,c,PO\n", 1, 2),
    ("1,a,PO\n\n2,b,PO\n\n", 2, 0),
    ("1,a,PO\r\n2,b,PO\n", 2, 0),
    ("1,a,PO\r\n\r\n2,b,PO", 2, 0),
    ("", 0, 0),
    ('1,"",""\n2,"","b"\n', 2, 0),
])
def test_each_malformed_line_is_counted_and_no_other_is_lost(tmp_path, text, kept, malformed):
    rows, lost, _ = staged_rows(tmp_path, f"{HEADER}\n{text}")
    assert (len(rows), lost) == (kept, malformed)


def test_latin1_and_nul_bytes_are_read(tmp_path):
    rows, lost, ledger = staged_rows(tmp_path, b"id,name,route\n1,L\xe9vothyrox,PO\n2,as\0pirin,PO\n")
    assert rows == [("1", "Lévothyrox", "PO"), ("2", "aspirin", "PO")] and lost == 0
    assert ledger.notes["t", "rows of a file that is not UTF-8, taken as Latin-1"] == 2


CELL = st.text(st.sampled_from('ab",\n 5é'), max_size=5)


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_a_csv_writer_wrote_is_read_back(rows, crlf):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\r\n" if crlf else "\n", quoting=csv.QUOTE_MINIMAL).writerows(
                [("id", "name", "route"), *rows])
        ledger = Ledger()
        with open_export(Path(folder), Limits(), ledger) as export:
            staged = export.stage("t", {"id": True, "name": True, "route": True})
            found = export.fetch(f"SELECT id, name, route FROM {staged}")
        assert ledger.losses["t", MALFORMED] == 0
        plain = Counter(tuple(cell.replace("\r\n", "\n") for cell in row) for row in rows)
        assert Counter(found) == plain


def test_the_careful_parser_and_the_engine_agree_on_regular_files(tmp_path):
    for path in sorted(DATA.glob("ehr_*/*.csv.gz")):
        layout = survey(path, Bounds())
        careful = Careful(path, layout, Bounds())
        rows = sum(1 for _ in careful.rows())
        assert rows + careful.malformed == layout.records, path


# Files that never end, or that outgrow their bounds.

def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "admissions.csv")
    with pytest.raises(DataError, match="no regular file"):
        read("mimic3", tmp_path)
    (tmp_path / "admissions.csv").unlink()
    (tmp_path / "admissions.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="no regular file"):
        read("mimic3", tmp_path)
    for form in ("meds", "fhir"):
        with pytest.raises(DataError, match="no regular file"):
            read(form, "/dev/zero")


def test_a_long_header_line_and_a_zip_bomb_are_refused_with_their_bound(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"column{i}" for i in range(20_000)) + "\n")
    with pytest.raises(DataError, match="longer than 65536 bytes"):
        survey(path, Bounds())
    path.write_text("a,b\n1,2\n3," + "x" * (2 << 20) + "\n")
    with pytest.raises(DataError, match="longer than 1048576 bytes"):
        survey(path, Bounds())
    bomb = tmp_path / "t2.csv.gz"
    bomb.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * (24 << 20), 9))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="more than 200 times its size"):
        survey(bomb, Bounds())


def test_utf16_and_cut_off_files_say_so(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        survey(tmp_path / "t.csv", Bounds())
    packed = gzip.compress(os.urandom(4000).hex().encode())
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b" + packed[2:1000])
    with pytest.raises(DataError, match="cannot be read to its end"):
        survey(tmp_path / "t.csv.gz", Bounds())


# Hostile databases.

def hostile(path, secret, written):
    """A database of a MIMIC export whose schema and column names, views and macros try to do something else."""
    evil = f'x"; COPY (SELECT 1) TO \'{written}\'; --'
    with duckdb.connect(str(path)) as base:
        base.execute(f"CREATE SCHEMA {identifier(evil)}")
        base.execute(f"CREATE TABLE {identifier(evil)}.admissions (subject_id INT, hadm_id INT, admittime TIMESTAMP,"
                     f" {identifier(evil)} INT)")
        base.execute(f"INSERT INTO {identifier(evil)}.admissions VALUES (1, 10, '2150-01-01', 1)")
        base.execute("CREATE TABLE diagnoses_icd AS SELECT 10 AS hadm_id, '4280' AS icd9_code")
        base.execute("CREATE TABLE procedures_icd AS SELECT 10 AS hadm_id, '0331' AS icd9_code")
        base.execute("CREATE TABLE prescriptions AS SELECT 10 AS hadm_id, 'aspirin' AS drug, '0' AS ndc")
        base.execute(f"CREATE VIEW patients AS SELECT content AS subject_id FROM read_text('{secret}')")
        base.execute("CREATE MACRO trim(x) AS 'hijacked'")
        base.execute("CREATE MACRO main.whole(x) AS 'hijacked'")
    return path


def test_a_hostile_database_runs_nothing_reads_nothing_and_writes_nothing(tmp_path):
    secret, written = tmp_path / "secret.txt", tmp_path / "written"
    secret.write_text("CANARY4711")
    path = hostile(tmp_path / "bad.duckdb", secret, written)
    before = path.read_bytes()
    recorded = read("mimic3", path)
    assert recorded.pairs["diagnosis"].names == ["ICD9CM:4280"] and "patients" not in recorded.ledger.rows
    assert len(recorded.visit_patient) == 1 and not written.exists() and path.read_bytes() == before
    assert not list(tmp_path.glob("*.wal"))
    with duckdb.connect(str(path)) as base:  # a view in the place of a needed table is no table
        base.execute(f"DROP TABLE prescriptions; CREATE VIEW prescriptions AS SELECT 10 AS hadm_id, content AS drug,"
                     f" '0' AS ndc FROM read_text('{secret}')")
    with pytest.raises(MkmedError, match="no table 'prescriptions'"):
        read("mimic3", path)


@pytest.mark.parametrize("query", [
    "SELECT * FROM read_text('{secret}')", "SELECT * FROM read_csv('{secret}')", "COPY (SELECT 1) TO '{written}'",
    "EXPORT DATABASE '{written}'", "ATTACH '{written}' AS other", "INSTALL httpfs", "LOAD httpfs",
    "SET enable_external_access = true", "RESET lock_configuration", "SET lock_configuration = false",
    "SET memory_limit = '1TB'", "CREATE TABLE export.main.t AS SELECT 1", "SELECT * FROM glob('/*')",
    "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
])
def test_a_locked_connection_does_nothing_but_its_own_work(tmp_path, query):
    secret, written = tmp_path / "secret.txt", tmp_path / "written"
    secret.write_text("a\n1\n")
    with duckdb.connect(str(tmp_path / "x.duckdb")) as base:
        base.execute("CREATE TABLE t AS SELECT 1 AS a")
    with spill_folder(tmp_path) as spill, open_duck(spill, database=tmp_path / "x.duckdb") as connection:
        assert stat.S_IMODE(spill.stat().st_mode) == 0o700
        assert connection.execute("SELECT a FROM export.main.t").fetchall() == [(1,)]
        with pytest.raises(duckdb.Error):
            connection.execute(query.format(secret=secret, written=written))
    assert not written.exists() and not spill.exists()


def test_work_that_outgrows_its_memory_spills_or_says_so(tmp_path):
    with pytest.raises(UsageError, match="no amount of memory"), spill_folder(tmp_path) as spill, \
            open_duck(spill, memory="a lot"):
        pass
    with spill_folder(tmp_path) as spill, open_duck(spill, memory="100MB") as connection:
        connection.execute("CREATE TEMP TABLE t AS SELECT range AS a, md5(CAST(range AS VARCHAR)) AS b FROM range(4000000)")
        assert connection.execute("SELECT count(*) FROM (SELECT DISTINCT b FROM t)").fetchone() == (4_000_000,)
        assert sum(path.stat().st_size for path in spill.rglob("*") if path.is_file()) > 0
    assert not list(tmp_path.iterdir())


def test_too_many_open_quotes_are_refused_with_the_first_line(tmp_path):
    (tmp_path / "t.csv").write_text(HEADER + "\n1,a,PO\n" + '2,"b,PO\n' * 1002)
    with open_export(tmp_path, Limits(), Ledger()) as export, pytest.raises(DataError, match="never closed, the first in line 3"):
        export.stage("t", {"id": True, "name": True})


def test_numbers_that_outgrow_a_column_are_an_error_without_their_value(tmp_path):
    with pytest.raises(DataError, match="cannot be worked on") as caught, spill_folder(tmp_path) as spill, \
            open_duck(spill) as connection:
        connection.execute("SELECT CAST('CANARY4711' AS INT)")
    assert "CANARY" not in str(caught.value) and caught.value.__suppress_context__


def test_a_name_of_many_digits_is_no_riddle(tmp_path):
    (tmp_path / ("t" + "1" * 200 + "x.csv")).write_text("a\n1\n")
    with open_export(tmp_path, Limits(), Ledger()) as export:
        assert not export.has("t")


# Whatever stands in a file: read and accounted for, or refused by an error of ours.

BYTES = st.lists(st.sampled_from([b"1", b"a", b",", b'"', b"\n", b"\r\n", b"\r", b"\0", b"\xff", "é".encode(), b"\t", b"\x1f",
                                  b"2150-01-01", b"NaN", b"-1", b"1e999", b"99999999999999999999", b"\\", b"'", b";"]),
                 max_size=40).map(b"".join)


@given(st.fixed_dictionaries(dict.fromkeys(("ADMISSIONS", "DIAGNOSES_ICD", "PRESCRIPTIONS", "PATIENTS"), BYTES)))
@settings(max_examples=40, deadline=None)
def test_any_bytes_in_an_export_are_accounted_for_or_refused(bodies):
    import tempfile

    heads = {"ADMISSIONS": b"subject_id,hadm_id,admittime,dischtime", "DIAGNOSES_ICD": b"hadm_id,icd9_code",
             "PROCEDURES_ICD": b"hadm_id,icd9_code", "PRESCRIPTIONS": b"hadm_id,ndc,drug", "PATIENTS": b"subject_id,dob"}
    with tempfile.TemporaryDirectory() as folder:
        for name, head in heads.items():
            body = b"1,1,2150-01-01,2150-01-02\n" if name == "ADMISSIONS" else b""
            (Path(folder) / f"{name}.csv").write_bytes(head + b"\n" + body + bodies.get(name, b""))
        try:
            recorded = read("mimic3", folder)
        except MkmedError:
            return
    ledger = recorded.ledger
    kept = {"admissions": len(recorded.visit_time), **{p.table: int(p.rows.sum()) for p in recorded.pairs.values()}}
    for table, rows in kept.items():
        assert rows + sum(n for (name, _), n in ledger.losses.items() if name == table) == ledger.rows[table]


WORD = st.sampled_from(["resourceType", "Encounter", "Patient", "Condition", "MedicationRequest", "Medication", "Bundle", "entry",
                        "resource", "id", "e1", "subject", "reference", "Patient/e1", "#e1", "urn:uuid:e1", "period", "start",
                        "2010-01-01", "9999", "code", "coding", "system", "http://snomed.info/sct", "status", "contained",
                        "medicationReference", "dosageInstruction", "extension", "url", "class", ""])
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | WORD,
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORD, inner, max_size=5), max_leaves=30)
RESOURCE = st.dictionaries(WORD, JSON, max_size=6).flatmap(lambda body: st.sampled_from(
    ["Patient", "Encounter", "Condition", "Procedure", "MedicationRequest", "MedicationAdministration", "Medication"]).map(
        lambda kind: {**body, "resourceType": kind}))


@pytest.mark.slow
@given(st.lists(RESOURCE | JSON, max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_json_in_a_fhir_export_is_accounted_for_or_refused(resources):
    import json
    import tempfile

    encounter = {"resourceType": "Encounter", "id": "e1", "subject": {"reference": "Patient/e1"}, "period": {"start": "2010-01-01"}}
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps(one) for one in [encounter, {"resourceType": "Patient", "id": "e1"}, *resources]]
        (Path(folder) / "all.ndjson").write_text("\n".join(lines))
        try:
            recorded = read("fhir", folder)
        except MkmedError:
            return
    ledger = recorded.ledger
    for pairs in recorded.pairs.values():
        lost = sum(n for (name, _), n in ledger.losses.items() if name == pairs.table)
        assert int(pairs.rows.sum()) + lost == ledger.rows[pairs.table]
