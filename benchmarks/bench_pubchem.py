"""How close to the permitted rate the transport stays, and how far below the server's limits.

Run: ``python benchmarks/bench_pubchem.py [--requests N] [--latency S]``. A stand-in server on this machine works 300 ms
on every request and really enforces PubChem's limits (5 a second, 400 a minute, 300 s of running time a minute) with
503s; it does the counting. The transport is set to 4 a second. Beside it, in the same run: PubChemPy one request after
another, and eight threads of plain ``requests`` without a limiter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from record import report

sys.path.append(str(Path(__file__).parents[1]))  # for the stand-in of the tests


from kb.errors import Transient
from kb.http.client import HttpAnswer, Request, Transport
from kb.output import say
from kb.settings import load_settings
from tests.standin import catalogue
from tests.standin.limits import Limits
from tests.standin.server import StandIn

THREADS = 8
TARGET = 0.95
Client = Callable[[str, Path, int, "Barrier"], None]


def paths(count: int) -> list[str]:
    """Addresses of descriptions and pictures in turn, as an ingest asks for them."""
    cids = list(catalogue.compounds())
    kinds = ("/pug/compound/cid/{}/PNG", "/pug/compound/cid/{}/description/JSON")
    return [kinds[n % 2].format(cids[n // 2 % len(cids)]) for n in range(count)]


def with_transport(url: str, home: Path, count: int, start: Barrier) -> None:
    """mkmed's transport, eight threads."""
    def judge(answer: HttpAnswer) -> None:
        if answer.status != 200:
            raise Transient(f"HTTP {answer.status}")

    with Transport(url, load_settings(home=home)) as transport, ThreadPoolExecutor(THREADS) as pool:
        start.wait()
        list(pool.map(lambda path: transport.fetch(Request(path), judge), paths(count)))


def with_pubchempy(url: str, home: Path, count: int, start: Barrier) -> None:
    """PubChemPy, one request after another."""
    import pubchempy

    pubchempy.API_BASE = f"{url}/pug"
    cids = list(catalogue.compounds())
    start.wait()
    for n in range(count):
        pubchempy.get_json(cids[n % len(cids)], "cid", operation="description")


def with_requests(url: str, home: Path, count: int, start: Barrier) -> None:
    """Plain requests, eight threads, no limiter and no retry."""
    import requests

    with requests.Session() as session, ThreadPoolExecutor(THREADS) as pool:
        start.wait()
        list(pool.map(lambda path: session.get(url + path, timeout=60).status_code, paths(count)))


def measure(name: str, client: Client, processes: int, count: int, latency: float) -> dict[str, Any]:
    """One row: the rate from the first to the last request, and what the server counted."""
    with StandIn(Limits(), latency=latency) as standin, tempfile.TemporaryDirectory() as home:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(processes + 1)
        arguments = (standin.url, Path(home), count // processes, barrier)
        workers = [context.Process(target=client, args=arguments) for _ in range(processes)]
        for worker in workers:
            worker.start()
        barrier.wait()
        started = time.monotonic()
        for worker in workers:
            worker.join()
        seconds = time.monotonic() - started - latency  # the last answer's own time
        guard = standin.guard
        return {
            "client": name, "processes": processes, "requests": standin.requests, "answered": guard.served,
            "seconds": round(seconds, 1), "refused": standin.requests - guard.served,
            # A client that was shut out has no rate: it got its few answers at once, and then nothing.
            "per second": None if guard.over_limit else round((guard.served - 1) / seconds, 3),
            "over the limit": guard.over_limit, "in a pause": guard.during_pause, "worst second": guard.worst_second,
            "failed clients": sum(worker.exitcode != 0 for worker in workers),
        }


def main() -> None:
    """Measure, print, write, and exit 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--latency", type=float, default=0.3)
    options = parser.parse_args()
    permitted = load_settings().requests_per_second
    cases: list[tuple[str, Client, int, int]] = [
        ("mkmed", with_transport, 1, options.requests), ("mkmed", with_transport, 3, options.requests),
        ("PubChemPy, one by one", with_pubchempy, 1, 40), ("requests, 8 threads", with_requests, 1, 40),
    ]
    rows = []
    for name, client, processes, count in cases:
        say(f"{name}: {count} requests from {processes} processes")
        rows.append(measure(name, client, processes, count, options.latency))
    peer = next(row for row in rows if row["client"].startswith("PubChemPy"))["per second"]
    for row in rows:
        rate = row["per second"]
        row["of permitted"] = round(rate / permitted, 3) if rate else None
        row["vs PubChemPy"] = round(rate / peer, 2) if rate else None
    ours = [row for row in rows if row["client"] == "mkmed"]
    met = all((r["of permitted"] or 0) >= TARGET and not (r["over the limit"] or r["in a pause"] or r["failed clients"])
              for r in ours)
    report("pubchem", rows, permitted_per_second=permitted, latency_seconds=options.latency, target=TARGET, met=met)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
