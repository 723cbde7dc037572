"""The public views of the knowledge base.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None

VIEWS = ("interactions", "triples", "properties", "texts", "provenance", "availability", "drugs", "bucket")


def upgrade() -> None:
    """Create the views and ``find_drug``."""
    op.get_bind().exec_driver_sql((files("migrations") / "sql" / "0002_views.sql").read_text())


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP FUNCTION mkmed.find_drug(text)")
    for view in VIEWS:
        op.execute(f"DROP VIEW mkmed.{view}")
