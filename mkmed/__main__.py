"""The program ``mkmed``, also as ``python -m mkmed``."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from kb import interrupts

ALLOCATIONS = 100_000
"""New objects between two looks for garbage; Python's 700 make it look at what was imported a hundred times."""


class _Ending:
    """The exit code, once it is known: an exception that nobody took leaves with 1."""

    code = 1


def main() -> None:
    """Run the program; a signal while it is still loading ends it with a word."""
    interrupts.while_loading()
    collect_rarely()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it reads every installed package's entry points
    atexit.register(_end)  # the first that is registered is the last to run
    from cli import main as run

    try:
        run()
    except SystemExit as left:
        _Ending.code = left.code if isinstance(left.code, int) else int(left.code is not None)
        raise
    _Ending.code = 0


def collect_rarely() -> None:
    """Have Python look for garbage rarely: what a command makes is mostly kept, or freed by its last reference."""
    gc.set_threshold(ALLOCATIONS, 20, 50)


def _end() -> None:
    """Leave the process as it is: to take every module apart costs a third of a short command's time."""
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        _Ending.code = _Ending.code or 1
    os._exit(_Ending.code)


if __name__ == "__main__":
    main()
