"""Which language a text is in, told from its words where its source does not say so.

The model is that of py3langid (extra ``languages``); where that is not installed, only what sources say is recorded.
A text that is short, or of which the model is not sure, has no language rather than a wrong one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, text

ENGLISH = "en"
LEAST = 40
"""Letters that a text has at least: below that names of substances decide, which are of no language."""
SURE = 0.95
"""The least share of the model's belief that a language must have."""
READ = 2_000
"""Characters that are looked at."""
_LETTER = re.compile(r"[^\W\d_]")


@lru_cache(maxsize=1)
def _model() -> Any:
    """The model, or None where py3langid is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(content: str) -> str | None:
    """The ISO 639-1 code of the text's language, or None where it cannot be told."""
    head = content[:READ]
    model = _model()
    if model is None or len(_LETTER.findall(head)) < LEAST:
        return None
    language, share = model.classify(head)
    return str(language) if share >= SURE else None


def tell_languages(connection: Connection) -> int:
    """How many texts without a language were given one: those of the bundled sources are English."""
    bundled = connection.execute(
        text("UPDATE mkmed.text t SET language = :english FROM mkmed.source s"
             " WHERE s.name = t.source AND s.origin = 'bundled' AND t.language IS NULL"), {"english": ENGLISH}).rowcount
    if _model() is None:
        return int(bundled)
    rows = connection.execute(text("SELECT id, left(content, :read) AS content FROM mkmed.text WHERE language IS NULL"),
                              {"read": READ}).all()
    told = [{"id": row.id, "language": said} for row in rows if (said := language_of(row.content))]
    if told:
        connection.execute(text("UPDATE mkmed.text SET language = :language WHERE id = :id"), told)
    return int(bundled) + len(told)
