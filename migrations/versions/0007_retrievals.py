"""Retrievals apart from content, a licence per edge of the graph, and views that decide what a reader may see.

Every row of release 0.1.0 keeps its retrieval; addresses lose their credentials, and of local files only the name stays.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from migrations.scripts import between, read, run

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None


VECTOR_VIEWS = """
CREATE VIEW mkmed.drug_vector AS SELECT e.drug_id, e.embedding, mkmed.modality_names(e.rests_on) AS rests_on, e.run_id
FROM mkmed.embedding e WHERE e.run_id = (SELECT p.run_id FROM mkmed.published p) AND e.modality = 'fused';
CREATE VIEW mkmed.modality_vector AS SELECT e.drug_id, e.modality, e.embedding, e.run_id
FROM mkmed.embedding e WHERE e.run_id = (SELECT p.run_id FROM mkmed.published p) AND e.modality <> 'fused';
COMMENT ON VIEW mkmed.drug_vector IS 'The published fused vector of every drug, and the modalities that it rests on.';
COMMENT ON VIEW mkmed.modality_vector IS 'The published vectors of single modalities (and of the molecule).';
"""
"""The public views of the vectors as revision 0004 left them."""


def upgrade() -> None:
    """Part the tables, then define every view and function anew; views that people built on the public ones stay."""
    run(read("0007_empty.sql"))
    run(read("0007_retrievals.sql"))
    run(read("0007_views.sql"))


def downgrade() -> None:
    """Join them again; of several retrievals of one content the one of the smallest id stays."""
    run(read("0007_drop.sql"))
    run(read("0007_down.sql"))
    run(between("0005_claims.sql", "CREATE FUNCTION mkmed.retire()", "COMMENT ON FUNCTION").replace(
        "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    run(read("0002_views.sql"))
    run(read("0005_views.sql"))
    run(VECTOR_VIEWS)
    vectors = read("0003_vectors.sql")
    run(vectors[vectors.index("CREATE FUNCTION mkmed.candidates") :])
