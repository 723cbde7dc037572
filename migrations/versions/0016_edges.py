"""Notes of single edges, and one vocabulary of relations: ``mkmed.edges`` and the column ``word`` of ``mkmed.relations``.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from alembic import op

from migrations.scripts import read, run

revision = "0016"
down_revision: str | None = "0015"
branch_labels = None
depends_on = None

RELATIONS = """
CREATE VIEW mkmed.relations WITH (security_barrier) AS
SELECT r.name AS relation, r.head_type, r.tail_type, p.provider, p.description, p.licence_id, p.share, p.source, p.url,
       p.retrieved_at, p.sha256
FROM mkmed.readable_provenance p JOIN mkmed.kg_relation r ON r.id = p.relation
"""
COMMENT = "The relations of the knowledge graph, once for every provider and licence that they come with."


def upgrade() -> None:
    """Add table, column and view; words come with the next graph that is loaded."""
    run(read("0016_edges.sql"))


def downgrade() -> None:
    """Take them away; the triples stay."""
    op.execute("DROP VIEW mkmed.edges, mkmed.edge_notes")
    op.execute("DROP VIEW mkmed.relations")
    op.execute("DROP TABLE mkmed.kg_note")
    op.execute("ALTER TABLE mkmed.kg_relation DROP COLUMN word")
    op.execute(RELATIONS)
    op.execute(f"COMMENT ON VIEW mkmed.relations IS '{COMMENT}'")
