"""Drugs that disagree on the whole are no neighbours by mechanism.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from migrations.scripts import function, read, run

revision = "0014"
down_revision: str | None = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the function."""
    run(read("0014_alike.sql"))


def downgrade() -> None:
    """Put the function of revision 0013 back."""
    run(function("0013_facets.sql", "CREATE FUNCTION mkmed.similar_drugs("))
