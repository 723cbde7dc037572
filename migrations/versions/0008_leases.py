"""Leases of the ledger's rows: which run works on a row, and until when.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns; no row is rewritten."""
    for table in ("cell", "lookup"):
        op.add_column(table, sa.Column("leased_by", sa.Uuid(), comment="the run that works on it now"), schema="mkmed")
        op.add_column(table, sa.Column("leased_until", sa.DateTime(timezone=True)), schema="mkmed")


def downgrade() -> None:
    """Take the columns away."""
    for table in ("cell", "lookup"):
        op.drop_column(table, "leased_until", schema="mkmed")
        op.drop_column(table, "leased_by", schema="mkmed")
