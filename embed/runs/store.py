"""The vector store: writes a run's vectors at one stroke, publishes runs by one row, reads them back as arrays.

A run's vectors lie in their own partitions, ``embedding_<run>_<modality>``, which are loaded by binary COPY, indexed
and only then attached, all in one transaction: a reader sees a whole run or none of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql
from sqlalchemy import Connection, Engine, delete, select, text, update

from embed.runs.schema import FUSED, VECTOR_KINDS, embedding_run, published
from kb.db.copy import copy_arrays, copy_out
from kb.errors import DataError, NotFound, UsageError
from kb.output import plain
from kb.schema.ledger import run as run_table

HNSW_ABOVE = 50_000
"""Below this many vectors an exact scan is as fast as the index, and loses nothing (``benchmarks/bench_store.py``)."""
LARGE = 300_000
"""Above this many vectors the graph is built denser (m 24, ef_construction 128), or recall falls below 0.98."""
_BITS = np.array([1 << bit for bit in range(len(VECTOR_KINDS) - 1)], dtype=np.int16)

ModalityVectors = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of one run and modality: ``matrix`` is [N, D]; ``rests_on`` is [N, 6], in ``VECTOR_KINDS``' order."""

    run_id: uuid.UUID
    modality: str
    drug_ids: NDArray[np.int64]
    matrix: NDArray[np.float32]
    rests_on: NDArray[np.bool_]


def write_run(
    engine: Engine,
    run_id: uuid.UUID,
    vectors: ModalityVectors,
    rests_on: NDArray[np.bool_],
    *,
    precision: str = "vector",
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Store all vectors of a run, or none.

    ``vectors`` maps names of ``VECTOR_KINDS`` to (drug ids [N], matrix [N, D]) with one D for all; "fused" must be
    there. ``rests_on`` [N, 6] says for each fused vector which modalities it was made from. The run's row must exist
    (``kb.ingest.runs.start_run``). Raises DataError for vectors that are not finite, of norm near zero, or of another
    width.
    """
    width = _checked_width(vectors, rests_on)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
        connection.execute(
            embedding_run.insert().values(
                run_id=run_id,
                width=width,
                precision=precision,
                modalities=[m for m in VECTOR_KINDS if m in vectors],
                drugs=len(vectors[FUSED][0]),
                state="building",
                metrics=plain(metrics or {}),
            )
        )
        _run_sql(
            connection,
            "CREATE TABLE {} PARTITION OF mkmed.embedding FOR VALUES IN ({}) PARTITION BY LIST (modality)",
            _table(run_id),
            sql.Literal(str(run_id)),
        )
        for modality, (ids, matrix) in vectors.items():
            bits = rests_on[:, : len(_BITS)] @ _BITS if modality == FUSED else np.full(len(ids), _own_bit(modality))
            _load(connection, run_id, modality, ids, matrix, bits.astype(np.int16), precision)
        connection.execute(update(embedding_run).where(embedding_run.c.run_id == run_id).values(state="complete"))


def _own_bit(modality: str) -> int:
    return 1 << VECTOR_KINDS.index(modality)


def _checked_width(vectors: ModalityVectors, rests_on: NDArray[np.bool_]) -> int:
    """The one width of all vectors; raises DataError for anything that must not be stored."""
    unknown = set(vectors) - set(VECTOR_KINDS)
    if unknown or FUSED not in vectors:
        raise DataError(f"vectors must be of {', '.join(VECTOR_KINDS)} and include {FUSED!r}, not {sorted(vectors)}")
    widths = {matrix.shape[1] for _, matrix in vectors.values()}
    if len(widths) != 1 or not 1 <= (width := widths.pop()) <= 2000:
        raise DataError("all vectors of a run have one width of at most 2,000", hint="set width in the config")
    if len(rests_on) != len(vectors[FUSED][0]):
        raise DataError("rests_on needs one row for each fused vector")
    for modality, (ids, matrix) in vectors.items():
        norms = np.linalg.norm(matrix, axis=1)
        bad = ~np.isfinite(norms) | (norms < 1e-6)
        if len(ids) != len(matrix) or bad.any():
            raise DataError(
                f"{int(bad.sum())} {modality} vectors are not finite or have no direction",
                hint="the run diverged: lower learning_rate and train again",
            )
    return int(width)


def _table(run_id: uuid.UUID, modality: str = "") -> sql.Identifier:
    return sql.Identifier("mkmed", f"embedding_{run_id.hex}{'_' if modality else ''}{modality}")


def _run_sql(connection: Connection, statement: str, *parts: sql.Composable) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(sql.SQL(statement).format(*parts))


def _load(
    connection: Connection,
    run_id: uuid.UUID,
    modality: str,
    ids: NDArray[np.int64],
    matrix: NDArray[np.float32],
    bits: NDArray[np.int16],
    precision: str,
) -> None:
    """Fill, index and attach one partition."""
    table = _table(run_id, modality)
    name = ".".join(table.strings)
    _run_sql(connection, "CREATE TABLE {} (LIKE mkmed.embedding INCLUDING DEFAULTS)", table)
    _run_sql(
        connection,
        "ALTER TABLE {} ALTER run_id SET DEFAULT {}, ALTER modality SET DEFAULT {}",
        table,
        sql.Literal(str(run_id)),
        sql.Literal(modality),
    )
    order = np.argsort(ids, kind="stable")
    copy_arrays(connection, name, ("drug_id", "rests_on", "embedding"), (ids[order], bits[order], matrix[order]))
    _run_sql(connection, "ALTER TABLE {} ADD PRIMARY KEY (run_id, modality, drug_id)", table)
    if len(ids) > HNSW_ABOVE:
        kind = sql.SQL(f"{precision}({matrix.shape[1]})")
        density = "m = 24, ef_construction = 128" if len(ids) > LARGE else "m = 16, ef_construction = 64"
        _run_sql(
            connection,
            f"CREATE INDEX ON {{}} USING hnsw ((embedding::{{}}) {{}}) WITH ({density})",
            table,
            kind,
            sql.SQL(f"{precision}_cosine_ops"),
        )
    _run_sql(
        connection,
        "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})",
        _table(run_id),
        table,
        sql.Literal(modality),
    )
    _run_sql(connection, "ANALYZE {}", table)


def publish(engine: Engine, run_id: uuid.UUID) -> None:
    """Make a complete run the one that views and functions read; the switch is one row in one transaction."""
    with engine.begin() as connection:
        row = _run_row(connection, run_id)
        if row["state"] != "complete":
            raise UsageError(f"run {run_id} is not complete", hint="mkmed embed runs lists those that are")
        now = connection.execute(
            select(embedding_run.c.width, embedding_run.c.precision).join(
                published, published.c.run_id == embedding_run.c.run_id
            )
        ).one_or_none() or (64, "vector")
        if tuple(now) != (row["width"], row["precision"]):
            connection.execute(text("CALL mkmed.define_vector_views(:precision, :width)"), row)
        connection.execute(update(published).values(run_id=run_id))


def _run_row(connection: Connection, run_id: uuid.UUID) -> dict[str, Any]:
    row = connection.execute(select(embedding_run).where(embedding_run.c.run_id == run_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no embedding run {run_id}", hint="mkmed embed runs lists them")
    return dict(row)


def drop(engine: Engine, run_id: uuid.UUID) -> None:
    """Remove a run's vectors and its row; the published run is refused."""
    with engine.begin() as connection:
        _run_row(connection, run_id)
        if connection.scalar(select(published.c.run_id)) == run_id:
            raise UsageError("the published run cannot be dropped", hint="mkmed embed publish another one first")
        _run_sql(connection, "DROP TABLE {}", _table(run_id))
        connection.execute(delete(embedding_run).where(embedding_run.c.run_id == run_id))


def list_runs(connection: Connection) -> list[dict[str, Any]]:
    """All embedding runs, newest first, with their metrics and which one is published."""
    query = (
        select(
            embedding_run.c.run_id,
            (published.c.run_id.is_not(None)).label("published"),
            embedding_run.c.width,
            embedding_run.c.precision,
            embedding_run.c.drugs,
            embedding_run.c.modalities,
            embedding_run.c.metrics,
            embedding_run.c.created_at,
            run_table.c.name,
        )
        .join(run_table, run_table.c.id == embedding_run.c.run_id)
        .outerjoin(published, published.c.run_id == embedding_run.c.run_id)
        .order_by(embedding_run.c.created_at.desc())
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def find_run(connection: Connection, wanted: str) -> uuid.UUID:
    """The id of the run whose id begins with ``wanted``; raises NotFound or UsageError when it is not exactly one."""
    found = [i for i in connection.scalars(select(embedding_run.c.run_id)) if str(i).startswith(wanted.lower())]
    if not found:
        raise NotFound(f"no embedding run begins with {wanted!r}", hint="mkmed embed runs lists them")
    if len(found) > 1:
        raise UsageError(f"{len(found)} runs begin with {wanted!r}", hint="give more of the id")
    return found[0]


def read(engine: Engine, run_id: uuid.UUID, modality: str = FUSED) -> Vectors:
    """The vectors of a run in one modality, ordered by drug id, read by binary COPY."""
    with engine.connect() as connection:
        row = _run_row(connection, run_id)
        if modality not in row["modalities"]:
            raise NotFound(f"run {run_id} has no {modality} vectors", hint=f"it has: {', '.join(row['modalities'])}")
        columns = copy_out(
            connection,
            "SELECT drug_id, rests_on, embedding FROM mkmed.embedding"
            " WHERE run_id = %(run)s AND modality = %(modality)s ORDER BY drug_id",
            {"run": str(run_id), "modality": modality},
        )
    mask = (columns["rests_on"][:, None].astype(np.int16) & _BITS) > 0
    return Vectors(run_id, modality, columns["drug_id"], columns["embedding"].reshape(len(mask), -1), mask)


def published_run(engine: Engine) -> uuid.UUID:
    """The id of the published run; raises NotFound before the first publication."""
    with engine.connect() as connection:
        run_id = connection.scalar(select(published.c.run_id))
    if run_id is None:
        raise NotFound("no embedding run is published", hint="mkmed embed pretrain, or mkmed embed publish RUN")
    return run_id


def read_published(engine: Engine, modality: str = FUSED) -> Vectors:
    """The published vectors in one modality: what ``recsys`` reads."""
    return read(engine, published_run(engine), modality)
