"""Provenance and the ledger: where every fact came from, and what is known to be missing.

After W3C PROV, ``content`` is the entity (the bytes, each once), ``run`` the activity and ``source`` the agent. A row
of ``artifact`` is one retrieval: which bytes came from which address, when, and under which licence. Equal bytes from
two addresses or under two licences are two retrievals, so that each proof names its own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from kb.licences import SHARES
from kb.modalities import FACETS, State
from kb.schema.base import (
    METADATA,
    artifact_column,
    follows,
    input_column,
    moment,
    one_of,
    references,
    said_of,
    source_column,
)

ORIGINS = ("fetched", "bundled", "computed", "user")
RUN_STATES = ("running", "complete", "interrupted", "failed")



def lease_columns() -> tuple[Column[Any], ...]:
    """Which run works on a row, and until when nobody else does."""
    return (
        Column("leased_by", Uuid, comment="the run that works on it now"),
        moment("leased_until", nullable=True, now=False),
    )


licence = Table(
    "licence",
    METADATA,
    Column("id", Text, primary_key=True, comment="SPDX identifier where one exists"),
    Column("title", Text, nullable=False),
    Column("url", Text),
    Column("share", Text, nullable=False),
    Column("attribution", Text, nullable=False, server_default=""),
    one_of("share", SHARES, "share"),
)

source = Table(
    "source",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("origin", Text, nullable=False, comment="fetched and computed data are never mixed up"),
    references("licence_id", "licence.id", Text),
    Column("dataset", Text, comment="the name of the user's table that this is"),
    Column("version", JSONB, comment="of a user's table: the sha256, column map and state of what was read last"),
    one_of("origin", ORIGINS, "origin"),
)

run = Table(
    "run",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("stage", Text, nullable=False, comment="ingest, pretrain or recsys"),
    Column("name", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False),
    Column("config", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("error", Text),
    Column("version", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    moment("started_at"),
    moment("finished_at", nullable=True, now=False),
    one_of("status", RUN_STATES, "status"),
    Index("ix_run_stage_started_at", "stage", "started_at"),
)

content = Table(
    "content",
    METADATA,
    Column("sha256", LargeBinary, primary_key=True),
    Column("payload", LargeBinary, comment="the bytes as they came; or uri says where they lie"),
    Column("uri", Text),
    Column("bytes", BigInteger, nullable=False),
    CheckConstraint("octet_length(sha256) = 32", name="sha256_length"),
    CheckConstraint("payload IS NULL OR sha256 = sha256(payload)", name="sha256_matches"),
    CheckConstraint("num_nonnulls(payload, uri) = 1", name="payload_or_uri"),
)

artifact = Table(
    "artifact",
    METADATA,
    Column("id", LargeBinary, primary_key=True, comment="a hash over content, source, url, licence and status"),
    references("content", "content.sha256", LargeBinary),
    Column("media_type", Text, nullable=False),
    source_column(),
    Column("url", Text, nullable=False, comment="without credentials; of a local file its name alone"),
    Column("http_status", Integer),
    references("licence_id", "licence.id", Text),
    Column("attribution", Text, nullable=False),
    Column("upstream_version", Text),
    Column("parser", Text, nullable=False),
    moment("retrieved_at", now=False),
    references("run_id", "run.id", Uuid),
    CheckConstraint("octet_length(id) = 32", name="id_length"),
    Index("ix_artifact_source", "source"),
    Index("ix_artifact_content", "content"),
)

artifact_seen = Table(
    "artifact_seen",
    METADATA,
    references("artifact", "artifact.id", LargeBinary, primary_key=True, cascade=True),
    references("run_id", "run.id", Uuid, primary_key=True),
    moment("retrieved_at", now=False),
)

cell = Table(
    "cell",
    METADATA,
    references("drug_id", "drug.id", BigInteger, cascade=True),
    Column("modality", Text, nullable=False),
    source_column(),
    *said_of(),
    input_column(),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("evidence", Text, comment="for absent: the parsed Fault, or the id of a structural rule"),
    artifact_column(nullable=True),
    references("run_id", "run.id", Uuid),
    moment("updated_at"),
    *lease_columns(),
    one_of("modality", FACETS, "modality"),
    one_of("state", State, "state"),
    CheckConstraint("state <> 'present' OR artifact IS NOT NULL", name="present_has_artifact"),
    CheckConstraint("state <> 'absent' OR evidence IS NOT NULL", name="absent_has_evidence"),
    CheckConstraint("state NOT IN ('failed', 'rejected', 'withheld') OR last_error IS NOT NULL", name="error_is_told"),
    follows("record_source", "record_key", "drug_id"),
    Index(
        "uq_cell_place",
        "record_source",
        "record_key",
        "modality",
        "source",
        "drug_id",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    Index("ix_cell_drug_id", "drug_id", "modality", "source"),
    Index("ix_cell_source_modality_state", "source", "modality", "state"),
)

lookup = Table(
    "lookup",
    METADATA,
    source_column(primary_key=True),
    Column(
        "key", Text, primary_key=True, comment="what was asked for (a name, an id), or which part of a file was read"
    ),
    Column("state", Text, nullable=False),
    references("drug_id", "drug.id", BigInteger, nullable=True, cascade=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("evidence", Text),
    references("run_id", "run.id", Uuid),
    moment("updated_at"),
    *lease_columns(),
    one_of("state", State, "state"),
    CheckConstraint("state <> 'absent' OR evidence IS NOT NULL", name="absent_has_evidence"),
    Index("ix_lookup_source_state", "source", "state"),
)
