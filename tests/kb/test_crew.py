"""Child processes that compute: Ctrl-C is the parent's business."""

from __future__ import annotations

import os
import signal

from kb.crew import Crew


def interrupted(item: str) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return item.upper()


def test_ctrl_c_does_not_reach_the_children() -> None:
    with Crew(f"{__name__}:interrupted", 1, wall=20) as crew:
        assert dict(crew.map(["a", "b"], 1)) == {0: "A", 1: "B"}
