"""What the shell offers for values: names of drugs, modalities and sources. It starts nothing and fails silently."""

from __future__ import annotations

from kb.errors import MkmedError
from kb.modalities import MODALITIES

MOST = 20


def modalities(incomplete: str) -> list[str]:
    """The modalities that begin so."""
    return [str(name) for name in MODALITIES if name.startswith(incomplete)]


def vector_kinds(incomplete: str) -> list[str]:
    """The kinds of vectors that begin so."""
    return [name for name in ("fused", "molecule", *map(str, MODALITIES)) if name.startswith(incomplete)]


def complete_sources(incomplete: str) -> list[str]:
    """The sources that can be read and begin so."""
    from kb.sources import SOURCES

    return [name for name in SOURCES if name.startswith(incomplete)]


def complete_drugs(incomplete: str) -> list[str]:
    """Preferred names that begin so, the shortest first, of a database that runs; nothing is started for a key."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from kb.db.engine import open_engine
    from kb.db.server import embedded
    from kb.settings import load_settings

    if len(incomplete) < 2:
        return []
    try:
        settings = load_settings()
        if settings.database_url is None and embedded(settings.home).running() is None:
            return []
        with open_engine(settings, migrated=False).connect() as connection:
            found = connection.scalars(text(
                "SELECT DISTINCT name_key, length(name_key) FROM mkmed.names"
                " WHERE kind = 'preferred' AND starts_with(name_key, :begun) ORDER BY 2, 1 LIMIT :most"),
                {"begun": incomplete.lower(), "most": MOST})
            return [incomplete + str(name)[len(incomplete):] for name in found]  # shells compare the letters as typed
    except (MkmedError, SQLAlchemyError, OSError):
        return []
