"""``mkmed kb ingest --source pubchem`` killed with SIGKILL at random points, two hundred times and more.

After every kill the invariants hold; what was committed is never asked for again, as the stand-in counts; and in the end
everything is there.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import processes, torture_home
from sqlalchemy import Engine, text

from kb.ingest.crash import POINTS
from kb.output import say
from tests.standin import catalogue
from tests.standin.quick import FAST, NO_LIMITS
from tests.standin.server import StandIn

KILLS = 200
KILLS_AMONG_OTHERS = 20
LATENCY = 0.01
ENDPOINTS = {"image": "png", "text": "view", "property": "property"}
QUICK = replace(FAST, per_second=1000, blocks=10**6, attempts=6, deadline=20.0, connect=10.0)


def command(home: str, url: str, ids: str, crash_at: str, *options: str) -> None:
    """The child: the real command, with a policy for a server that has no limits."""
    os.setsid()
    log = os.open(f"{home}/ingest.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"MKMED_HOME": home, "MKMED_PUBCHEM_URL": url, "MKMED_CONTACT": "tests@example.org"}
    if crash_at:
        os.environ["MKMED_TEST_CRASH_AT"] = crash_at
    from cli import main
    from kb.sources.pubchem.source import PubChem

    PubChem.policy = QUICK
    sys.argv = ["mkmed", "kb", "ingest", "--source", "pubchem", "--ids", ids, *options]
    main()


@dataclass
class Round:
    """One database from empty to complete."""

    engine: Engine
    standin: StandIn
    committed: dict[tuple[str, int], int] = field(default_factory=dict)

    def check(self) -> None:
        """The invariants hold, and nothing committed was asked for again."""
        from kb.ledger.verify import verify

        with self.engine.begin() as connection:
            broken = [check for check in verify(connection) if check.broken]
            assert not broken, broken
            settled = connection.execute(text(
                "SELECT c.modality, r.key FROM cell c JOIN drug_record r ON r.drug_id = c.drug_id"
                " WHERE c.state IN ('present', 'absent')")).all()
        asked = Counter(self.standin.asked)
        for key, times in self.committed.items():
            assert asked[key] == times, f"{key} was committed and asked for again"
        for modality, key in settled:
            if modality in ENDPOINTS:
                name = ENDPOINTS[modality], int(key.partition(":")[2])
                self.committed.setdefault(name, asked[name])

    def left(self) -> int:
        """How many cells are not settled."""
        with self.engine.begin() as connection:
            query = "SELECT count(*) FROM cell WHERE state IN ('unknown', 'failed')"
            return int(connection.scalar(text(query)) or 0)


@contextmanager
def workplace() -> Iterator[tuple[Engine, Path, Path]]:
    """An engine on a server of its own, its home, and the file of what to ask for."""
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    with torture_home() as home:
        ids = home / "ids.txt"
        ids.write_text("\n".join(["aspirin", "DB00331", *map(str, catalogue.compounds())]) + "\n")
        engine = open_engine(load_settings(home=home))
        yield engine, home, ids
        engine.dispose()


def test_killed_two_hundred_times(seed: int) -> None:
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    rounds = 0
    with workplace() as (engine, home, ids):
        while sum(kills.values()) < KILLS:
            rounds += 1
            kills += one_round(processes(), engine, home, ids, chance)
    say(f"{sum(kills.values())} kills in {rounds} rounds: {dict(kills)}")
    assert sum(kills.values()) >= KILLS


def test_killed_while_others_go_on(seed: int) -> None:
    """Three processes share the work; one after the other is killed and another takes its place."""
    chance = random.Random(seed)
    kills = 0
    with workplace() as (engine, home, ids):
        while kills < KILLS_AMONG_OTHERS:
            empty(engine)
            with StandIn(NO_LIMITS, latency=0.05) as standin:
                state = Round(engine, standin)
                arguments = (str(home), standin.url, str(ids), "", "--workers", "1")
                crew = [processes().Process(target=command, args=arguments) for _ in range(3)]
                for child in crew:
                    child.start()
                while any(child.is_alive() for child in crew):
                    place = chance.randrange(3)
                    wait_for_request(standin, crew[place])
                    crew[place].join(chance.uniform(0.0, 0.5))
                    if crew[place].is_alive():
                        os.kill(crew[place].pid or 0, signal.SIGKILL)
                        crew[place].join()
                        kills += 1
                        crew[place] = processes().Process(target=command, args=arguments)
                        crew[place].start()
                    state.check()
                assert [child.exitcode for child in crew] == [0, 0, 0], (home / "ingest.log").read_text()[-2000:]
                assert state.left() == 0
                complete(engine)
    say(f"{kills} kills among others")


def empty(engine: Engine) -> None:
    """Forget everything that was ingested."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE drug, drug_record, lookup, cell, artifact, run, drug_merge CASCADE"))


def one_round(context: multiprocessing.context.BaseContext, engine: Engine, home: Path, ids: Path,
              chance: random.Random) -> Counter[str]:
    """The kills of a round, by how they were done: ingest from an empty database until one run gets through."""
    kills: Counter[str] = Counter()
    empty(engine)
    with StandIn(NO_LIMITS, latency=LATENCY) as standin:
        state = Round(engine, standin)
        while True:
            # Most kills come at a random time, some at a named point; late in a round a run is let through.
            point = chance.choice(POINTS) if chance.random() < 0.25 else ""
            child = context.Process(target=command, args=(str(home), standin.url, str(ids), point))  # type: ignore
            child.start()
            early = chance.random() < 0.1  # before the first request
            child.join(chance.uniform(0.02, 0.6) if early else 0)
            if not early:
                wait_for_request(standin, child)
                child.join(60.0 if point else chance.uniform(0.0, 0.5))
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)
                child.join()
            state.check()
            if child.exitcode == 0:
                break
            assert child.exitcode == -signal.SIGKILL, (home / "ingest.log").read_text()[-2000:]
            kills[point or "at random"] += 1
        assert state.left() == 0
        complete(engine)
        asked = standin.requests
        again = context.Process(target=command, args=(str(home), standin.url, str(ids), ""))  # type: ignore
        again.start()
        again.join(60)
        assert (again.exitcode, standin.requests) == (0, asked), "a finished ingest asks for nothing"
        time.sleep(0.01)
    return kills


def wait_for_request(standin: StandIn, child: multiprocessing.process.BaseProcess) -> None:
    """Return when the child has sent a request since this call, or is gone."""
    before, deadline = standin.requests, time.monotonic() + 60
    while standin.requests == before and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def complete(engine: Engine) -> None:
    """Everything that the stand-in has is there, byte for byte where it is a picture."""
    with engine.begin() as connection:
        pictures = connection.execute(text(
            "SELECT r.key, b.payload FROM image i JOIN artifact a ON a.id = i.artifact"
            " JOIN content b ON b.sha256 = a.content"
            " JOIN drug_record r ON r.drug_id = i.drug_id")).all()
        texts = connection.scalar(text("SELECT count(DISTINCT drug_id) FROM text"))
    assert len(pictures) == len(catalogue.compounds())
    for key, payload in pictures:
        assert bytes(payload) == catalogue.png(int(key.partition(":")[2]), 300)
    silent = [cid for cid in catalogue.compounds() if cid % catalogue.SILENT == 0 and cid not in (2349, 8057)]
    assert texts == len(catalogue.compounds()) - len(silent)
