"""Products as facts of their own, defined daily doses, and the language of texts.

Revision ID: 0023
Revises: 0017
"""

from __future__ import annotations

from alembic import op

from migrations.scripts import between, read, run

revision = "0023"
down_revision: str | None = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables, columns and views; texts that are there already are told their language."""
    from kb.languages import tell_languages

    run(read("0023_products.sql"))
    tell_languages(op.get_bind())


def downgrade() -> None:
    """Take them away, with what they hold."""
    op.execute("DELETE FROM mkmed.retired WHERE kind IN ('product', 'product_part', 'atc_ddd')")
    op.execute("DROP VIEW mkmed.products, mkmed.ddd")
    run(between("0017_statements.sql", "CREATE OR REPLACE VIEW mkmed.history", ";\n") + ";")
    op.execute("DROP TABLE mkmed.product_part, mkmed.product, mkmed.atc_ddd")
    run(read("0023_down.sql"))
