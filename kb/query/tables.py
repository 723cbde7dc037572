"""The public views as rows, for whoever wants tables: whole, or of some drugs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from kb.db.failures import first_line
from kb.errors import DatabaseError

Rows = tuple[tuple[str, ...], list[dict[str, Any]]]
"""The names of the columns, and the rows."""
VIEWS = {"drugs": "drug_id", "texts": "drug_id, provider, content", "properties": "drug_id, property, source",
         "interactions": "drug_a, drug_b, provider"}
"""View and order."""
TRIPLES = """
    SELECT t.head, t.relation, t.tail, t.provider, t.licence_id, t.source FROM mkmed.triples t
    WHERE (CAST(:relation AS text) IS NULL OR t.relation = :relation) {of}
    ORDER BY t.head, t.relation, t.tail, t.provider, t.source"""
OF_DRUGS = """AND (t.head = ANY (ARRAY(SELECT entity FROM own)) OR t.tail = ANY (ARRAY(SELECT entity FROM own)))"""
OWN = "WITH own AS (SELECT e.entity FROM mkmed.drug_entities e WHERE e.drug_id = ANY (:ids) AND NOT e.weak)"


def count_drugs(connection: Connection) -> int:
    """How many drugs the asking role sees."""
    return int(connection.scalar(text("SELECT count(*) FROM mkmed.drugs")) or 0)


def table(connection: Connection, name: str, drug_ids: Sequence[int] | None = None, *,
          where: str | None = None) -> Rows:
    """The rows of a view of VIEWS, of all drugs in the view's order, of the given drugs in the order given."""
    column = "drug_a" if name == "interactions" else "drug_id"
    conditions = [where] if where else []
    order = VIEWS[name]
    if drug_ids is not None:
        both = f"({column} = ANY (:ids) OR drug_b = ANY (:ids))" if column == "drug_a" else f"{column} = ANY (:ids)"
        conditions.append(both)
        order = f"array_position(CAST(:ids AS bigint[]), {column}), {order}"
    condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found = connection.execute(text(f"SELECT * FROM mkmed.{name}{condition} ORDER BY {order}"),  # noqa: S608
                               {"ids": list(drug_ids)} if drug_ids is not None else {})
    return tuple(found.keys()), [dict(row) for row in found.mappings()]


def triples_table(connection: Connection, drug_ids: Sequence[int] | None = None, relation: str | None = None) -> Rows:
    """The statements of the graph, all of them or those that touch the drugs' entities, of one relation if given."""
    query = TRIPLES.format(of=OF_DRUGS if drug_ids is not None else "")
    values: dict[str, Any] = {"relation": relation}
    if drug_ids is not None:
        query, values = f"{OWN}{query}", values | {"ids": list(drug_ids)}
    found = connection.execute(text(query), values)
    return tuple(found.keys()), [dict(row) for row in found.mappings()]


def ask(engine: Engine, query: str, values: Mapping[str, Any] | None = None) -> Rows:
    """The answer of a query in a session of its own whose transactions do not write; ``values`` fill ``%(name)s``.

    Raises DatabaseError with PostgreSQL's own words.
    """
    try:
        with engine.connect() as connection:
            connection.detach()  # a query may end its transaction: it is the session that must not write
            session: Any = connection.connection.dbapi_connection
            session.set_session(readonly=True, autocommit=True)
            options = {"no_parameters": True} if values is None else {}
            found = connection.exec_driver_sql(query, None if values is None else dict(values), options)
            if not found.returns_rows:
                return (), []
            return tuple(found.keys()), [dict(row) for row in found.mappings()]
    except DBAPIError as error:
        raise DatabaseError(f"PostgreSQL refused: {first_line(error)}",
                            hint="docs/sql.md has views and functions") from None
