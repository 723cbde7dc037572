"""Retrievals apart from content, a licence per edge of the graph, and views that decide what a reader may see.

Every row of release 0.1.0 keeps its retrieval; addresses lose their credentials, and of local files only the name stays.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None

SEED = "INSERT INTO mkmed.published (singleton, run_id) VALUES (true, NULL);"
"""The statement of 0003 that must not be repeated."""


def _run(script: str) -> None:
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def _read(name: str) -> str:
    return (files("migrations") / "sql" / name).read_text()


def upgrade() -> None:
    """Part the tables, then define every view and function anew."""
    _run(_read("0004_drop.sql"))
    _run(_read("0004_retrievals.sql"))
    _run(_read("0004_views.sql"))


def downgrade() -> None:
    """Join them again; of several retrievals of one content the one of the smallest id stays."""
    _run(_read("0004_drop_again.sql"))
    _run(_read("0004_down.sql"))
    _run(_read("0002_views.sql"))
    _run(_read("0003_vectors.sql").replace(SEED, ""))
    _run(_read("0004_redefine.sql"))
