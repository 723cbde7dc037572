"""A refresh replaces data and cell together, one way or the other, whatever order its documents come in."""

from __future__ import annotations

import itertools

import pytest
from facts import begin, document, metformin
from sqlalchemy import Connection, Engine, text

from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.ledger.verify import verify
from kb.modalities import Modality, State
from kb.sources.contract import ConformerRecord, ImageRecord, Outcome, PropertyRecord, RecordBatch, TextRecord

KEY = "drugbank:DB00331"
TABLES = {"image": "image", "text": "text", "structure": "conformer", "property": "property_set"}


def payload(modality: str, version: str, content: str | None = None):
    """A record of metformin's; its artifact depends on the version."""
    proof = document(f"{modality} {version}")
    return {
        "image": ImageRecord(KEY, proof, 300, 300),
        "text": TextRecord(KEY, proof, "a pharmacist", content or f"A biguanide, {version}.", "CC0-1.0"),
        "structure": ConformerRecord(KEY, proof, "m\n\n\nM  END\n", 9, "by hand"),
        "property": PropertyRecord(KEY, proof, {"mol_weight": 129.16}),
    }[modality]


def learn(connection: Connection, *parts: ImageRecord | Outcome, replace: bool = True) -> None:
    """One run with a batch for every part, in this order."""
    begin(connection)
    run = start_run(connection, "ingest", name="hand")
    for part in parts:
        outcomes, payloads = ([part], []) if isinstance(part, Outcome) else ([], [part])
        batch = RecordBatch(drugs=[metformin()], payloads=payloads, outcomes=outcomes)
        write_batch(connection, run, "hand", batch, replace=replace)


def outcome(modality: str, state: State) -> Outcome:
    told = {"evidence": "rule:gone"} if state is State.absent else {"error": "no longer"}
    return Outcome(KEY, Modality(modality), state, **told)


def known(connection: Connection, modality: str) -> tuple[str, int]:
    """The cell's state, and how many rows of data there are."""
    state = connection.scalar(text("SELECT state FROM mkmed.cell WHERE modality = :m"), {"m": modality})
    return str(state), connection.scalar(text(f"SELECT count(*) FROM mkmed.{TABLES[modality]}")) or 0


def assert_sound(connection: Connection) -> None:
    assert [check for check in verify(connection) if check.broken] == []


@pytest.mark.parametrize("modality", TABLES)
@pytest.mark.parametrize("state", [State.absent, State.withheld, State.rejected])
def test_what_is_gone_takes_its_data_with_it(fresh_database: Engine, modality: str, state: State) -> None:
    with fresh_database.begin() as connection:
        learn(connection, payload(modality, "1"), replace=False)
        assert known(connection, modality) == ("present", 1)
        learn(connection, outcome(modality, state))
        assert known(connection, modality) == (state.value, 0)
        assert_sound(connection)
        learn(connection, payload(modality, "1"))
        assert known(connection, modality) == ("present", 1)
        assert_sound(connection)


@pytest.mark.parametrize("modality", TABLES)
def test_a_failed_refresh_hides_nothing(fresh_database: Engine, modality: str) -> None:
    with fresh_database.begin() as connection:
        learn(connection, payload(modality, "1"), replace=False)
        learn(connection, outcome(modality, State.failed))
        assert known(connection, modality) == ("present", 1)
        assert_sound(connection)


@pytest.mark.parametrize("modality", TABLES)
def test_the_order_within_a_refresh_does_not_matter(fresh_database: Engine, modality: str) -> None:
    """Two records of a source may be one drug: what one of them has is not hidden by what the other lacks."""
    parts = payload(modality, "2"), payload(modality, "3"), outcome(modality, State.absent)
    found = set()
    for order in itertools.permutations(parts):
        with fresh_database.begin() as connection:
            learn(connection, payload(modality, "1"))
            learn(connection, *order)
            assert_sound(connection)
            rows = connection.execute(text(f"SELECT artifact FROM mkmed.{TABLES[modality]} ORDER BY 1")).scalars()
            found.add(tuple(bytes(artifact) for artifact in rows))
    (kept,) = found
    assert document(f"{modality} 1").id not in kept
    assert len(kept) == (2 if modality == "text" else 1)


@pytest.mark.parametrize("replace", [False, True])
def test_a_text_that_two_documents_hold_names_the_same_one_as_its_cell(fresh_database: Engine, replace: bool) -> None:
    versions = sorted("12", key=lambda version: document(f"text {version}").id, reverse=True)
    parts = [payload("text", version, "The same words.") for version in versions]
    for order in itertools.permutations(parts):
        with fresh_database.connect() as connection:
            learn(connection, *order, replace=replace)
            assert known(connection, "text") == ("present", 1)
            kept = connection.scalar(text("SELECT artifact FROM mkmed.text"))
            assert bytes(kept) == min(part.document.id for part in parts)
            assert_sound(connection)


def test_a_refresh_that_brings_the_same_leaves_the_rows_alone(fresh_database: Engine) -> None:
    parts = [payload(modality, "1") for modality in TABLES]
    versions = text(" UNION ALL ".join(f"SELECT xmin::text FROM mkmed.{table}" for table in TABLES.values()))
    with fresh_database.begin() as connection:
        learn(connection, *parts, replace=False)
    with fresh_database.begin() as connection:
        before = connection.scalars(versions).all()
        runs = text("SELECT DISTINCT run_id FROM mkmed.cell WHERE modality <> 'identity'")
        first = connection.scalars(runs).all()
        learn(connection, *parts)
        assert connection.scalars(versions).all() == before
        assert connection.scalars(runs).all() != first, "but the cells say that it was looked at again"
