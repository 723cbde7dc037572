"""The program ``mkmed``, also as ``python -m mkmed``."""

from __future__ import annotations

from kb import interrupts


def main() -> None:
    """Run the program; a signal while it is still loading ends it with a word."""
    interrupts.while_loading()
    from cli import main as run

    run()


if __name__ == "__main__":
    main()
