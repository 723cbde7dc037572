"""The ground under everything: starting the embedded server, and moving rows in and out.

    python benchmarks/bench_database.py

Start-up is beside the bare PostgreSQL programs, rows are beside psycopg2's ``execute_values`` and ``fetchall``, and the
floor is the server's own COPY from a file; all in the same run. Each figure is the best of three.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from psycopg2.extras import execute_values
from record import report
from sqlalchemy import Connection, text

from kb.db.bulk import copy_arrays, copy_out
from kb.db.engine import engine_for, ensure_database, url_of
from kb.db.server import Server

ROWS, VECTORS, WIDTH, REPEATS = 500_000, 50_000, 64, 3


def seconds(act: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    """The shortest of REPEATS runs of ``act``, each after ``prepare``."""
    best = float("inf")
    for _ in range(REPEATS):
        prepare()
        start = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - start)
    return best


def starting(parent: Path) -> list[dict[str, object]]:
    """Seconds of a first start, a later start, attaching, and coming back after SIGKILL."""
    def bare() -> None:
        server = Server(Path(tempfile.mkdtemp(dir=parent)) / "bare")
        cluster = server.cluster
        cluster.root.mkdir(parents=True)
        for folder in (cluster.root.parent.parent, cluster.root.parent, cluster.root):
            folder.chmod(0o711)
        data = cluster.data
        data.mkdir(mode=0o700)
        if cluster.account:
            cluster.account.own(data)
        assert cluster.run("initdb", "--auth=trust", "-U", "postgres", "-D", str(data)).wait() == 0
        options = f"-h '' -k {data}"
        assert cluster.run("pg_ctl", "-w", "-D", str(data), "-l", str(data / "log"), "-o", options, "start").wait() == 0
        server.stop(force=True)

    def first() -> None:
        home = Path(tempfile.mkdtemp(dir=parent))
        home.chmod(0o711)
        server = Server(home / "home")
        server.start()
        server.stop()

    floor = seconds(bare)
    cold = seconds(first)
    kept = Server(parent / "kept")
    warm = seconds(kept.start, lambda: kept.stop(force=True))
    attach = seconds(kept.start)
    back = seconds(kept.start, lambda: os.kill(kept.running().pid, signal.SIGKILL))  # type: ignore[union-attr]
    kept.stop(force=True)
    return [
        {"what": "initdb + pg_ctl start + stop, bare", "seconds": floor, "ratio": 1.0, "to": "floor"},
        {"what": "first start + stop", "seconds": cold, "ratio": cold / floor, "to": "bare programs"},
        {"what": "later start", "seconds": warm},
        {"what": "attach to the running server", "seconds": attach},
        {"what": "start after SIGKILL of the postmaster", "seconds": back},
    ]


def moving(connection: Connection, folder: Path) -> list[dict[str, object]]:
    """Rows a second in and out, integers and vectors, beside psycopg2's own ways."""
    rng = np.random.default_rng(0)
    columns = [np.sort(rng.integers(0, 97_000, ROWS)).astype(np.int32), rng.integers(0, 107, ROWS).astype(np.int32),
               rng.integers(0, 97_000, ROWS).astype(np.int32)]
    triples = list(zip(*(c.tolist() for c in columns), strict=True))
    matrix, ids = rng.normal(size=(VECTORS, WIDTH)).astype(np.float32), np.arange(VECTORS, dtype=np.int32)
    written = [(int(i), "[" + ",".join(map(str, row)) + "]") for i, row in zip(ids, matrix.tolist(), strict=True)]
    raw = connection.connection.cursor()

    def fresh() -> None:
        raw.execute("DROP TABLE IF EXISTS t, v; CREATE TABLE t (h int, r int, t int); CREATE TABLE v (i int, v vector)")

    names = ["h", "r", "t"]
    peer_in = seconds(lambda: execute_values(raw, "INSERT INTO t VALUES %s", triples, page_size=1000), fresh)
    ours_in = seconds(lambda: copy_arrays(connection, "t", names, columns), fresh)
    file = folder / "t.bin"
    raw.execute("COPY t TO %s (FORMAT binary)", (str(file),))
    floor = seconds(lambda: raw.execute("COPY t FROM %s (FORMAT binary)", (str(file),)), fresh)
    peer_out = seconds(lambda: np.array((raw.execute("SELECT * FROM t"), raw.fetchall())[1], dtype=np.int32))
    ours_out = seconds(lambda: copy_out(connection, "SELECT * FROM t"))
    peer_vectors = seconds(lambda: execute_values(raw, "INSERT INTO v VALUES %s", written, page_size=1000), fresh)
    ours_vectors = seconds(lambda: copy_arrays(connection, "v", ["i", "v"], [ids, matrix]), fresh)
    got = copy_out(connection, "SELECT v FROM v ORDER BY i")["v"]
    assert np.array_equal(got, matrix), "vectors changed on the way"
    rate = ROWS / peer_in
    return [
        {"what": "3 integers in, execute_values", "rows/s": rate, "ratio": 1.0, "to": "peer"},
        {"what": "3 integers in, copy_arrays", "rows/s": ROWS / ours_in, "ratio": peer_in / ours_in,
         "to": "execute_values"},
        {"what": "3 integers in, the server's COPY from a file", "rows/s": ROWS / floor, "ratio": ours_in / floor,
         "to": "copy_arrays"},
        {"what": "3 integers out, fetchall", "rows/s": ROWS / peer_out, "ratio": 1.0, "to": "peer"},
        {"what": "3 integers out, copy_out", "rows/s": ROWS / ours_out, "ratio": peer_out / ours_out, "to": "fetchall"},
        {"what": f"vectors({WIDTH}) in, execute_values", "rows/s": VECTORS / peer_vectors, "ratio": 1.0, "to": "peer"},
        {"what": f"vectors({WIDTH}) in, copy_arrays", "rows/s": VECTORS / ours_vectors,
         "ratio": peer_vectors / ours_vectors, "to": "execute_values"},
    ]


def main() -> None:
    """Measure on a home of its own, and leave nothing behind."""
    parent = Path(tempfile.mkdtemp(prefix="mkb-", dir="/tmp"))
    parent.chmod(0o711)
    try:
        rows = starting(parent)
        server = Server(parent / "kept")
        ensure_database(server.start())
        exchange = parent / "exchange"
        exchange.mkdir()
        exchange.chmod(0o777)
        engine = engine_for(url_of(server), server)
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA mkmed; CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext"))
            rows += moving(connection, exchange)
        engine.dispose()
        server.stop(force=True)
        report("database", rows, rows_moved=ROWS, vectors_moved=VECTORS)
    finally:
        shutil.rmtree(parent)


if __name__ == "__main__":
    main()
