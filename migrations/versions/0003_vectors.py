"""The embedding store: runs, vectors partitioned by run and modality, the published run, search functions.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "similar_across(text, text, text, int)",
    "similar_drugs(text, int, text, text, text[])",
    "vector_of(text, text)",
    "similar_to(vector, int, text, text, text[])",
    "nearest(vector, int, text, text, text[], bigint)",
    "candidates(text, text[])",
)


def upgrade() -> None:
    """Create tables, views and functions."""
    op.create_table(
        "embedding_run",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("modalities", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("drugs", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("width BETWEEN 1 AND 2000", name=op.f("ck_embedding_run_width")),
        sa.CheckConstraint("precision IN ('vector', 'halfvec')", name=op.f("ck_embedding_run_precision")),
        sa.CheckConstraint("state IN ('building', 'complete')", name=op.f("ck_embedding_run_state")),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_embedding_run_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_embedding_run")),
        schema="mkmed",
    )
    op.create_table(
        "published",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("singleton", name=op.f("ck_published_singleton")),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.embedding_run.run_id"], name=op.f("fk_published_run_id")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_published")),
        schema="mkmed",
    )
    op.create_table(
        "embedding",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("rests_on", sa.SmallInteger(), nullable=False),
        sa.Column("embedding", VECTOR(), nullable=False),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_embedding_drug_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "modality", "drug_id", name=op.f("pk_embedding")),
        schema="mkmed",
        postgresql_partition_by="LIST (run_id)",
    )
    script = (files("migrations") / "sql" / "0003_vectors.sql").read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    """Drop them; the vectors go, since they can be computed again."""
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION mkmed.{function}")
    op.execute("DROP PROCEDURE mkmed.define_vector_views(text, int)")
    op.execute("DROP VIEW mkmed.modality_vector, mkmed.drug_vector")
    op.execute("DROP FUNCTION mkmed.modality_names(smallint)")
    op.drop_table("embedding", schema="mkmed")
    op.drop_table("published", schema="mkmed")
    op.drop_table("embedding_run", schema="mkmed")
