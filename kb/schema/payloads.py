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

from kb.schema.base import (
    METADATA,
    artifact_column,
    follows,
    input_column,
    moment,
    references,
    said_of,
    since_column,
    source_column,
)


def one_a_place(table: str, *more: str) -> Index:
    """One row a record (or a drug, for what is computed) and source; ``more`` tells several apart."""
    place = ("record_source", "record_key", "source", "drug_id", *more)
    return Index(f"uq_{table}_place", *place, unique=True, postgresql_nulls_not_distinct=True)

image = Table(
    "image",
    METADATA,
    references("drug_id", "drug.id", BigInteger, cascade=True),
    source_column(),
    *said_of(),
    input_column(),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("media_type", Text, nullable=False),
    artifact_column(),
    since_column(),
    follows("record_source", "record_key", "drug_id"),
    one_a_place("image"),
    Index("ix_image_drug_id", "drug_id"),
)

description = Table(
    "text",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    references("drug_id", "drug.id", BigInteger, cascade=True),
    source_column(),
    *said_of(),
    Column("provider", Text, nullable=False, comment="who wrote it: one source quotes many"),
    Column("heading", Text, nullable=False, server_default=""),
    Column("content", Text, nullable=False),
    Column("content_sha256", LargeBinary, nullable=False),
    Column("url", Text),
    references("licence_id", "licence.id", Text),
    Column("is_note", Boolean, nullable=False, comment="an indexing note, of no use as a description"),
    Column("language", Text, comment="ISO 639-1, as its source says or the words tell; NULL where neither does"),
    artifact_column(),
    since_column(),
    follows("record_source", "record_key", "drug_id"),
    one_a_place("text", "provider", "content_sha256"),
    Index("ix_text_drug_id", "drug_id"),
    Index("ix_text_words", text('to_tsvector(\'english\'::regconfig, "left"(content, 250000))'),
          postgresql_using="gin"),
)

conformer = Table(
    "conformer",
    METADATA,
    references("drug_id", "drug.id", BigInteger, cascade=True),
    source_column(),
    *said_of(),
    input_column(),
    Column("molblock", Text, nullable=False, comment="MDL V2000 with hydrogens, coordinates in ångström"),
    Column("heavy_atoms", Integer, nullable=False),
    Column("energy", Float, comment="kcal/mol in the method's force field"),
    Column("method", Text, nullable=False),
    Column("note", Text, comment="e.g. taken from the parent of a salt"),
    artifact_column(),
    since_column(),
    follows("record_source", "record_key", "drug_id"),
    one_a_place("conformer"),
    Index("ix_conformer_drug_id", "drug_id"),
)

property_set = Table(
    "property_set",
    METADATA,
    references("drug_id", "drug.id", BigInteger, cascade=True),
    source_column(),
    *said_of(),
    input_column(),
    Column("values", JSONB, nullable=False, comment="canonical property name → number; units in property_kind"),
    artifact_column(),
    moment("updated_at"),
    since_column(),
    follows("record_source", "record_key", "drug_id"),
    one_a_place("property_set"),
    Index("ix_property_set_drug_id", "drug_id"),
    CheckConstraint("jsonb_typeof(values) = 'object'", name="values_object"),
)

property_kind = Table(
    "property_kind",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("unit", Text, nullable=False),
    Column("description", Text, nullable=False),
)
