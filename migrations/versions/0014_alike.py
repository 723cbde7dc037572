"""Drugs that disagree on the whole are no neighbours by mechanism.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0014"
down_revision: str | None = "0013"
branch_labels = None
depends_on = None


def _run_script(name: str) -> None:
    script = (files("migrations") / "sql" / name).read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def upgrade() -> None:
    """Replace the function."""
    _run_script("0014_alike.sql")


def downgrade() -> None:
    """Put the function of revision 0013 back."""
    _run_script("0014_down.sql")
