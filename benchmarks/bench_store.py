"""The vector store beside raw COPY, exact SQL and faiss: rows/s in, milliseconds and recall out.

    python benchmarks/bench_store.py                 # 10,000, 100,000 and 1,000,000 vectors of width 64
    python benchmarks/bench_store.py --sizes 10000   # quick
    python benchmarks/bench_store.py --sizes 100000 --index bit --width 256

Vectors are synthetic: unit vectors around random centres, as embeddings of related drugs are. Queries are held-out
vectors from the same centres. Everything runs in one process on one thread, on a database of its own.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import report, scratch_home
from sqlalchemy import Engine, text

WIDTH, K, QUERIES = 64, 10, 200
EF_SEARCH = 200


def clustered(rng: np.random.Generator, rows: int, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors [rows, D] scattered around the centres [C, D]."""
    picked = centres[rng.integers(len(centres), size=rows)]
    width = centres.shape[1]
    matrix = picked + rng.normal(scale=0.6 / np.sqrt(width), size=(rows, width)).astype(np.float32)
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def make_drugs(engine: Engine, rows: int) -> tuple[uuid.UUID, NDArray[np.int64]]:
    """A run and the ids of ``rows`` bare drugs for the vectors to hang on."""
    from kb.ledger.entries import start_run

    with engine.begin() as connection:
        run_id = start_run(connection, "pretrain", name="bench")
        connection.execute(
            text(
                "INSERT INTO mkmed.drug (identity, name, kind, run_id) SELECT 'user:' || g, 'd' || g, 'unknown', :run"
                " FROM generate_series(1, :rows) g ON CONFLICT DO NOTHING"
            ),
            {"run": run_id, "rows": rows},
        )
        ids = connection.execute(text("SELECT id FROM mkmed.drug ORDER BY id LIMIT :rows"), {"rows": rows})
        return run_id, np.array(ids.scalars().all())


def raw_copy(engine: Engine, ids: NDArray[np.int64], matrix: NDArray[np.float32]) -> float:
    """Seconds of the floor: the same rows by binary COPY into a bare table, no key, no index."""
    from kb.db.bulk import copy_arrays

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mkmed.bare (drug_id bigint, embedding vector)"))
        start = time.perf_counter()
        copy_arrays(connection, "mkmed.bare", ("drug_id", "embedding"), (ids, matrix))
        seconds = time.perf_counter() - start
        connection.execute(text("DROP TABLE mkmed.bare"))
    return seconds


def timed(engine: Engine, queries: NDArray[np.float32]) -> tuple[list[float], list[list[int]]]:
    """Milliseconds and drug ids of every query through the public view, which is always scanned."""
    times, found = [], []
    with engine.connect() as connection:
        connection.execute(text("PREPARE near (vector) AS SELECT drug_id FROM mkmed.drug_vector"
                                f" ORDER BY embedding <=> $1 LIMIT {K}"))
        for literal in [str(q.tolist()) for q in queries]:
            start = time.perf_counter()
            rows = connection.exec_driver_sql(f"EXECUTE near('{literal}')").scalars().all()
            times.append((time.perf_counter() - start) * 1000)
            found.append(list(rows))
        connection.exec_driver_sql("DEALLOCATE near")
    return times, found


def index_scans(engine: Engine) -> int:
    """How often an HNSW index was walked so far."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
    with engine.connect() as connection:
        return int(connection.scalar(text(
            "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes i JOIN pg_indexes x"
            " ON x.indexname = i.indexrelname WHERE x.indexdef LIKE '%hnsw%'")) or 0)


def through_function(
    engine: Engine, queries: NDArray[np.float32], indexed: bool
) -> tuple[list[float], list[list[int]]]:
    """Milliseconds and drug ids of every query through ``mkmed.similar_to``, names and classes included.

    Ends the program when the planner does not use the index exactly where there is one.
    """
    times, found = [], []
    before = index_scans(engine)
    with engine.connect() as connection:
        for query in queries:
            start = time.perf_counter()
            rows = connection.execute(
                text("SELECT * FROM mkmed.similar_to(CAST(:q AS vector), :k)"), {"q": str(query.tolist()), "k": K}
            ).all()
            times.append((time.perf_counter() - start) * 1000)
            found.append([row.drug_id for row in rows])
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
    if (index_scans(engine) - before >= len(queries)) != indexed:
        raise SystemExit("the planner does not take the way that is to be timed")
    return times, found


def with_faiss(
    matrix: NDArray[np.float32], queries: NDArray[np.float32], index: str
) -> tuple[float, list[float], NDArray[np.int64]]:
    """Build seconds, milliseconds a query and row numbers found by faiss on one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    start = time.perf_counter()
    width = matrix.shape[1]
    built = faiss.IndexFlatIP(width) if index == "flat" else faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
    if index == "hnsw":
        built.hnsw.efConstruction, built.hnsw.efSearch = 64, EF_SEARCH
    built.add(matrix)
    seconds = time.perf_counter() - start
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(built.search(query[None], K)[1][0])
        times.append((time.perf_counter() - start) * 1000)
    return seconds, times, np.array(found)


def recall(found: list[list[int]], truth: NDArray[np.int64]) -> float:
    """The share of the true K nearest that were found."""
    return float(
        np.mean([len(set(row) & set(expected)) / K for row, expected in zip(found, truth.tolist(), strict=True)])
    )


def line(rows: int, way: str, load: float, floor: float, times: Sequence[float] = (), got: float = 0) -> dict[str, Any]:
    """The figures of one way: seconds to load beside the raw COPY's, milliseconds a query, recall@10."""
    figures = {"vectors": rows, "way": way, "load_s": round(load, 2), "rows_per_s": int(rows / load),
               "load_vs_copy": round(load / floor, 2)}
    if times:
        p50, p95 = np.percentile(times, [50, 95]).tolist()
        figures |= {"p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "recall@10": round(got, 4)}
    return figures


def through_sql(
    engine: Engine, queries: NDArray[np.float32], truth: NDArray[np.int64], indexed: bool, index: str
) -> Iterator[tuple[str, list[float], float]]:
    """Name, milliseconds and recall of each way to ask the database."""
    times, found = timed(engine, queries[:40])
    yield "mkmed exact SQL", times, recall(found, truth[:40])
    through_function(engine, queries[:20], indexed)
    times, found = through_function(engine, queries, indexed)
    yield f"mkmed.similar_to(), {f'HNSW of {index}' if indexed else 'exact'}", times, recall(found, truth)


def measure(engine: Engine, rows: int, width: int, index: str) -> list[dict[str, Any]]:
    """One row of figures for each way to search ``rows`` vectors."""
    from embed.runs import store

    rng = np.random.default_rng(rows)
    centres = clustered(rng, max(rows // 50, 20), rng.normal(size=(200, width)).astype(np.float32))
    matrix, queries = clustered(rng, rows, centres), clustered(rng, QUERIES, centres)
    run_id, ids = make_drugs(engine, rows)
    floor = raw_copy(engine, ids, matrix)
    start = time.perf_counter()
    store.write_run(engine, run_id, {"fused": (ids, matrix)}, np.ones((rows, 6), bool), precision=index)
    load = time.perf_counter() - start
    store.publish(engine, run_id)
    flat_load, flat_times, flat_rows = with_faiss(matrix, queries, "flat")
    truth = ids[flat_rows]
    lines = [line(rows, "raw COPY (floor)", floor, floor)]
    lines += [line(rows, way, load, floor, times, got)
              for way, times, got in through_sql(engine, queries, truth, rows > store.HNSW_ABOVE, index)]
    lines.append(line(rows, "faiss flat", flat_load, floor, flat_times, 1.0))
    hnsw_load, hnsw_times, hnsw_rows = with_faiss(matrix, queries, "hnsw")
    found = recall(ids[hnsw_rows].tolist(), truth)
    return [*lines, line(rows, f"faiss HNSW, efSearch {EF_SEARCH}", hnsw_load, floor, hnsw_times, found)]


def main() -> None:
    """Measure every size on a database of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--index", choices=("vector", "halfvec", "bit"), default="vector", help="what the index holds")
    arguments = parser.parse_args()
    with scratch_home():
        from kb.db.engine import open_engine

        engine = open_engine()
        try:
            index, width = arguments.index, arguments.width
            found = [line for rows in arguments.sizes for line in measure(engine, rows, width, index)]
            report("store" if index == "vector" else f"store_{index}", found, width=width)
        finally:
            engine.dispose()


if __name__ == "__main__":
    main()
