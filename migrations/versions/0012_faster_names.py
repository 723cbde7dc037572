"""Names found by their index, and searches that a reader with mkmed_nc may do.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None


def _run(script: str) -> None:
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def _function(script: str, start: str) -> str:
    """One function of an older script, to be replaced."""
    text = (files("migrations") / "sql" / script).read_text()
    begin = text.index(start)
    body = text[begin:text.index("$$;\n", begin) + 4]
    return body.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)


def upgrade() -> None:
    """Replace the four functions."""
    _run((files("migrations") / "sql" / "0012_faster_names.sql").read_text())


def downgrade() -> None:
    """Put them back as they were."""
    for name in ("find_drugs", "nearest"):
        _run(_function("0007_views.sql", f"CREATE OR REPLACE FUNCTION mkmed.{name}("))
    for name in ("similar_to_bits", "search_text"):
        _run(_function("0011_search.sql", f"CREATE FUNCTION mkmed.{name}("))
