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
from typing import TYPE_CHECKING, Any  # noqa: E402 - the rooms are looked for first

if TYPE_CHECKING:
    from mkmed.cohort_view import CohortView
    from mkmed.frames import Frame, Vectors
    from mkmed.knowledge import KnowledgeBase
    from mkmed.recommending import Recommended, Recommender

__all__ = ["CohortView", "Frame", "KnowledgeBase", "Recommended", "Recommender", "Vectors", "cohort", "cohorts", "open",
           "recommender", "train"]

_CLASSES = {"CohortView": "mkmed.cohort_view", "Frame": "mkmed.frames", "KnowledgeBase": "mkmed.knowledge",
            "Recommended": "mkmed.recommending", "Recommender": "mkmed.recommending", "Vectors": "mkmed.frames"}


def __getattr__(name: str) -> Any:
    """The version, or one of the classes, imported when it is asked for."""
    from importlib import import_module
    from importlib.metadata import version

    if name == "__version__":
        return version("mkmed")
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'mkmed' has no attribute {name!r}")


def open(url: str | None = None, home: str | _Path | None = None) -> KnowledgeBase:
    """The knowledge base of a home or of a PostgreSQL, for reading.

    ``url`` is a PostgreSQL of your own (``postgresql://user@host:5432/database``), ``home`` the folder of an embedded
    one; without either, what ``MKMED_DATABASE_URL``, ``MKMED_HOME`` or the configuration file say. Raises
    DatabaseUnavailable or SchemaMismatch, and UsageError where both are given.
    """
    from mkmed.knowledge import KnowledgeBase

    return KnowledgeBase.open(url, home)


def cohort(name: str, home: str | _Path | None = None) -> CohortView:
    """A prepared cohort of this disk; raises NotFound, or DataError where its files were altered."""
    from mkmed.cohort_view import CohortView

    return CohortView.load(name, home)


def cohorts(home: str | _Path | None = None) -> list[str]:
    """The names of the cohorts on this disk."""
    from mkmed.places import settings_of
    from recsys.cohorts.files import list_cohorts

    return list_cohorts(settings_of(None, home))


def train(cohort: str, recommender: str = "mkmed", *, url: str | None = None, home: str | _Path | None = None,
          **settings: Any) -> Recommender:
    """The recommender that was trained on a cohort and evaluated on its test patients.

    ``settings`` are those of ``mkmed recsys train --print-config``, e.g. ``epochs=10``. Raises ConfigError for one
    that there is not.
    """
    from mkmed.recommending import Recommender

    return Recommender.train(cohort, recommender, url, home, settings)


def recommender(run: str = "", home: str | _Path | None = None) -> Recommender:
    """A trained recommender by the beginning of its run's id, the latest without one; raises NotFound."""
    from mkmed.recommending import Recommender

    return Recommender.load(run, home)
