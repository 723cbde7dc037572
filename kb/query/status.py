"""What there is in a knowledge base, in the few figures that fit on one screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from kb.settings import Settings

BUCKETS_SHOWN = 8
RUNS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Status:
    """One screen: figures by name, then the largest buckets, the sources and the latest runs."""

    figures: dict[str, Any]
    buckets: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


def take_stock(settings: Settings) -> Status:
    """The state of the home and its database; a home without a database is reported, not made."""
    from kb.db.address import bare, parse_url
    from kb.db.engine import open_engine
    from kb.db.server import embedded

    figures: dict[str, Any] = {"home": str(settings.home)}
    if settings.database_url is not None:
        figures["database"] = bare(parse_url(settings.database_url.get_secret_value()))
    else:
        server = embedded(settings.home)
        figures["database"] = f"embedded, {server.cluster.data}"
        if not server.cluster.exists():
            return Status(figures | {"state": "not made yet: mkmed db init, or any ingest, makes it"})
    engine = open_engine(settings)
    with engine.connect() as connection:
        figures |= _figures(connection)
        return Status(figures, _buckets(connection), _sources(connection), _runs(connection))


def _figures(connection: Connection) -> dict[str, Any]:
    # The view joins the graph's names, which whoever may read the table need not wait for.
    triples = connection.scalar(text("SELECT CASE WHEN has_table_privilege('mkmed.kg_triple', 'SELECT')"
                                     " THEN 'kg_triple' ELSE 'triples' END"))
    row = connection.execute(text(f"""
        SELECT current_setting('server_version') AS postgres,
               pg_size_pretty(pg_database_size(current_database())) AS size,
               (SELECT version_num FROM mkmed.schema_version) AS revision,
               (SELECT count(*) FROM mkmed.drugs) AS drugs,
               (SELECT count(*) FROM mkmed.entities) AS entities,
               (SELECT count(*) FROM mkmed.{triples}) AS triples,
               (SELECT count(*) FROM mkmed.interactions) AS interactions,
               (SELECT count(*) FROM mkmed.indications) AS indications,
               (SELECT count(*) FROM mkmed.availability WHERE state = 'failed') AS failed
    """)).mappings().one()  # noqa: S608
    figures = dict(row)
    figures["database size"] = figures.pop("size")
    figures["failed cells"] = figures.pop("failed")
    return figures


def _buckets(connection: Connection) -> list[dict[str, Any]]:
    """The largest combinations of modalities, with the number of drugs in each."""
    rows = connection.execute(text("""
        WITH owned AS (
          SELECT d.drug_id, coalesce(string_agg(DISTINCT c.modality, ' + ' ORDER BY c.modality), 'none') AS modalities
          FROM mkmed.drugs d LEFT JOIN mkmed.availability c
            ON c.drug_id = d.drug_id AND c.state = 'present' AND c.modality <> 'identity'
          GROUP BY d.drug_id)
        SELECT modalities, count(*) AS drugs FROM owned GROUP BY modalities ORDER BY drugs DESC, modalities LIMIT :n
    """), {"n": BUCKETS_SHOWN})
    return [dict(row) for row in rows.mappings()]


def _sources(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute(text("""
        SELECT source, count(*) FILTER (WHERE state = 'present') AS present,
               count(*) FILTER (WHERE state = 'absent') AS absent,
               count(*) FILTER (WHERE state NOT IN ('present', 'absent')) AS other,
               max(updated_at)::timestamp(0) AS updated
        FROM mkmed.availability GROUP BY source ORDER BY source
    """))
    return [dict(row) for row in rows.mappings()]


def _runs(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute(text("""
        SELECT id, stage, name, status, started_at::timestamp(0) AS started,
               (finished_at - started_at)::interval(0)::text AS took
        FROM mkmed.runs ORDER BY started_at DESC LIMIT :n
    """), {"n": RUNS_SHOWN})
    return [dict(row) for row in rows.mappings()]
