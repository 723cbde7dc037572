"""One normaliser for text that comes from outside, so that Postgres never has to refuse it."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

MAX_INDEXED = 2_000
"""Bytes of a text that an index of PostgreSQL holds; a B-tree takes up to 2,704."""
_LONE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """The text in NFC, without NUL, lone surrogates replaced by U+FFFD; idempotent."""
    if text.isascii():  # nearly all text is, and is in NFC already
        return text.replace("\0", "")
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


def too_long(text: str, what: str) -> str | None:
    """Why a text cannot be a name, a provider or whatever else is looked for, or None when it fits an index."""
    size = len(text.encode("utf-8", "replace"))
    return f"{what} of {size:,} bytes: the limit is {MAX_INDEXED:,}" if size > MAX_INDEXED else None
