"""The key of an order from the identifiers that a source gives it."""

from __future__ import annotations

from collections.abc import Sequence

from kb.identity.identifiers import normalise_ndc
from kb.normalise import tidy


def medication_key(
    *, ndc: str = "", rxcuis: Sequence[str] = (), atc: Sequence[str] = (), names: Sequence[str] = (), route: str = ""
) -> str:
    """The medication key of an order: what identifies it, best first, tab-separated; empty where nothing does."""
    parts = [f"ATC:{code}" for code in atc]
    number = normalise_ndc(ndc) if ndc else None
    if number:
        parts.append(f"NDC:{number}")
    parts += [f"RXCUI:{code}" for code in rxcuis if code]
    texts = (tidy(name.lower().replace("\t", " ")) for name in names)
    parts += [f"NAME:{name}" for name in dict.fromkeys(texts) if name and name not in ("0", "nan", "null", "none")]
    if parts and route.strip():
        parts.append(f"ROUTE:{tidy(route.upper())}")
    return "\t".join(parts)
