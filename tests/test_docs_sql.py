"""Every example of docs/sql.md runs, and gives rows, on a small knowledge base with a published run."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent / "kb"))

from facts import Hand, begin, small_batch

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "sql.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def filled(database):
    from embed.runs import store
    from kb.graph.load import load_triples  # noqa: F401 - the graph's loader must at least import
    from kb.identity.fingerprints import renew
    from kb.ingest.write import write_batch
    from kb.ledger.entries import start_run

    with database.begin() as connection:
        run_id = begin(connection)
        write_batch(connection, run_id, Hand.name, small_batch())
        connection.execute(text("UPDATE mkmed.text SET licence_id = 'CC0-1.0'"))
        artifact = connection.scalar(text("SELECT artifact FROM mkmed.cell WHERE artifact IS NOT NULL LIMIT 1"))
        for statement in (
            "INSERT INTO mkmed.kg_entity (id, name, type, label) VALUES (0, 'Compound::DB00331', 'Compound', 'Metformin'), (1, 'Gene::5562', 'Gene', 'PRKAA1')",
            "INSERT INTO mkmed.kg_relation VALUES (0, 'r', 'Compound', 'Gene')",
            "INSERT INTO mkmed.kg_provenance VALUES (0, 0, 'p', NULL, 'CC0-1.0', 'hand', :artifact)",
            "INSERT INTO mkmed.kg_triple VALUES (0, 0, 1, 0)",
            "UPDATE mkmed.kg_relation SET word = 'treats' WHERE length(:artifact) > 0",
            "INSERT INTO mkmed.indication (drug_id, source, record_source, record_key, provider, kind, disease_key, disease,"
            " disease_ids, icd10, licence_id, artifact) SELECT drug_id, source, source, key, 'p', 'indication', 'gout', 'Gout',"
            " '{}', '{M10}', 'CC0-1.0', :artifact FROM mkmed.drug_record ORDER BY key LIMIT 1",
            "INSERT INTO mkmed.product (source, key, name, brand, form, ndc, artifact) VALUES ('hand', 'ndc:1', 'metformin 500 mg',"
            " 'Glucophage', 'Tablet', '{00087606005}', :artifact)",
            "INSERT INTO mkmed.product_part (source, product_key, record_key, drug_id, strength, artifact) SELECT source, 'ndc:1', key,"
            " drug_id, '500 mg', :artifact FROM mkmed.drug_record WHERE name = 'Metformin'",
            "INSERT INTO mkmed.atc_ddd (source, code, route, value, unit, note, artifact) VALUES ('hand', 'A10BA02', 'O', 2, 'g', '', :artifact)",
            "INSERT INTO mkmed.kg_entity (id, name, type, label) VALUES (2, 'Compound::DB00945', 'Compound', 'Aspirin')",
            "INSERT INTO mkmed.kg_relation VALUES (1, 'DGIDB::ACTIVATOR::Gene:Compound', 'Gene', 'Compound')",
            "INSERT INTO mkmed.kg_provenance VALUES (1, 1, 'p', NULL, 'CC0-1.0', 'hand', :artifact)",
            "INSERT INTO mkmed.kg_triple VALUES (1, 1, 0, 1), (1, 1, 2, 1)",
            "INSERT INTO mkmed.drug_entity (drug_id, entity_id, method, via, weak)"
            " SELECT d.id, e.id, 'name', e.label, length(:artifact) = 0 FROM mkmed.drug d JOIN mkmed.kg_entity e ON e.label = d.name"
            " WHERE e.type = 'Compound' ON CONFLICT DO NOTHING",
            "INSERT INTO mkmed.drug_atc (drug_id, code, source, record_source, record_key, artifact)"
            " SELECT drug_id, 'A10', source, source, key, :artifact FROM mkmed.drug_record ON CONFLICT DO NOTHING",
            "INSERT INTO mkmed.substance_relation (drug_id, relation, inchikey)"
            " SELECT id, 'salt of', 'XZWYZXLIPXDOLR-UHFFFAOYSA-N' FROM mkmed.drug WHERE name = 'Aspirin' AND length(:artifact) > 0",
            "DELETE FROM mkmed.drug_name WHERE name = 'Dimethylbiguanide' AND length(:artifact) > 0",
        ):
            connection.execute(text(statement), {"artifact": artifact})
        connection.execute(text("UPDATE mkmed.text SET content = content || ' It lowers blood glucose.'"))
        renew(connection)
        embedding_run = start_run(connection, "pretrain")
        ids = np.array(connection.execute(text("SELECT id FROM mkmed.drug ORDER BY id")).scalars().all())
    vectors = np.random.default_rng(0).normal(size=(len(ids), 64)).astype(np.float32)
    store.write_run(
        database, embedding_run, {"fused": (ids, vectors), "text": (ids, vectors)}, np.ones((len(ids), 6), bool)
    )
    store.publish(database, embedding_run)
    return database


def test_there_are_examples():
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(filled, example):
    with filled.connect() as connection:
        assert connection.exec_driver_sql(example).fetchall() != []


def test_every_public_view_and_function_is_documented(filled):
    page = (ROOT / "docs" / "sql.md").read_text()
    with filled.connect() as connection:
        views = connection.scalars(text("SELECT viewname FROM pg_views WHERE schemaname = 'mkmed'")).all()
        functions = connection.scalars(
            text("SELECT proname FROM pg_proc WHERE pronamespace = 'mkmed'::regnamespace")
        ).all()
    internal = {"nearest", "candidates", "modality_names", "retire", "artifact_id", "drop_triple_keys",
                "build_triple_keys", "attach_vector_tables", "drop_vector_tables", "index_vector_table", "make_vector_tables",
                "settled_identifier",
                *(name for name in views if name.startswith("readable_"))}
    assert [name for name in {*views, *functions} - internal if f"mkmed.{name}" not in page and name not in page] == []
