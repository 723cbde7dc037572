"""The demo: the real commands' library calls in their order, each step timed, and skipped where its result is there.

Whether a step is done is read from what it leaves (ledger marks, cells, the published run, cohorts, run folders), so a
demo that was killed goes on where it stopped, and a changed setting or bundle makes exactly its own step run again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kb import output
from kb.errors import Busy
from kb.settings import Settings
from mkmed.demo import aside, steps_embed, steps_kb, steps_recsys, steps_report
from mkmed.demo.step import Demo, Extent, Stage

FOLDER = "demo"
THREADS = 2


def demo_settings(settings: Settings) -> Settings:
    """The settings of the demo: a home of its own below the user's, and the embedded server, never an external one."""
    return settings.model_copy(update={"home": settings.home / FOLDER, "database_url": None})


def steps() -> Sequence[Stage]:
    """All steps in their order."""
    return [*steps_kb.STEPS, *steps_embed.STEPS, *steps_recsys.STEPS, steps_embed.ABLATION, *steps_report.STEPS]


def run_demo(settings: Settings, scale: Extent) -> Path:
    """The path of the report, after every step was done or found done."""
    from kb.db.engine import open_engine

    begun = time.perf_counter()
    output.say(f"mkmed demo ({scale.name}): everything is kept in {settings.home}")
    _few_threads()
    demo = Demo(settings, scale, open_engine(settings))
    demo.seconds.append({"step": "database", "seconds": time.perf_counter() - begun, "": "ready"})
    todo = steps()
    with _alone(settings.home), aside.open_aside() as early:
        demo.reached = partial(_begin_after, demo, early, todo)
        for number, step in enumerate(todo, 1):
            _run(demo, step, f"[{number}/{len(todo)}]", early)
            demo.reached(step.title)
    demo.engine.dispose()
    total = time.perf_counter() - begun
    rows = [*demo.seconds, {"step": "total", "seconds": total, "": ""}]
    output.emit([row | {"seconds": round(row["seconds"], 1)} for row in rows], title="where the time went")
    return settings.home / "report.html"


def _begin_after(demo: Demo, early: aside.Aside, todo: Sequence[Stage], point: str) -> None:
    for step in todo:
        if step.after == point and step.title not in early.begun and not step.done(demo):
            early.begin(demo, step)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep a second demo out of the same home, where both would train the same; the lock ends with the process."""
    import filelock

    lock = filelock.FileLock(home / "demo.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise Busy(f"another mkmed demo is at work in {home}", hint="wait for it, or set MKMED_HOME to another folder"
                   ) from None
    try:
        yield
    finally:
        lock.release()


def _few_threads() -> None:
    """Let torch use two threads: the tensors are small, and on busy cores more threads wait for each other."""
    import torch

    torch.set_num_threads(min(THREADS, torch.get_num_threads()))


def _run(demo: Demo, step: Stage, number: str, early: aside.Aside | None = None) -> None:
    """Do or skip one step, or wait for what was begun early, and show its result."""
    ahead = early is not None and step.title in early.begun
    found = None if ahead else step.done(demo)
    output.say(f"\n{number} {step.title}" + (f": {found}, skipped" if found else f"\n      {step.command}"))
    begun = time.perf_counter()
    note = "was done already" if found else "done"
    if early is not None and ahead:
        note = f"done, {early.finish(step):.1f} s beside the others"
    elif not found:
        step.work(demo)
    spent = time.perf_counter() - begun
    step.show(demo)
    if not found:
        output.say(f"      {spent:.1f} s")
    demo.seconds.append({"step": step.title, "seconds": time.perf_counter() - begun, "": note})
