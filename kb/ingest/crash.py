"""A way for tests to kill this process at a named point; without ``MKMED_TEST_CRASH_AT`` it costs one lookup."""

from __future__ import annotations

import os
import signal

POINTS = ("after_fetch", "mid_tx", "before_commit", "after_commit")


def crash_at(point: str) -> None:
    """Kill this process without any clean-up when ``MKMED_TEST_CRASH_AT`` names ``point``."""
    if os.environ.get("MKMED_TEST_CRASH_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)
