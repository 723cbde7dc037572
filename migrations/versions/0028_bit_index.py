"""An index of signs, by choice, for more vectors than memory holds.

Revision ID: 0028
Revises: 0027
"""

from __future__ import annotations

from alembic import op

from migrations.scripts import between, function, read, run

revision = "0028"
down_revision: str | None = "0027"
branch_labels = None
depends_on = None

RULE = "ck_embedding_run_precision"


def upgrade() -> None:
    """Allow the form, and search by it."""
    op.drop_constraint(op.f(RULE), "embedding_run", schema="mkmed")
    op.create_check_constraint(op.f(RULE), "embedding_run", "precision IN ('vector', 'halfvec', 'bit')", schema="mkmed")
    run(read("0028_bit_index.sql"))


def downgrade() -> None:
    """Runs of this form keep their index, which nothing reads any more: they are searched exactly."""
    op.execute("UPDATE mkmed.embedding_run SET precision = 'vector' WHERE precision = 'bit'")
    op.drop_constraint(op.f(RULE), "embedding_run", schema="mkmed")
    op.create_check_constraint(op.f(RULE), "embedding_run", "precision IN ('vector', 'halfvec')", schema="mkmed")
    run(function("0013_facets.sql", "CREATE OR REPLACE FUNCTION mkmed.nearest("))
    body = between("0010_vector_tables.sql", "CREATE PROCEDURE mkmed.index_vector_table(", "$index$;\n")
    run(body.replace("CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE", 1) + "$index$;")
