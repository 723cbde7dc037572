"""What a refresh forgets, in the transaction in which it learns better.

A cell and its data change together: data of a cell that is found absent now would be a contradiction (I3a), and so
would a cell that names another artifact than its data (I4). So what an earlier run knew of a cell is taken away first,
and then the rules of a first ingest hold: of two documents for one cell the same is kept, whichever comes first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, null, select, true, update

from kb.db.many import among
from kb.ledger.cells import CellWrite, stale
from kb.modalities import Modality, State
from kb.schema.ledger import cell
from kb.schema.payloads import conformer, description, image, property_set

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
