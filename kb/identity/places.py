"""Which record a statement about a drug hangs on, where the source that makes it has not said which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select

from kb.db.many import among
from kb.identity.resolve import Key, precedence
from kb.schema.identity import drug_record
from kb.schema.ledger import cell


def leading_records(connection: Connection, source: str, drugs: Iterable[int]) -> dict[int, Key]:
    """By drug the first record of ``source``, else the first of all by ``precedence``."""
    wanted = sorted(set(drugs))
    best: dict[int, tuple[Any, ...]] = {}
    query = select(drug_record.c.drug_id, drug_record.c.source, drug_record.c.key)
    for drug_id, of, key in connection.execute(query.where(drug_record.c.drug_id.in_(wanted))) if wanted else ():
        rank = (of != source, precedence(of, key), of, key)
        best[drug_id] = min(best.get(drug_id, rank), rank)
    return {drug_id: (rank[2], rank[3]) for drug_id, rank in best.items()}


def places(
    connection: Connection, source: str, asked: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], Key]:
    """By drug and modality the record whose cell of ``source`` is due, else one that has a cell, else the first."""
    wanted = sorted(set(asked))
    if not wanted:
        return {}
    query = (
        select(cell.c.drug_id, cell.c.modality, cell.c.record_source, cell.c.record_key)
        .where(cell.c.source == source, cell.c.record_key.is_not(None))
        .where(among((cell.c.drug_id, cell.c.modality), wanted))
        .order_by(cell.c.state.not_in(("unknown", "failed")), cell.c.record_source, cell.c.record_key)
    )
    found: dict[tuple[int, str], Key] = {}
    for drug_id, modality, of, key in connection.execute(query):
        found.setdefault((drug_id, modality), (of, key))
    leading = leading_records(connection, source, {drug_id for drug_id, m in wanted if (drug_id, m) not in found})
    return {w: found.get(w) or leading[w[0]] for w in wanted if w in found or w[0] in leading}
