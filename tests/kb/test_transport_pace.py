"""The pace: even spacing, colours, pauses for everybody, and what the server counts."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.errors import Blocked, Interrupted, Transient
from kb.http.client import HttpAnswer, Request
from kb.http.pace import Colour, Pace, Policy, parse_throttle
from tests.standin.limits import Limits
from tests.standin.quick import FAST, NO_LIMITS, transport_to
from tests.standin.server import StandIn

ASPIRIN = Request("/pug/compound/cid/2244/description/JSON")
GREEN = "Request Count status: Green (1%), Request Time status: Green (0%), Service status: Green (20%)"


def same(answer: HttpAnswer) -> HttpAnswer:
    if answer.status != 200:
        raise Transient(f"HTTP {answer.status}")
    return answer


@pytest.mark.parametrize(("header", "colour", "blocked"), [
    (GREEN, Colour.green, False),
    (GREEN + ", too many requests per second or blacklisted", Colour.green, True),
    (GREEN.replace("Service status: Green", "Service status: Yellow"), Colour.yellow, False),
    (GREEN.replace("Count status: Green (1%)", "Count status: Red (99%)"), Colour.red, False),
    (GREEN.replace("Green (20%)", "Black (303%)"), Colour.black, True),
    (None, Colour.green, False), ("", Colour.green, False), ("Service status: Mauve (1%)", Colour.green, False),
])
def test_throttle_header(header: str | None, colour: Colour, blocked: bool) -> None:
    throttle = parse_throttle(header)
    assert (throttle.colour, throttle.blocked) == (colour, blocked)


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    assert parse_throttle(header).colour in Colour


def _ask(url: str, home: Path, policy: Policy, count: int, ready: Any = None) -> int:
    if ready is not None:
        ready.wait(60)
    with transport_to(url, home, policy) as transport, ThreadPoolExecutor(8) as pool:
        return sum(a.status == 200 for a in pool.map(lambda _: transport.fetch(ASPIRIN, same), range(count)))


def _stamp(begun: Any) -> None:
    begun.value = time.monotonic()


def test_processes_together_stay_below_the_limit(tmp_path: Path) -> None:
    """Three processes of eight threads, at 4/5 of the permitted rate; the server counts.

    What is sent in time may arrive late on a busy machine, so a second holds three more than are sent in one; but
    nothing comes more than a turn too early.
    """
    policy = replace(FAST, per_second=12)
    limits = Limits(per_second=15, per_minute=10**6, running=1e9, block=0.3)
    with StandIn(limits, latency=0.06) as standin:
        context = multiprocessing.get_context("spawn")
        begun = context.Value("d")
        ready = context.Barrier(4, partial(_stamp, begun))
        arguments = (standin.url, tmp_path, policy, 12, ready)
        workers = [context.Process(target=_ask, args=arguments) for _ in range(3)]
        for worker in workers:
            worker.start()
        ready.wait(60)
        started = time.monotonic()
        for worker in workers:
            worker.join()
        spent = time.monotonic() - started
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert (standin.guard.over_limit, standin.guard.during_pause) == (0, 0)
        assert standin.guard.served == 36
        assert spent >= 35 / 12
        assert all(at >= begun.value + (turn - 1) / 12 for turn, at in enumerate(standin.guard.arrivals))


def test_a_refusal_stops_every_process_and_thread(tmp_path: Path) -> None:
    """After one 503 nobody sends anything until the pause is over, whatever was waiting."""
    refused = threading.Event()
    since: list[float] = []

    def once(method: str, path: str, cids: list[int]) -> str | None:
        if not refused.is_set() and standin.requests >= 10:
            refused.set()
            since.append(time.monotonic())
            return "503 busy"
        if refused.is_set():
            since.append(time.monotonic())
        return None

    policy = replace(FAST, per_second=50, first_pause=0.8, longest_pause=2)
    with StandIn(NO_LIMITS, fault=once) as standin:
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(2)
        worker = context.Process(target=_ask, args=(standin.url, tmp_path, policy, 20, ready))
        worker.start()
        ready.wait(60)
        assert _ask(standin.url, tmp_path, policy, 20) == 20
        worker.join()
        assert worker.exitcode == 0
    early = [at - since[0] for at in since[1:] if at - since[0] < 0.75]
    assert not [at for at in early if at > 0.4], "only what was already under way may still arrive"
    assert max(since) - since[0] > 0.8


def test_refusals_in_a_row_end_the_run(tmp_path: Path) -> None:
    with StandIn(NO_LIMITS, fault=lambda *_: "429 html") as standin:
        policy = replace(FAST, attempts=50, blocks=5)
        with transport_to(standin.url, tmp_path, policy) as transport, pytest.raises(Blocked) as caught:
            transport.fetch(ASPIRIN, same)
        assert caught.value.exit_code == 75
        assert standin.requests == 5


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    limits = replace(NO_LIMITS, per_minute=3, minute=0.9, block=1)
    with StandIn(limits) as standin:
        started = time.monotonic()
        assert _ask(standin.url, tmp_path, replace(FAST, per_second=50, longest_pause=2), 5) == 5
        assert time.monotonic() - started > 1
        assert standin.guard.over_limit == 1
        assert standin.guard.during_pause <= 1, "only what left before the refusal was known"


@pytest.mark.parametrize(("colour", "least"), [("Yellow", 10 / 25), ("Red", 10 / 10)])
def test_colours_slow_down(colour: str, least: float, tmp_path: Path) -> None:
    policy = replace(FAST, per_second=50, red_per_second=10)
    with StandIn(NO_LIMITS, fault=lambda *_: colour) as standin:
        started = time.monotonic()
        assert _ask(standin.url, tmp_path, policy, 12) == 12
        assert time.monotonic() - started >= least


def test_running_time_is_bounded(tmp_path: Path) -> None:
    policy = replace(FAST, server_seconds=0.5, minute=1.0)
    with StandIn(NO_LIMITS, latency=0.2) as standin:
        started = time.monotonic()
        assert _ask(standin.url, tmp_path, policy, 12) == 12
        assert time.monotonic() - started > 1.0, "12 x 0.2 s of running time need more than one window of 0.5 s"


def test_waiting_can_be_stopped(tmp_path: Path) -> None:
    with StandIn(NO_LIMITS, fault=lambda *_: "503 busy") as standin:
        transport = transport_to(standin.url, tmp_path, replace(FAST, first_pause=60, longest_pause=60))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(transport.fetch, ASPIRIN, same)
            while not standin.requests:
                time.sleep(0.01)
            time.sleep(0.1)
            transport.close()
            with pytest.raises(Interrupted):
                waiting.result(5)


def test_what_a_reboot_left_behind_is_forgotten(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace.sqlite", "h", FAST)
    with pace._write() as database:
        database.execute("UPDATE standing SET paused_until = ?, blocks = 9", (time.monotonic() + 1e6,))
        database.execute("INSERT INTO flight (host, started) VALUES ('h', ?)", (time.monotonic() + 1e6,))
    pace.close()
    again = Pace(tmp_path / "pace.sqlite", "h", FAST)
    assert (again.paused(), again.spent()) == (0.0, 0.0)
    again.close()


@pytest.mark.parametrize("name", ["pace.sqlite", "slots.sqlite"])
def test_a_damaged_memory_is_thrown_away(name: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with StandIn(NO_LIMITS) as standin:
        assert _ask(standin.url, tmp_path, FAST, 3) == 3
