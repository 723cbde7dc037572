"""A visit asked for: times are times, codes are what readers write, and what is not understood gets no scores."""

import csv
import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_cohort import make_cohort, make_knowledge

import cli
from kb.errors import DataError, NotUnderstood, UsageError
from kb.settings import Settings
from recsys.answers.explain import explain
from recsys.answers.patient import Patient, Visit, parse_patient, read_patient, visit_order
from recsys.answers.recommend import RecommenderService
from recsys.cohorts.batches import Histories, histories, input_vocabularies
from recsys.cohorts.cohort import DOOR, KINDS, KNOWN_AT_THE_DOOR, Attribute, Cohort, Vocabulary, encode
from recsys.cohorts.files import load_cohort, save_cohort
from recsys.cohorts.tasks import TASKS, patient_split
from recsys.experiments.calibration import Platt
from recsys.experiments.checkpoint import Trained
from recsys.experiments.config import from_json
from recsys.experiments.decode import Decision
from recsys.experiments.runs import train_run
from recsys.registry import RECOMMENDERS

VISITS = Path(__file__).parents[1] / "data" / "visits"
NAMES = {
    "diagnosis": ["ICD10CM:I10", "ICD10CM:I480", "ICD10CM:I509", "ICD10CM:J189", "ICD9CM:4280", "SNOMED:38341003"],
    "procedure": ["ICD9PROC:3893", "ICD10PCS:0BH17EZ", "EICU:pulmonary|ventilation and oxygenation|oxygen therapy"],
    "medication": ["ATC:B01A", "ATC:C03C", "ATC:C07A", "ATC:N02B", "ATC:A10B", "ATC:J01D"],
}


def named_cohort(patients: int = 90) -> Cohort:
    """Arrays with codes that people write."""
    made = make_cohort(patients, tuple(len(NAMES[kind]) for kind in KINDS), rates=(2, 1, 2))  # type: ignore[arg-type]
    order = {kind: sorted(NAMES[kind]) for kind in KINDS}
    rng = np.random.default_rng(5)
    levels = {"age": ("50-59", "60-69", "90+"), "sex": ("female", "male"), "died_in_hospital": ("no", "yes")}
    attributes = {name: Attribute(texts, rng.integers(-1, len(texts), made.visits).astype(np.int16))
                  for name, texts in levels.items()}
    return Cohort("named", made.visit_patient, made.visit_time, made.codes,
                  {kind: Vocabulary(tuple(order[kind])) for kind in KINDS}, provenance={"format": "synthetic"},
                  attributes=attributes)


def serve(task: str = "stay", name: str = "mkmed") -> tuple[RecommenderService, object, Histories]:
    cohort = named_cohort()
    encoded = encode(cohort, patient_split(cohort, 0))
    train, validation = (histories(encoded, side, TASKS[task]) for side in ("train", "validation"))
    config = from_json({"recommender": name, "epochs": 2, "dim": 8, "task": task})
    model = RECOMMENDERS[name](train.sizes, make_knowledge(encoded), config)
    model.fit(train, validation)
    vocabularies = input_vocabularies(encoded, TASKS[task])
    return RecommenderService(Trained(model, vocabularies, Decision(0.2), Platt(), {"task": task, "run": "r"})), encoded, train


@pytest.fixture(scope="module")
def service() -> RecommenderService:
    return serve()[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a trained run."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    save_cohort(named_cohort(), settings)
    train_run(from_json({"cohort": "named", "vectors": "learned", "epochs": 2, "dim": 8, "least_patients": 1,
                         "recommender": "retain"}), settings)
    return settings.home


# -- times ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("times", "order"), [
    ([2, 10], [0, 1]), ([10, 2], [1, 0]), (["2", "10"], [0, 1]), ([2.5, "2.25"], [1, 0]), ([10**400, 5], [1, 0]),
    (["2024-1-9", "2024-01-10"], [0, 1]), (["2024-01-10", "2024-1-9"], [1, 0]), (["2024-9-30", "2024-10-1"], [0, 1]),
    (["2024-01-09 10:00", "2024-01-09T9:30"], [1, 0]), (["2024-01-09T10:00:00.5", "2024-01-09T10:00"], [1, 0]),
    (["2024-01-09T11:30+02:00", "2024-01-09T10:00:00Z"], [0, 1]), (["2024-01-09T23:00-05:00", "2024-01-10T01:00+0000"], [1, 0]),
    (["2024-01-09", "2024-01-09"], [0, 1]), ([None, None], [0, 1]), ([3, 1, 2], [1, 2, 0]),
])
def test_visits_stand_in_the_order_of_their_times(times: list, order: list[int]) -> None:
    assert visit_order(times) == order


@pytest.mark.parametrize("times", [
    [2, "2024-01-09"], ["2024-01-09", "2024-01-09T10:00"], ["2024-01-09T10:00", "2024-01-09T10:00Z"],
    ["2024-01-09", "20240110"], ["01/02/2024", "02/02/2024"], ["9.1.2024"], ["2024-02-30"], ["2024-13-01"], ["Monday"],
    ["2024-01-09T25:00"], ["2024-W02"], ["2024-01"], [""], [True, 2], [float("nan")], [float("inf")], [[1]], [{"a": 1}],
    ["\u0662", "\u0661\u0660"], ["2024-01-09", None], [None, 3]])
def test_times_of_other_or_several_forms_are_refused_with_those_that_are_known(times: list) -> None:
    with pytest.raises(DataError, match=r"visit \d has|several forms") as refused:
        visit_order(times)
    assert "2024-01-09T10:30" in str(refused.value.hint)


@given(st.lists(st.integers(-10**6, 10**6), min_size=1, max_size=20))
def test_numbers_sort_as_numbers_however_they_are_written(numbers: list[int]) -> None:
    expected = sorted(range(len(numbers)), key=numbers.__getitem__)
    assert visit_order(numbers) == visit_order([str(n) for n in numbers]) == expected


# -- files ------------------------------------------------------------------------------------------------------------

REFUSED = {"empty": "list of visits", "wrong_types": "list of texts", "not_visits": "list of visits",
           "cut_off": "not JSON", "nan": "list of texts", "time_in_one_visit_only": "visit 2 has no time"}


@pytest.mark.parametrize("path", sorted(VISITS.glob("*.json")), ids=lambda path: path.stem)
def test_every_kind_of_file_is_read_or_refused_with_a_reason(path: Path, service: RecommenderService) -> None:
    if path.stem in REFUSED:
        with pytest.raises(DataError, match=REFUSED[path.stem]):
            read_patient(path)
        return
    patient = read_patient(path)
    answer = service.recommend(patient)
    understood = {"dots_and_case": (4, 4), "no_system": (0, 2), "unknown_everything": (0, 3), "empty_visit": (0, 0), "only_first_visit": (1, 1), "duplicates": (2, 2), "missing_keys": (1, 1),
                  "three_hundred_visits": (2, 2), "bom": (1, 1), "numeric_times": (2, 2), "times_in_several_forms": (3, 3)}[path.stem]
    assert (answer.coverage.understood, answer.coverage.given) == understood
    assert bool(answer.refused) == (understood[0] == 0)
    if path.stem in ("numeric_times", "times_in_several_forms"):
        assert patient.visits[-1].diagnosis == ("ICD10CM:I509",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_text(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"visits": [{"diagnoses": ["ICD10CM:I10"]}], "about": "é"}', encoding=encoding)
    assert read_patient(tmp_path / "p.json").about == "é"


@pytest.mark.parametrize("text", [
    "", "{", "[" * 100_000, '{"visits": [{"diagnoses": ["\\ud83d"]}]}', '{"visits": [{"diagnoses": ["' + "x" * 1000 + '"]}]}',
    '{"visits": [], "visits": [{}]}', '{"visits": [{"diagnoses": [], "diagnoses": ["ICD10CM:I10"]}]}', "9" * 5000,
    '{"visits": [{"attributes": {"age": [1]}}]}', '{"visits": [{"attributes": 3}]}', '{"visits": [{}], "about": 3}',
    '{"visits": [{"diagnoses": [{"system": 1, "code": "I10"}]}]}', "\0", "nul\0l", '{"visits": [{"x": 1}]}'])
def test_what_is_no_patient_is_refused_in_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError):
        read_patient(tmp_path / "p.json")


@pytest.mark.parametrize("what", ["zero", "pipe", "folder", "missing", "large"])
def test_only_a_regular_file_of_bounded_size_is_read(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = {"zero": Path("/dev/zero"), "folder": tmp_path}.get(what, tmp_path / what)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "large":
        with path.open("wb") as stream:
            stream.truncate(2**34)  # sparse: nothing is on the disk
    done: list[int] = []
    reader = threading.Thread(target=lambda: done.append(cli.run(["recsys", "recommend", "--visit", str(path)])), daemon=True)
    reader.start()
    reader.join(20)
    assert done == [UsageError.exit_code] and "--visit" in capsys.readouterr().err


# -- codes ------------------------------------------------------------------------------------------------------------

def test_every_spelling_of_a_code_gives_one_answer(service: RecommenderService) -> None:
    def ask(*codes: object, medications: tuple[object, ...] = ()) -> list[tuple[str, float]]:
        document = {"visits": [{"diagnoses": list(codes), "medications": list(medications)}, {"diagnoses": list(codes)}]}
        answer = service.recommend(parse_patient(document))
        assert not answer.coverage.not_understood
        return [(item.code, item.probability) for item in answer.recommended]

    expected = ask("ICD10CM:I509", "SNOMED:38341003", medications=("ATC:B01A",))
    assert expected == ask("icd10cm:i50.9", "SNOMED//38341003", medications=("atc:b01a",))
    assert expected == ask("http://hl7.org/fhir/sid/icd-10-cm|I50.9", "http://snomed.info/sct|38341003",
                           medications=("http://www.whocc.no/atc|B01AA03",))
    assert expected == ask({"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I50.9"},
                           {"system": "http://snomed.info/sct", "code": "38341003"}, medications=("ATC:B01AA",))


def test_procedures_are_read_as_procedures(service: RecommenderService) -> None:
    written = ["ICD9:38.93", "http://www.cms.gov/Medicare/Coding/ICD10|0bh17ez",
               "EICU:Pulmonary|Ventilation and  Oxygenation|oxygen therapy"]
    answer = service.recommend(parse_patient({"visits": [{"procedures": written}]}))
    assert answer.coverage.understood == 3


# -- coverage ---------------------------------------------------------------------------------------------------------

def test_coverage_counts_distinct_codes_and_names_what_is_not_understood(service: RecommenderService) -> None:
    visits = [{"diagnoses": ["ICD10CM:I10", "ICD10CM:Z99999"], "medications": ["ATC:B01A", "unobtainium"]}] * 3
    answer = service.recommend(parse_patient({"visits": [*visits, {"diagnoses": ["ICD10CM:I10", "I10"]}]}))
    assert (answer.coverage.understood, answer.coverage.given) == (2, 5)
    assert answer.coverage.not_understood == {"diagnosis": ["ICD10CM:Z99999", "I10"], "medication": ["unobtainium"]}
    assert (answer.coverage.last_understood, answer.coverage.last_given) == (1, 2)
    assert answer.refused and not answer.recommended and not answer.avoided
    assert service.recommend(parse_patient({"visits": [*visits[:1], {"diagnoses": ["ICD10CM:I10"]}]}),
                             min_coverage=0.5).recommended
    with pytest.raises(NotUnderstood):
        explain(service, parse_patient({"visits": [{"diagnoses": ["I10"]}]}))


@pytest.mark.parametrize("least", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("visits", [[{}], [{"diagnoses": ["X:1"]}], [{"medications": ["what"]}, {}]])
def test_a_patient_of_whom_nothing_is_understood_never_gets_a_list(service: RecommenderService, visits: list,
                                                                   least: float) -> None:
    answer = service.recommend(parse_patient({"visits": visits}), min_coverage=least)
    assert answer.refused and answer.recommended == [] and "recommended" not in answer.as_json()


def test_what_the_task_does_not_read_does_not_count() -> None:
    later = serve("order-time")[0]
    answer = later.recommend(parse_patient({"visits": [{"diagnoses": ["ICD10CM:I10"]}]}))
    assert answer.refused and answer.coverage.given == 0 and answer.coverage.not_used == {"diagnosis": ["ICD10CM:I10"]}
    answer = later.recommend(parse_patient({"visits": [{"diagnoses": ["ICD10CM:I10"]}, {"diagnoses": ["X:1", "X:2"]}]}))
    assert not answer.refused and answer.coverage.share == 1 and answer.coverage.not_used == {"diagnosis": ["X:1", "X:2"]}


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_below_the_least_coverage_there_is_a_message_and_exit_3(home: Path, form: str, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MKMED_HOME", str(home))
    path = tmp_path / "patient.json"
    path.write_text('{"visits": [{"diagnoses": ["ICD10CM:I10", "X:1", "X:2"]}]}')
    ask = ["recsys", "recommend", "--visit", str(path), "--format", form, "--explain"]
    assert cli.run(ask) == 3
    refused = capsys.readouterr()
    assert "1 of the patient's 3 codes are understood" in refused.err and "X:1" in refused.err
    assert "ATC:" not in refused.out
    if form == "json":
        told = json.loads(refused.out)
        assert told["coverage"]["share"] == pytest.approx(1 / 3, abs=1e-4) and "refused" in told
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(refused.out)))
        assert {row["row"] for row in rows} == {"refused", "not understood"} and {row["probability"] for row in rows} == {""}
    assert cli.run([*ask, "--min-coverage", "0.3"]) == 0
    answered = capsys.readouterr()
    assert "ATC:" in answered.out
    if form == "csv":
        assert {row["coverage"] for row in csv.DictReader(io.StringIO(answered.out))} == {"0.3333"}
    assert ("coverage" in answered.out) == (form != "table") and "coverage 33%" in answered.err
    assert cli.run([*ask, "--min-coverage", "1.5"]) == 2


def test_hostile_codes_and_names_reach_no_terminal(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MKMED_HOME", str(home))
    evil = "X:\x1b]52;c;x\x07\x9b2J\u202e"
    path = tmp_path / "patient.json"
    path.write_text(json.dumps({"visits": [{"diagnoses": ["ICD10CM:I10", "ICD10CM:I509", evil]}]}))
    for words in (["--format", "table"], ["--format", "json"], ["--format", "json", "--min-coverage", "1"], ["--min-coverage", "1"]):
        cli.run(["recsys", "recommend", "--visit", str(path), "--explain", *words])
        told = "".join(capsys.readouterr())
        assert "52;c" in told and not any(c in told for c in "\x1b\x07\x9b\u202e"), words


# -- one function -----------------------------------------------------------------------------------------------------

def tensors(visits: Histories, patient: int) -> dict[str, torch.Tensor]:
    batch = visits.batch(np.array([patient]))
    return {"diagnosis": batch.diagnosis.values, "diagnosis offsets": batch.diagnosis.offsets, "recent": batch.recent,
            "procedure": batch.procedure.values, "procedure offsets": batch.procedure.offsets, "share": batch.share,
            "past": batch.past}


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("side", ["train", "test"])
def test_training_evaluation_and_serving_make_equal_inputs(task: str, side: str) -> None:
    service, encoded, _ = serve(task)
    whole = histories(encoded, side, TASKS[task])  # type: ignore[arg-type]
    people = encoded.split.side(side)  # type: ignore[attr-defined]
    for place, person in enumerate(people[:12]):
        first, last = encoded.cohort.patient_indptr[person:person + 2]  # type: ignore[attr-defined]
        visits = []
        for row in range(first, last):
            codes = {kind: tuple(encoded.cohort.vocabularies[kind].codes[i]  # type: ignore[attr-defined]
                                 for i in encoded.cohort.codes[kind].row(row)) for kind in KINDS}  # type: ignore[attr-defined]
            attributes = {name: item.levels[item.values[row]] for name, item in encoded.cohort.attributes.items()  # type: ignore[attr-defined]
                          if item.values[row] >= 0 and name in KNOWN_AT_THE_DOOR}
            visits.append(Visit(**(codes | ({"medication": ()} if row == last - 1 else {})), attributes=attributes))
        served, _ = service.histories([Patient(tuple(visits))])
        one, two = tensors(whole, place), tensors(served, 0)
        assert all(torch.equal(one[name], two[name]) for name in one), (task, side, person)


# -- admission --------------------------------------------------------------------------------------------------------

def test_at_admission_only_what_is_known_at_the_door_enters() -> None:
    service, _encoded, train = serve("admission")
    names = service.vocabularies["diagnosis"].codes
    assert {"AGE:60-69", "SEX:female"} <= set(names) and not any(name.startswith("DIED") for name in names)
    first = {"diagnoses": ["ICD10CM:I10"], "medications": ["ATC:B01A"]}
    asked = {"attributes": {"age": 67, "sex": "F"}, "diagnoses": ["ICD10CM:I509"], "home_medications": ["aspirin"]}
    patient = parse_patient({"visits": [first, asked]})
    visits, (coverage,) = service.histories([patient])
    assert [names[i] for i in visits.diagnosis.row(0)] == []
    assert {names[i] for i in visits.diagnosis.row(1)} == {"ICD10CM:I10", "AGE:60-69", "SEX:female"}
    assert coverage.share == 1 and coverage.not_used == {"diagnosis": ["ICD10CM:I509"]} and coverage.last_given == 2
    shares = {(item.visit, item.kind, item.code) for item in explain(service, patient, ["ATC:B01A"])[0].codes}
    assert (2, DOOR, "age: 67") in shares
    named = {item.code: item.name for item in explain(service, patient, ["ATC:B01A"])[0].codes}
    assert named["ICD10CM:I10"] == "Essential (primary) hypertension" and named["age: 67"] == ""
    assert train.scored.all(), "first visits are scored too"
    asked["attributes"] = {"sex": "unheard of"}
    assert service.recommend(parse_patient({"visits": [asked]})).refused
    always = parse_patient({"attributes": {"sex": "F", "age": 80}, "visits": [first, {"attributes": {"age": 91.5}}]})
    assert [dict(visit.attributes) for visit in always.visits] == [{"sex": "F", "age": "80"}, {"sex": "F", "age": "91.5"}]
    with pytest.raises(DataError, match="unknown attribute 'died_in_hospital'"):
        parse_patient({"visits": [{"attributes": {"died_in_hospital": "no"}}]})


def test_other_tasks_read_no_attribute() -> None:
    for task in ("stay", "order-time"):
        service, *_ = serve(task)
        answer = service.recommend(parse_patient({"attributes": {"sex": "F"}, "visits": [{"diagnoses": ["ICD10CM:I10"]}, {}]}))
        assert answer.coverage.not_used[DOOR] == ["sex: F"] and (answer.coverage.understood, answer.coverage.given) == (1, 1)


def test_an_evaluation_is_told_apart_by_attributes_of_enough_patients(home: Path, capsys: pytest.CaptureFixture[str],
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKMED_HOME", str(home))
    assert cli.run(["recsys", "evaluate", "--by", "subgroup", "--format", "json"]) == 0
    rows = {row["subgroup"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"sex: female", "sex: male"} <= set(rows) and not any(name.startswith("died") for name in rows)
    cohort = load_cohort("named", Settings(home=home))
    test = np.isin(cohort.visit_patient, patient_split(cohort, 0).test)
    for name, row in rows.items():
        kind, level = name.split(": ")
        inside = test & (cohort.attributes[kind].values == cohort.attributes[kind].levels.index(level))
        assert (row["visits"], row["patients"]) == (inside.sum(), len(set(cohort.visit_patient[inside])))
        assert row["patients"] >= 5 and row["jaccard_low"] <= row["jaccard"] <= row["jaccard_high"]


def test_ages_have_the_bands_that_readers_write() -> None:
    import duckdb

    from recsys.answers.recommend import age_band
    from recsys.formats.contract import ADMISSION, ADMITTED_FOR, AGE, ETHNICITY, RACE, SEX, VISIT_TYPE
    from recsys.formats.tables import MACROS

    assert {ADMISSION, ADMITTED_FOR, AGE, ETHNICITY, RACE, SEX, VISIT_TYPE} == set(KNOWN_AT_THE_DOOR)
    with duckdb.connect() as connection:
        for macro in MACROS:
            connection.execute(macro)
        for years in (0, 9, 10, 67, 89, 90, 120, 300):
            assert connection.execute("SELECT age_band(?)", [years]).fetchall() == [(age_band(str(years)),)]
    assert age_band("60-69") == "60-69" and age_band("67.9") == "60-69" and age_band("-3") == "-3"
