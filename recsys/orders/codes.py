"""Clinical codes as prefixed strings, so that no two systems can collide: ``ICD9CM:4280``, ``ICD10PCS:0BH17EZ``.

46 ICD-9-CM codes are also ICD-10-CM codes, 1,593 ICD-9 diagnoses read like ICD-9 procedures, and a lost leading zero
makes another 347 diagnosis pairs collide: so codes stay text, keep their zeros, and carry their system.
"""

from __future__ import annotations

import re

SYSTEMS: dict[str, re.Pattern[str]] = {
    "ICD9CM": re.compile(r"\d{3,5}|V\d{2,4}|E\d{3,4}"),
    "ICD9PROC": re.compile(r"\d{2,4}"),
    "ICD10CM": re.compile(r"[A-Z]\d[0-9A-Z]{1,5}"),
    "ICD10PCS": re.compile(r"[0-9A-HJ-NP-Z]{7}"),
    "SNOMED": re.compile(r"\d{4,18}"),
}
"""The systems whose form is known; others are taken as they are."""


def prefixed(system: str, code: str) -> str | None:
    """``SYSTEM:CODE`` in upper case without dots, zeros kept, or None where the text has not the system's form."""
    text = code.strip().upper().removeprefix(f"{system}:")
    if system.startswith("ICD"):
        text = text.replace(".", "")
    form = SYSTEMS.get(system)
    if not text or (form is not None and not form.fullmatch(text)):
        return None
    return f"{system}:{text}"


def icd(code: str, version: str, procedure: bool) -> str | None:
    """The prefixed code of a MIMIC-IV row, whose version is 9 or 10; None where one of the two is wrong."""
    systems = {("9", False): "ICD9CM", ("9", True): "ICD9PROC", ("10", False): "ICD10CM", ("10", True): "ICD10PCS"}
    system = systems.get((version.strip().removesuffix(".0"), procedure))
    return prefixed(system, code) if system else None


def icd_of_either_version(text: str) -> tuple[str, ...]:
    """The prefixed codes of a field that lists dotted codes of both versions, as eICU's ``401.9, I10``.

    The part before the dot tells the version: digits, or ``E`` and three digits, are ICD-9; another letter is ICD-10.
    ``V`` and two digits are ambiguous (ICD-9 factors, ICD-10 transport accidents) and are taken as ICD-9, which an
    intensive care unit records far more often. A part of neither form is left out.
    """
    found: list[str] = []
    for part in text.upper().split(","):
        head = part.strip().partition(".")[0]
        old = bool(re.fullmatch(r"\d{3}|E\d{3}|V\d\d", head))
        code = prefixed("ICD9CM" if old else "ICD10CM", part)
        if code and code not in found:
            found.append(code)
    return tuple(found)
