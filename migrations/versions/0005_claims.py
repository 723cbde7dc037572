"""Claims that do not drift: whatever hangs on a record names it, and follows it; history, snapshots, relations.

Rows of release 0.1.0 are hung on the record that they came with. What that release merged by the key of a user's table
alone is parted again, and listed in ``mkmed.drug_conflict``.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None


def _run(name: str) -> None:
    script = (files("migrations") / "sql" / name).read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def upgrade() -> None:
    """Add the columns, hang every row on its record, and put the guarantees into place."""
    _run("0005_claims.sql")
    _run("0005_views.sql")


def downgrade() -> None:
    """Take the records' places away again; of several rows of one drug and source the one of the first record stays."""
    _run("0005_down.sql")
