"""The database's copy of the licences, kept in step with ``kb.licences``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Connection, bindparam, or_, update
from sqlalchemy.dialects.postgresql import insert

from kb.db.bulk import insert_many
from kb.errors import ConfigError
from kb.licences import LICENCES, Licence
from kb.schema.ledger import licence

_FIELDS = ("title", "url", "share", "attribution")


def write_licences(connection: Connection, declared: Iterable[Licence]) -> None:
    """Write the licences that a source declares, and bring those that are there up to date.

    Raises ConfigError for one of ``kb.licences``' ids with other terms, so that a plug-in cannot open what is closed.
    """
    wanted = {known.id: known for known in declared}
    for known in wanted.values():
        if LICENCES.get(known.id, known) != known:
            raise ConfigError(f"licence {known.id} is declared with other terms than mkmed knows",
                              hint="take it from kb.licences, or give it an id of its own: LicenseRef-…")
    statement = insert(licence)
    new = {name: statement.excluded[name] for name in _FIELDS}
    changed = or_(*(licence.c[name].is_distinct_from(new[name]) for name in _FIELDS))
    upsert = statement.on_conflict_do_update(index_elements=["id"], set_=new, where=changed)
    insert_many(connection, upsert, [asdict(wanted[name]) for name in sorted(wanted)])
    update_licences(connection)


def update_licences(connection: Connection) -> int:
    """How many of the database's licences were changed to what ``kb.licences`` says of them now."""
    changed = or_(*(licence.c[name].is_distinct_from(bindparam(f"new_{name}", type_=licence.c[name].type))
                    for name in _FIELDS))
    statement = (
        update(licence)
        .where(licence.c.id == bindparam("known"), changed)
        .values({name: bindparam(f"new_{name}") for name in _FIELDS})
    )
    count = 0
    for known in LICENCES.values():
        values = {f"new_{name}": getattr(known, name) for name in _FIELDS}
        count += connection.execute(statement, {"known": known.id, **values}).rowcount
    return count
