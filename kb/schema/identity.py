"""Who is who: drugs, the records that claim them, their names and identifiers, and the merges made."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Computed, Identity, Index, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from kb.schema.base import METADATA, artifact_column, moment, one_of, references, source_column

KINDS = ("small molecule", "biologic", "unknown")
NAME_KINDS = ("preferred", "synonym", "brand", "iupac")

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
    references("run_id", "run.id", Uuid),
    moment("created_at"),
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
    artifact_column(),
    moment("updated_at"),
    Index("ix_drug_record_drug_id", "drug_id"),
    Index("ix_drug_record_inchikey", "inchikey"),
    Index("ix_drug_record_key", "key"),
)

drug_name = Table(
    "drug_name",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    Column("name", Text, primary_key=True),
    source_column(primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name_key", Text, Computed("lower(name)", persisted=True)),
    artifact_column(),
    one_of("kind", NAME_KINDS, "kind"),
    Index("ix_drug_name_name_key", "name_key"),
)

identifier = Table(
    "identifier",
    METADATA,
    references("drug_id", "drug.id", BigInteger, primary_key=True, cascade=True),
    Column("namespace", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    source_column(primary_key=True),
    artifact_column(),
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
    Column("reason", Text, nullable=False),
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
)
