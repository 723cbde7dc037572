"""Works on a step in a process of its own while the demo goes on with others, so that a second core is not idle."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from kb.compute.pool import die_with_parent
from kb.errors import MkmedError
from kb.settings import Settings
from mkmed.demo.step import Demo, Extent, Stage

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess


@dataclass
class Aside:
    """The steps that were begun early, by title."""

    begun: dict[str, tuple[SpawnProcess, Connection]] = field(default_factory=dict)

    def begin(self, demo: Demo, step: Stage) -> None:
        """Start the step; ``finish`` waits for it."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work_on, args=(theirs, demo.settings, demo.scale, step))
        process.start()
        theirs.close()
        self.begun[step.title] = process, ours

    def finish(self, step: Stage) -> float:
        """The seconds that the step took, once it is done; raises MkmedError for what kept it from ending."""
        process, answer = self.begun[step.title]
        try:
            found = answer.recv()
        except EOFError:
            found = MkmedError(f"the process of the step {step.title!r} died", hint="run the demo again: it goes on")
        process.join()
        del self.begun[step.title]
        if isinstance(found, MkmedError):
            raise found
        return float(found)

    def end(self) -> None:
        """End what is still at work."""
        for process, _ in self.begun.values():
            process.kill()
            process.join()


def work_on(answer: Connection, settings: Settings, scale: Extent, step: Stage) -> None:
    """Do the step's work with a database connection of its own, and send the seconds that it took, or its error."""
    from kb.db.engine import open_engine

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the demo decides what it means
    die_with_parent()
    begun = time.perf_counter()
    engine = open_engine(settings)
    try:
        step.work(Demo(settings, scale, engine))
        answer.send(time.perf_counter() - begun)
    except MkmedError as error:
        answer.send(error)
    finally:
        engine.dispose()


@contextmanager
def open_aside() -> Iterator[Aside]:
    """Nothing that was begun within outlives the context."""
    early = Aside()
    try:
        yield early
    finally:
        early.end()
