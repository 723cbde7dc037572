"""Predicted vectors of a width of their own, and similarity by mechanism, structure, use or late fusion.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "similar_drugs(text, text, int, text, text[])",
    "late_fusion(bigint, text[])",
    "facet_features(text)",
)


def _run_script(name: str) -> None:
    script = (files("migrations") / "sql" / name).read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def upgrade() -> None:
    """Add views and functions; stored runs stay as they are."""
    _run_script("0013_facets.sql")


def downgrade() -> None:
    """Take them away, with the predicted vectors, which the older search cannot read."""
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION mkmed.{function}")
    op.execute("DROP VIEW mkmed.drug_targets, mkmed.drug_uses")
    op.execute("DROP FUNCTION mkmed.action_of(text), mkmed.says_use(text)")
    op.execute("DELETE FROM mkmed.embedding WHERE modality = 'predicted'")
    op.execute("UPDATE mkmed.embedding_run SET modalities = array_remove(modalities, 'predicted')")
    _run_script("0013_down.sql")
