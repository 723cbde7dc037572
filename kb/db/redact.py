"""Secrets never reach a person's screen, a log or a traceback: one redactor for everything that is said."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import quote

MASK = "***"
_PATTERNS = (
    # scheme://user:secret@host - the secret may itself hold @, so take the last one before a slash or a space
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.\-]*://[^\s:/@]*):[^\s/]*@"), rf"\1:{MASK}@"),
    # key=value in a URL's query or in a libpq string, quoted or bare
    (re.compile(r"(?i)\b((?:ssl)?pass(?:word|wd|phrase)?|pwd|secret|token|api_?key)(\s*[=:]\s*)('(?:[^'\\]|\\.)*'|[^\s&;,'\")]+)"),
     rf"\1\2{MASK}"),
)


class _Known:
    """Secrets that this process was given; masked wherever they appear, as written or percent-encoded."""

    values: ClassVar[set[str]] = set()


def remember(secret: str | None) -> None:
    """Have ``secret`` masked in everything that is redacted from now on."""
    if secret and len(secret) >= 3:
        _Known.values |= {secret, quote(secret, safe="")}


def redact(text: str) -> str:
    """The text without passwords, tokens and keys."""
    for secret in sorted(_Known.values, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
