"""Procedures that make, index, attach and remove a run's vectors with the owner's rights.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from alembic import op

from migrations.scripts import read, run

revision = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the procedures; the tables of stored runs stay as they are."""
    run(read("0010_vector_tables.sql"))


def downgrade() -> None:
    """Take the procedures away."""
    for name in ("make_vector_tables", "index_vector_table", "attach_vector_tables", "drop_vector_tables"):
        op.execute(f"DROP PROCEDURE mkmed.{name}")
