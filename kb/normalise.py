"""One normaliser for text that comes from outside, so that Postgres never has to refuse it."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

_LONE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """The text in NFC, without NUL, lone surrogates replaced by U+FFFD; idempotent."""
    return unicodedata.normalize("NFC", _LONE.sub("�", text.replace("\0", "")))


def tidy(text: str) -> str:
    """The cleaned text with runs of white space made one blank and none at the ends."""
    return " ".join(clean(text).split())


def clean_json(value: Any) -> Any:
    """The value with all text cleaned and NaN and infinities made None, as JSON wants it (RFC 8259 §6)."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(k)): clean_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(v) for v in value]
    return value
