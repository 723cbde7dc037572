"""What ChEMBL's mechanisms and PrimeKG say of targets counts where DRKG's relations do.

Revision ID: 0027
Revises: 0026
"""

from __future__ import annotations

from migrations.scripts import function, read, run

revision = "0027"
down_revision: str | None = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the rule."""
    run(read("0027_targets.sql"))


def downgrade() -> None:
    """Put the former rule back."""
    run(function("0013_facets.sql", "CREATE FUNCTION mkmed.action_of("))
