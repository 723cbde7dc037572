"""The knowledge graph, the drugs' places in it, interactions, indications and the ATC hierarchy with its doses."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from kb.schema.base import (
    METADATA,
    SCHEMA,
    artifact_column,
    follows,
    one_of,
    place_column,
    references,
    since_column,
    source_column,
)

INDICATION_KINDS = ("indication", "symptomatic", "contraindication", "off-label")
LINK_METHODS = ("identifier", "alias", "inchikey", "name", "skeleton")

kg_entity = Table(
    "kg_entity",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True, comment="type::id as the source writes it"),
    Column("type", Text, nullable=False),
    Column("label", Text, comment="what a person calls it"),
    references("label_artifact", "artifact.id", LargeBinary, nullable=True),
    Index("ix_kg_entity_type", "type"),
)

kg_alias = Table(
    "kg_alias",
    METADATA,
    Column("alias", Text, primary_key=True),
    references("entity_id", "kg_entity.id", Integer, primary_key=True, cascade=True),
    Index("ix_kg_alias_entity_id", "entity_id"),
)

kg_relation = Table(
    "kg_relation",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True, comment="an opaque key: DRKG's names are irregular"),
    Column("head_type", Text, nullable=False),
    Column("tail_type", Text, nullable=False),
    Column("word", Text, comment="what it is called in the one vocabulary of all graphs"),
)

kg_provenance = Table(
    "kg_provenance",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    references("relation", "kg_relation.id", Integer),
    Column("provider", Text, nullable=False, comment="the database that the triples were taken from"),
    Column("description", Text, comment="what the relation means there"),
    references("licence_id", "licence.id", Text),
    source_column(),
    artifact_column(),
    Column("triples", Integer, nullable=False, server_default="0", comment="how many were written of it"),
    since_column(),
    UniqueConstraint("relation", "id", name="uq_kg_provenance_relation_id"),
    Index("uq_kg_provenance_statement", "relation", "source", "provider", "licence_id", "artifact", unique=True),
)

kg_triple = Table(
    "kg_triple",
    METADATA,
    Column("head", Integer, primary_key=True),
    Column("relation", Integer, primary_key=True),
    Column("tail", Integer, primary_key=True),
    Column("provenance", SmallInteger, primary_key=True),
    # Not valid: what a bulk load wrote is taken as it is, whatever comes later is held to them.
    ForeignKeyConstraint(["head"], [f"{SCHEMA}.kg_entity.id"], postgresql_not_valid=True),
    ForeignKeyConstraint(["tail"], [f"{SCHEMA}.kg_entity.id"], postgresql_not_valid=True),
    ForeignKeyConstraint(
        ["relation", "provenance"],
        [f"{SCHEMA}.kg_provenance.relation", f"{SCHEMA}.kg_provenance.id"],
        postgresql_not_valid=True,
    ),
    Index("ix_kg_triple_tail_relation_head", "tail", "relation", "head"),
)

kg_note = Table(
    "kg_note",
    METADATA,
    Column("head", Integer, primary_key=True),
    Column("relation", Integer, primary_key=True),
    Column("tail", Integer, primary_key=True),
    Column("provenance", SmallInteger, primary_key=True),
    Column("score", Float, comment="in the terms of its source"),
    Column("evidence", Text),
    Column("reference", Text),
    Column("properties", JSONB, nullable=False),
    ForeignKeyConstraint(
        ["relation", "provenance"],
        [f"{SCHEMA}.kg_provenance.relation", f"{SCHEMA}.kg_provenance.id"],
        ondelete="CASCADE",
    ),
)

drug_entity = Table(
    "drug_entity",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    references("entity_id", "kg_entity.id", Integer, primary_key=True),
    Column("method", Text, nullable=False),
    Column("via", Text, nullable=False, comment="the identifier or InChIKey that both share"),
    Column("weak", Boolean, nullable=False, comment="only the skeleton agrees, or a name that several have"),
    one_of("method", LINK_METHODS, "method"),
    Index("ix_drug_entity_entity_id", "entity_id"),
)

interaction = Table(
    "interaction",
    METADATA,
    place_column("drug_a"),
    place_column("drug_b"),
    source_column(),
    Column("provider", Text, nullable=False),
    Column("a_source", Text, nullable=False, comment="the records that the statement is about, the smaller first"),
    Column("a_key", Text, nullable=False),
    Column("b_source", Text, nullable=False),
    Column("b_key", Text, nullable=False),
    Column("severity", Text, comment="in the provider's own words"),
    Column("description", Text),
    references("licence_id", "licence.id", Text),
    artifact_column(),
    since_column(),
    PrimaryKeyConstraint("a_source", "a_key", "b_source", "b_key", "source", "provider"),
    follows("a_source", "a_key", "drug_a"),
    follows("b_source", "b_key", "drug_b"),
    Index("ix_interaction_drug_a", "drug_a"),
    Index("ix_interaction_drug_b", "drug_b"),
    Index("ix_interaction_b", "b_source", "b_key"),
)

indication = Table(
    "indication",
    METADATA,
    place_column(),
    source_column(),
    Column("record_source", Text, nullable=False, comment="the record that the statement is about"),
    Column("record_key", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("disease_key", Text, nullable=False, comment="the disease's first id, or its name in small letters"),
    Column("disease", Text, nullable=False),
    Column("disease_ids", ARRAY(Text), nullable=False, comment="{mesh:D003924, doid:9352, …}"),
    Column("icd10", ARRAY(Text), nullable=False, comment="codes of ICD-10-CM without the dot"),
    Column("icd10_by", Text, comment="what gave the codes: the source, a table, or an equal title"),
    Column("phase", Float, comment="of the trials, 4 for what is approved"),
    Column("evidence", Text),
    Column("reference", Text),
    references("licence_id", "licence.id", Text),
    artifact_column(),
    since_column(),
    one_of("kind", INDICATION_KINDS, "kind"),
    PrimaryKeyConstraint("record_source", "record_key", "source", "provider", "kind", "disease_key"),
    follows("record_source", "record_key", "drug_id"),
    Index("ix_indication_drug_id", "drug_id"),
    Index("ix_indication_icd10", "icd10", postgresql_using="gin"),
    Index("ix_indication_disease_key", "disease_key"),
)

atc_class = Table(
    "atc_class",
    METADATA,
    Column("code", Text, primary_key=True),
    Column("level", SmallInteger, nullable=False),
    Column("name", Text),
    references("parent", "atc_class.code", Text, nullable=True),
    source_column(),
    artifact_column(),
    CheckConstraint(
        "length(code) IN (1, 3, 4, 5, 7) AND level = CASE length(code) WHEN 7 THEN 5 WHEN 1 THEN 1"
        " ELSE length(code) - 1 END",
        name="level_of_code",
    ),
)

atc_ddd = Table(
    "atc_ddd",
    METADATA,
    source_column(),
    references("code", "atc_class.code", Text),
    Column("route", Text, nullable=False, comment="of administration, in WHO's letters: O oral, P parenteral, …"),
    Column("value", Float, nullable=False),
    Column("unit", Text, nullable=False),
    Column("note", Text, nullable=False),
    artifact_column(),
    since_column(),
    PrimaryKeyConstraint("source", "code", "route", "unit", "note"),
    CheckConstraint("value > 0", name="value"),
)

drug_atc = Table(
    "drug_atc",
    METADATA,
    place_column(),
    references("code", "atc_class.code", Text),
    source_column(),
    Column("record_source", Text, nullable=False, comment="the record that the code is said of"),
    Column("record_key", Text, nullable=False),
    artifact_column(),
    since_column(),
    PrimaryKeyConstraint("record_source", "record_key", "code", "source"),
    follows("record_source", "record_key", "drug_id"),
    Index("ix_drug_atc_drug_id", "drug_id"),
    Index("ix_drug_atc_code", "code"),
)
