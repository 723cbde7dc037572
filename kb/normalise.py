"""Normal forms of what comes from outside: text that PostgreSQL takes, addresses without secrets, identifiers."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from kb.errors import DataError

# One normaliser for text that comes from outside, so that Postgres never has to refuse it.

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
    return " ".join((text if text.isascii() and "\0" not in text else clean(text)).split())


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
    if 4 * len(text) <= MAX_INDEXED:  # UTF-8 has at most four bytes a character
        return None
    size = len(text.encode("utf-8", "replace"))
    return f"{what} of {size:,} bytes: the limit is {MAX_INDEXED:,}" if size > MAX_INDEXED else None


_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)


def read_number(text: str) -> float | None:
    """The finite number that a cell of a table writes in ASCII, or None: ``1_000``, ``NaN`` and ``٧`` are none."""
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


# Secrets never reach a screen, a log, a traceback or the database: one redactor for all that is said or kept.

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


# Identifiers as ``namespace:value``, normalised by the rules of whoever issues them.
#
# Prefixes follow the Bioregistry (pubchem.compound, drugbank, chebi, unii, cas, rxcui, atc, ndc, inchikey).

_FORMS: dict[str, re.Pattern[str]] = {
    "pubchem.compound": re.compile(r"[1-9]\d{0,9}"),
    "drugbank": re.compile(r"DB\d{5}"),
    "chebi": re.compile(r"\d{1,7}"),
    "chembl": re.compile(r"CHEMBL\d{1,9}"),
    "unii": re.compile(r"[0-9A-Z]{10}"),
    "cas": re.compile(r"\d{2,7}-\d\d-\d"),
    "rxcui": re.compile(r"[1-9]\d{0,7}"),
    "atc": re.compile(r"[A-Z](\d\d([A-Z]([A-Z](\d\d)?)?)?)?"),
    "ndc": re.compile(r"\d{11}"),
    "inchikey": re.compile(r"[A-Z]{14}-[A-Z]{8}S[A-Z]-[A-Z]"),
    "pharmgkb": re.compile(r"PA\d{1,12}"),
    "drugcentral": re.compile(r"\d{1,6}"),
    "ccd": re.compile(r"[0-9A-Z]{1,5}"),
    "mesh": re.compile(r"[CD]\d{6,9}"),
    "hmdb": re.compile(r"HMDB\d{7}"),
    "zinc": re.compile(r"ZINC\d{12}"),
    "molport": re.compile(r"MOLPORT-\d{3}-\d{3}-\d{3}"),
    "bindingdb": re.compile(r"[1-9]\d{0,9}"),
    "user": re.compile(r"[A-Za-z0-9:_.-]{1,64}"),
}
_EXAMPLES = {
    "pubchem.compound": "2244", "drugbank": "DB00945", "chebi": "15365", "chembl": "CHEMBL25", "unii": "R16CO5Y76E",
    "cas": "50-78-2", "rxcui": "1191", "atc": "N02BA01", "ndc": "00904-2009-60", "pharmgkb": "PA448497",
    "inchikey": "BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "drugcentral": "74", "ccd": "AIN", "mesh": "D001241",
    "hmdb": "HMDB0001879", "zinc": "ZINC000000000053", "molport": "MolPort-000-871-622", "bindingdb": "22360",
    "user": "mine-1",
}
"""Aspirin's, but for the last."""
NAMESPACES: tuple[str, ...] = tuple(_FORMS)
DATASET = re.compile(r"user\.[a-z0-9][a-z0-9_-]{0,62}")
"""The namespace of the keys of one table of the user's: a key means nothing outside its dataset."""
_PREFIX = {"chebi": "CHEBI:", "unii": "UNII:", "chembl": "CHEMBL:", "inchikey": "INCHIKEY=", "bindingdb": "BDBM"}
_DIGITS = {"hmdb": 7, "zinc": 12}
"""Namespaces whose numbers were shorter once: leading zeros are added."""


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """One identifier, already normalised; ``str()`` gives ``namespace:value``."""

    namespace: str
    value: str

    def __str__(self) -> str:
        return f"{self.namespace}:{self.value}"

    @classmethod
    def make(cls, namespace: str, value: str | int) -> Identifier:
        """The normalised identifier; raises DataError when the value has not the namespace's form."""
        namespace = namespace.strip().lower()
        form = "user" if DATASET.fullmatch(namespace) else namespace
        if form not in _FORMS:
            raise DataError(f"unknown namespace {namespace!r}", hint=near_namespace(namespace))
        text = str(value).strip()
        if form != "user":
            text = text.upper()
        prefix = _PREFIX.get(namespace, "")
        if prefix and text.startswith(prefix) and namespace != "chembl":
            text = text.removeprefix(prefix)
        if namespace == "ndc":
            text = normalise_ndc(text) or text
        if namespace in _DIGITS and re.fullmatch(rf"{namespace.upper()}\d+", text):
            text = namespace.upper() + text.removeprefix(namespace.upper()).zfill(_DIGITS[namespace])
        if not _FORMS[form].fullmatch(text):
            raise DataError(f"{value!r} is not a {_KIND.get(form, form)} identifier",
                            hint=f"one looks like {namespace}:{_EXAMPLES[form]}")
        if namespace == "cas" and not is_cas(text):
            raise DataError(f"{value!r} is not a cas identifier: its check digit is wrong",
                            hint=f"the number that begins so is {text[:-1]}{_check_digit(text)}")
        return cls(namespace, text)

    @classmethod
    def parse(cls, text: str) -> Identifier:
        """The identifier written as ``namespace:value``; raises DataError when it is not one."""
        namespace, colon, value = text.partition(":")
        if not colon:
            raise DataError(f"{text!r} has no namespace", hint="write it as namespace:value, e.g. drugbank:DB00945")
        return cls.make(namespace, value)


_KIND = {"inchikey": "standard inchikey"}


def is_cas(text: str) -> bool:
    """Whether a text is a CAS Registry Number whose check digit is right (CAS, "Check Digit Verification")."""
    return bool(_FORMS["cas"].fullmatch(text)) and text[-1] == _check_digit(text)


def _check_digit(cas: str) -> str:
    digits = cas[:-2].replace("-", "")[::-1]
    return str(sum(place * int(digit) for place, digit in enumerate(digits, 1)) % 10)


def near_namespace(name: str) -> str:
    """A hint with the namespace that is most like ``name``, and all that are known."""
    name = name.strip().lower()
    close = [known for known in NAMESPACES if name and known.startswith(name)]
    close = close or difflib.get_close_matches(name, NAMESPACES, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}:{_EXAMPLES[close[0]]}? " if close else ""
    return f"{meant}known: {', '.join(NAMESPACES)}"


def recognise_identifier(text: str) -> Identifier | None:
    """The identifier that a bare or prefixed text is, or None when it can only be a name."""
    text = text.strip()
    namespace = text.partition(":")[0].strip().lower()
    if (namespace in _FORMS or DATASET.fullmatch(namespace)) and ":" in text:
        return Identifier.parse(text)
    for bare in ("inchikey", "drugbank", "cas"):
        if _FORMS[bare].fullmatch(text.upper()) and (bare != "cas" or is_cas(text)):
            return Identifier(bare, text.upper())
    return None


def normalise_ndc(text: str) -> str | None:
    """The 11-digit form (5-4-2) of a National Drug Code, or None where the text does not determine one.

    Hyphenated 10-digit codes (4-4-2, 5-3-2, 5-4-1) are padded in their short segment. Ten digits without hyphens are
    ambiguous and give None, never a guess; nine or fewer lost leading zeros to a numeric column and are padded on the
    left (``ndc_was_padded`` tells). ``0`` means "not a drug" in MIMIC and gives None. Idempotent. Source: FDA NDC
    directory, HIPAA 11-digit rule.
    """
    text = text.strip().removesuffix(".0")
    if re.fullmatch(r"\d{4,5}-\d{3,4}-\d{1,2}", text):
        labeler, product, package = text.split("-")
        if sorted((5 - len(labeler), 4 - len(product), 2 - len(package))) not in ([0, 0, 0], [0, 0, 1]):
            return None
        return labeler.zfill(5) + product.zfill(4) + package.zfill(2)
    if not re.fullmatch(r"\d{1,11}", text) or not text.strip("0") or len(text) == 10:
        return None
    return text.zfill(11)


def ndc_was_padded(text: str) -> bool:
    """Whether ``normalise_ndc`` had to restore leading zeros that a numeric column had dropped."""
    return bool(re.fullmatch(r"\d{1,9}", text.strip().removesuffix(".0"))) and normalise_ndc(text) is not None
