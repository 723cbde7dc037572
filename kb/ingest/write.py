"""Writes a batch: artifacts, drugs, payloads and the ledger's cells, all in the caller's transaction or not at all.

Every row hangs on a record, or on the drug where it was computed from the drug's SMILES. Two documents may describe
one record: the one whose artifact has the smaller id is kept, so that the result does not depend on which came first;
with ``replace`` (a refresh) this run's win over those of earlier runs.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, func, null, or_, select, true, update
from sqlalchemy.dialects.postgresql import Insert, insert

from kb.db.bulk import among, any_of, insert_many
from kb.errors import DataError
from kb.identity.claims import leading_records, record_places, register_drugs
from kb.ingest.crash import crash_at
from kb.languages import language_of
from kb.ledger.entries import CellWrite, stale, write_cells
from kb.modalities import IDENTITY, Modality, State
from kb.normalise import clean, clean_json, public_url, tidy
from kb.schema.graph import atc_class, atc_ddd, drug_atc, indication, interaction
from kb.schema.identity import drug, drug_record
from kb.schema.ledger import artifact, artifact_seen, cell, content
from kb.schema.payloads import conformer, description, image, property_set
from kb.schema.products import product, product_part
from kb.sources.contract import (
    AtcClassRecord,
    AtcRecord,
    ConformerRecord,
    DddRecord,
    Document,
    DrugRef,
    ImageRecord,
    Outcome,
    ProductIngredient,
    ProductRecord,
    PropertyRecord,
    RecordBatch,
    TextRecord,
)

# What a refresh forgets, in the transaction in which it learns better.
#
# A cell and its data change together: data of a cell that is found absent now would be a contradiction (I3a), and so
# would a cell that names another artifact than its data (I4). So what an earlier run knew of a cell is taken away
# first, and then the rules of a first ingest hold: of two documents for one cell the same is kept, whichever comes
# first.

PAYLOADS = {
    Modality.image: image,
    Modality.text: description,
    Modality.structure: conformer,
    Modality.property: property_set,
}
"""The table that holds each modality's data; the graph's belongs to the graph."""


def forget(
    connection: Connection, run_id: uuid.UUID, source: str, learned: Iterable[CellWrite], *, refresh: bool = True
) -> None:
    """Take away what earlier runs knew of the cells that this run has learned something of.

    A failure is nothing learned, so it hides nothing; and what this run wrote itself stays. Data of an artifact that
    comes again stays as it is. Without ``refresh`` only those cells count that an earlier run could not refresh.
    """
    writes = list(learned)
    news = {w.place for w in writes if w.state not in (State.failed, State.unknown)}
    if not news:
        return
    kept = [(*w.place, w.artifact) for w in writes if w.state == State.present]
    here = (
        cell.c.drug_id, cell.c.modality, func.coalesce(cell.c.record_source, ""), func.coalesce(cell.c.record_key, "")
    )
    older = connection.execute(
        select(*here)
        .where(cell.c.source == source, cell.c.run_id != run_id, among(here, sorted(news)))
        .where(true() if refresh else stale(cell))
        .order_by(cell.c.drug_id, cell.c.modality)
        .with_for_update()
    ).all()
    for modality, table in PAYLOADS.items():
        gone = [(row[0], row[2], row[3]) for row in older if row.modality == modality]
        stays = [(w[0], w[2], w[3], w[4]) for w in kept if w[1] == modality]
        if gone:
            place = (
                table.c.drug_id, func.coalesce(table.c.record_source, ""), func.coalesce(table.c.record_key, "")
            )
            again = ~among((*place, table.c.artifact), stays) if stays else true()
            connection.execute(delete(table).where(table.c.source == source, among(place, gone), again))
    connection.execute(
        update(cell)
        .where(cell.c.source == source, among(here, [tuple(row) for row in older]))
        .values(state=State.unknown, artifact=null(), evidence=null(), last_error=null())
    )


Payload = ImageRecord | TextRecord | ConformerRecord | PropertyRecord
ONE_A_RECORD = ("record_source", "record_key", "source", "drug_id")
KEYS = {Modality.text: (*ONE_A_RECORD, "provider", "content_sha256")}
"""What tells two rows of a table apart, where it is not one a record (or drug) and source."""
Record = tuple[str, str]


def write_batch(
    connection: Connection, run_id: uuid.UUID, source: str, batch: RecordBatch, *, replace: bool = False
) -> dict[str, int]:
    """The ``drug.id`` of every drug record's key in the batch, after everything in it was written."""
    _write_documents(connection, run_id, _documents(batch))
    ids, fresh = register_drugs(connection, run_id, source, batch.drugs)
    _take_back(connection, source, batch.anew)
    hung = _Hung(connection, source, ids, batch)
    cells = [
        CellWrite(ids[r.key], IDENTITY, State.present, artifact=r.document.id, record=(source, r.key))
        for r in batch.drugs
    ]
    crash_at("mid_tx")
    payloads = _payload_rows(source, batch.payloads, hung)
    cells += [
        CellWrite(
            row["drug_id"], modality, State.present, artifact=row["artifact"], input=row.get("input"),
            record=(row["record_source"], row["record_key"]) if row["record_key"] is not None else None,
        )
        for modality, rows in payloads.items()
        for row in _smallest(rows, ONE_A_RECORD)
    ]
    cells += [_outcome(o, hung) for o in batch.outcomes if hung.is_current(o)]
    of_fresh = {id(c): c for c in cells if c.record and c.record[0] == source and c.record[1] in fresh}
    forget(connection, run_id, source, [c for c in cells if id(c) not in of_fresh], refresh=replace)
    _write_payloads(connection, payloads)
    _write_atc(connection, source, batch, hung, replace)
    _write_interactions(connection, source, batch, hung, replace)
    _write_indications(connection, source, batch, hung, replace)
    _write_products(connection, source, batch.products)
    write_cells(connection, run_id, source, [c for c in cells if id(c) not in of_fresh])
    write_cells(connection, run_id, source, of_fresh.values(), fresh=True)
    hung.settle(connection)
    crash_at("before_commit")
    return ids


def _take_back(connection: Connection, source: str, keys: frozenset[str]) -> None:
    """Take away what the source said of its own records before, but for their names and identifiers."""
    if keys:
        for table in (*PAYLOADS.values(), drug_atc, indication, cell):
            own = (table.c.source == source) & (table.c.record_source == source) & table.c.record_key.in_(sorted(keys))
            connection.execute(delete(table).where(own & (table.c.modality != IDENTITY) if table is cell else own))


class _Hung:
    """Where everything in a batch hangs: the record and the drug of every reference."""

    def __init__(self, connection: Connection, source: str, ids: Mapping[str, int], batch: RecordBatch) -> None:
        self._source, self._ids = source, ids
        asked = [(p.drug, str(_MODALITY[type(p)])) for p in batch.payloads if _computed(p) is None]
        asked += [(o.drug, o.modality) for o in batch.outcomes if not o.computed_from]
        self._asked = {(drug, modality) for drug, modality in asked if isinstance(drug, int)}
        self._places = record_places(connection, source, self._asked)
        said = {r.drug for r in batch.atc} | {r.drug for r in batch.indications}
        said |= {side for r in batch.interactions for side in (r.drug_a, r.drug_b)}
        self._leading = leading_records(connection, source, [drug for drug in said if isinstance(drug, int)])
        computed = {r.drug for r in (*batch.payloads, *batch.outcomes) if isinstance(r.drug, int) and _computed(r)}
        query = select(drug.c.id, drug.c.smiles).where(drug.c.id.in_(sorted(computed))).with_for_update(read=True)
        self._smiles = {row.id: row.smiles for row in connection.execute(query)} if computed else {}

    def of(self, reference: DrugRef, modality: str | None = None) -> tuple[int, Record]:
        """The drug and the record of a reference; raises DataError for a drug without a record."""
        if isinstance(reference, str):
            return self._ids[reference], (self._source, reference)
        place = self._places.get((reference, modality)) if modality else self._leading.get(reference)
        if place is None:
            raise DataError(f"drug {reference} has no record that a statement about it could hang on")
        return reference, place

    def is_current(self, record: Payload | Outcome) -> bool:
        """Whether a computed record was computed from the SMILES that the drug has now; others always are."""
        from_ = _computed(record)
        return from_ is None or self._smiles.get(int(record.drug)) == from_

    def settle(self, connection: Connection) -> None:
        """Close what is left open of the cells that were asked for by drug: one answer serves all of its records."""
        if self._asked:
            answered = [(*asked, *place) for asked, place in self._places.items()]
            here = (cell.c.drug_id, cell.c.modality, cell.c.record_source, cell.c.record_key)
            connection.execute(
                delete(cell).where(
                    cell.c.source == self._source, cell.c.state == State.unknown, among(here[:2], sorted(self._asked)),
                    ~among(here, answered),
                )
            )


def _computed(record: Payload | Outcome) -> str | None:
    return None if isinstance(record, TextRecord) else record.computed_from


def _input(smiles: str) -> bytes:
    return hashlib.sha256(smiles.encode()).digest()


def _outcome(outcome: Outcome, hung: _Hung) -> CellWrite:
    record: Record | None = None
    if outcome.computed_from is None:
        drug_id, record = hung.of(outcome.drug, outcome.modality)
    else:
        drug_id = int(outcome.drug)
    return CellWrite(
        drug_id,
        outcome.modality,
        outcome.state,
        evidence=outcome.evidence,
        error=_short(outcome.error),
        artifact=outcome.document.id if outcome.document else None,
        record=record,
        input=_input(outcome.computed_from) if outcome.computed_from is not None else None,
    )


def _short(error: str | None) -> str | None:
    return clean(error)[:500] if error else None


def _documents(batch: RecordBatch) -> list[Document]:
    """Every document that the batch's records rest on, each once, in a fixed order so that writers cannot deadlock."""
    found = {d.id: d for d in batch.documents}
    for record in (*batch.drugs, *batch.payloads, *batch.atc, *batch.atc_classes, *batch.interactions):
        found[record.document.id] = record.document
    for document in (*(dose.document for dose in batch.ddd), *(sold.document for sold in batch.products)):
        found[document.id] = document
    for indicated in batch.indications:
        found[indicated.document.id] = indicated.document
    for outcome in batch.outcomes:
        if outcome.document:
            found[outcome.document.id] = outcome.document
    return [found[key] for key in sorted(found)]


def _write_documents(connection: Connection, run_id: uuid.UUID, documents: Sequence[Document]) -> None:
    """Write what was retrieved, and the bytes that are not there yet; a file that lies elsewhere now is told so."""
    if not documents:
        return
    contents = {
        d.sha256: {"sha256": d.sha256, "payload": d.payload, "uri": d.uri, "bytes": d.size} for d in documents
    }
    statement = insert(content)
    moved = content.c.payload.is_(None) & content.c.uri.is_distinct_from(statement.excluded.uri)
    place = {"uri": statement.excluded.uri, "payload": statement.excluded.payload}
    upsert = statement.on_conflict_do_update(index_elements=["sha256"], set_=place, where=moved)
    insert_many(connection, upsert, [contents[key] for key in sorted(contents)])
    rows = [
        {
            "id": d.id,
            "content": d.sha256,
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
        [{"artifact": d.id, "run_id": run_id, "retrieved_at": d.retrieved_at} for d in documents],
    )


def _payload_rows(source: str, payloads: Iterable[Payload], hung: _Hung) -> dict[Modality, list[dict[str, Any]]]:
    """By modality the rows of its table, one a key; what was computed from a SMILES of the past is left out."""
    rows: dict[Modality, list[dict[str, Any]]] = {modality: [] for modality in PAYLOADS}
    for record in payloads:
        if not hung.is_current(record):
            continue
        kind, values = _row(record)
        shared: dict[str, Any] = {"source": source, "artifact": record.document.id}
        smiles = _computed(record)
        if smiles is None:
            drug_id, (of, key) = hung.of(record.drug, kind)
            shared |= {"drug_id": drug_id, "record_source": of, "record_key": key}
        else:
            shared |= {"drug_id": int(record.drug), "record_source": None, "record_key": None}
        if kind is not Modality.text:
            shared["input"] = None if smiles is None else _input(smiles)
        rows[kind].append({**shared, **values})
    return {modality: _smallest(found, KEYS.get(modality, ONE_A_RECORD)) for modality, found in rows.items()}


def _write_payloads(connection: Connection, rows: Mapping[Modality, Sequence[dict[str, Any]]]) -> None:
    for modality, table in PAYLOADS.items():
        if rows[modality]:
            key = KEYS.get(modality, ONE_A_RECORD)
            statement = insert(table)
            new = {name: statement.excluded[name] for name in rows[modality][0] if name not in key}
            smaller = statement.excluded.artifact < table.c.artifact
            upsert = statement.on_conflict_do_update(index_elements=key, set_=new, where=smaller)
            insert_many(connection, upsert, rows[modality])


_MODALITY = {
    ImageRecord: Modality.image,
    TextRecord: Modality.text,
    ConformerRecord: Modality.structure,
    PropertyRecord: Modality.property,
}


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
            "url": public_url(record.url) if record.url else None,
            "licence_id": record.licence,
            "is_note": record.is_note,
            "language": record.language or language_of(content),
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
    """One row a key: the one whose artifact has the smallest id."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        own = tuple(row[name] for name in key)
        if own not in best or row["artifact"] < best[own]["artifact"]:
            best[own] = row
    return [best[own] for own in sorted(best, key=lambda own: tuple(map(str, own)))]


ATC_LENGTH = {1: 1, 3: 2, 4: 3, 5: 4, 7: 5}
"""The level of an ATC code by its length (WHO Collaborating Centre for Drug Statistics Methodology)."""


def ancestors(code: str) -> list[str]:
    """The code's classes from level 1 down to itself, e.g. ``["A", "A10", "A10B", "A10BA", "A10BA02"]``."""
    return [code[:length] for length in ATC_LENGTH if length <= len(code)]


def _write_atc(connection: Connection, source: str, batch: RecordBatch, hung: _Hung, replace: bool) -> None:
    """Write classes with all their ancestors, then the drugs' codes; a class that has a name keeps it.

    Codes that the source does not give any more are taken back: of a ``whole`` batch all others, and of a refresh those
    of the records in it.
    """
    _write_classes(connection, source, batch)
    _write_doses(connection, source, batch)
    rows = {}
    for record in batch.atc:
        drug_id, (of, key) = hung.of(record.drug)
        rows[of, key, record.code] = {
            "drug_id": drug_id, "code": record.code, "source": source, "record_source": of, "record_key": key,
            "artifact": record.document.id,
        }
    said = (drug_atc.c.record_source, drug_atc.c.record_key, drug_atc.c.code)
    gone = drug_atc.c.source == source
    if rows:
        gone &= ~among(said, list(rows))
    again = [r.key for r in batch.drugs]
    if batch.whole:
        connection.execute(delete(drug_atc).where(gone))
    elif replace and again:
        own = (drug_atc.c.record_source == source) & drug_atc.c.record_key.in_(again)
        connection.execute(delete(drug_atc).where(gone & own))
    if rows:
        statement = insert(drug_atc)
        new, old = statement.excluded.artifact, drug_atc.c.artifact
        upsert = statement.on_conflict_do_update(
            index_elements=["record_source", "record_key", "code", "source"],
            set_={"artifact": new},
            where=new != old if batch.whole or replace else new < old,
        )
        insert_many(connection, upsert, [rows[key] for key in sorted(rows)])


def _write_classes(connection: Connection, source: str, batch: RecordBatch) -> None:
    claims: list[AtcClassRecord | AtcRecord | DddRecord] = [*batch.atc_classes, *batch.atc, *batch.ddd]
    if not claims:
        return
    names = {record.code: tidy(record.name) for record in batch.atc_classes}
    classes: dict[str, dict[str, Any]] = {}
    for record in claims:
        line = ancestors(record.code)
        for parent, code in zip([None, *line], line, strict=False):
            row = {"code": code, "level": ATC_LENGTH[len(code)], "parent": parent, "name": names.get(code)}
            classes.setdefault(code, {**row, "source": source, "artifact": record.document.id})
    ordered = sorted(classes.values(), key=lambda row: (row["level"], row["code"]))
    statement = insert(atc_class)
    same, new = atc_class.c.source == statement.excluded.source, statement.excluded.name
    corrected = same & (atc_class.c.name != new)  # by a later edition of the same list
    insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["code"],
            set_={"name": statement.excluded.name, "artifact": statement.excluded.artifact},
            where=statement.excluded.name.is_not(None) & (atc_class.c.name.is_(None) | corrected),
        ),
        ordered,
    )


def _take_back_others(
    connection: Connection, table: Table, source: str, place: Sequence[str], kept: Sequence[tuple[str, ...]]
) -> None:
    """Take back what the source said before and does not say any more: all but the rows of these places."""
    gone = table.c.source == source
    if kept:
        gone &= ~among([table.c[name] for name in place], kept)
    connection.execute(delete(table).where(gone))


def _write_doses(connection: Connection, source: str, batch: RecordBatch) -> None:
    """Write the defined daily doses; of a ``whole`` batch all others of the source are taken back."""
    place = ("source", "code", "route", "unit", "note")
    rows = {
        (source, record.code, tidy(record.route), tidy(record.unit), tidy(record.note)):
            {"value": record.value, "artifact": record.document.id}
        for record in batch.ddd
    }
    if batch.whole:
        _take_back_others(connection, atc_ddd, source, place, list(rows))
    if rows:
        statement = insert(atc_ddd)
        new = statement.excluded
        upsert = statement.on_conflict_do_update(
            index_elements=list(place), set_={"value": new.value, "artifact": new.artifact},
            where=atc_ddd.c.value != new.value,
        )
        insert_many(connection, upsert, [dict(zip(place, key, strict=True)) | rows[key] for key in sorted(rows)])


_SAID_OF_PRODUCTS = ("name", "brand", "form", "route", "labeler", "ndc", "set_id")
_SAID_OF_PARTS = ("drug_id", "strength", "substance")


def _write_products(connection: Connection, source: str, records: Sequence[ProductRecord]) -> None:
    """Write products with their ingredients, in place of what the source said of them before.

    Raises DataError for an ingredient that is no record of the source.
    """
    if not records:
        return
    rows, parts = {}, {}
    wanted = sorted({part.drug for record in records for part in record.ingredients})
    known = select(drug_record.c.key, drug_record.c.drug_id)
    known = known.where(drug_record.c.source == source, any_of(drug_record.c.key, wanted))
    ids = {row.key: row.drug_id for row in connection.execute(known)}
    for record in records:
        key = clean(record.key)
        rows[key] = {
            "source": source,
            "key": key,
            "name": tidy(record.name),
            **{name: tidy(said) if (said := getattr(record, name)) else None
               for name in ("brand", "form", "route", "labeler", "set_id")},
            "ndc": sorted(set(record.ndc)),
            "artifact": record.document.id,
        }
        for part in record.ingredients:
            if part.drug not in ids:
                raise DataError(f"product {key} has an ingredient {part.drug} that {source} has no record of")
            parts[key, part.drug] = _part_row(source, key, part, ids[part.drug], record.document)
    upsert = _upsert(product, ("source", "key"), _SAID_OF_PRODUCTS)
    insert_many(connection, upsert, [rows[key] for key in sorted(rows)])
    own = (product_part.c.source == source) & any_of(product_part.c.product_key, sorted(rows))
    held = select(product_part.c.product_key, product_part.c.record_key).where(own)
    gone = [tuple(row) for row in connection.execute(held) if tuple(row) not in parts]
    if gone:
        place = (product_part.c.product_key, product_part.c.record_key)
        connection.execute(delete(product_part).where(own & among(place, gone)))
    upsert = _upsert(product_part, ("source", "product_key", "record_key"), _SAID_OF_PARTS)
    insert_many(connection, upsert, [parts[key] for key in sorted(parts)])


def _part_row(source: str, key: str, part: ProductIngredient, drug_id: int, document: Document) -> dict[str, Any]:
    said = {name: tidy(text) if (text := getattr(part, name)) else None for name in ("strength", "substance")}
    place = {"source": source, "product_key": key, "record_key": part.drug}
    return {**place, "drug_id": drug_id, **said, "artifact": document.id}


def _upsert(table: Table, place: Sequence[str], said: Sequence[str]) -> Insert:
    """An insertion that changes a row which is there where it says something else."""
    statement = insert(table)
    return statement.on_conflict_do_update(
        index_elements=list(place),
        set_={name: statement.excluded[name] for name in (*said, "artifact")},
        where=or_(*(table.c[name].is_distinct_from(statement.excluded[name]) for name in said)),
    )


def _write_interactions(connection: Connection, source: str, batch: RecordBatch, hung: _Hung, replace: bool) -> None:
    """Write the pairs; one that is known is told more of where nothing was said, and with ``replace`` said anew.

    Of a ``whole`` batch the pairs that the source does not state any more are taken back.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for record in batch.interactions:
        sides = sorted((hung.of(record.drug_a)[::-1], hung.of(record.drug_b)[::-1]))
        (a, drug_a), (b, drug_b) = sides
        if a != b and drug_a != drug_b:
            rows.setdefault(
                (*a, *b, record.provider),
                {
                    "drug_a": drug_a,
                    "drug_b": drug_b,
                    "a_source": a[0],
                    "a_key": a[1],
                    "b_source": b[0],
                    "b_key": b[1],
                    "source": source,
                    "provider": record.provider,
                    "severity": record.severity,
                    "description": record.description,
                    "licence_id": record.licence,
                    "artifact": record.document.id,
                },
            )
    place = ("a_source", "a_key", "b_source", "b_key", "provider")
    if batch.whole:
        _take_back_others(connection, interaction, source, place, list(rows))
    if rows:
        statement, said = insert(interaction), ("severity", "description")
        old, new = interaction.c, statement.excluded
        anew = replace or batch.whole
        relicensed = [new.licence_id != old.licence_id] if anew else []
        better = [new[n].is_distinct_from(old[n]) if anew else old[n].is_(None) & new[n].is_not(None) for n in said]
        told = {n: new[n] if anew else func.coalesce(old[n], new[n]) for n in said}
        upsert = statement.on_conflict_do_update(
            index_elements=[*place[:4], "source", "provider"],
            set_={**told, "licence_id": new.licence_id, "artifact": new.artifact},
            where=or_(*better, *relicensed),
        )
        insert_many(connection, upsert, [rows[key] for key in sorted(rows)])


def _write_indications(connection: Connection, source: str, batch: RecordBatch, hung: _Hung, replace: bool) -> None:
    """Write the statements; of two of one provider about one disease the later one of the batch counts.

    What the source does not state any more is taken back: of a ``whole`` batch all others, and of a refresh those of
    the records in it.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for record in batch.indications:
        drug_id, (of, key) = hung.of(record.drug)
        place = (of, key, source, clean(record.provider), record.kind, clean(record.disease_key))
        rows[place] = {
            **dict(zip(_INDICATION, place, strict=True)),
            "drug_id": drug_id,
            "disease": tidy(record.disease),
            "disease_ids": list(record.disease_ids),
            "icd10": list(record.icd10),
            "icd10_by": record.icd10_by,
            "phase": record.phase,
            "evidence": clean(record.evidence) if record.evidence else None,
            "reference": public_url(record.reference) if record.reference else None,
            "licence_id": record.licence,
            "artifact": record.document.id,
        }
    again = [r.key for r in batch.drugs]
    if batch.whole or (replace and again):
        place_of = tuple(indication.c[name] for name in _INDICATION)
        own = indication.c.source == source
        if not batch.whole:
            own &= (indication.c.record_source == source) & indication.c.record_key.in_(again)
        gone = [tuple(held) for held in connection.execute(select(*place_of).where(own)) if tuple(held) not in rows]
        if gone:
            connection.execute(delete(indication).where(among(place_of, gone)))
    if rows:
        said = ("disease", "disease_ids", "icd10", "icd10_by", "phase", "evidence", "reference", "licence_id")
        upsert = _upsert(indication, _INDICATION, said)
        insert_many(connection, upsert, [rows[place] for place in sorted(rows)])


_INDICATION = ("record_source", "record_key", "source", "provider", "kind", "disease_key")
"""What tells two statements apart."""
