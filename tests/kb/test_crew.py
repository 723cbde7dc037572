"""Child processes that compute: Ctrl-C is the parent's business."""

from __future__ import annotations

import os
import signal

from kb.ingest.processes import Crew, run_here


def interrupted(item: str) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return item.upper()


def test_ctrl_c_does_not_reach_the_children() -> None:
    with Crew(f"{__name__}:interrupted", 1, wall=20) as crew:
        assert dict(crew.map(["a", "b"], 1)) == {0: "A", 1: "B"}


def test_ctrl_c_still_reaches_the_parent_that_computes_itself() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert dict(run_here("operator:neg", [1, 2])) == {0: -1, 1: -2}
    assert signal.getsignal(signal.SIGINT) == before
