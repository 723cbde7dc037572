"""What the modalities are made of: images, texts, conformers and properties, each with its artifact and licence."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from kb.schema.base import METADATA, artifact_column, moment, references, source_column

image = Table(
    "image",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    source_column(primary_key=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("media_type", Text, nullable=False),
    artifact_column(),
)

description = Table(
    "text",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    references("drug_id", "drug.id", BigInteger, cascade=True),
    source_column(),
    Column("provider", Text, nullable=False, comment="who wrote it: one source quotes many"),
    Column("heading", Text, nullable=False, server_default=""),
    Column("content", Text, nullable=False),
    Column("content_sha256", LargeBinary, nullable=False),
    Column("url", Text),
    references("licence_id", "licence.id", Text),
    Column("is_note", Boolean, nullable=False, comment="an indexing note, of no use as a description"),
    artifact_column(),
    Index("uq_text_drug_id_source_provider_content", "drug_id", "source", "provider", "content_sha256", unique=True),
    Index("ix_text_words", text('to_tsvector(\'english\'::regconfig, "left"(content, 250000))'), postgresql_using="gin"),
)

conformer = Table(
    "conformer",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    source_column(primary_key=True),
    Column("molblock", Text, nullable=False, comment="MDL V2000 with hydrogens, coordinates in ångström"),
    Column("heavy_atoms", Integer, nullable=False),
    Column("energy", Float, comment="kcal/mol in the method's force field"),
    Column("method", Text, nullable=False),
    Column("note", Text, comment="e.g. taken from the parent of a salt"),
    artifact_column(),
)

property_set = Table(
    "property_set",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    source_column(primary_key=True),
    Column("values", JSONB, nullable=False, comment="canonical property name → number; units in property_kind"),
    artifact_column(),
    moment("updated_at"),
    CheckConstraint("jsonb_typeof(values) = 'object'", name="values_object"),
)

property_kind = Table(
    "property_kind",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("unit", Text, nullable=False),
    Column("description", Text, nullable=False),
)
