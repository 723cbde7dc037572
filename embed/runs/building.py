"""What the HNSW index of a table of vectors takes, said before it is built, and how far the build is.

The sizes are pgvector's. On disk an element has its vector and six bytes a neighbour: 2 m of them on the lowest layer,
and m on each layer above, which one element in m reaches. In memory, while the graph is built, a neighbour takes
sixteen bytes, a pointer and a distance.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kb import output
from kb.meanwhile import meanwhile

MIB = 2**20
LEAST_MEMORY = 1024
"""MiB of maintenance_work_mem at least."""
RECORD, TUPLE = 160, 80
"""Bytes of an element beside its vector and neighbours: in memory, and on disk with its share of the page."""
RATE, MEASURED = 1801.0, 999_800
"""Vectors a second, of width 64, and of how many: ``benchmarks/bench_scale.py``, as ``mkmed plan``'s rates have it."""
SECONDS = 1.0
PROGRESS = text("SELECT phase, blocks_done, blocks_total FROM pg_stat_progress_create_index WHERE pid = :pid")


@dataclass(frozen=True, slots=True)
class IndexEstimate:
    """What an index takes: MiB of memory while it is built in one go, MiB on disk, and seconds."""

    memory: int
    disk: int
    seconds: float


def estimate_index(vectors: int, width: int, precision: str, m: int, *, rate: float = RATE,
                   measured: int = MEASURED) -> IndexEstimate:
    """What the index of so many vectors of this width and precision (``vector``, ``halfvec``, ``bit``) takes.

    ``rate`` is how many vectors a second an index of ``measured`` took; time grows as n log n.
    """
    own = width / 8 + 8 if precision == "bit" else width * (2 if precision == "halfvec" else 4)
    neighbours = 2 * m + m / (m - 1)
    grown = max(1.0, math.log(max(vectors, 2)) / math.log(max(measured, 2)))
    return IndexEstimate(math.ceil(vectors * (own + 16 * neighbours + RECORD) / MIB),
                         math.ceil(vectors * (own + 6 * neighbours + TUPLE) / MIB), vectors * grown / rate)


def index_cost(needed: IndexEstimate) -> str:
    """The estimate in words."""
    minutes = needed.seconds / 60
    time = f"{minutes:.0f} minutes" if minutes >= 2 else f"{needed.seconds:.0f} seconds"
    return f"about {time}, {needed.memory:,} MiB of memory and {needed.disk:,} MiB of disk"


@contextmanager
def indexing(connection: Connection, modality: str, vectors: int, width: int, precision: str, m: int) -> Iterator[None]:
    """Say what the index takes, give its build the memory, and show how far it is.

    An index whose graph does not fit into maintenance_work_mem is built many times more slowly, so that this
    transaction takes what is needed; a server that lacks it must be given more.
    """
    needed = estimate_index(vectors, width, precision, m)
    output.say(f"{modality}: an index of {vectors:,} vectors of width {width} takes {index_cost(needed)}")
    given = f"{max(LEAST_MEMORY, needed.memory)}MB"
    if needed.memory > LEAST_MEMORY:
        output.say(f"it is built with maintenance_work_mem = {given}: the server needs as much beside shared_buffers")
    connection.execute(text("SELECT set_config('maintenance_work_mem', :given, true)"), {"given": given})
    with watched(connection, f"{modality} index"):
        yield


@contextmanager
def watched(connection: Connection, title: str) -> Iterator[None]:
    """A progress bar for the index that the connection builds within, read by a second one."""
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with output.progress() as bar:
        task = bar.add_task(title, total=None, note="")

        def watch(over: threading.Event) -> None:
            with suppress(DBAPIError), connection.engine.connect() as other:  # without it there is no bar, and no harm
                while not over.wait(SECONDS):
                    row = other.execute(PROGRESS, {"pid": pid}).one_or_none()
                    other.rollback()
                    if row is not None:
                        bar.update(task, completed=row.blocks_done, total=row.blocks_total or None, note=row.phase)

        with meanwhile(watch, "index progress"):
            yield
