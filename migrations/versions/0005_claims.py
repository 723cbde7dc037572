"""Claims of the ledger's rows: who works on a row, and until when.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns; no row is rewritten."""
    for table in ("cell", "lookup"):
        op.add_column(table, sa.Column("claimed_by", sa.Uuid(), comment="the run that works on it now"), schema="mkmed")
        op.add_column(table, sa.Column("claimed_until", sa.DateTime(timezone=True)), schema="mkmed")


def downgrade() -> None:
    """Take the columns away."""
    for table in ("cell", "lookup"):
        op.drop_column(table, "claimed_until", schema="mkmed")
        op.drop_column(table, "claimed_by", schema="mkmed")
