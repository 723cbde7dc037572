"""A history of what graphs stated, and the licences of texts that release 0.1.0 filed, read again.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.scripts import between, read, run

revision = "0017"
down_revision: str | None = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep statements' history; correct licences by the answers that are kept, or close what cannot be read."""
    from kb.sources.pubchem.again import read_licences_again

    run(read("0017_statements.sql"))
    read_licences_again(op.get_bind())


def downgrade() -> None:
    """Take the history of statements away; the licences stay as they were corrected."""
    op.execute(text("DELETE FROM mkmed.retired WHERE kind = 'kg_provenance'"))
    run(between("0015_indications.sql", "CREATE OR REPLACE VIEW mkmed.history", ";\n") + ";")
    op.execute(text("DROP TRIGGER retire_deleted ON mkmed.kg_provenance"))
    op.execute(text("DROP TRIGGER retire_changed ON mkmed.kg_provenance"))
    run(between("0007_retrievals.sql", "CREATE OR REPLACE FUNCTION mkmed.retire()", "-- Secrets and local paths"))
    op.execute(text("ALTER TABLE mkmed.kg_provenance DROP COLUMN triples, DROP COLUMN since"))
