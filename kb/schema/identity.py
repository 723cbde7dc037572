"""Who is who: drugs, the records that claim them, their names and identifiers, and the merges made."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import BIT, JSONB

from kb.schema.base import (
    METADATA,
    artifact_column,
    follows,
    input_column,
    moment,
    one_of,
    place_column,
    references,
    since_column,
    source_column,
)

KINDS = ("small molecule", "biologic", "unknown")
NAME_KINDS = ("preferred", "synonym", "brand", "iupac")
CONFLICTS = ("identifier", "structure", "release")
RELATIONS = ("salt of", "hydrate of", "isotope of", "mixture with", "stereo-unspecified of")

drug = Table(
    "drug",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "identity",
        Text,
        nullable=False,
        unique=True,
        comment="inchikey:… where there is a structure, else an identifier",
    ),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("smiles", Text, comment="canonical, isomeric"),
    Column("inchikey", Text, unique=True),
    Column(
        "inchikey_block",
        Text,
        Computed("left(inchikey, 14)", persisted=True),
        comment="the skeleton: same substance but for stereo, isotopes, charge",
    ),
    Column("formula", Text),
    Column("related_from", LargeBinary, comment="sha256 of the SMILES whose relations are in substance_relation"),
    references("run_id", "run.id", Uuid),
    moment("created_at"),
    since_column(),
    one_of("kind", KINDS, "kind"),
    CheckConstraint("inchikey ~ '^[A-Z]{14}-[A-Z]{10}-[A-Z]$'", name="inchikey_form"),
    Index("ix_drug_inchikey_block", "inchikey_block"),
)

drug_record = Table(
    "drug_record",
    METADATA,
    source_column(primary_key=True),
    Column("key", Text, primary_key=True, comment="the source's own id of the drug, namespace:value"),
    references("drug_id", "drug.id", BigInteger, nullable=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("smiles", Text),
    Column("inchikey", Text),
    Column("formula", Text),
    Column(
        "identifiers",
        JSONB,
        nullable=False,
        comment='["drugbank:DB00945", …]: the claims that identity is resolved from',
    ),
    Column("pinned", Text, comment="set when a merge was undone: the record keeps this identity"),
    Column("digest", LargeBinary, comment="sha256 of the record as its source wrote it"),
    artifact_column(),
    moment("updated_at"),
    since_column(),
    UniqueConstraint("source", "key", "drug_id", name="uq_drug_record_place"),
    Index("ix_drug_record_drug_id", "drug_id"),
    Index("ix_drug_record_inchikey", "inchikey"),
    Index("ix_drug_record_key", "key"),
)

drug_name = Table(
    "drug_name",
    METADATA,
    place_column(),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False, comment="the record of the source that has this name"),
    Column("kind", Text, nullable=False),
    Column("name_key", Text, Computed("lower(name)", persisted=True)),
    artifact_column(),
    since_column(),
    one_of("kind", NAME_KINDS, "kind"),
    PrimaryKeyConstraint("source", "key", "name"),
    follows("source", "key", "drug_id"),
    Index("ix_drug_name_drug_id", "drug_id"),
    Index("ix_drug_name_name_key", "name_key"),
    Index("ix_drug_name_words", text("to_tsvector('simple'::regconfig, name)"), postgresql_using="gin"),
)

fingerprint = Table(
    "fingerprint",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    Column("morgan", BIT(2048), nullable=False, comment="RDKit's Morgan bits of radius 2"),
    Column("pattern", BIT(2048), nullable=False, comment="RDKit's pattern bits: a part's are among the whole's"),
    input_column(),
)

identifier = Table(
    "identifier",
    METADATA,
    place_column(),
    Column("namespace", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("key", Text, nullable=False, comment="the record of the source that has this identifier"),
    artifact_column(),
    since_column(),
    PrimaryKeyConstraint("source", "key", "namespace", "value"),
    follows("source", "key", "drug_id"),
    Index("ix_identifier_drug_id", "drug_id"),
    Index("ix_identifier_namespace_value", "namespace", "value"),
)

drug_merge = Table(
    "drug_merge",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("source", Text, nullable=False, comment="the record that moved"),
    Column("key", Text, nullable=False),
    Column("from_identity", Text, nullable=False),
    Column("to_identity", Text, nullable=False),
    Column("from_drug", BigInteger, comment="the drug's id, which an undo gives back"),
    Column("reason", Text, nullable=False),
    Column("kept", JSONB, comment="what the drug had that hung on no record, when its last record went"),
    references("run_id", "run.id", Uuid),
    moment("at"),
    moment("undone_at", nullable=True, now=False),
)

drug_conflict = Table(
    "drug_conflict",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("identifier", Text, primary_key=True, comment="claimed by drugs of different structure"),
    Column("identities", JSONB, nullable=False),
    moment("at"),
    Column("reason", Text, nullable=False, server_default="drugs of different structure claim the identifier"),
    Column("kind", Text, nullable=False, comment="what is in conflict; release: what an older mkmed got wrong"),
    one_of("kind", CONFLICTS, "kind"),
)

substance_relation = Table(
    "substance_relation",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    Column("relation", Text, primary_key=True),
    Column("inchikey", Text, primary_key=True, comment="the substance that the drug is related to, known here or not"),
    input_column(),
    one_of("relation", RELATIONS, "relation"),
    Index("ix_substance_relation_inchikey", "inchikey"),
)

retired = Table(
    "retired",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False, comment="the table that the row was in"),
    Column("drug_id", BigInteger),
    Column("source", Text),
    Column("key", Text, comment="the record that the row hung on"),
    Column("fact", JSONB, nullable=False),
    Column("artifact", LargeBinary),
    Column("licence_id", Text),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Index("ix_retired_drug_id", "drug_id"),
    Index("ix_retired_until", "until"),
)

snapshot = Table(
    "snapshot",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("release", Text, nullable=False, comment="a hash over every fact"),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("counts", JSONB, nullable=False),
)
