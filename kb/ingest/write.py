"""Writes a batch: artifacts, drugs, payloads and the ledger's cells, all in the caller's transaction or not at all.

Two documents may describe the same (drug, source), e.g. two CIDs with one InChIKey. The one with the smaller sha256
is kept, so that the result does not depend on which came first; with ``replace`` (a refresh) this run's win over those
of earlier runs.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, or_
from sqlalchemy.dialects.postgresql import insert

from kb.db.many import insert_many
from kb.identity.apply import register_drugs
from kb.ingest.crash import crash_at
from kb.ingest.records import (
    AtcClassRecord,
    AtcRecord,
    Batch,
    ConformerRecord,
    Document,
    DrugRef,
    ImageRecord,
    InteractionRecord,
    Outcome,
    PropertyRecord,
    TextRecord,
)
from kb.ingest.refresh import PAYLOADS, forget
from kb.ledger.cells import CellWrite, write_cells
from kb.modalities import IDENTITY, Modality, State
from kb.normalise import clean, clean_json, tidy
from kb.schema.graph import atc_class, drug_atc, interaction
from kb.schema.ledger import artifact, artifact_seen

Payload = ImageRecord | TextRecord | ConformerRecord | PropertyRecord
ONE_A_DRUG = ("drug_id", "source")
KEYS = {Modality.text: (*ONE_A_DRUG, "provider", "content_sha256")}
"""What tells two rows of a table apart, where it is not one a drug and source."""


def write_batch(
    connection: Connection, run_id: uuid.UUID, source: str, batch: Batch, *, replace: bool = False
) -> dict[str, int]:
    """The ``drug.id`` of every drug record's key in the batch, after everything in it was written."""
    _write_documents(connection, run_id, _documents(batch))
    ids = register_drugs(connection, run_id, source, batch.drugs)

    def drug_id(reference: DrugRef) -> int:
        return reference if isinstance(reference, int) else ids[reference]

    cells = [CellWrite(ids[r.key], IDENTITY, State.present, artifact=r.document.sha256) for r in batch.drugs]
    crash_at("mid_tx")
    payloads = _payload_rows(source, batch.payloads, drug_id)
    cells += [
        CellWrite(row["drug_id"], modality, State.present, artifact=row["artifact"])
        for modality, rows in payloads.items()
        for row in _smallest(rows, ONE_A_DRUG)
    ]
    cells += [_outcome(o, drug_id(o.drug)) for o in batch.outcomes]
    forget(connection, run_id, source, cells, refresh=replace)
    _write_payloads(connection, payloads)
    _write_atc(connection, source, batch.atc, batch.atc_classes, drug_id)
    _write_interactions(connection, source, batch.interactions, drug_id, replace)
    write_cells(connection, run_id, source, cells)
    crash_at("before_commit")
    return ids


def _outcome(outcome: Outcome, drug_id: int) -> CellWrite:
    return CellWrite(
        drug_id,
        outcome.modality,
        outcome.state,
        evidence=outcome.evidence,
        error=_short(outcome.error),
        artifact=outcome.document.sha256 if outcome.document else None,
    )


def _short(error: str | None) -> str | None:
    return clean(error)[:500] if error else None


def _documents(batch: Batch) -> list[Document]:
    """Every document that the batch's records rest on, each once, in a fixed order so that writers cannot deadlock."""
    found = {d.sha256: d for d in batch.documents}
    for record in (*batch.drugs, *batch.payloads, *batch.atc, *batch.atc_classes, *batch.interactions):
        found[record.document.sha256] = record.document
    for outcome in batch.outcomes:
        if outcome.document:
            found[outcome.document.sha256] = outcome.document
    return [found[key] for key in sorted(found)]


def _write_documents(connection: Connection, run_id: uuid.UUID, documents: Sequence[Document]) -> None:
    if not documents:
        return
    rows = [
        {
            "sha256": d.sha256,
            "payload": d.payload,
            "uri": d.uri,
            "bytes": d.size,
            "media_type": d.media_type,
            "source": d.source,
            "url": d.url,
            "http_status": d.http_status,
            "licence_id": d.licence,
            "attribution": d.attribution,
            "upstream_version": d.upstream_version,
            "parser": d.parser,
            "retrieved_at": d.retrieved_at,
            "run_id": run_id,
        }
        for d in documents
    ]
    insert_many(connection, insert(artifact).on_conflict_do_nothing(), rows)
    insert_many(
        connection,
        insert(artifact_seen).on_conflict_do_nothing(),
        [{"sha256": d.sha256, "run_id": run_id, "retrieved_at": d.retrieved_at} for d in documents],
    )


def _payload_rows(
    source: str, payloads: Iterable[Payload], drug_id: Callable[[DrugRef], int]
) -> dict[Modality, list[dict[str, Any]]]:
    """By modality the rows of its table, one a key."""
    rows: dict[Modality, list[dict[str, Any]]] = {modality: [] for modality in PAYLOADS}
    for record in payloads:
        kind, values = _row(record)
        rows[kind].append(
            {"drug_id": drug_id(record.drug), "source": source, "artifact": record.document.sha256, **values}
        )
    return {modality: _smallest(found, KEYS.get(modality, ONE_A_DRUG)) for modality, found in rows.items()}


def _write_payloads(connection: Connection, rows: Mapping[Modality, Sequence[dict[str, Any]]]) -> None:
    for modality, table in PAYLOADS.items():
        if rows[modality]:
            key = KEYS.get(modality, ONE_A_DRUG)
            statement = insert(table)
            new = {name: statement.excluded[name] for name in rows[modality][0] if name not in key}
            smaller = statement.excluded.artifact < table.c.artifact
            upsert = statement.on_conflict_do_update(index_elements=key, set_=new, where=smaller)
            insert_many(connection, upsert, rows[modality])


def _row(record: Payload) -> tuple[Modality, dict[str, Any]]:
    """The modality of a payload and the columns of its table."""
    if isinstance(record, ImageRecord):
        size = {"width": record.width, "height": record.height}
        return Modality.image, {**size, "media_type": record.document.media_type}
    if isinstance(record, TextRecord):
        content = clean(record.content)
        return Modality.text, {
            "provider": clean(record.provider),
            "heading": clean(record.heading),
            "content": content,
            "content_sha256": hashlib.sha256(content.encode()).digest(),
            "url": record.url,
            "licence_id": record.licence,
            "is_note": record.is_note,
        }
    if isinstance(record, ConformerRecord):
        return Modality.structure, {
            "molblock": record.molblock,
            "heavy_atoms": record.heavy_atoms,
            "energy": record.energy,
            "method": record.method,
            "note": record.note,
        }
    return Modality.property, {"values": {k: v for k, v in clean_json(dict(record.values)).items() if v is not None}}


def _smallest(rows: Sequence[dict[str, Any]], key: Sequence[str]) -> list[dict[str, Any]]:
    """One row a key: the one whose artifact has the smallest sha256."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        own = tuple(row[name] for name in key)
        if own not in best or row["artifact"] < best[own]["artifact"]:
            best[own] = row
    return [best[own] for own in sorted(best)]


ATC_LENGTH = {1: 1, 3: 2, 4: 3, 5: 4, 7: 5}
"""The level of an ATC code by its length (WHO Collaborating Centre for Drug Statistics Methodology)."""


def ancestors(code: str) -> list[str]:
    """The code's classes from level 1 down to itself, e.g. ``["A", "A10", "A10B", "A10BA", "A10BA02"]``."""
    return [code[:length] for length in ATC_LENGTH if length <= len(code)]


def _write_atc(
    connection: Connection,
    source: str,
    records: Sequence[AtcRecord],
    named: Sequence[AtcClassRecord],
    drug_id: Callable[[DrugRef], int],
) -> None:
    """Write classes with all their ancestors, then the drugs' codes; a class that has a name keeps it."""
    if not records and not named:
        return
    names = {record.code: tidy(record.name) for record in named}
    classes: dict[str, dict[str, Any]] = {}
    claims: list[AtcClassRecord | AtcRecord] = [*named, *records]
    for record in claims:
        line = ancestors(record.code)
        for parent, code in zip([None, *line], line, strict=False):
            row = {"code": code, "level": ATC_LENGTH[len(code)], "parent": parent, "name": names.get(code)}
            classes.setdefault(code, {**row, "source": source, "artifact": record.document.sha256})
    ordered = sorted(classes.values(), key=lambda row: (row["level"], row["code"]))
    statement = insert(atc_class)
    insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["code"],
            set_={"name": statement.excluded.name, "artifact": statement.excluded.artifact},
            where=atc_class.c.name.is_(None) & statement.excluded.name.is_not(None),
        ),
        ordered,
    )
    if records:
        insert_many(
            connection,
            insert(drug_atc).on_conflict_do_nothing(),
            [
                {"drug_id": drug_id(r.drug), "code": r.code, "source": source, "artifact": r.document.sha256}
                for r in records
            ],
        )


def _write_interactions(
    connection: Connection,
    source: str,
    records: Sequence[InteractionRecord],
    drug_id: Callable[[DrugRef], int],
    replace: bool,
) -> None:
    """Write the pairs; one that is known is told more of where nothing was said, and with ``replace`` said anew."""
    rows: dict[tuple[int, int, str], dict[str, Any]] = {}
    for record in records:
        a, b = sorted((drug_id(record.drug_a), drug_id(record.drug_b)))
        if a != b:
            rows.setdefault(
                (a, b, record.provider),
                {
                    "drug_a": a,
                    "drug_b": b,
                    "source": source,
                    "provider": record.provider,
                    "severity": record.severity,
                    "description": record.description,
                    "licence_id": record.licence,
                    "artifact": record.document.sha256,
                },
            )
    if rows:
        statement, said = insert(interaction), ("severity", "description")
        old, new = interaction.c, statement.excluded
        better = [new[n].is_distinct_from(old[n]) if replace else old[n].is_(None) & new[n].is_not(None) for n in said]
        told = {n: new[n] if replace else func.coalesce(old[n], new[n]) for n in said}
        upsert = statement.on_conflict_do_update(
            index_elements=["drug_a", "drug_b", "source", "provider"],
            set_={**told, "licence_id": new.licence_id, "artifact": new.artifact},
            where=or_(*better),
        )
        insert_many(connection, upsert, [rows[key] for key in sorted(rows)])
