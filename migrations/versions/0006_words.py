"""Full-text search over the descriptions: an index of their words.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index."""
    words = """to_tsvector('english'::regconfig, "left"(content, 250000))"""
    op.create_index("ix_text_words", "text", [sa.text(words)], schema="mkmed", postgresql_using="gin")


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_text_words", table_name="text", schema="mkmed")
