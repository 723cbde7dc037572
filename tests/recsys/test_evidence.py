"""Evidence read from a filled knowledge base: statements of the table join the graph's, and reach codes by ICD-10."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from few_drugs import fill
from sqlalchemy import Engine

from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.query import read as query
from kb.sources.contract import Document, IndicationRecord, RecordBatch
from recsys.knowledge.evidence import KINDS, STATED, letter_cosines, read_evidence, read_statements

CODES = ("ICD10CM:E1165", "ICD9CM:25000", "ICD10CM:I10", "ICD10CM:R509")


def words(texts: list[str]) -> np.ndarray:
    """A sentence as the sum of its words' random vectors."""
    rows = [sum(np.random.default_rng(list(word.encode())).standard_normal(16) for word in text.lower().split())
            for text in texts]
    return np.asarray(rows, np.float32)


def test_statements_of_the_table_are_evidence_for_the_codes_below_theirs(database: Engine) -> None:
    fill(database)
    paper = Document("hand", "https://example.org/2", "text/plain", "CC0-1.0", "", datetime.now(UTC), "p", payload=b"y",
                     upstream_version="1")

    with database.connect() as connection:
        drugs = query.drugs(connection)
    number = {name: int(drug) for name, drug in zip(drugs.names, drugs.ids, strict=True)}
    metformin, aspirin, heparin = (number[name] for name in ("Metformin", "Aspirin", "Heparin"))

    def says(drug: int, disease: str, provider: str, kind: str = "indication", icd10: tuple[str, ...] = ()) -> IndicationRecord:
        return IndicationRecord(drug, paper, provider, "CC0-1.0", disease, kind, icd10=icd10)

    with database.begin() as connection:
        write_batch(connection, start_run(connection, "ingest", name="uses"), "hand", RecordBatch(indications=[
            says(metformin, "Type 2 diabetes mellitus", "Hand book", icd10=("E11",)),
            says(metformin, "type 2 diabetes mellitus", "Another book"),
            says(aspirin, "Fever, unspecified", "Hand book", "symptomatic", ("R509",)),
            says(heparin, "Essential (primary) hypertension", "Hand book", "contraindication", ("I10",))]))
    with database.connect() as connection:
        told = read_statements(connection, {metformin, heparin})
        fused = np.eye(2, 16, dtype=np.float32)
        evidence = read_evidence(connection, words, lambda rows: rows, CODES, [(metformin,), (metformin, aspirin), (heparin,)],
                                 np.array([metformin, aspirin]), fused, ("ATC:A10B", "MIX", "ATC:B01A"))
    assert [(one.drug, one.icd10, set(one.sources)) for one in told] == [(metformin, ("E11",), {"Hand book", "Another book"})]
    share = np.array([[1, 0.5, 0], [1, 0.5, 0], [0, 0, 0], [0, 0.5, 0]]) / np.sqrt([[2], [2], [1], [1]])
    stated = evidence.tables[KINDS.index("stated")]
    assert np.allclose(stated, STATED * share / share[share > 0].mean())
    assert evidence.tables[KINDS.index("treats")][3].argmax() == 1
    found = evidence.indications
    assert found is not None and found.treating == {"ATC:A10B", "MIX"}
    near = found.nearest("ATC:A10B", {"ICD9CM:25000", "ICD10CM:I10"})
    assert near is not None and (near.problem, near.likeness, near.disease.casefold()) == (
        "ICD9CM:25000", 1.0, "type 2 diabetes mellitus")
    assert set(near.sources.split("; ")) == {"Hand book", "Another book"}
    assert found.nearest("ATC:B01A", {"ICD10CM:I10"}) is None


def test_letters_find_what_the_sentence_encoder_has_no_notion_of() -> None:
    texts = ["Potassium chloride is used in hypokalaemia.", "An opioid for severe pain."]
    found = letter_cosines(["Hypokalemia", "Pain, unspecified", ""], texts)
    assert found.shape == (3, 2) and found[0, 0] > 0.1 and found[1, 1] > 0.05 and found[0, 1] < 0.02 and found[1, 0] < 0.02
    assert not found[2].any()
    assert letter_cosines(["Hypokalemia"], []).shape == (1, 0)
    assert letter_cosines([], texts).shape == (0, 2)
    assert not letter_cosines(["Pain", ""], ["", " "]).any()
