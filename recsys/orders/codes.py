"""Clinical codes as prefixed strings, so that no two systems can collide: ``ICD9CM:4280``, ``ICD10PCS:0BH17EZ``.

46 ICD-9-CM codes are also ICD-10-CM codes, 1,593 ICD-9 diagnoses read like ICD-9 procedures, and a lost leading zero
makes another 347 diagnosis pairs collide: so codes stay text, keep their zeros, and carry their system.
"""

from __future__ import annotations

import re

from kb.normalise import normalise_ndc, tidy

SYSTEMS: dict[str, re.Pattern[str]] = {
    "ICD9CM": re.compile(r"\d{3,5}|V\d{2,4}|E\d{3,4}", re.ASCII),
    "ICD9PROC": re.compile(r"\d{2,4}", re.ASCII),
    "ICD10CM": re.compile(r"([A-Z]\d|QA)[0-9AB]([0-9A-LXZ]([0-9A-LXYZ]([0-9A-LXZ][0-9A-Z]?)?)?)?", re.ASCII),
    "ICD10PCS": re.compile(r"[0-9A-HJ-NP-Z]{7}", re.ASCII),
    "SNOMED": re.compile(r"\d{4,18}", re.ASCII),
    "ATC": re.compile(r"[A-Z](\d\d([A-Z]([A-Z](\d\d)?)?)?)?", re.ASCII),
    "RXCUI": re.compile(r"\d{1,8}", re.ASCII),
}
"""The systems whose form is known; others are taken as they are."""

DIAGNOSIS, PROCEDURE, MEDICATION = "diagnosis", "procedure", "medication"

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "ICD9CM": ("icd9cm", "icd9", "icd9dx", "icd9diagnosis"),
    "ICD9PROC": ("icd9proc", "icd9procedure", "icd9pcs", "icd9sg", "icd9px"),
    "ICD10CM": ("icd10cm", "icd10", "icd10dx", "icd10diagnosis"),
    "ICD10PCS": ("icd10pcs", "icd10proc", "icd10procedure", "icd10px"),
    "SNOMED": ("snomed", "snomedct", "sct", "sctid", "snomedctus"),
    "ATC": ("atc", "whoatc", "atccode"),
    "RXCUI": ("rxcui", "rxnorm", "rxnormextension"),
    "NDC": ("ndc", "ndc11", "ndc10"),
    "CPT": ("cpt", "cpt4"),
    "HCPCS": ("hcpcs",),
    "LOINC": ("loinc", "lnc"),
    "CVX": ("cvx",),
    "EICU": ("eicu",),
    "NAME": ("name", "drugname"),
    "DRUG": ("drug",),
}
"""How systems are written, in lower case without punctuation."""
_ADDRESSES: dict[str, str] = {
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "http://hl7.org/fhir/sid/icd-9-cm/diagnosis": "ICD9CM",
    "http://hl7.org/fhir/sid/icd-9-cm/procedure": "ICD9PROC",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "http://hl7.org/fhir/sid/icd-10": "ICD10CM",
    "http://hl7.org/fhir/sid/icd-10-pcs": "ICD10PCS",
    "http://www.cms.gov/medicare/coding/icd9": "ICD9PROC",
    "http://www.cms.gov/medicare/coding/icd10": "ICD10PCS",
    "http://snomed.info/sct": "SNOMED",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RXCUI",
    "http://hl7.org/fhir/sid/ndc": "NDC",
    "http://hl7.org/fhir/sid/cvx": "CVX",
    "http://www.whocc.no/atc": "ATC",
    "http://www.ama-assn.org/go/cpt": "CPT",
    "http://loinc.org": "LOINC",
    "http://mimic.mit.edu/fhir/mimic/codesystem/mimic-diagnosis-icd9": "ICD9CM",
    "http://mimic.mit.edu/fhir/mimic/codesystem/mimic-diagnosis-icd10": "ICD10CM",
    "http://mimic.mit.edu/fhir/mimic/codesystem/mimic-procedure-icd9": "ICD9PROC",
    "http://mimic.mit.edu/fhir/mimic/codesystem/mimic-procedure-icd10": "ICD10PCS",
    "urn:oid:2.16.840.1.113883.6.103": "ICD9CM",
    "urn:oid:2.16.840.1.113883.6.104": "ICD9PROC",
    "urn:oid:2.16.840.1.113883.6.90": "ICD10CM",
    "urn:oid:2.16.840.1.113883.6.3": "ICD10CM",
    "urn:oid:2.16.840.1.113883.6.4": "ICD10PCS",
    "urn:oid:2.16.840.1.113883.6.96": "SNOMED",
    "urn:oid:2.16.840.1.113883.6.88": "RXCUI",
    "urn:oid:2.16.840.1.113883.6.69": "NDC",
    "urn:oid:2.16.840.1.113883.6.73": "ATC",
    "urn:oid:2.16.840.1.113883.6.12": "CPT",
    "urn:oid:2.16.840.1.113883.6.1": "LOINC",
}
"""Code systems by the addresses of FHIR R4's terminology pages and HL7's OIDs, in lower case. WHO's ICD-10, of whose
categories the clinical modification keeps the numbers, is read as ICD10CM."""
_SYSTEM_OF = {spelling: system for system, spellings in _SPELLINGS.items() for spelling in spellings}
_AS_PROCEDURE = {"ICD9CM": "ICD9PROC", "ICD10CM": "ICD10PCS"}
_GENERAL = ("icd9", "icd10", "icd9cm", "http://hl7.org/fhir/sid/icd-9-cm", "http://hl7.org/fhir/sid/icd-10",
            "urn:oid:2.16.840.1.113883.6.3")
"""Names of a system that say diagnosis and procedure alike: the field decides."""


def system_of(name: str, kind: str = DIAGNOSIS) -> str | None:
    """The prefix of a code system by any of its names or addresses, in a field of this kind; None where unknown."""
    plain = name.strip().lower()
    if plain.startswith(("http://", "https://", "urn:")):
        plain = plain.replace("https://", "http://").rstrip("/")
        system = _ADDRESSES.get(plain)
        if system is None and plain.startswith("http://snomed.info/sct/"):  # an edition of it
            system = "SNOMED"
    else:
        plain = re.sub(r"[^a-z0-9]", "", plain)
        system = _SYSTEM_OF.get(plain)
    return _AS_PROCEDURE.get(system or "", system) if kind == PROCEDURE and plain in _GENERAL else system


def split_system(text: str) -> tuple[str, str]:
    """(system, code) as written: ``http://…|I50.9``, ``ICD10CM:I50.9``, ``ICD9CM/428.0``, ``SNOMED//22298006``.

    Without a system the first is empty. Other marks than a colon count only after a system that is known, because
    codes and free text have them too.
    """
    text = text.strip()
    if text.lower().startswith(("http://", "https://", "urn:")):
        system, mark, code = text.rpartition("|")
        return (system, code) if mark else ("", text)
    found = re.fullmatch(r"([^:/|]+)(:|//?|\|)\s*(.+)", text, re.DOTALL)
    if found and (found[2] == ":" or system_of(found[1])):
        return found[1].strip(), found[3].strip()
    return "", text


def normalised(text: str, kind: str = DIAGNOSIS) -> str | None:
    """A code as readers write it, ``SYSTEM:CODE``; None without a system or where the code has not its system's form.

    ``icd10cm:i50.9``, ``http://hl7.org/fhir/sid/icd-10-cm|I50.9`` and ``ICD10CM:I509`` are the same; a code of a system
    that is not known here keeps its text.
    """
    name, code = split_system(text)
    if not name:
        return None
    system = system_of(name, kind)
    if system is None:
        return f"{name}:{code}"
    if system == "EICU":
        return f"EICU:{tidy(code.lower())}"
    if system == "NDC":
        number = normalise_ndc(code)
        return f"NDC:{number}" if number else None
    if system == "NAME":
        return f"NAME:{tidy(code.lower())}"
    if system == "DRUG":
        return f"DRUG:{code}"
    return prefixed(system, code)


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
