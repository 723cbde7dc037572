"""Which files a figure can be written to."""

from __future__ import annotations

from pathlib import Path

from kb.errors import UsageError

FORMATS = (".svg", ".png", ".pdf")


def require_format(path: Path) -> None:
    """Return when a figure can be written to ``path``; raises UsageError for a suffix that names no picture format."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path.name} does not say a picture format", hint=f"end its name in {', '.join(FORMATS)}")
