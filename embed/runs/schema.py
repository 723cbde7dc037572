"""The tables of the embedding store, declared on the knowledge base's metadata."""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kb.modalities import MODALITIES
from kb.schema.base import METADATA, moment, one_of, references

ANCHOR = "molecule"
FUSED = "fused"
PREDICTED = "predicted"
RESTS_ON: tuple[str, ...] = (*MODALITIES, ANCHOR)
"""What a vector can rest on. The position of a name is its bit in ``rests_on``."""
VECTOR_KINDS: tuple[str, ...] = (*RESTS_ON, FUSED, PREDICTED)
"""What a vector can be of. All have the run's width but ``predicted``, what the structure alone foretells."""

embedding_run = Table(
    "embedding_run",
    METADATA,
    references("run_id", "run.id", Uuid, primary_key=True, cascade=True),
    Column("width", Integer, nullable=False),
    Column("precision", Text, nullable=False),
    Column("modalities", ARRAY(Text), nullable=False),
    Column("drugs", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("metrics", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    moment("created_at"),
    Column("artefact", Text, comment="sha256 of the manifest of the run folder that made the vectors"),
    moment("updated_at", nullable=True, now=False),
    CheckConstraint("width BETWEEN 1 AND 2000", name="width"),
    one_of("precision", ("vector", "halfvec", "bit"), "precision"),
    one_of("state", ("building", "complete"), "state"),
)

published = Table(
    "published",
    METADATA,
    Column("singleton", Boolean, primary_key=True),
    references("run_id", "embedding_run.run_id", Uuid, nullable=True),
    CheckConstraint("singleton", name="singleton"),
)

embedding = Table(
    "embedding",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("modality", Text, primary_key=True),
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    Column("rests_on", SmallInteger, nullable=False),
    Column("embedding", VECTOR(), nullable=False),
    postgresql_partition_by="LIST (run_id)",
)

embedding_content = Table(
    "embedding_content",
    METADATA,
    references("run_id", "embedding_run.run_id", Uuid, primary_key=True, cascade=True),
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    Column("sha256", LargeBinary, nullable=False, comment="of everything that the drug's vectors were made of"),
    CheckConstraint("octet_length(sha256) = 32", name="sha256_length"),
)
