"""What people import: the knowledge base, cohorts and recommenders of this machine, as data frames and arrays.

    import mkmed

    kb = mkmed.open()
    kb.drugs(["metformin", "phenformin"])

Import from it: what ``__all__`` names. The rooms ``kb``, ``embed`` and ``recsys`` are the program itself and may
change; this package changes only with a line in the changelog. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

_HERE = _Path(__file__).resolve().parent.parent
for _room in ("kb", "embed", "recsys"):
    _spec = _find_spec(_room)
    if _spec is None or _spec.origin is None or _Path(_spec.origin).resolve().parent.parent != _HERE:
        _found = getattr(_spec, "origin", None) or "nowhere"
        raise ImportError(f"mkmed needs its own package {_room!r} beside it, in {_HERE}; Python finds {_found} first: "
                          f"rename that one, or run elsewhere")
del _room, _spec
