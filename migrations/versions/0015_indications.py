"""Indications and contraindications as facts of their own: table, history, and the view ``mkmed.indications``.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from migrations.scripts import read, run

revision = "0015"
down_revision: str | None = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add table and view; the views over all facts count the new ones."""
    run(read("0015_indications.sql"))


def downgrade() -> None:
    """Take them away, with what they hold."""
    run(read("0015_down.sql"))
