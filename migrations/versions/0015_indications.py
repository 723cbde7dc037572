"""Indications and contraindications as facts of their own: table, history, and the view ``mkmed.indications``.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0015"
down_revision: str | None = "0014"
branch_labels = None
depends_on = None


def _run(name: str) -> None:
    script = (files("migrations") / "sql" / name).read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def upgrade() -> None:
    """Add table and view; the views over all facts count the new ones."""
    _run("0015_indications.sql")


def downgrade() -> None:
    """Take them away, with what they hold."""
    _run("0015_down.sql")
