"""The program ``mkmed``, also as ``python -m mkmed``."""

from __future__ import annotations

import gc

from kb import interrupts

ALLOCATIONS = 100_000
"""New objects between two looks for garbage; Python's 700 make it look at what was imported a hundred times."""


def main() -> None:
    """Run the program; a signal while it is still loading ends it with a word."""
    interrupts.while_loading()
    gc.set_threshold(ALLOCATIONS, 20, 50)
    from cli import main as run

    run()


if __name__ == "__main__":
    main()
