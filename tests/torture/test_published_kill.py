"""``mkmed kb ingest`` of every source that reads a published file, killed at random points and gone on with.

The end is the release of a run that nobody touched. ``MKT_PUBLISHED_KILLS`` sets the kills of each source (4).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from enlarged import write_base, write_enlarged
from harness import forked_command, processes, torture_home
from sqlalchemy import Engine

from kb.db.engine import open_engine
from kb.ingest.retract import remove_named
from kb.ledger.verify import verify
from kb.output import say
from kb.query.snapshot import release_of
from kb.settings import load_settings
from tests.kb.published import SAMPLES

KILLS = int(os.environ.get("MKT_PUBLISHED_KILLS", "4"))
MOST = 3 * KILLS
"""Runs after which a source is too quick to be killed."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Engine]]:
    """A home with the drugs that are known before, and its database."""
    with torture_home() as home:
        engine = open_engine(load_settings(home=home))
        assert run(home, "ingest", *write_base(tmp_path_factory.mktemp("base"))) is not None
        yield home, engine
        engine.dispose()


def run(home: Path, *given: str, seconds: float = 600) -> float | None:
    """How many seconds ``mkmed kb …`` took; None if it was killed after so many."""
    begun = time.monotonic()
    child = processes().Process(target=forked_command, args=(str(home), ("-q", "kb", *given)))
    child.start()
    child.join(seconds)
    if child.is_alive():
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        return None
    assert child.exitcode == 0, (home / "ingest.log").read_text()[-2000:]
    return time.monotonic() - begun


def release(engine: Engine) -> str:
    """The release of what is known now; the invariants hold."""
    with engine.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []
        return release_of(connection)[0]


def forget(engine: Engine, source: str) -> None:
    """Take the source and its datasets out."""
    with engine.begin() as connection:
        own = [row[0] for row in connection.exec_driver_sql("SELECT name FROM mkmed.sources WHERE name ~ %s", (f"^{source}(/|$)",))]
    for name in own:
        remove_named(engine, source=name)


@pytest.mark.parametrize("name", SAMPLES)
def test_killed_again_and_again_it_ends_as_if_never_killed(
    seed: int, name: str, base: tuple[Path, Engine], tmp_path: Path
) -> None:
    home, engine = base
    chance, source = random.Random(f"{seed} {name}"), SAMPLES[name].source or name
    given = write_enlarged(name, tmp_path)
    before = release(engine)
    length = run(home, "ingest", *given)
    assert length is not None
    whole, kills, runs = release(engine), 0, 0
    assert whole != before
    while kills < KILLS:
        forget(engine, source)
        assert release(engine) == before, "something was left of the source"
        while kills < KILLS:
            runs += 1
            assert runs <= MOST, f"{kills} of {runs} runs could be killed"
            if run(home, "ingest", *given, seconds=chance.uniform(0.1, 0.9) * length) is not None:
                break
            kills += 1
    assert run(home, "ingest", *given) is not None
    assert release(engine) == whole, f"after {kills} kills the end is another one"
    forget(engine, source)
    say(f"\n{name}: {kills} kills in {runs} runs, the release of a run that nobody killed; that takes {length:.1f} s")


def test_a_recipe_killed_and_gone_on_makes_the_same_knowledge_base(seed: int, tmp_path: Path) -> None:
    """In another home than the one where nobody killed it."""
    chance, releases, kills = random.Random(seed), [], 0
    text = "".join(f'[[source]]\nname = "{words[1]}"\npath = "{words[3]}"\n' for words in (
        write_enlarged("chembl", tmp_path), write_enlarged("primekg", tmp_path)))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[[source]]\nname = "corpus"\nlimit = 500\n{text}')
    words, length = ("build", "--recipe", str(recipe)), 0.0
    for seconds in (0.3, 0.6, 0.9):
        with torture_home() as home:
            engine = open_engine(load_settings(home=home))
            if releases:
                kills += run(home, *words, seconds=chance.uniform(seconds - 0.2, seconds) * length) is None
            took = run(home, *words)
            length = length or took or 0.0
            releases.append(release(engine))
            engine.dispose()
    assert kills and len(set(releases)) == 1
