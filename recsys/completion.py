"""What the shell offers for values: runs, cohorts, recommenders and formats of this disk; it fails silently."""

from __future__ import annotations

from kb.errors import MkmedError


def runs(incomplete: str) -> list[str]:
    """The ids of recommender runs that begin so."""
    from kb.settings import load_settings

    try:
        folder = load_settings().runs / "recsys"
        return sorted(path.parent.name for path in folder.glob(f"{_plain(incomplete)}*/config.json"))
    except (MkmedError, OSError):
        return []


def cohort_names(incomplete: str) -> list[str]:
    """The prepared cohorts that begin so."""
    from kb.settings import load_settings

    try:
        folder = load_settings().home / "cohorts"
        return sorted(path.parent.name for path in folder.glob(f"{_plain(incomplete)}*/cohort.json"))
    except (MkmedError, OSError):
        return []


def recommenders(incomplete: str) -> list[str]:
    """The recommenders that begin so."""
    from recsys.registry import RECOMMENDERS

    return [name for name in RECOMMENDERS if name.startswith(incomplete)]


def ehr_formats(incomplete: str) -> list[str]:
    """The EHR formats that begin so."""
    from recsys.formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def _plain(text: str) -> str:
    """The text as a pattern of file names that means itself."""
    return "".join(letter for letter in text if letter.isalnum() or letter in "-_.")
