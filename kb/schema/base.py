"""What all tables share: one schema, one naming convention, and a few column kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    Text,
    func,
)

SCHEMA = "mkmed"

METADATA = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def moment(name: str, *, nullable: bool = False, now: bool = True) -> Column:
    """A ``timestamptz`` column, by default the time of insertion."""
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=func.now() if now else None)


def references(
    name: str, target: str, kind: Any, *, nullable: bool = False, primary_key: bool = False, cascade: bool = False
) -> Column:
    """A foreign-key column to ``mkmed.<target>``; ``cascade`` deletes the row with its target."""
    key = ForeignKey(f"{SCHEMA}.{target}", ondelete="CASCADE" if cascade else None)
    return Column(name, kind, key, nullable=nullable and not primary_key, primary_key=primary_key)


def since_column() -> Column:
    """When the row became true here: the time of the statement that wrote it."""
    return Column("since", DateTime(timezone=True), nullable=False, server_default=func.statement_timestamp())


def place_column(name: str = "drug_id") -> Column:
    """The drug that a row is filed under now; it follows the record that the row hangs on."""
    return Column(name, BigInteger, nullable=False)


def said_of() -> tuple[Column, Column]:
    """The record that a row hangs on; both are NULL for what was computed from the drug itself."""
    return Column("record_source", Text), Column("record_key", Text)


def input_column() -> Column:
    """The sha256 of the SMILES that a computed row was computed from."""
    return Column("input", LargeBinary, comment="sha256 of the SMILES that this was computed from")


def follows(source: str, key: str, drug: str) -> ForeignKeyConstraint:
    """The row goes where its record goes, and with it when the record is taken back."""
    return ForeignKeyConstraint(
        [source, key, drug],
        [f"{SCHEMA}.drug_record.{name}" for name in ("source", "key", "drug_id")],
        onupdate="CASCADE",
        ondelete="CASCADE",
    )


def artifact_column(*, nullable: bool = False) -> Column:
    """The retrieval that a row was read from."""
    return references("artifact", "artifact.id", LargeBinary, nullable=nullable)


def source_column(*, primary_key: bool = False) -> Column:
    """The name of the source that a row came from."""
    return references("source", "source.name", Text, primary_key=primary_key)


def one_of(column: str, values: Iterable[str], name: str) -> CheckConstraint:
    """A check that a text column holds one of ``values``."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)
