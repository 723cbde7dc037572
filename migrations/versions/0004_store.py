"""Vectors that are published unnoticed: views without a width, the digest of what each drug's vectors were made of.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None

ROWS = "FROM mkmed.embedding e WHERE e.run_id = (SELECT p.run_id FROM mkmed.published p)"
COMMENTS = (
    "COMMENT ON VIEW mkmed.drug_vector IS 'The published fused vector of every drug, and the modalities that it rests on.'",
    "COMMENT ON VIEW mkmed.modality_vector IS 'The published vectors of single modalities (and of the molecule).'",
)


def views(vector: str) -> list[str]:
    """The statements that make the two public views, with the vector as ``vector`` has it."""
    return [
        f"CREATE VIEW mkmed.drug_vector AS SELECT e.drug_id, {vector} AS embedding,"
        f" mkmed.modality_names(e.rests_on) AS rests_on, e.run_id {ROWS} AND e.modality = 'fused'",
        f"CREATE VIEW mkmed.modality_vector AS SELECT e.drug_id, e.modality, {vector} AS embedding, e.run_id {ROWS}"
        " AND e.modality <> 'fused'",
        *COMMENTS,
    ]


def replace_views(vector: str) -> None:
    """Make the public views anew, and what people built on them as it was."""
    script = (files("migrations") / "sql" / "0004_store.sql").read_text()
    connection = op.get_bind()
    connection.exec_driver_sql(script, execution_options={"no_parameters": True})
    connection.execute(sa.text("SELECT mkmed.replace_vector_views(CAST(:views AS text[]))"), {"views": views(vector)})
    op.execute("DROP FUNCTION mkmed.replace_vector_views(text[])")


def upgrade() -> None:
    """Add the columns and the table, and take the width from the views."""
    op.add_column(
        "embedding_run",
        sa.Column("artefact", sa.Text(), nullable=True, comment="sha256 of the manifest of the run folder that made the vectors"),
        schema="mkmed",
    )
    op.add_column("embedding_run", sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True), schema="mkmed")
    op.create_table(
        "embedding_content",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False, comment="of everything that the drug's vectors were made of"),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_embedding_content_sha256_length")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["mkmed.embedding_run.run_id"], name=op.f("fk_embedding_content_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_embedding_content_drug_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "drug_id", name=op.f("pk_embedding_content")),
        schema="mkmed",
    )
    replace_views("e.embedding")
    op.execute("DROP PROCEDURE mkmed.define_vector_views(text, int)")


def downgrade() -> None:
    """Type the views by the published run's width again, as the release before expects."""
    script = (files("migrations") / "sql" / "0003_vectors.sql").read_text()
    start, end = script.index("CREATE PROCEDURE"), script.index("CALL mkmed.define_vector_views")
    connection = op.get_bind()
    connection.exec_driver_sql(script[start:end], execution_options={"no_parameters": True})
    row = connection.execute(
        sa.text("SELECT r.precision, r.width FROM mkmed.embedding_run r JOIN mkmed.published p USING (run_id)")
    ).one_or_none()
    precision, width = row or ("vector", 64)
    replace_views(f"(e.embedding)::{precision}({int(width)})")
    op.drop_table("embedding_content", schema="mkmed")
    op.drop_column("embedding_run", "updated_at", schema="mkmed")
    op.drop_column("embedding_run", "artefact", schema="mkmed")
