"""The pools keep one contract: every item once, the bad one alone without a result, bounded flight, no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import pytest

from kb.compute.ahead import ahead
from kb.compute.places import open_pool
from kb.compute.pool import Failure, PoolTask, run_here
from kb.errors import ConfigError, DataError, UsageError

PLACES = [
    "local",
    pytest.param("ray", marks=pytest.mark.skipif(find_spec("ray") is None, reason="Ray (extra scale) is not installed")),
]


@pytest.fixture(scope="module", params=PLACES)
def on(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where to compute; a Ray of two CPUs is started once for all tests."""
    if request.param == "ray":
        import ray

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                 object_store_memory=100 << 20, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})
        yield "ray"
        ray.shutdown()
    else:
        yield request.param


def work(item: str | int | float) -> object:
    """What the tests make processes do."""
    if item == "dies":
        os._exit(3)
    if item == "refused":
        raise DataError("not this one")
    if item == "wrong":
        raise ValueError("no")
    if item == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    if item == "busy":
        while True:
            pass
    if isinstance(item, float):
        time.sleep(item)
    return item


def greedy(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


class Holder:
    """A maker: made once in a process."""

    def __init__(self, base: int) -> None:
        self.base, self.calls = base, 0

    def __call__(self, item: int) -> tuple[int, int, int]:
        self.calls += 1
        return self.base + item, os.getpid(), self.calls


class Broken:
    def __init__(self, base: int) -> None:
        raise DataError("no such encoder")


def task(name: str = "work", **settings: object) -> PoolTask:
    return PoolTask(f"{__name__}:{name}", **settings)  # type: ignore[arg-type]


def test_every_item_once_and_in_order(on: str) -> None:
    with open_pool(on, task(), 2) as pool:
        assert list(pool.ordered(range(101), share=7)) == list(range(101))
        found = list(pool.map(range(50), share=3))  # the pool serves again
        assert sorted(found) == [(n, n) for n in range(50)]
        assert list(pool.map([])) == []


def test_the_bad_item_alone_has_no_result(on: str) -> None:
    items = ["a", "dies", "b", "refused", "c", "wrong", "d"]
    with open_pool(on, task(seconds=30), 2) as pool:
        found = dict(pool.map(items, share=4))
    assert {n: r for n, r in found.items() if not isinstance(r, Failure)} == {0: "a", 2: "b", 4: "c", 6: "d"}
    assert "died" in found[1].reason and not found[1].refused
    assert found[3] == Failure("not this one", refused=True)
    assert found[5] == Failure("ValueError: no")


@pytest.mark.slow
def test_what_takes_too_long_is_killed_alone(on: str) -> None:
    with open_pool(on, task(seconds=1.5), 2) as pool:
        began = time.monotonic()
        found = dict(pool.map([0.0, 0.01, 600.0, 0.02, 0.0], share=5))
    assert time.monotonic() - began < 60
    assert {n: r for n, r in found.items() if n != 2} == {0: 0.0, 1: 0.01, 3: 0.02, 4: 0.0}
    assert found[2] == Failure("took longer than 1.5 s")


def test_local_processes_are_judged_by_the_work_they_do() -> None:
    with open_pool("local", task(seconds=1.5), 2) as pool:
        began = time.monotonic()
        found = dict(pool.map([3.0, "busy"], share=1))
    assert found == {0: 3.0, 1: Failure("took longer than 1.5 s")}, "what waits for its turn has not worked"
    assert time.monotonic() - began < 30


def test_a_maker_is_called_once_in_a_process(on: str) -> None:
    with open_pool(on, task("Holder", arguments={"base": 100}), 2) as pool:
        found = dict(pool.map(range(40), share=2))
    assert {n: r[0] for n, r in found.items()} == {n: 100 + n for n in range(40)}
    by_process: dict[int, list[int]] = {}
    for _, process, calls in found.values():
        by_process.setdefault(process, []).append(calls)
    assert all(sorted(calls) == list(range(1, len(calls) + 1)) for calls in by_process.values())


def test_items_are_taken_only_as_fast_as_they_are_done(on: str) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    with open_pool(on, task(), 2) as pool:
        results = pool.map(endless(), share=5)
        for _ in range(20):
            next(results)
        assert taken <= 20 + 5 * 2 * 3
        results.close()


def test_a_maker_that_fails_is_an_error_and_not_a_wait(on: str) -> None:
    with pytest.raises((ConfigError, DataError), match="no such encoder"), \
            open_pool(on, task("Broken", arguments={"base": 1}), 1) as pool:
        list(pool.map([1, 2]))


def test_ctrl_c_does_not_reach_local_processes() -> None:
    with open_pool("local", task(seconds=20), 1) as pool:
        assert dict(pool.map(["interrupted", "b"], 1)) == {0: "interrupted", 1: "b"}


def test_ctrl_c_still_reaches_the_parent_that_computes_itself() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert dict(run_here(PoolTask("operator:neg"), [1, 2])) == {0: -1, 1: -2}
    assert signal.getsignal(signal.SIGINT) == before


def test_a_hungry_item_meets_its_memory_limit() -> None:
    with open_pool("local", task("greedy", memory=200 << 20), 1) as pool:
        found = dict(pool.map([1, 4000, 2]))
    assert (found[0], found[2]) == (1 << 20, 2 << 20)
    assert "Memory" in found[1].reason


def test_processes_end_with_the_pool_even_when_it_is_left_early(tmp_path: Path) -> None:
    with open_pool("local", task("Holder", arguments={"base": 0}), 2) as pool:
        results = pool.map(range(1000), share=1)
        processes = {next(results)[1][1] for _ in range(20)}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


def test_a_script_without_a_guard_ends_with_the_reason(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text("from kb.compute.places import open_pool\nfrom kb.compute.pool import PoolTask\n"
                      "with open_pool('local', PoolTask('operator:neg'), 1) as pool:\n    print(list(pool.map(range(999), 1)))\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode and "ConfigError: processes die before they begin" in ended.stderr.splitlines()[-1]


def test_the_next_are_made_while_one_is_used() -> None:
    made: list[int] = []
    left = Event()

    def items() -> Iterator[int]:
        for number in range(1, 100):
            made.append(number)
            yield number

    with closing(ahead(items(), left)) as coming:
        assert next(coming) == 1
        deadline = time.monotonic() + 20
        while made != [1, 2, 3] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert made == [1, 2, 3] and not left.is_set(), "two ahead, and no more"
        assert [next(coming) for _ in range(5)] == [2, 3, 4, 5, 6]
    assert left.is_set() and len(made) <= 9


def test_what_the_next_fails_with_is_told_in_its_turn() -> None:
    coming = ahead(run_of(2, "no more"))
    assert [next(coming), next(coming)] == [1, 2]
    with pytest.raises(DataError, match="no more"):
        next(coming)


def run_of(count: int, reason: str) -> Iterator[int]:
    yield from range(1, count + 1)
    raise DataError(reason)


def test_no_such_place() -> None:
    with pytest.raises(UsageError, match="no place to compute"):
        open_pool("spark", task())


def test_without_ray_the_hint_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as caught:
        open_pool("ray", task())
    assert "mkmed[scale]" in (caught.value.hint or "")
