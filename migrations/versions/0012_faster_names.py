"""Names found by their index, and searches that a reader with mkmed_nc may do.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from migrations.scripts import function, read, run

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the four functions."""
    run(read("0012_faster_names.sql"))


def downgrade() -> None:
    """Put them back as they were."""
    for name in ("find_drugs", "nearest"):
        run(function("0007_views.sql", f"CREATE OR REPLACE FUNCTION mkmed.{name}("))
    for name in ("similar_to_bits", "search_text"):
        run(function("0011_search.sql", f"CREATE FUNCTION mkmed.{name}("))
