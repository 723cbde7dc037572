"""The knowledge base: identity, ledger, payloads, graph.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "drug_conflict",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False, comment="claimed by drugs of different structure"),
        sa.Column("identities", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("source", "key", "identifier", name=op.f("pk_drug_conflict")),
        schema="mkmed",
    )
    op.create_table(
        "kg_entity",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="type::id as the source writes it"),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True, comment="what a person calls it"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kg_entity")),
        sa.UniqueConstraint("name", name=op.f("uq_kg_entity_name")),
        schema="mkmed",
    )
    op.create_index("ix_kg_entity_type", "kg_entity", ["type"], unique=False, schema="mkmed")
    op.create_table(
        "licence",
        sa.Column("id", sa.Text(), nullable=False, comment="SPDX identifier where one exists"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("share", sa.Text(), nullable=False),
        sa.Column("attribution", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "share IN ('open', 'attribution', 'share-alike', 'non-commercial', 'restricted', 'unknown')",
            name=op.f("ck_licence_share"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licence")),
        schema="mkmed",
    )
    op.create_table(
        "property_kind",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_property_kind")),
        schema="mkmed",
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False, comment="ingest, pretrain or recsys"),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "config", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "counts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('running', 'complete', 'interrupted', 'failed')", name=op.f("ck_run_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        schema="mkmed",
    )
    op.create_index("ix_run_stage_started_at", "run", ["stage", "started_at"], unique=False, schema="mkmed")
    op.create_table(
        "drug",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "identity", sa.Text(), nullable=False, comment="inchikey:… where there is a structure, else an identifier"
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("smiles", sa.Text(), nullable=True, comment="canonical, isomeric"),
        sa.Column("inchikey", sa.Text(), nullable=True),
        sa.Column(
            "inchikey_block",
            sa.Text(),
            sa.Computed(
                "left(inchikey, 14)", persisted=True
            ),
            nullable=True,
            comment="the skeleton: same substance but for stereo, isotopes, charge",
        ),
        sa.Column("formula", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("inchikey ~ '^[A-Z]{14}-[A-Z]{10}-[A-Z]$'", name=op.f("ck_drug_inchikey_form")),
        sa.CheckConstraint("kind IN ('small molecule', 'biologic', 'unknown')", name=op.f("ck_drug_kind")),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_drug_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drug")),
        sa.UniqueConstraint("identity", name=op.f("uq_drug_identity")),
        sa.UniqueConstraint("inchikey", name=op.f("uq_drug_inchikey")),
        schema="mkmed",
    )
    op.create_index("ix_drug_inchikey_block", "drug", ["inchikey_block"], unique=False, schema="mkmed")
    op.create_table(
        "drug_merge",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="the record that moved"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("from_identity", sa.Text(), nullable=False),
        sa.Column("to_identity", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_drug_merge_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drug_merge")),
        schema="mkmed",
    )
    op.create_table(
        "kg_alias",
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["mkmed.kg_entity.id"], name=op.f("fk_kg_alias_entity_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alias", "entity_id", name=op.f("pk_kg_alias")),
        schema="mkmed",
    )
    op.create_index("ix_kg_alias_entity_id", "kg_alias", ["entity_id"], unique=False, schema="mkmed")
    op.create_table(
        "source",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False, comment="fetched and computed data are never mixed up"),
        sa.Column("licence_id", sa.Text(), nullable=False),
        sa.CheckConstraint("origin IN ('fetched', 'bundled', 'computed', 'user')", name=op.f("ck_source_origin")),
        sa.ForeignKeyConstraint(["licence_id"], ["mkmed.licence.id"], name=op.f("fk_source_licence_id")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_source")),
        schema="mkmed",
    )
    op.create_table(
        "artifact",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column(
            "payload", sa.LargeBinary(), nullable=True, comment="the bytes as they came; or uri says where they lie"
        ),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("licence_id", sa.Text(), nullable=False),
        sa.Column("attribution", sa.Text(), nullable=False),
        sa.Column("upstream_version", sa.Text(), nullable=True),
        sa.Column("parser", sa.Text(), nullable=False),
        sa.Column("retrieved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("num_nonnulls(payload, uri) = 1", name=op.f("ck_artifact_payload_or_uri")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_artifact_sha256_length")),
        sa.CheckConstraint("payload IS NULL OR sha256 = sha256(payload)", name=op.f("ck_artifact_sha256_matches")),
        sa.ForeignKeyConstraint(["licence_id"], ["mkmed.licence.id"], name=op.f("fk_artifact_licence_id")),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_artifact_run_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_artifact_source")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artifact")),
        schema="mkmed",
    )
    op.create_index("ix_artifact_source", "artifact", ["source"], unique=False, schema="mkmed")
    op.create_table(
        "drug_entity",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False, comment="the identifier or InChIKey that both share"),
        sa.Column("weak", sa.Boolean(), nullable=False, comment="only the skeleton agrees"),
        sa.CheckConstraint(
            "method IN ('identifier', 'alias', 'inchikey', 'skeleton')", name=op.f("ck_drug_entity_method")
        ),
        sa.ForeignKeyConstraint(
            ["drug_id"], ["mkmed.drug.id"], name=op.f("fk_drug_entity_drug_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["entity_id"], ["mkmed.kg_entity.id"], name=op.f("fk_drug_entity_entity_id")),
        sa.PrimaryKeyConstraint("drug_id", "entity_id", name=op.f("pk_drug_entity")),
        schema="mkmed",
    )
    op.create_index("ix_drug_entity_entity_id", "drug_entity", ["entity_id"], unique=False, schema="mkmed")
    op.create_table(
        "lookup",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "key",
            sa.Text(),
            nullable=False,
            comment="what was asked for (a name, an id), or which part of a file was read",
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("drug_id", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state <> 'absent' OR evidence IS NOT NULL", name=op.f("ck_lookup_absent_has_evidence")),
        sa.CheckConstraint(
            "state IN ('unknown', 'present', 'absent', 'failed', 'rejected', 'withheld')", name=op.f("ck_lookup_state")
        ),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_lookup_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_lookup_run_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_lookup_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_lookup")),
        schema="mkmed",
    )
    op.create_index("ix_lookup_source_state", "lookup", ["source", "state"], unique=False, schema="mkmed")
    op.create_table(
        "artifact_seen",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("retrieved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_artifact_seen_run_id")),
        sa.ForeignKeyConstraint(
            ["sha256"], ["mkmed.artifact.sha256"], name=op.f("fk_artifact_seen_sha256"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sha256", "run_id", name=op.f("pk_artifact_seen")),
        schema="mkmed",
    )
    op.create_table(
        "atc_class",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "length(code) IN (1, 3, 4, 5, 7) AND level = CASE length(code) WHEN 7 THEN 5 WHEN 1 THEN 1 ELSE length(code) - 1 END",
            name=op.f("ck_atc_class_level_of_code"),
        ),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_atc_class_artifact")),
        sa.ForeignKeyConstraint(["parent"], ["mkmed.atc_class.code"], name=op.f("fk_atc_class_parent")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_atc_class_source")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_atc_class")),
        schema="mkmed",
    )
    op.create_table(
        "cell",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "evidence", sa.Text(), nullable=True, comment="for absent: the parsed Fault, or the id of a structural rule"
        ),
        sa.Column("artifact", sa.LargeBinary(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "modality IN ('image', 'text', 'structure', 'property', 'graph', 'identity')", name=op.f("ck_cell_modality")
        ),
        sa.CheckConstraint("state <> 'absent' OR evidence IS NOT NULL", name=op.f("ck_cell_absent_has_evidence")),
        sa.CheckConstraint("state <> 'present' OR artifact IS NOT NULL", name=op.f("ck_cell_present_has_artifact")),
        sa.CheckConstraint(
            "state IN ('unknown', 'present', 'absent', 'failed', 'rejected', 'withheld')", name=op.f("ck_cell_state")
        ),
        sa.CheckConstraint(
            "state NOT IN ('failed', 'rejected', 'withheld') OR last_error IS NOT NULL",
            name=op.f("ck_cell_error_is_told"),
        ),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_cell_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_cell_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["mkmed.run.id"], name=op.f("fk_cell_run_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_cell_source")),
        sa.PrimaryKeyConstraint("drug_id", "modality", "source", name=op.f("pk_cell")),
        schema="mkmed",
    )
    op.create_index(
        "ix_cell_source_modality_state", "cell", ["source", "modality", "state"], unique=False, schema="mkmed"
    )
    op.create_table(
        "conformer",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("molblock", sa.Text(), nullable=False, comment="MDL V2000 with hydrogens, coordinates in ångström"),
        sa.Column("heavy_atoms", sa.Integer(), nullable=False),
        sa.Column("energy", sa.Float(), nullable=True, comment="kcal/mol in the method's force field"),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True, comment="e.g. taken from the parent of a salt"),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_conformer_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_conformer_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_conformer_source")),
        sa.PrimaryKeyConstraint("drug_id", "source", name=op.f("pk_conformer")),
        schema="mkmed",
    )
    op.create_table(
        "drug_name",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "name_key",
            sa.Text(),
            sa.Computed(
                "lower(name)", persisted=True
            ),
            nullable=True,
        ),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("kind IN ('preferred', 'synonym', 'brand', 'iupac')", name=op.f("ck_drug_name_kind")),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_drug_name_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_drug_name_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_drug_name_source")),
        sa.PrimaryKeyConstraint("drug_id", "name", "source", name=op.f("pk_drug_name")),
        schema="mkmed",
    )
    op.create_index("ix_drug_name_name_key", "drug_name", ["name_key"], unique=False, schema="mkmed")
    op.create_table(
        "drug_record",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="the source's own id of the drug, namespace:value"),
        sa.Column("drug_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("smiles", sa.Text(), nullable=True),
        sa.Column("inchikey", sa.Text(), nullable=True),
        sa.Column("formula", sa.Text(), nullable=True),
        sa.Column(
            "identifiers",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment='["drugbank:DB00945", …]: the claims that identity is resolved from',
        ),
        sa.Column(
            "pinned", sa.Text(), nullable=True, comment="set when a merge was undone: the record keeps this identity"
        ),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_drug_record_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_drug_record_drug_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_drug_record_source")),
        sa.PrimaryKeyConstraint("source", "key", name=op.f("pk_drug_record")),
        schema="mkmed",
    )
    op.create_index("ix_drug_record_drug_id", "drug_record", ["drug_id"], unique=False, schema="mkmed")
    op.create_index("ix_drug_record_inchikey", "drug_record", ["inchikey"], unique=False, schema="mkmed")
    op.create_index("ix_drug_record_key", "drug_record", ["key"], unique=False, schema="mkmed")
    op.create_table(
        "identifier",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_identifier_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_identifier_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_identifier_source")),
        sa.PrimaryKeyConstraint("drug_id", "namespace", "value", "source", name=op.f("pk_identifier")),
        schema="mkmed",
    )
    op.create_index("ix_identifier_namespace_value", "identifier", ["namespace", "value"], unique=False, schema="mkmed")
    op.create_table(
        "image",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_image_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_image_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_image_source")),
        sa.PrimaryKeyConstraint("drug_id", "source", name=op.f("pk_image")),
        schema="mkmed",
    )
    op.create_table(
        "interaction",
        sa.Column("drug_a", sa.BigInteger(), nullable=False),
        sa.Column("drug_b", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=True, comment="in the provider's own words"),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("licence_id", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("drug_a < drug_b", name=op.f("ck_interaction_ordered")),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_interaction_artifact")),
        sa.ForeignKeyConstraint(["drug_a"], ["mkmed.drug.id"], name=op.f("fk_interaction_drug_a"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["drug_b"], ["mkmed.drug.id"], name=op.f("fk_interaction_drug_b"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["licence_id"], ["mkmed.licence.id"], name=op.f("fk_interaction_licence_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_interaction_source")),
        sa.PrimaryKeyConstraint("drug_a", "drug_b", "source", "provider", name=op.f("pk_interaction")),
        schema="mkmed",
    )
    op.create_index("ix_interaction_drug_b", "interaction", ["drug_b"], unique=False, schema="mkmed")
    op.create_table(
        "kg_relation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="an opaque key: DRKG's names are irregular"),
        sa.Column("head_type", sa.Text(), nullable=False),
        sa.Column("tail_type", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False, comment="the database that the relation was taken from"),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("licence_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_kg_relation_artifact")),
        sa.ForeignKeyConstraint(["licence_id"], ["mkmed.licence.id"], name=op.f("fk_kg_relation_licence_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_kg_relation_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kg_relation")),
        sa.UniqueConstraint("name", name=op.f("uq_kg_relation_name")),
        schema="mkmed",
    )
    op.create_table(
        "property_set",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "values",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="canonical property name → number; units in property_kind",
        ),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("jsonb_typeof(values) = 'object'", name=op.f("ck_property_set_values_object")),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_property_set_artifact")),
        sa.ForeignKeyConstraint(
            ["drug_id"], ["mkmed.drug.id"], name=op.f("fk_property_set_drug_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_property_set_source")),
        sa.PrimaryKeyConstraint("drug_id", "source", name=op.f("pk_property_set")),
        schema="mkmed",
    )
    op.create_table(
        "text",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False, comment="who wrote it: one source quotes many"),
        sa.Column("heading", sa.Text(), server_default="", nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("content_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("licence_id", sa.Text(), nullable=False),
        sa.Column("is_note", sa.Boolean(), nullable=False, comment="an indexing note, of no use as a description"),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_text_artifact")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_text_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["licence_id"], ["mkmed.licence.id"], name=op.f("fk_text_licence_id")),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_text_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_text")),
        schema="mkmed",
    )
    op.create_index(
        "uq_text_drug_id_source_provider_content",
        "text",
        ["drug_id", "source", "provider", "content_sha256"],
        unique=True,
        schema="mkmed",
    )
    op.create_table(
        "drug_atc",
        sa.Column("drug_id", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["mkmed.artifact.sha256"], name=op.f("fk_drug_atc_artifact")),
        sa.ForeignKeyConstraint(["code"], ["mkmed.atc_class.code"], name=op.f("fk_drug_atc_code")),
        sa.ForeignKeyConstraint(["drug_id"], ["mkmed.drug.id"], name=op.f("fk_drug_atc_drug_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source"], ["mkmed.source.name"], name=op.f("fk_drug_atc_source")),
        sa.PrimaryKeyConstraint("drug_id", "code", "source", name=op.f("pk_drug_atc")),
        schema="mkmed",
    )
    op.create_index("ix_drug_atc_code", "drug_atc", ["code"], unique=False, schema="mkmed")
    op.create_table(
        "kg_triple",
        sa.Column("head", sa.Integer(), nullable=False),
        sa.Column("relation", sa.Integer(), nullable=False),
        sa.Column("tail", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["head"], ["mkmed.kg_entity.id"], name=op.f("fk_kg_triple_head")),
        sa.ForeignKeyConstraint(["relation"], ["mkmed.kg_relation.id"], name=op.f("fk_kg_triple_relation")),
        sa.ForeignKeyConstraint(["tail"], ["mkmed.kg_entity.id"], name=op.f("fk_kg_triple_tail")),
        sa.PrimaryKeyConstraint("head", "relation", "tail", name=op.f("pk_kg_triple")),
        schema="mkmed",
    )
    op.create_index(
        "ix_kg_triple_tail_relation_head", "kg_triple", ["tail", "relation", "head"], unique=False, schema="mkmed"
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index("ix_kg_triple_tail_relation_head", table_name="kg_triple", schema="mkmed")
    op.drop_table("kg_triple", schema="mkmed")
    op.drop_index("ix_drug_atc_code", table_name="drug_atc", schema="mkmed")
    op.drop_table("drug_atc", schema="mkmed")
    op.drop_index("uq_text_drug_id_source_provider_content", table_name="text", schema="mkmed")
    op.drop_table("text", schema="mkmed")
    op.drop_table("property_set", schema="mkmed")
    op.drop_table("kg_relation", schema="mkmed")
    op.drop_index("ix_interaction_drug_b", table_name="interaction", schema="mkmed")
    op.drop_table("interaction", schema="mkmed")
    op.drop_table("image", schema="mkmed")
    op.drop_index("ix_identifier_namespace_value", table_name="identifier", schema="mkmed")
    op.drop_table("identifier", schema="mkmed")
    op.drop_index("ix_drug_record_key", table_name="drug_record", schema="mkmed")
    op.drop_index("ix_drug_record_inchikey", table_name="drug_record", schema="mkmed")
    op.drop_index("ix_drug_record_drug_id", table_name="drug_record", schema="mkmed")
    op.drop_table("drug_record", schema="mkmed")
    op.drop_index("ix_drug_name_name_key", table_name="drug_name", schema="mkmed")
    op.drop_table("drug_name", schema="mkmed")
    op.drop_table("conformer", schema="mkmed")
    op.drop_index("ix_cell_source_modality_state", table_name="cell", schema="mkmed")
    op.drop_table("cell", schema="mkmed")
    op.drop_table("atc_class", schema="mkmed")
    op.drop_table("artifact_seen", schema="mkmed")
    op.drop_index("ix_lookup_source_state", table_name="lookup", schema="mkmed")
    op.drop_table("lookup", schema="mkmed")
    op.drop_index("ix_drug_entity_entity_id", table_name="drug_entity", schema="mkmed")
    op.drop_table("drug_entity", schema="mkmed")
    op.drop_index("ix_artifact_source", table_name="artifact", schema="mkmed")
    op.drop_table("artifact", schema="mkmed")
    op.drop_table("source", schema="mkmed")
    op.drop_index("ix_kg_alias_entity_id", table_name="kg_alias", schema="mkmed")
    op.drop_table("kg_alias", schema="mkmed")
    op.drop_table("drug_merge", schema="mkmed")
    op.drop_index("ix_drug_inchikey_block", table_name="drug", schema="mkmed")
    op.drop_table("drug", schema="mkmed")
    op.drop_index("ix_run_stage_started_at", table_name="run", schema="mkmed")
    op.drop_table("run", schema="mkmed")
    op.drop_table("property_kind", schema="mkmed")
    op.drop_table("licence", schema="mkmed")
    op.drop_index("ix_kg_entity_type", table_name="kg_entity", schema="mkmed")
    op.drop_table("kg_entity", schema="mkmed")
    op.drop_table("drug_conflict", schema="mkmed")
