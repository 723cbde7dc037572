"""Retrievals apart from content, a licence per edge of the graph, and views that decide what a reader may see.

Every row of release 0.1.0 keeps its retrieval; addresses lose their credentials, and of local files only the name stays.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None


def _read(name: str) -> str:
    return (files("migrations") / "sql" / name).read_text()


def _run(script: str) -> None:
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def _between(name: str, start: str, end: str) -> str:
    """The part of an older script from ``start`` to before ``end``."""
    script = _read(name)
    begins = script.index(start)
    return script[begins : script.index(end, begins)]


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
    _run(_read("0007_empty.sql"))
    _run(_read("0007_retrievals.sql"))
    _run(_read("0007_views.sql"))


def downgrade() -> None:
    """Join them again; of several retrievals of one content the one of the smallest id stays."""
    _run(_read("0007_drop.sql"))
    _run(_read("0007_down.sql"))
    _run(_between("0005_claims.sql", "CREATE FUNCTION mkmed.retire()", "COMMENT ON FUNCTION").replace(
        "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    _run(_read("0002_views.sql"))
    _run(_read("0005_views.sql"))
    _run(VECTOR_VIEWS)
    vectors = _read("0003_vectors.sql")
    _run(vectors[vectors.index("CREATE FUNCTION mkmed.candidates") :])
