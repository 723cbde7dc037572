"""Products that drugs are sold as, with their ingredients."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
)

from kb.schema.base import METADATA, SCHEMA, artifact_column, follows, place_column, since_column, source_column

product = Table(
    "product",
    METADATA,
    source_column(),
    Column("key", Text, nullable=False, comment="what the source calls it: rxcui:855332, ndc:0056-0172"),
    Column("name", Text, nullable=False),
    Column("brand", Text),
    Column("form", Text),
    Column("route", Text),
    Column("labeler", Text),
    Column("ndc", ARRAY(Text), nullable=False, comment="packages: National Drug Codes of 11 digits"),
    Column("set_id", Text, comment="the label's, where it has one"),
    artifact_column(),
    since_column(),
    PrimaryKeyConstraint("source", "key"),
    Index("ix_product_ndc", "ndc", postgresql_using="gin"),
)
Index("ix_product_brand", func.lower(product.c.brand))

product_part = Table(
    "product_part",
    METADATA,
    Column("source", Text, nullable=False),
    Column("product_key", Text, nullable=False),
    Column("record_key", Text, nullable=False, comment="the record of the same source that is the ingredient"),
    place_column(),
    Column("strength", Text),
    Column("substance", Text, comment="the salt or ester that it is in, as the source calls it"),
    artifact_column(),
    since_column(),
    PrimaryKeyConstraint("source", "product_key", "record_key"),
    ForeignKeyConstraint(
        ["source", "product_key"], [f"{SCHEMA}.product.{name}" for name in ("source", "key")], ondelete="CASCADE"
    ),
    follows("source", "record_key", "drug_id"),
    Index("ix_product_part_drug_id", "drug_id"),
    Index("ix_product_part_record", "source", "record_key"),
)
