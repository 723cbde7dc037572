"""Batches, identity and the ledger against a real Postgres."""

import random
import subprocess
import sys
import uuid

import pytest
from facts import ASPIRIN, Identifier, begin, document, insulin, metformin, small_batch
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError

from kb.errors import NotFound
from kb.identity.undo import list_merges, undo_merge
from kb.ingest.write import write_batch
from kb.ledger.entries import (
    CellWrite,
    claim_cells,
    count_states,
    finish_run,
    open_cells,
    release_dead,
    unleased,
    write_cells,
)
from kb.ledger.verify import verify
from kb.modalities import State
from kb.query import read as query
from kb.query.drug import find_drug
from kb.schema.identity import drug, drug_merge
from kb.schema.ledger import cell, content, run
from kb.sources.contract import DrugRecord, Outcome, PropertyRecord, RecordBatch


@pytest.fixture
def filled(fresh_database):
    with fresh_database.begin() as connection:
        write_batch(connection, begin(connection), "hand", small_batch())
    return fresh_database


def snapshot(connection):
    """Everything but times, attempts and ids of runs."""
    tables = (
        "drug",
        "drug_record",
        "drug_name",
        "identifier",
        "image",
        "text",
        "conformer",
        "property_set",
        "interaction",
        "drug_atc",
    )
    rows = {
        t: sorted(
            map(
                str,
                connection.execute(
                    text(
                        f"SELECT to_jsonb(t) - 'created_at' - 'updated_at' - 'run_id' - 'id' - 'drug_id'"
                        f" - 'drug_a' - 'drug_b' - 'artifact' FROM mkmed.{t} t"
                    )
                ).scalars(),
            )
        )
        for t in tables
    }
    rows["cell"] = sorted(
        map(
            str,
            connection.execute(
                text(
                    "SELECT d.identity, c.modality, c.source, c.state FROM mkmed.cell c"
                    " JOIN mkmed.drug d ON d.id = c.drug_id"
                )
            ),
        )
    )
    return rows


def test_a_batch_is_written_whole_and_sound(filled):
    with filled.connect() as connection:
        assert [c.number for c in verify(connection) if c.broken] == []
        rows = {r.name: r for r in connection.execute(text("SELECT * FROM mkmed.bucket"))}
        assert (rows["Metformin"].text, rows["Metformin"].property, rows["Metformin"].image) == (True, True, False)
        assert rows["Aspirin"].modalities == 2
        assert rows["Insulin human"].modalities == 1


def test_writing_twice_changes_nothing(filled):
    with filled.begin() as connection:
        before, states = snapshot(connection), count_states(connection)
        write_batch(connection, begin(connection), "hand", small_batch())
        assert snapshot(connection) == before
        assert count_states(connection) == states


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_records_does_not_matter(fresh_database, seed):
    records = [
        ("hand", metformin()),
        (
            "other",
            DrugRecord(
                "user:m", "Metformin HCl?", document("m", "other"), identifiers=(Identifier("drugbank", "DB00331"),)
            ),
        ),
        ("hand", insulin()),
        ("other", insulin("other")),
    ]
    expected = {"inchikey:XZWYZXLIPXDOLR-UHFFFAOYSA-N": ["hand", "other"], "drugbank:DB00030": ["hand", "other"]}
    random.Random(seed).shuffle(records)
    with fresh_database.begin() as connection:
        run = begin(connection)
        for source, record in records:
            write_batch(connection, run, source, RecordBatch(drugs=[record]))
        found = {
            r.identity: sorted(r.sources) for r in connection.execute(text("SELECT identity, sources FROM mkmed.drugs"))
        }
        assert found == expected
        assert connection.scalar(select(func.count()).select_from(drug)) == 2
        assert [c.number for c in verify(connection) if c.broken] == []


def test_a_merge_carries_data_is_logged_and_can_be_undone(fresh_database):
    with fresh_database.begin() as connection:
        run = begin(connection)
        loose = DrugRecord(
            "user:m", "metformin?", document("m", "other"), identifiers=(Identifier("drugbank", "DB00331"),)
        )
        write_batch(
            connection,
            run,
            "other",
            RecordBatch(drugs=[loose], payloads=[PropertyRecord("user:m", document("p", "other"), {"tpsa": 91.5})]),
        )
        write_batch(connection, run, "hand", RecordBatch(drugs=[metformin()]))
        assert connection.scalar(select(func.count()).select_from(drug)) == 1
        merge = list_merges(connection)[0]
        assert (merge["from_identity"], merge["source"]) == ("drugbank:DB00331", "other")
        assert query.properties(connection).values.tolist() == [[91.5]]
        undo_merge(connection, merge["id"], run)
        write_batch(connection, run, "other", RecordBatch(drugs=[loose]))
        identities = set(connection.scalars(select(drug.c.identity)))
        assert identities == {"drugbank:DB00331", "inchikey:XZWYZXLIPXDOLR-UHFFFAOYSA-N"}
        with pytest.raises(NotFound):
            undo_merge(connection, merge["id"], run)
        assert (
            connection.scalar(select(func.count()).select_from(drug_merge).where(drug_merge.c.undone_at.is_not(None)))
            == 1
        )


def test_knowledge_only_grows(filled):
    with filled.begin() as connection:
        run = begin(connection)
        drug_id = find_drug(connection, "metformin")
        write_cells(connection, run, "hand", [CellWrite(drug_id, "text", State.failed, error="timeout")])
        write_cells(connection, run, "hand", [CellWrite(drug_id, "text", State.absent, evidence="rule:x")])
        state = select(cell.c.state).where(cell.c.drug_id == drug_id, cell.c.modality == "text")
        assert connection.scalar(state) == "present"
        aspirin_id = find_drug(connection, f"inchikey:{ASPIRIN}")
        state = select(cell.c.state).where(cell.c.drug_id == aspirin_id, cell.c.modality == "text")
        assert connection.scalar(state) == "failed"
        write_batch(
            connection, run, "hand", RecordBatch(outcomes=[Outcome(aspirin_id, "text", State.absent, evidence="rule:x")])
        )
        assert connection.scalar(state) == "absent"


def test_absent_without_evidence_and_present_without_data_are_refused(filled):
    with pytest.raises(ValueError, match="evidence"):
        Outcome(1, "text", State.absent)
    with filled.begin() as connection, pytest.raises(IntegrityError), connection.begin_nested():
        write_cells(connection, begin(connection), "hand", [CellWrite(1, "text", State.absent)])


def test_two_workers_never_claim_the_same_cell(filled):
    with filled.begin() as connection:
        mine, theirs = begin(connection), begin(connection)
        open_cells(connection, mine, "other", query.drugs(connection).ids.tolist(), ["image"])
    with filled.begin() as one, filled.begin() as two:
        first, second = claim_cells(one, mine, "other", "image", 2), claim_cells(two, theirs, "other", "image", 2)
        assert (len(first), len(second)) == (2, 1)
        assert not set(first) & set(second)
    with filled.begin() as connection:  # the transactions are over, and the claims are not
        assert claim_cells(connection, theirs, "other", "image", 3) == second
        assert claim_cells(connection, mine, "other", "image", 3) == first


def test_a_claim_finds_its_cells_by_their_place(filled):
    """By their drugs alone, cells that no statistics know yet are compared each with each."""
    with filled.begin() as connection:
        run = begin(connection)
        open_cells(connection, run, "other", query.drugs(connection).ids.tolist(), ["image"])
    plans = []

    def explain(connection, cursor, statement, parameters, context, executemany):
        if "FOR UPDATE" in statement:
            with connection.connection.cursor() as own:
                own.execute(f"EXPLAIN {statement}", parameters)
                plans.append(" ".join(line for line, in own.fetchall()))

    event.listen(filled, "before_cursor_execute", explain)
    try:
        with filled.begin() as connection:
            assert len(claim_cells(connection, run, "other", "image", 3)) == 3
    finally:
        event.remove(filled, "before_cursor_execute", explain)
    assert len(plans) == 1 and "Tid Scan" in plans[0] and "Join Filter" not in plans[0], plans


def test_a_claim_ends_with_its_run_with_its_process_and_with_time(filled):
    def free() -> int:
        with filled.begin() as connection:
            return connection.scalar(
                select(func.count()).select_from(cell).where(cell.c.source == "other", unleased(cell, uuid.uuid4()))
            )

    def claim(run: uuid.UUID) -> int:
        with filled.begin() as connection:
            return len(claim_cells(connection, run, "other", "image", 3))

    with filled.begin() as connection:
        over, late, gone = (begin(connection) for _ in range(3))
        open_cells(connection, over, "other", query.drugs(connection).ids.tolist(), ["image"])
    assert (claim(over), free()) == (3, 0)
    with filled.begin() as connection:
        finish_run(connection, over, "failed")
    assert (claim(late), free()) == (3, 0)
    with filled.begin() as connection:
        connection.execute(cell.update().values(leased_until=func.now() - text("interval '1 s'")))
    assert (claim(gone), free()) == (3, 0)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with filled.begin() as connection:
        assert release_dead(connection, "hand") == 0, "this very process is alive"
        connection.execute(run.update().where(run.c.id == gone).values(pid=child.pid, name="other"))
        assert release_dead(connection, "other") == 3
    assert free() == 3


def test_altered_bytes_are_found(filled):
    with filled.begin() as connection:
        connection.execute(text("ALTER TABLE mkmed.content DROP CONSTRAINT ck_content_sha256_matches"))
        connection.execute(content.update().values(payload=b"altered").where(content.c.payload == b"numbers"))
        assert "I1a" in [c.number for c in verify(connection) if c.broken]


def test_every_invariant_can_be_broken(filled):
    """A check that cannot fail is no check: break each one and see it named."""
    breakers = {
        "I2": "ALTER TABLE mkmed.cell DROP CONSTRAINT ck_cell_absent_has_evidence;"
        " UPDATE mkmed.cell SET evidence = NULL WHERE state = 'absent'",
        "I3a": "DELETE FROM mkmed.cell WHERE modality = 'text'",
        "I3b": "DELETE FROM mkmed.property_set",
        "I4": "UPDATE mkmed.image SET artifact = (SELECT artifact FROM mkmed.property_set)",
        "I1b": "UPDATE mkmed.artifact SET url = 'https://elsewhere.example' WHERE content = sha256('numbers')",
        "I9": "ALTER TABLE mkmed.text ALTER licence_id DROP NOT NULL; UPDATE mkmed.text SET licence_id = NULL",
        "I7": "UPDATE mkmed.drug_record SET drug_id = NULL WHERE key = 'drugbank:DB00030'",
        "I8a": "UPDATE mkmed.property_set SET drug_id = (SELECT id FROM mkmed.drug WHERE name = 'Aspirin')",
        "I8b": "INSERT INTO mkmed.identifier (drug_id, namespace, value, source, key, artifact)"
        " SELECT drug_id, 'chembl', 'CHEMBL1', source, key, artifact FROM mkmed.drug_record WHERE key = 'drugbank:DB00030'",
        "I8c": "UPDATE mkmed.drug_record SET inchikey = 'BSYNRYMUTXBXSQ-UHFFFAOYSA-N' WHERE key = 'drugbank:DB00331'",
        "I8d": "UPDATE mkmed.source SET origin = 'computed';"
        " UPDATE mkmed.property_set SET record_source = NULL, record_key = NULL, input = sha256('other')",
        "I8e": "UPDATE mkmed.drug SET smiles = 'CCO' WHERE name = 'Aspirin'",
    }
    for number, statement in breakers.items():
        with filled.connect() as connection:
            # As a client would whose foreign keys were taken away.
            connection.execute(text(f"SET LOCAL session_replication_role = replica; {statement}"))
            assert number in [c.number for c in verify(connection) if c.broken], number
            connection.rollback()
