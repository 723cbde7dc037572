"""Why the network failed, in words."""

from __future__ import annotations

import re


def reason(error: BaseException) -> str:
    """The system's own words for a failed connection, where the libraries pass them on; else the error's, shortened."""
    said = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", str(error))
    return said.group(1) if said else f"{type(error).__name__}: {error}"[:200]
