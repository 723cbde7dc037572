"""What a conflict is, as a column: until now it was told from the words of its reason.

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

from alembic import op

from migrations.scripts import read, run

revision = "0024"
down_revision: str | None = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the kind, and tell the conflicts that are there theirs."""
    run(read("0024_conflicts.sql"))


def downgrade() -> None:
    """Take the kind away; the reasons say it still."""
    op.execute("ALTER TABLE mkmed.drug_conflict DROP COLUMN kind")
