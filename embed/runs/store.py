"""The vector store: writes a run's vectors at one stroke, publishes runs by one row, reads them back as arrays.

A run's vectors lie in tables of their own, ``embedding_<run>_<modality>``. They are built apart (loaded by binary COPY,
indexed, checked) and attached to ``mkmed.embedding`` last, all in one transaction: a reader sees a whole run or none of
it, and waits for nothing, since attaching takes no lock that reading conflicts with. One advisory lock lets one process
at a time change what is stored or published.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import errors
from sqlalchemy import Connection, Engine, delete, select, text, update
from sqlalchemy.exc import DBAPIError

from embed.runs.building import indexing
from embed.runs.published import published_run as published_run
from embed.runs.schema import (
    ANCHOR,
    FUSED,
    PREDICTED,
    RESTS_ON,
    VECTOR_KINDS,
    embedding_content,
    embedding_run,
    published,
)
from kb.db.bulk import copy_arrays, copy_out
from kb.errors import Busy, DataError, NotFound, UsageError
from kb.output import plain
from kb.schema.ledger import run as run_table

HNSW_ABOVE = 50_000
"""Below this many vectors an exact scan is as fast as the index, and loses nothing (``benchmarks/bench_store.py``)."""
LARGE = 300_000
"""Above this many vectors the graph is built denser (m 24, ef_construction 128), or recall falls below 0.98."""
LOCK = "mkmed embedding store"
LOCK_MS = 15
"""A statement that would make readers wait gives up its turn after this long, and tries again."""
TRIES = 500
_BITS = np.array([1 << bit for bit in range(len(RESTS_ON))], dtype=np.int16)

ModalityVectors = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of one run and modality: ``matrix`` is [N, D]; ``rests_on`` is [N, 6], in ``RESTS_ON``'s order."""

    run_id: uuid.UUID
    modality: str
    drug_ids: NDArray[np.int64]
    matrix: NDArray[np.float32]
    rests_on: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class VectorOrigin:
    """What vectors were made by and from: the artefact's digest, and a digest (N, 32) of each drug's content."""

    artefact: str | None
    drug_ids: NDArray[np.int64]
    contents: NDArray[np.uint8]


def store_form(names: Sequence[str], drug_ids: NDArray[np.int64], z: NDArray[np.float32], fused: NDArray[np.float32],
               present: NDArray[np.bool_],
               ) -> tuple[dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]], NDArray[np.bool_]]:
    """``({modality: (drug ids, matrix)}, rests_on)`` of the drugs that have anything, as ``write_run`` wants them."""
    vectors = {name: (drug_ids[present[:, m]], z[present[:, m], m]) for m, name in enumerate(names)}
    any_of = present.any(1)
    vectors[FUSED] = (drug_ids[any_of], fused[any_of])
    rests_on = np.zeros((int(any_of.sum()), len(RESTS_ON)), bool)
    for m, name in enumerate(names):
        rests_on[:, RESTS_ON.index(name)] = present[any_of, m]
    return vectors, rests_on


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A transaction that alone may change what is stored or published; others wait for it."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": LOCK})
        yield connection


def write_run(
    engine: Engine,
    run_id: uuid.UUID,
    vectors: ModalityVectors,
    rests_on: NDArray[np.bool_],
    *,
    precision: str = "vector",
    metrics: Mapping[str, Any] | None = None,
    origin: VectorOrigin | None = None,
) -> None:
    """Store all vectors of a run, or none.

    ``vectors`` maps names of ``VECTOR_KINDS`` to (drug ids [N], matrix [N, D]) with one D for all but "predicted";
    "fused" must be there. ``rests_on`` [N, 6] says for each fused vector which modalities it was made from. The run's
    row must exist (``kb.ledger.entries.start_run``). Raises DataError for vectors that are not finite, of norm near
    zero, or of another width.
    """
    width = _checked_width(vectors, rests_on)
    with engine.begin() as connection:
        connection.execute(text("CALL mkmed.make_vector_tables(:run, :modalities)"),
                           {"run": run_id, "modalities": list(vectors)})
        for modality, (ids, matrix) in vectors.items():
            bits = rests_on[:, : len(_BITS)] @ _BITS if modality == FUSED else np.full(len(ids), _own_bit(modality))
            _load(connection, run_id, modality, ids, matrix, bits.astype(np.int16), precision)
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": LOCK})
        connection.execute(
            embedding_run.insert().values(
                run_id=run_id,
                width=width,
                precision=precision,
                modalities=[m for m in VECTOR_KINDS if m in vectors],
                drugs=len(vectors[FUSED][0]),
                state="complete",
                metrics=plain(metrics or {}),
                artefact=origin.artefact if origin else None,
            )
        )
        if origin is not None:
            _write_contents(connection, run_id, origin)
        connection.execute(text("CALL mkmed.attach_vector_tables(:run)"), {"run": run_id})


def _write_contents(connection: Connection, run_id: uuid.UUID, origin: VectorOrigin) -> None:
    digests = [row.tobytes() for row in origin.contents]
    copy_arrays(connection, "mkmed.embedding_content", ("run_id", "drug_id", "sha256"),
                ([str(run_id)] * len(digests), origin.drug_ids, digests))


def _own_bit(modality: str) -> int:
    return 1 << RESTS_ON.index(ANCHOR if modality == PREDICTED else modality)


def _checked_width(vectors: ModalityVectors, rests_on: NDArray[np.bool_]) -> int:
    """The width of all vectors but ``predicted``; raises DataError for anything that must not be stored."""
    unknown = set(vectors) - set(VECTOR_KINDS)
    if unknown or FUSED not in vectors:
        raise DataError(f"vectors must be of {', '.join(VECTOR_KINDS)} and include {FUSED!r}, not {sorted(vectors)}")
    widths = {matrix.shape[1] for name, (_, matrix) in vectors.items() if name != PREDICTED}
    if len(widths) != 1 or not 1 <= (width := widths.pop()) <= 2000:
        raise DataError("all vectors of a run have one width of at most 2,000", hint="set width in the config")
    if PREDICTED in vectors and not 1 <= vectors[PREDICTED][1].shape[1] <= 2000:
        raise DataError("predicted vectors have at most 2,000 numbers", hint="set transfer.width in the config")
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


def _table(run_id: uuid.UUID, modality: str) -> str:
    return f"mkmed.embedding_{run_id.hex}_{modality}"


def index_settings(vectors: int) -> tuple[int, int]:
    """``m`` and ``ef_construction`` of the HNSW index of so many vectors; (0, 0): none, they are searched exactly."""
    return (0, 0) if vectors <= HNSW_ABOVE else (24, 128) if vectors > LARGE else (16, 64)


def _load(
    connection: Connection,
    run_id: uuid.UUID,
    modality: str,
    ids: NDArray[np.int64],
    matrix: NDArray[np.float32],
    bits: NDArray[np.int16],
    precision: str,
) -> None:
    """Fill, index and attach one table to the run's own, which nobody reads yet."""
    order = np.argsort(ids, kind="stable")
    copy_arrays(connection, _table(run_id, modality), ("drug_id", "rests_on", "embedding"),
                (ids[order], bits[order], matrix[order]))
    width = matrix.shape[1]
    m, ef = index_settings(len(ids))
    with indexing(connection, modality, len(ids), width, precision, m) if m else nullcontext():
        connection.execute(text("CALL mkmed.index_vector_table(:run, :modality, :precision, :width, :m, :ef)"),
                           {"run": run_id, "modality": modality, "precision": precision, "width": width, "m": m,
                            "ef": ef})


def publish(engine: Engine, run_id: uuid.UUID, *, artefact: str | None = None) -> None:
    """Make a complete run the one that views and functions read; the switch is one row in one transaction.

    ``artefact`` is the digest of the run's folder where it is at hand. Raises UsageError when the vectors were made by
    other weights, or are not all there.
    """
    with changing(engine) as connection:
        _require_sound(connection, _run_row(connection, run_id), artefact)
        connection.execute(update(published).values(run_id=run_id))


def _require_sound(connection: Connection, row: Mapping[str, Any], artefact: str | None) -> None:
    """Raise UsageError unless the run is complete and its vectors, weights and row say the same."""
    run_id = row["run_id"]
    if row["state"] != "complete":
        raise UsageError(f"run {run_id} is not complete", hint="mkmed embed runs lists those that are")
    if artefact is not None and row["artefact"] is not None and artefact != row["artefact"]:
        raise UsageError(f"the stored vectors of run {run_id} were made by other weights than its folder holds",
                         hint="mkmed embed import FILE brings the folder back, or mkmed embed pretrain makes a new run")
    counted = connection.execute(
        text("SELECT modality, count(*) AS rows, min(vector_dims(embedding)) AS low,"
             " max(vector_dims(embedding)) AS high"
             " FROM mkmed.embedding WHERE run_id = :run GROUP BY modality"), {"run": run_id}).mappings().all()
    wrong = [c["modality"] for c in counted
             if c["low"] != c["high"] or (c["modality"] != PREDICTED and c["low"] != row["width"])]
    there = {c["modality"]: c["rows"] for c in counted}
    if wrong or not set(there) <= set(row["modalities"]) or not there.get(FUSED):
        raise UsageError(f"the stored vectors of run {run_id} are not what its row says",
                         hint="mkmed kb verify shows what is wrong; mkmed embed drop removes the run")


def patch_run(engine: Engine, run_id: uuid.UUID, vectors: ModalityVectors, rests_on: NDArray[np.bool_],
              origin: VectorOrigin, gone: NDArray[np.int64]) -> None:
    """Give drugs of a stored run new vectors, and take away those of ``gone`` drugs, in one transaction.

    ``origin.drug_ids`` are the drugs that ``vectors`` has anything of; whatever they had before is replaced. Raises
    DataError as ``write_run`` does, and NotFound when the run is not stored.
    """
    with changing(engine) as connection:
        row = _run_row(connection, run_id)
        if len(origin.drug_ids) and _checked_width(vectors, rests_on) != row["width"]:
            raise DataError(f"vectors of another width than the run's {row['width']}")
        there = set(connection.scalars(text("SELECT id FROM mkmed.drug")))
        touched = np.concatenate([origin.drug_ids, gone])
        for table in ("embedding", "embedding_content"):
            connection.execute(text(f"DELETE FROM mkmed.{table} WHERE run_id = :run AND drug_id = ANY(:ids)"),  # noqa: S608
                               {"run": run_id, "ids": touched.tolist()})
        missing = [m for m in vectors if m not in row["modalities"] and len(vectors[m][0])]
        if missing:
            raise DataError(f"the run has no table for {', '.join(missing)}")
        for modality, (ids, matrix) in vectors.items():
            kept = np.array([int(i) in there for i in ids], bool)
            bits = rests_on[:, : len(_BITS)] @ _BITS if modality == FUSED else np.full(len(ids), _own_bit(modality))
            if kept.any():
                copy_arrays(connection, _table(run_id, modality),
                            ("drug_id", "rests_on", "embedding"),
                            (ids[kept], bits[kept].astype(np.int16), matrix[kept]))
        kept = np.array([int(i) in there for i in origin.drug_ids], bool)
        _write_contents(connection, run_id, VectorOrigin(None, origin.drug_ids[kept], origin.contents[kept]))
        counted = "SELECT count(*) FROM mkmed.embedding WHERE run_id = :run AND modality = 'fused'"
        drugs = connection.scalar(text(counted), {"run": run_id})
        connection.execute(update(embedding_run).where(embedding_run.c.run_id == run_id)
                           .values(drugs=drugs, updated_at=text("now()")))


def contents(engine: Engine, run_id: uuid.UUID) -> dict[int, bytes]:
    """The digest of what each drug's stored vectors were made of."""
    with engine.connect() as connection:
        rows = connection.execute(select(embedding_content.c.drug_id, embedding_content.c.sha256)
                                  .where(embedding_content.c.run_id == run_id))
        return {int(drug_id): bytes(digest) for drug_id, digest in rows}


def _run_row(connection: Connection, run_id: uuid.UUID) -> dict[str, Any]:
    row = connection.execute(select(embedding_run).where(embedding_run.c.run_id == run_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no embedding run {run_id}", hint="mkmed embed runs lists them")
    return dict(row)


def drop(engine: Engine, run_id: uuid.UUID) -> None:
    """Remove a run's vectors and its row; the published run is refused.

    Removing a table needs a moment without readers. It is asked for in turns of 15 ms, so that no reader queues behind
    it for longer; raises Busy when there is no such moment.
    """
    def remove(connection: Connection) -> None:
        _run_row(connection, run_id)
        if connection.scalar(select(published.c.run_id)) == run_id:
            raise UsageError("the published run cannot be dropped", hint="mkmed embed publish another one first")
        connection.execute(text("CALL mkmed.drop_vector_tables(:run)"), {"run": run_id})
        connection.execute(delete(embedding_run).where(embedding_run.c.run_id == run_id))

    in_turns(engine, remove)


def in_turns(engine: Engine, work: Callable[[Connection], None]) -> None:
    """Do ``work``, which needs a lock that readers hold, in a transaction that never makes them wait for long."""
    for attempt in range(TRIES):
        try:
            with changing(engine) as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_MS}ms'"))
                work(connection)
                return
        except DBAPIError as error:
            if not isinstance(error.orig, errors.LockNotAvailable):
                raise
        except errors.LockNotAvailable:
            pass
        time.sleep(min(0.5, 0.02 * (attempt + 1)))
    raise Busy("the store's readers leave no moment to remove a run", hint="try again when fewer queries run")


def list_embedding_runs(connection: Connection) -> list[dict[str, Any]]:
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
            embedding_run.c.artefact,
            embedding_run.c.created_at,
            embedding_run.c.updated_at,
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
    matrix = columns["embedding"].reshape(len(mask), -1 if len(mask) else row["width"])
    return Vectors(run_id, modality, columns["drug_id"], matrix, mask)


def read_published(engine: Engine, modality: str = FUSED) -> Vectors:
    """The published vectors in one modality: what ``recsys`` reads."""
    return read(engine, published_run(engine), modality)
