"""Secrets never reach a screen, a log, a traceback or the database: one redactor for all that is said or kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote, unquote

MASK = "***"
_NAMES = (
    r"[\w.\-]*(?:token|secret|passw|passphrase|pwd|api[_-]?key|access[_-]?key|signature|credential|auth|session|jwt|ticket)"
    r"[\w.\-]*|sig|key|sid|code"
)
"""Names of parameters whose values are secrets."""
_NO_PORT = r"(?!\d+(?:[/?#]|$))"
_PATTERNS = (
    # scheme://user:secret@host - the secret may itself hold @, /, ? and #, so take the last @ before a space or a quote
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.\-]*://[^\s:/@]*):" + _NO_PORT + r"[^\s'\"]*@"), rf"\1:{MASK}@"),
    (re.compile(rf"(?i)([?&;#](?:{_NAMES})=)[^\s&;#'\"]*"), rf"\1{MASK}"),
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
    return _masked(text)


def _masked(text: str) -> str:
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


_FOLDERS = re.compile(r".*[/\\]")
_USER = re.compile(rf"^(?:[^/?#\s]*@|[^/?#:\s]*:{_NO_PORT}\S*@)")
_SCHEME = re.compile(r"(?i)^([a-z][a-z0-9+.\-]*):(?://)?")


def public_url(url: str) -> str:
    """The address without user, password and tokens; of a local file only its name.

    For everything that is stored: ``https://user:secret@host/x?token=…`` becomes ``https://host/x?token=***``.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _masked(url)
    rest = url[scheme.end() :]
    if scheme.group(1).lower() == "file":
        return f"file:{_FOLDERS.sub('', unquote(rest).rstrip('/'))}"
    return _masked(scheme.group() + _USER.sub("", rest)) if scheme.group().endswith("//") else _masked(url)


def public_values(value: Any) -> Any:
    """A structure of mappings, lists and scalars with every text in it as ``redact`` and ``public_url`` leave it."""
    if isinstance(value, str):
        return public_url(value) if _SCHEME.match(value) else redact(value)
    if isinstance(value, Mapping):
        return {key: public_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public_values(inner) for inner in value]
    return value
