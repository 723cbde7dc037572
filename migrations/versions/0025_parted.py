"""A drug parted from a structure lists no identifier of the structure's drug.

Revision ID: 0025
Revises: 0024
"""

from __future__ import annotations

from migrations.scripts import read, run

revision = "0025"
down_revision: str | None = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leave out of the view what a parted record shares with the structure's drug."""
    run(read("0025_parted.sql"))


def downgrade() -> None:
    """List it again."""
    run(read("0025_down.sql"))
