"""The SQL functions of the store, for callers in Python: the same answers, and errors of ours.

It imports neither numpy nor the store, so that ``mkmed embed neighbours`` answers at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from embed.runs.published import published_run
from kb.errors import DatabaseError, NotFound, UsageError
from kb.modalities import MODALITIES
from kb.query.names import find_drug

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def neighbours(
    engine: Engine,
    drug: str,
    k: int = 10,
    *,
    modality: str = "fused",
    to: str | None = None,
    atc: str | None = None,
    has: Sequence[str] | None = None,
    by: str | None = None,
) -> list[dict[str, Any]]:
    """The ``k`` drugs most like a drug, nearest first; ``to`` searches among another modality's vectors.

    ``by`` compares by one facet instead: mechanism, structure, use, or late (all kinds of vectors at once).
    Raises UsageError for a modality in ``has`` that there is not.
    """
    if strange := [name for name in has or () if name not in set(MODALITIES)]:
        near = difflib.get_close_matches(strange[0], MODALITIES, n=1, cutoff=0.4)
        raise UsageError(f"{strange[0]!r} is no modality",
                         hint=f"{f'did you mean {near[0]}? ' if near else ''}known: {', '.join(MODALITIES)}")
    with engine.connect() as connection:
        find_drug(connection, drug)
    if by is not None:
        return _ask(engine, "mkmed.similar_drugs(:drug, CAST(:by AS text), :k, :atc, CAST(:has AS text[]))", drug=drug,
                    by=by, k=k, atc=atc, has=list(has) if has else None)
    published_run(engine)  # with none, say so rather than that this drug has no vector
    if to is not None:
        return _ask(engine, "mkmed.similar_across(:drug, :modality, :to, :k)", drug=drug, modality=modality, to=to, k=k)
    return _ask(
        engine,
        "mkmed.similar_drugs(:drug, :k, :modality, :atc, CAST(:has AS text[]))",
        drug=drug,
        k=k,
        modality=modality,
        atc=atc,
        has=list(has) if has else None,
    )


def nearest(engine: Engine, vector: NDArray[np.floating], k: int = 10) -> list[dict[str, Any]]:
    """The ``k`` drugs nearest to a vector [D] of the published run."""
    return _ask(engine, "mkmed.similar_to(CAST(:vector AS vector), :k)", vector=str(vector.tolist()), k=k)


def _ask(engine: Engine, call: str, **values: Any) -> list[dict[str, Any]]:
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(f"SELECT * FROM {call}"), values).mappings()]  # noqa: S608
    except DBAPIError as error:
        diagnostics = getattr(error.orig, "diag", None)
        if diagnostics is None or diagnostics.message_primary is None:
            raise DatabaseError("the database did not answer", hint="mkmed doctor") from None
        raise NotFound(diagnostics.message_primary, hint=diagnostics.message_hint) from None
