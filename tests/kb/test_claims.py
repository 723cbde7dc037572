"""Claims do not drift: a record is replaced, what hangs on it goes where it goes, and what is computed names its input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from facts import ASPIRIN, METFORMIN, begin, document, metformin
from sqlalchemy import Connection, Engine, text

from kb.errors import Ambiguous, DataError, NotFound, UsageError
from kb.identity.undo import list_conflicts, list_merges, undo_merge
from kb.ingest.engine import Summary, ingest
from kb.ingest.retract import remove_named
from kb.ingest.write import write_batch
from kb.ledger.verify import verify
from kb.normalise import Identifier
from kb.query.drug import describe, find_drug, find_drugs
from kb.query.export import ExportFormat, export
from kb.query.snapshot import cite, diff, list_snapshots, remove_snapshot, take_snapshot
from kb.settings import Settings
from kb.sources.contract import DrugRecord, IngestOptions, Name, PropertyRecord, RecordBatch, TextRecord

COLUMNS = {"key": "key", "name": "name", "smiles": "smiles", "text": "text", "property.mol_weight": "weight"}
CAFFEINE = "RYYVLZVUVIJVGH-UHFFFAOYSA-N"
SMILES = {"aspirin": "CC(=O)Oc1ccccc1C(=O)O", "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O"}


def run(engine: Engine, source: str, **options: object) -> Summary:
    return ingest(engine, Settings(workers=1), source, IngestOptions(**options))  # type: ignore[arg-type]


def table(path: Path, *rows: str) -> Path:
    path.write_text("key,name,smiles,text,weight\n" + "\n".join(rows) + "\n")
    return path


def row(key: object, name: str, about: str = "", weight: object = "") -> str:
    return f"{key},{name},{SMILES.get(name, '')},{about},{weight}"


def read(engine: Engine, path: Path, **options: object) -> Summary:
    return run(engine, "tabular", path=path, columns=COLUMNS, **options)


def sound(connection: Connection) -> None:
    assert [check for check in verify(connection) if check.broken] == []


def fetch(engine: Engine, query: str) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(found) for found in connection.execute(text(query))]


def said(engine: Engine, name: str) -> tuple[str, set[str], set[float]]:
    """InChIKey, texts and masses (but rdkit's) of the drug of a name."""
    with engine.connect() as connection:
        head, sections = describe(connection, name)
        sound(connection)
    masses = {p["value"] for p in sections["properties"] if p["property"] == "mol_weight" and p["source"] != "rdkit"}
    return head["identity"], {t["content"] for t in sections["texts"]}, masses


def test_two_files_that_count_their_keys_are_two_datasets(fresh_database: Engine, tmp_path: Path) -> None:
    read(fresh_database, table(tmp_path / "one.csv", row(1, "aspirin", "Aspirin is an NSAID.", 180.16)))
    run(fresh_database, "rdkit", modalities=("property",))
    read(fresh_database, table(tmp_path / "two.csv", row(1, "caffeine", "Caffeine keeps awake.", 194.19)))
    assert said(fresh_database, "aspirin") == (f"inchikey:{ASPIRIN}", {"Aspirin is an NSAID."}, {180.16})
    assert said(fresh_database, "caffeine") == (f"inchikey:{CAFFEINE}", {"Caffeine keeps awake."}, {194.19})
    with fresh_database.connect() as connection:
        assert find_drug(connection, "user.one:1") != find_drug(connection, "user.two:1")
        with pytest.raises(Ambiguous) as caught:
            find_drug(connection, "user:1")
        assert {c["name"] for c in caught.value.candidates} == {"aspirin", "caffeine"}


def test_a_second_file_of_a_dataset_is_a_version_and_is_shown_first(
    fresh_database: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [row(1, "aspirin", "An NSAID.", 180.16), row(2, "caffeine", "Awake."), row(3, "ibuprofen", "Pain.")]
    read(fresh_database, table(tmp_path / "a.csv", *first), dataset="mine")
    second = table(tmp_path / "b.csv", row(1, "aspirin", "Also thins blood.", 180.16), first[1], row(4, "willow bark"))
    with pytest.raises(UsageError, match="1 rows added, 1 changed, 1 removed"):
        read(fresh_database, second, dataset="mine")
    assert "dataset mine" in capsys.readouterr().err
    assert said(fresh_database, "aspirin")[1] == {"An NSAID."}, "nothing is written before it is wanted"
    untouched = fetch(fresh_database, "SELECT xmin::text FROM mkmed.drug_record WHERE key = 'user.mine:2'")
    summary = read(fresh_database, second, dataset="mine", yes=True)
    assert (summary.counts["drugs"], summary.counts["removed"]) == (2, 1)
    assert said(fresh_database, "aspirin")[1] == {"Also thins blood."}
    assert fetch(fresh_database, "SELECT xmin::text FROM mkmed.drug_record WHERE key = 'user.mine:2'") == untouched
    with fresh_database.connect() as connection, pytest.raises(NotFound):
        find_drug(connection, "ibuprofen")
    gone = fetch(fresh_database, "SELECT fact ->> 'content' FROM mkmed.history WHERE kind = 'text' AND until IS NOT NULL")
    assert {("An NSAID.",), ("Pain.",)} <= set(gone)
    assert read(fresh_database, second, dataset="mine").counts.get("rows", 0) == 0
    read(fresh_database, tmp_path / "a.csv", dataset="mine", yes=True)
    assert said(fresh_database, "ibuprofen")[1] == {"Pain."}, "an older version may come back"


def test_a_record_whose_structure_changes_takes_only_its_own_rows(fresh_database: Engine, tmp_path: Path) -> None:
    read(fresh_database, table(tmp_path / "other.csv", row("x", "aspirin", "From another table.", 180.2)))
    read(fresh_database, table(tmp_path / "mine.csv", row(1, "aspirin", "Mine.", 180.16)))
    run(fresh_database, "rdkit", modalities=("property",))
    wrong = table(tmp_path / "mine2.csv", f"1,aspirin,{SMILES['caffeine']},Mine.,194.19")
    read(fresh_database, wrong, dataset="mine", yes=True)
    with fresh_database.connect() as connection:
        aspirin, caffeine = find_drug(connection, ASPIRIN), find_drug(connection, CAFFEINE)
        sound(connection)
    assert fetch(fresh_database, f"SELECT content FROM mkmed.text WHERE drug_id = {aspirin}") == [("From another table.",)]
    assert fetch(fresh_database, f"SELECT content FROM mkmed.text WHERE drug_id = {caffeine}") == [("Mine.",)]
    rdkit = "SELECT count(*) FROM mkmed.property_set WHERE source = 'rdkit' AND drug_id = "
    assert fetch(fresh_database, f"{rdkit}{aspirin}") == [(1,)] and fetch(fresh_database, f"{rdkit}{caffeine}") == [(0,)]
    run(fresh_database, "rdkit", modalities=("property",))
    assert fetch(fresh_database, f"{rdkit}{caffeine}") == [(1,)]
    assert list_merges_of(fresh_database) == [], "a record that was replaced is no merge"


def list_merges_of(engine: Engine) -> list[dict]:
    with engine.connect() as connection:
        return list_merges(connection)


def test_what_was_computed_is_stale_when_its_input_changes(fresh_database: Engine) -> None:
    """Two SMILES of one InChIKey: the drug shows the one of the preferred source, and is computed from that."""
    imine, amine = "CN(C)C(=N)N=C(N)N", "CN(C)C(=N)NC(=N)N"
    with fresh_database.begin() as connection:
        begin_run = begin(connection)
        write_batch(connection, begin_run, "other", RecordBatch(drugs=[DrugRecord(
            "drugbank:DB00331", "Metformin", document("m", "other"), "small molecule", imine, METFORMIN)]))
    run(fresh_database, "rdkit", modalities=("property",))
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[DrugRecord(
            "drugbank:DB00331", "Metformin", document("m"), "small molecule", amine, METFORMIN)]))
        assert connection.scalar(text("SELECT smiles FROM mkmed.drug")) == amine
        assert connection.scalar(text("SELECT count(*) FROM mkmed.property_set")) == 0
        sound(connection)
    assert run(fresh_database, "rdkit", modalities=("property",)).counts["present"] == 1
    with fresh_database.connect() as connection:
        sound(connection)


LOOSE = DrugRecord(
    "x:1", "metformin?", document("loose", "other"), identifiers=(Identifier("drugbank", "DB00331"), Identifier("cas", "657-24-9")),
    names=(Name("Loose name"),),
)
STATE = """
SELECT d.id, d.identity, d.name, d.smiles, to_jsonb(t) - ARRAY['since', 'updated_at', 'pinned', 'attempts', 'run_id', 'kept', 'id']
FROM mkmed.{table} t JOIN mkmed.drug d ON d.id = t.drug_id ORDER BY 1, 5
"""


def state(connection: Connection) -> dict[str, list[str]]:
    """Everything that is filed under drugs, by table; with the drugs' ids."""
    tables = ("drug_record", "drug_name", "identifier", "cell", "text", "property_set", "drug_atc", "substance_relation")
    return {t: [str(tuple(found)) for found in connection.execute(text(STATE.format(table=t)))] for t in tables}


def test_an_undone_merge_restores_exactly_what_was(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "other", RecordBatch(drugs=[LOOSE], payloads=[
            PropertyRecord("x:1", document("p", "other"), {"tpsa": 91.5}),
            TextRecord("x:1", document("t", "other"), "somebody", "A loose text.", "CC0-1.0")]))
    run(fresh_database, "rdkit", modalities=("property",))
    with fresh_database.begin() as connection:
        before = state(connection)
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[metformin()]))
        joined = state(connection)
        assert len({line.split(",")[0] for line in joined["drug_name"]}) == 1
        undo_merge(connection, list_merges(connection)[0]["id"], begin(connection))
        after = state(connection)
        mine = {table: [line for line in lines if "'drugbank:DB00331'" in line[:40]] for table, lines in after.items()}
        assert mine == before
        sound(connection)
        assert find_drug(connection, "Loose name") != find_drug(connection, METFORMIN)
        names = connection.scalars(text("SELECT name FROM mkmed.drug_name WHERE drug_id = :d"),
                                   {"d": find_drug(connection, METFORMIN)}).all()
        assert "Loose name" not in names
        cas = "SELECT count(*) FROM mkmed.identifier WHERE namespace = 'cas' AND drug_id = :d"
        assert connection.scalar(text(cas), {"d": find_drug(connection, METFORMIN)}) == 0
        with pytest.raises(NotFound):
            undo_merge(connection, list_merges(connection)[0]["id"], begin(connection))


def test_a_conflict_is_shown_and_goes_when_it_is_settled(fresh_database: Engine) -> None:
    salt = DrugRecord("s:1", "Metformin hydrochloride", document("salt"), "small molecule", "Cl.CN(C)C(=N)N=C(N)N",
                      "OETHQSJEHLVLGH-UHFFFAOYSA-N", identifiers=(Identifier("drugbank", "DB00331"),))
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[metformin(), salt]))
        write_batch(connection, begin(connection), "other", RecordBatch(drugs=[LOOSE]))
        (conflict,) = list_conflicts(connection)
        assert (conflict["identifier"], len(conflict["identities"])) == ("drugbank:DB00331", 2)
        salt = DrugRecord("s:1", salt.name, document("salt 2"), salt.kind, salt.smiles, salt.inchikey)
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[salt]))
        assert list_conflicts(connection) == []
        assert find_drug(connection, "Loose name") == find_drug(connection, METFORMIN)
        sound(connection)


def test_a_parted_record_is_known_by_its_kind_whatever_the_reason_says(fresh_database: Engine) -> None:
    other = DrugRecord("s:1", "Metformin of another number", document("parted"), "small molecule", "CN(C)C(=N)N=C(N)N",
                       METFORMIN, identifiers=(Identifier("unii", "0000000000"),))
    own = DrugRecord("s:0", "Metformin", document("own"), "small molecule", "CN(C)C(=N)N=C(N)N", METFORMIN,
                     identifiers=(Identifier("unii", "9100L32L2N"),))
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[own, other]))
        (conflict,) = list_conflicts(connection)
        assert (conflict["kind"], conflict["identifier"]) == ("structure", f"inchikey:{METFORMIN}")
        sound(connection)
        connection.execute(text("UPDATE mkmed.drug_conflict SET reason = 'said otherwise'"))
        sound(connection)
        connection.execute(text("UPDATE mkmed.drug_conflict SET kind = 'identifier'"))
        assert [check.number for check in verify(connection) if check.broken] == ["I8c"]


def test_names_and_identifiers_are_taken_back_with_their_record(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[metformin()]))
        fewer = DrugRecord("drugbank:DB00331", "Metformin", document("new"), "small molecule", "CN(C)C(=N)N=C(N)N", METFORMIN,
                           "C4H11N5", (Identifier("drugbank", "DB00331"),))
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=[fewer]))
        assert connection.scalars(text("SELECT name FROM mkmed.drug_name")).all() == ["Metformin"]
        assert connection.scalars(text("SELECT namespace FROM mkmed.identifier")).all() == ["drugbank"]
        assert connection.scalar(text("SELECT count(*) FROM mkmed.history WHERE until IS NOT NULL AND kind = 'drug_name'")) == 2
        sound(connection)


@pytest.mark.parametrize(
    ("given", "smiles"),
    [("a wrong one", CAFFEINE), ("another stereoisomer", "BSYNRYMUTXBXSQ-ZZXKWVIFSA-N")],
)
def test_a_smiles_and_an_inchikey_that_contradict_each_other(
    fresh_database: Engine, tmp_path: Path, given: str, smiles: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"name,smiles,inchikey,cas\naspirin,{SMILES['aspirin']},{smiles},50-78-2\n")
    columns = {"name": "name", "smiles": "smiles", "inchikey": "inchikey", "identifier.cas": "cas"}
    summary = run(fresh_database, "tabular", path=path, columns=columns)
    assert summary.counts["rejected_rows"] == 1
    (told,) = fetch(fresh_database, "SELECT last_error FROM mkmed.lookup WHERE state = 'rejected'")
    assert ASPIRIN in told[0] and smiles in told[0]
    assert fetch(fresh_database, "SELECT name, smiles, inchikey FROM mkmed.drug") == [("aspirin", None, None)]
    assert fetch(fresh_database, "SELECT value FROM mkmed.identifier") == [("50-78-2",)]


@pytest.mark.parametrize(
    ("namespace", "value"),
    [("cas", "50-78-3"), ("cas", "126-22-7:"), ("inchikey", "OVRNDRQMDRJTHS-FMDGEEDCNA-N"), ("pubchem.compound", "2.244E+03")],
)
def test_identifiers_whose_form_proves_them_wrong_are_refused(namespace: str, value: str) -> None:
    with pytest.raises(DataError) as caught:
        Identifier.make(namespace, value)
    assert caught.value.hint


def test_an_inchikey_may_carry_its_label() -> None:
    assert Identifier.make("inchikey", "InChIKey=bsynrymutxbxsq-uhfffaoysa-n").value == ASPIRIN


@pytest.fixture
def related(fresh_database: Engine, tmp_path: Path) -> Engine:
    """Metformin, its salt under the same name, and what else is related to something."""
    path = tmp_path / "related.csv"
    path.write_text(
        "key,name,synonym,smiles\n"
        "s,Metformin hydrochloride,metformin,Cl.CN(C)C(=N)NC(=N)N\n"
        "p,Metformin base,metformin,CN(C)C(=N)NC(=N)N\n"
        "q,quinine,cinchona,COc1ccc2nccc([C@@H](O)[C@@H]3C[C@@H]4CCN3C[C@@H]4C=C)c2c1\n"
        "r,quinidine,cinchona,COc1ccc2nccc([C@H](O)[C@H]3C[C@@H]4CCN3C[C@@H]4C=C)c2c1\n"
        "f,flat cinchona alkaloid,,COc1ccc2nccc(C(O)C3CC4CCN3CC4C=C)c2c1\n"
        "h,carbidopa monohydrate,,O.CC(Cc1ccc(O)c(O)c1)(NN)C(=O)O\n"
        "c,carbidopa,,CC(Cc1ccc(O)c(O)c1)(NN)C(=O)O\n"
    )
    run(fresh_database, "tabular", path=path, columns={n: n for n in ("key", "name", "synonym", "smiles")})
    return fresh_database


def test_substances_in_relation_are_kept_and_shown(related: Engine) -> None:
    found = set(fetch(related, "SELECT name, relation, other_name FROM mkmed.substance_relations WHERE other_id IS NOT NULL"))
    assert found == {
        ("Metformin hydrochloride", "salt of", "Metformin base"),
        ("carbidopa monohydrate", "hydrate of", "carbidopa"),
        ("flat cinchona alkaloid", "stereo-unspecified of", "quinine"),
        ("flat cinchona alkaloid", "stereo-unspecified of", "quinidine"),
    }
    with related.connect() as connection:
        sound(connection)
        _, sections = describe(connection, "Metformin hydrochloride")
        assert [(r["relation"], r["substance"]) for r in sections["relations"]] == [("salt of", "Metformin base")]


def test_a_name_of_several_prefers_the_parent_or_gives_the_candidates(related: Engine) -> None:
    with related.connect() as connection:
        parent = find_drug(connection, "Metformin base")
        assert find_drug(connection, "metformin") == parent
        assert find_drugs(connection, "metformin")[0].drug_id == parent
        with pytest.raises(Ambiguous) as caught:
            find_drug(connection, "cinchona")
        assert {c["name"] for c in caught.value.candidates} == {"quinine", "quinidine"}
        assert caught.value.exit_code == 1 and "quinidine" in caught.value.message


def test_what_is_too_much_to_relate_at_once_is_left_to_rdkit(
    fresh_database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kb.identity import relations

    monkeypatch.setattr(relations, "AT_ONCE", 0)
    path = tmp_path / "two.csv"
    path.write_text("name,smiles\nmetformin,CN(C)C(=N)NC(=N)N\nmetformin hydrochloride,Cl.CN(C)C(=N)NC(=N)N\n")
    run(fresh_database, "tabular", path=path, columns={"name": "name", "smiles": "smiles"})
    found = "SELECT name, relation, other_name FROM mkmed.substance_relations"
    assert fetch(fresh_database, found) == []
    run(fresh_database, "rdkit")
    assert fetch(fresh_database, found) == [("metformin hydrochloride", "salt of", "metformin")]
    with fresh_database.connect() as connection:
        sound(connection)


def test_a_full_refresh_takes_back_what_the_bundle_does_not_have(fresh_database: Engine) -> None:
    from kb.bundle import Bundle
    from kb.ingest.engine import make_job
    from kb.sources.corpus.source import CorpusSource

    run(fresh_database, "corpus", limit=3)
    job = make_job(fresh_database, Settings(workers=1), CorpusSource(), IngestOptions(refresh_days=0.0))
    with fresh_database.begin() as connection:
        job.run_id = begin(connection)
        old = DrugRecord("drugbank:DB99999", "Withdrawn", document("old"), identifiers=(Identifier("drugbank", "DB99999"),))
        write_batch(connection, job.run_id, "corpus", RecordBatch(drugs=[old]))
        CorpusSource()._forget(job, Bundle.open())(connection, {})
        assert connection.scalar(text("SELECT count(*) FROM mkmed.drug_record WHERE source = 'corpus'")) == 3
        with pytest.raises(NotFound):
            find_drug(connection, "Withdrawn")
        sound(connection)


def test_a_dataset_is_removed_at_one_stroke_and_its_history_stays(related: Engine, tmp_path: Path) -> None:
    read(related, table(tmp_path / "more.csv", row(1, "aspirin", "An NSAID."), f"2,metformin,{'CN(C)C(=N)NC(=N)N'},Sugar.,"))
    with related.begin() as connection:
        one = take_snapshot(connection, "one")
        assert take_snapshot(connection, "one") == one
    (removed,) = remove_named(related, dataset="related")
    assert removed["records"] == 7
    with related.begin() as connection:
        two = take_snapshot(connection, "two")
        sound(connection)
        assert two.release != one.release and two.counts["record"] == 2
        assert {d.name for d in connection.execute(text("SELECT name FROM mkmed.drug"))} == {"aspirin", "metformin"}
        changes = {(c["change"], c["kind"], c["source"]): c["facts"] for c in diff(connection, "one", "two")}
        assert changes["-", "drug_record", "tabular/related"] == 7 and not any(c[0] == "+" for c in changes)
        assert {c["change"] for c in diff(connection, "two", "one")} == {"+"}
        with pytest.raises(UsageError):
            take_snapshot(connection, "one")
        with pytest.raises(NotFound):
            diff(connection, "one", "three")
    run(related, "tabular", path=tmp_path / "related.csv", columns={n: n for n in ("key", "name", "synonym", "smiles")})
    with related.begin() as connection:
        assert take_snapshot(connection, "again").release == one.release, "the same facts are the same release"


@pytest.mark.parametrize("citing", ["cohorts/mine/cohort.json", "runs/pretrain/first/run.json", "unreadable", "embedding run"])
def test_a_snapshot_that_something_cites_is_kept(citing: str, fresh_database: Engine, tmp_path: Path) -> None:
    read(fresh_database, table(tmp_path / "a.csv", row(1, "aspirin")))
    with fresh_database.begin() as connection:
        taken = take_snapshot(connection, "one")
        knowledge = {"knowledge": cite(connection)}
        assert knowledge["knowledge"] == {"release": taken.release, "snapshot": "one"}
        if citing == "embedding run":
            run_id = begin(connection)
            connection.execute(text("INSERT INTO mkmed.embedding_run (run_id, width, precision, modalities, drugs, state, metrics)"
                                    " VALUES (:run, 8, 'vector', '{text}', 0, 'complete', :metrics)"),
                               {"run": run_id, "metrics": json.dumps(knowledge)})
            told = f"embedding run {str(run_id)[:8]}"
        else:
            path = tmp_path / ("cohorts/mine/cohort.json" if citing == "unreadable" else citing)
            path.parent.mkdir(parents=True)
            said = {"provenance": knowledge} if path.name == "cohort.json" else knowledge
            path.write_text("{" if citing == "unreadable" else json.dumps(said))
            told = str(path.parent.relative_to(tmp_path))
        with pytest.raises(UsageError, match=f"{told} cite its release {taken.release}"):
            remove_snapshot(connection, "one", tmp_path)
        assert list_snapshots(connection)[0]["name"] == "one"
        connection.execute(text("UPDATE mkmed.embedding_run SET metrics = '{}'"))
        if citing != "embedding run":
            path.write_text(json.dumps({"knowledge": {"release": "another", "snapshot": None}, "provenance": {}}))
        assert remove_snapshot(connection, "one", tmp_path) == taken
        assert list_snapshots(connection) == []
        with pytest.raises(NotFound):
            remove_snapshot(connection, "one", tmp_path)


def test_what_another_source_said_stays_when_a_record_it_hung_on_goes(fresh_database: Engine, tmp_path: Path) -> None:
    read(fresh_database, table(tmp_path / "a.csv", row(1, "aspirin")))
    read(fresh_database, table(tmp_path / "b.csv", row(1, "aspirin"), row(2, "caffeine")))
    codes = tmp_path / "codes.csv"
    codes.write_text("code,drug\nN02BA01,aspirin\nN06BC01,caffeine\n")
    run(fresh_database, "atc", path=codes)
    assert fetch(fresh_database, "SELECT code FROM mkmed.drug_atc ORDER BY 1") == [("N02BA01",), ("N06BC01",)]
    remove_named(fresh_database, dataset="a")
    assert fetch(fresh_database, "SELECT code FROM mkmed.drug_atc ORDER BY 1") == [("N02BA01",), ("N06BC01",)]
    remove_named(fresh_database, dataset="b")
    assert fetch(fresh_database, "SELECT code FROM mkmed.drug_atc") == []
    assert fetch(fresh_database, "SELECT count(*) FROM mkmed.drug") == [(0,)]
    with fresh_database.connect() as connection:
        sound(connection)


@pytest.mark.parametrize("written", ["1_80.16", "NaN", "inf", "-1e999", "٧", "١٨٠", "0x10", "1e29", "-180.16", "0", "True", "1,80"])
def test_a_number_of_a_table_is_one_that_the_property_can_have(written: str, fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"name\tweight\tatoms\nsomething\t{written}\t2.5\nother\t 18.02 \t1\n")
    columns = {"name": "name", "property.mol_weight": "weight", "property.heavy_atoms": "atoms"}
    assert run(fresh_database, "tabular", path=path, columns=columns).counts["rejected_rows"] == 2
    assert fetch(fresh_database, "SELECT values FROM mkmed.property_set") == [({"mol_weight": 18.02, "heavy_atoms": 1},)]


@pytest.mark.parametrize(("role", "value"), [("mol_weight", "194.19"), ("exact_mass", "194.0804"), ("heavy_atoms", "14"), ("charge", "1")])
def test_a_row_whose_structure_is_that_of_the_next_row_is_not_believed(
    role: str, value: str, fresh_database: Engine, tmp_path: Path
) -> None:
    """The numbers are caffeine's, the structure is aspirin's; name and key are kept, and the other row is whole."""
    path = tmp_path / "shifted.csv"
    path.write_text(f"key,name,smiles,stated,xlogp\n1,caffeine,{SMILES['aspirin']},{value},-0.1\n2,ibuprofen,{SMILES['ibuprofen']},,3.5\n")
    columns = {n: n for n in ("key", "name", "smiles")} | {f"property.{role}": "stated", "property.xlogp": "xlogp"}
    assert run(fresh_database, "tabular", path=path, columns=columns).counts["rejected_rows"] == 1
    assert fetch(fresh_database, "SELECT name, smiles IS NULL, inchikey IS NULL FROM mkmed.drug ORDER BY name") == [
        ("caffeine", True, True), ("ibuprofen", False, False)]
    assert fetch(fresh_database, "SELECT values FROM mkmed.property_set ORDER BY record_key") == [({"xlogp": -0.1},), ({"xlogp": 3.5},)]
    ((reason,),) = fetch(fresh_database, "SELECT last_error FROM mkmed.lookup WHERE state = 'rejected'")
    assert "but the structure has" in reason and "neither is taken" in reason


def test_polymers_without_an_inchikey_keep_their_names_and_never_merge(fresh_database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "polymers.csv"
    path.write_text("name,smiles\npolymer A,*CC(*)O\npolymer B,*CC(*)N\nonly a name,\n")
    run(fresh_database, "tabular", path=path, columns={"name": "name", "smiles": "smiles"})
    assert len(fetch(fresh_database, "SELECT DISTINCT identity FROM mkmed.drug")) == 3
    assert fetch(fresh_database, "SELECT count(*) FROM mkmed.drug WHERE inchikey IS NOT NULL") == [(0,)]


def test_a_killed_ingest_of_a_table_goes_on_and_ends(fresh_database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kb.errors import MkmedError
    from kb.ingest import engine as module
    from kb.sources.tables import source

    monkeypatch.setattr(source, "CHUNK", 2)
    path = table(tmp_path / "five.csv", *(f"{n},drug {n},{'C' * n}O,," for n in range(1, 6)))
    write, calls = module.write_batch, iter(range(100))

    def stops(*given: object, **options: object) -> dict[str, int]:
        if next(calls) == 1:
            raise MkmedError("stopped in the second chunk")
        return write(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_batch", stops)
    with pytest.raises(MkmedError, match="second chunk"):
        read(fresh_database, path)
    monkeypatch.setattr(module, "write_batch", write)
    assert fetch(fresh_database, "SELECT count(*) FROM mkmed.drug_record") == [(2,)]
    assert read(fresh_database, path).counts["drugs"] == 3, "the same file needs no consent, and two rows are there"
    assert read(fresh_database, path).counts.get("rows", 0) == 0
    assert fetch(fresh_database, "SELECT count(*) FROM mkmed.drug_record") == [(5,)]


def test_a_table_is_closed_until_its_licence_is_stated(fresh_database: Engine, tmp_path: Path) -> None:
    path = table(tmp_path / "own.csv", row(1, "aspirin", "An NSAID.", 180.16))
    open_texts = "SELECT count(*) FROM mkmed.text t WHERE mkmed.is_open(t.licence_id)"

    def leaves(name: str) -> str:
        export(fresh_database, tmp_path / name, ExportFormat.csv, open_only=True)
        return "".join(f.read_text() for f in sorted((tmp_path / name).glob("*.csv")))

    read(fresh_database, path)
    assert "NSAID" not in leaves("a")
    with pytest.raises(UsageError, match="no licence") as refused:
        read(fresh_database, path, licence="CC-BY-4")
    assert "CC-BY-4.0" in str(refused.value.hint)
    with pytest.raises(UsageError, match="1 changed"):
        read(fresh_database, path, licence="cc-by-4.0")
    read(fresh_database, path, licence="cc-by-4.0", yes=True)
    assert fetch(fresh_database, open_texts) == [(1,)]
    left = leaves("b")
    assert all(said in left for said in ("NSAID", "aspirin", "180.16"))
    read(fresh_database, path, licence="CC-BY-NC-4.0", yes=True)
    assert not {"NSAID", "aspirin"} & set(re.findall(r"\w+", leaves("c")))
    with fresh_database.connect() as connection:
        sound(connection)
    with pytest.raises(UsageError, match="--licence is for a table of your own"):
        run(fresh_database, "interactions", licence="CC0-1.0")


def test_a_parted_drug_lists_nothing_of_the_structure_s_drug(fresh_database: Engine) -> None:
    """A source drew metformin for two substances: CID and CAS number are the first one's; each keeps its own number."""
    shared = ("pubchem.compound:4091", "cas:657-24-9")
    records = [DrugRecord(f"drugbank:DB0000{i}", name, document(name), smiles="CN(C)C(=N)N=C(N)N", inchikey=METFORMIN,
                          identifiers=tuple(map(Identifier.parse, (f"drugbank:DB0000{i}", number, *shared))))
               for i, (name, number) in enumerate([("metformin", "unii:9100L32L2N"), ("another", "unii:786Z46389E")], 1)]
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", RecordBatch(drugs=records))
    with fresh_database.connect() as connection:
        sound(connection)
        listed = {name: {f"{row['namespace']}:{row['value']}" for row in describe(connection, name)[1]["identifiers"]}
                  for name in ("metformin", "another")}
        assert listed == {"metformin": {"drugbank:DB00001", "unii:9100L32L2N", *shared},
                          "another": {"drugbank:DB00002", "unii:786Z46389E"}}
        for identifier in shared:
            assert find_drug(connection, identifier) == find_drug(connection, "metformin")
