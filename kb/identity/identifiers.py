"""Identifiers as ``namespace:value``, normalised by the rules of whoever issues them.

Prefixes follow the Bioregistry (pubchem.compound, drugbank, chebi, unii, cas, rxcui, atc, ndc, inchikey).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from kb.errors import DataError

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
