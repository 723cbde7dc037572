"""Predicted vectors of a width of their own, and similarity by mechanism, structure, use or late fusion.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from alembic import op

from migrations.scripts import function, read, run

revision = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "similar_drugs(text, text, int, text, text[])",
    "late_fusion(bigint, text[])",
    "facet_features(text)",
)


def upgrade() -> None:
    """Add views and functions; stored runs stay as they are."""
    run(read("0013_facets.sql"))


def downgrade() -> None:
    """Take them away, with the predicted vectors, which the older search cannot read."""
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION mkmed.{signature}")
    op.execute("DROP VIEW mkmed.drug_targets, mkmed.drug_uses")
    op.execute("DROP FUNCTION mkmed.action_of(text), mkmed.says_use(text)")
    op.execute("DELETE FROM mkmed.embedding WHERE modality = 'predicted'")
    op.execute("UPDATE mkmed.embedding_run SET modalities = array_remove(modalities, 'predicted')")
    run(function("0012_faster_names.sql", "CREATE OR REPLACE FUNCTION mkmed.nearest("))
