"""Search: bits of structures, words of names, and the functions that read them.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import BIT

from migrations.scripts import read, run

revision = "0011"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None

DROP = """
DROP FUNCTION mkmed.search_text(text, int);
DROP FUNCTION mkmed.similar_structures(text, int, real);
DROP FUNCTION mkmed.similar_to_bits(bit, int, real, bigint);
DROP VIEW mkmed.fingerprints;
"""


def upgrade() -> None:
    """Make the table, the index of names and the functions; the bits come with the next ingest or search."""
    op.create_table(
        "fingerprint",
        sa.Column("drug_id", sa.BigInteger(), sa.ForeignKey("mkmed.drug.id", name="fk_fingerprint_drug_id", ondelete="CASCADE"),
                  nullable=False),
        sa.Column("morgan", BIT(2048), nullable=False, comment="RDKit's Morgan bits of radius 2"),
        sa.Column("pattern", BIT(2048), nullable=False, comment="RDKit's pattern bits: a part's are among the whole's"),
        sa.Column("input", sa.LargeBinary(), comment="sha256 of the SMILES that this was computed from"),
        sa.PrimaryKeyConstraint("drug_id", name="pk_fingerprint"),
        schema="mkmed",
    )
    op.create_index("ix_drug_name_words", "drug_name", [sa.text("to_tsvector('simple'::regconfig, name)")], schema="mkmed",
                    postgresql_using="gin")
    run(read("0011_search.sql"))


def downgrade() -> None:
    """Take it away; bits are computed again."""
    op.execute(DROP)
    op.drop_index("ix_drug_name_words", "drug_name", schema="mkmed")
    op.drop_table("fingerprint", schema="mkmed")
