"""Applies the resolution of ``kb.identity.resolve`` to the database: creates drugs, moves records, logs every merge."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Text,
    and_,
    cast,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from kb.db.many import insert_many
from kb.identity.carry import carry_rows
from kb.identity.resolve import Claim, Conflict, Key, portray, resolve
from kb.ingest.records import DrugRecord
from kb.normalise import tidy
from kb.schema.identity import drug, drug_conflict, drug_merge, drug_name, drug_record, identifier

IDENTITY_LOCK = 0x6D6B6D65
"""Advisory transaction lock: one writer of identities at a time, so that two ingests agree who is who."""


def register_drugs(
    connection: Connection, run_id: uuid.UUID, source: str, records: Sequence[DrugRecord]
) -> dict[str, int]:
    """The ``drug.id`` of every record's key, after the records were stored and identity was resolved again."""
    if not records:
        return {}
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    _store(connection, source, records)
    claims = closure(connection, source, records)
    identities, conflicts = resolve(claims)
    ids = apply_identities(connection, run_id, claims, identities)
    _log_conflicts(connection, conflicts)
    keys = {record.key: ids[identities[source, record.key]] for record in records}
    _store_names(connection, source, records, keys)
    return keys


def _store(connection: Connection, source: str, records: Sequence[DrugRecord]) -> None:
    """Write the records as claims; a record that is already there unchanged is left alone."""
    unique = {record.key: record for record in records}
    rows = [
        {
            "source": source,
            "key": r.key,
            "drug_id": None,
            "name": tidy(r.name),
            "kind": r.kind,
            "smiles": r.smiles,
            "inchikey": r.inchikey,
            "formula": r.formula,
            "identifiers": sorted({str(i) for i in r.identifiers}),
            "artifact": r.document.id,
        }
        for r in unique.values()
    ]
    statement = insert(drug_record)
    changed = {
        name: statement.excluded[name]
        for name in ("name", "kind", "smiles", "inchikey", "formula", "identifiers", "artifact")
    }
    different = or_(*(drug_record.c[name].is_distinct_from(value) for name, value in changed.items()))
    insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["source", "key"], set_={**changed, "updated_at": func.now()}, where=different
        ),
        rows,
    )


def closure(connection: Connection, source: str, records: Sequence[DrugRecord]) -> list[Claim]:
    """Every claim that could share an identity with the records: their drugs, and whoever shares an identifier."""
    claims: dict[Key, Claim] = {}
    wanted = {f"key:{source}\t{record.key}" for record in records}
    seen: set[str] = set()
    while wanted - seen:
        fresh, wanted = wanted - seen, set()
        seen |= fresh
        for claim in claims_for(connection, fresh):
            if (claim.source, claim.key) in claims:
                continue
            claims[claim.source, claim.key] = claim
            if claim.inchikey:
                wanted.add(f"inchikey:{claim.inchikey}")
            wanted.update(claim.strong)
    return list(claims.values())


def claims_for(connection: Connection, wanted: Iterable[str]) -> list[Claim]:
    """The claims named by ``key:<source>\\t<key>``, ``inchikey:<key>`` or a strong ``namespace:value``."""
    keys = [tuple(w[4:].split("\t", 1)) for w in wanted if w.startswith("key:")]
    inchikeys = [w[9:] for w in wanted if w.startswith("inchikey:")]
    others = [w for w in wanted if not w.startswith(("key:", "inchikey:"))]
    columns = [
        drug_record.c[n]
        for n in ("source", "key", "inchikey", "identifiers", "pinned", "name", "kind", "smiles", "formula")
    ]
    query = select(*columns)
    found: list[Claim] = []
    spaces, values = ([w.partition(":")[part] for w in others] for part in (0, 2))
    claimed = func.unnest(cast(spaces, ARRAY(Text)), cast(values, ARRAY(Text))).table_valued("space", "value")
    claimed = claimed.render_derived()
    owners = select(identifier.c.drug_id).join(
        claimed, and_(identifier.c.namespace == claimed.c.space, identifier.c.value == claimed.c.value)
    )
    for condition, present in (
        (tuple_(drug_record.c.source, drug_record.c.key).in_(keys), keys),
        (drug_record.c.inchikey.in_(inchikeys), inchikeys),
        (drug_record.c.key.in_(others), others),
        # Every record's identifiers are also rows of its drug; a B-tree finds them, a GIN index with a long list of
        # pending entries does not.
        (drug_record.c.drug_id.in_(owners), others),
    ):
        if present:
            found += [_claim(dict(row)) for row in connection.execute(query.where(condition)).mappings()]
    return found


def _claim(row: Mapping[str, Any]) -> Claim:
    values = dict(row)
    values["identifiers"] = frozenset(values["identifiers"])
    return Claim(**values)


def apply_identities(
    connection: Connection, run_id: uuid.UUID, claims: list[Claim], identities: Mapping[Key, str]
) -> dict[str, int]:
    """Make the drugs that the identities need and move the records that changed; the ids by identity."""
    by_identity: dict[str, list[Claim]] = {}
    for claim in claims:
        by_identity.setdefault(identities[claim.source, claim.key], []).append(claim)
    portraits = [
        {"identity": identity, **_portrait(identity, members), "run_id": run_id}
        for identity, members in sorted(by_identity.items())
    ]
    statement = insert(drug)
    shown = {name: statement.excluded[name] for name in ("name", "kind", "smiles", "inchikey", "formula")}
    insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["identity"],
            set_=shown,
            where=or_(*(drug.c[n].is_distinct_from(v) for n, v in shown.items())),
        ),
        portraits,
    )
    rows = connection.execute(select(drug.c.identity, drug.c.id).where(drug.c.identity.in_(list(by_identity))))
    ids = {row.identity: row.id for row in rows}
    _move(connection, run_id, claims, identities, ids)
    return ids


def _portrait(identity: str, members: list[Claim]) -> dict[str, Any]:
    shown = portray(identity, members)
    return {
        "name": shown.name,
        "kind": shown.kind,
        "smiles": shown.smiles,
        "inchikey": shown.inchikey,
        "formula": shown.formula,
    }


_POINT = """
UPDATE mkmed.drug_record r SET drug_id = w.d
FROM unnest(CAST(:s AS text[]), CAST(:k AS text[]), CAST(:d AS bigint[])) AS w (s, k, d)
WHERE r.source = w.s AND r.key = w.k
"""


def _move(
    connection: Connection,
    run_id: uuid.UUID,
    claims: list[Claim],
    identities: Mapping[Key, str],
    ids: Mapping[str, int],
) -> None:
    """Point every record at its drug; a record that had another drug is a merge (or a split), and is logged."""
    keys = [(c.source, c.key) for c in claims]
    current = {
        (s, k): d
        for s, k, d in connection.execute(
            select(drug_record.c.source, drug_record.c.key, drug_record.c.drug_id).where(
                tuple_(drug_record.c.source, drug_record.c.key).in_(keys)
            )
        )
    }
    fresh = [{"s": s, "k": k, "d": ids[identities[s, k]]} for (s, k), old in current.items() if old is None]
    moved = [
        (s, k, old, ids[identities[s, k]])
        for (s, k), old in current.items()
        if old is not None and old != ids[identities[s, k]]
    ]
    if fresh:
        connection.execute(text(_POINT), {name: [row[name] for row in fresh] for name in ("s", "k", "d")})
    for source, key, old, new in moved:
        before = connection.scalar(select(drug.c.identity).where(drug.c.id == old))
        connection.execute(
            update(drug_record).where(drug_record.c.source == source, drug_record.c.key == key).values(drug_id=new)
        )
        connection.execute(
            insert(drug_merge).values(
                source=source,
                key=key,
                from_identity=before,
                to_identity=identities[source, key],
                reason="claims resolved again",
                run_id=run_id,
            )
        )
        carry_rows(connection, source, old, new)


def _log_conflicts(connection: Connection, conflicts: Sequence[Conflict]) -> None:
    if conflicts:
        connection.execute(
            insert(drug_conflict).on_conflict_do_nothing(),
            [
                {"source": c.source, "key": c.key, "identifier": c.identifier, "identities": list(c.identities)}
                for c in conflicts
            ],
        )


def _store_names(connection: Connection, source: str, records: Sequence[DrugRecord], ids: Mapping[str, int]) -> None:
    names, identifiers = [], []
    for record in records:
        shared = {"drug_id": ids[record.key], "source": source, "artifact": record.document.id}
        if record.name.strip():
            names.append({**shared, "name": tidy(record.name), "kind": "preferred"})
        names += [{**shared, "name": tidy(n.text), "kind": n.kind} for n in record.names if n.text.strip()]
        identifiers += [{**shared, "namespace": i.namespace, "value": i.value} for i in record.identifiers]
    if names:
        insert_many(connection, insert(drug_name).on_conflict_do_nothing(), names)
    if identifiers:
        insert_many(connection, insert(identifier).on_conflict_do_nothing(), identifiers)
