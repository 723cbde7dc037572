"""A compound of PubChem as a drug record: its names, and the identifiers that may decide who it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from kb.chemistry import standardise
from kb.errors import DataError
from kb.identity.identifiers import Identifier, is_cas
from kb.ingest.records import Document, DrugRecord, Name
from kb.sources.pubchem.formula import composition
from kb.sources.pubchem.keys import CID, MAX_NAME, KeyQuestion
from kb.sources.pubchem.proof import Compound

MAX_SYNONYMS = 100
MAX_SYNONYM = 300
_UNII = re.compile(r"UNII-([0-9A-Z]{10})")


def drug_record(
    compound: Compound,
    document: Document,
    synonyms: Sequence[str] = (),
    registry_numbers: Sequence[str] = (),
    questions: Iterable[KeyQuestion] = (),
) -> DrugRecord:
    """The record of a compound; of the user's questions that led to it, DrugBank ids become identifiers."""
    found = {Identifier.make(CID, compound.cid)}
    if compound.inchikey:
        found.add(Identifier.make("inchikey", compound.inchikey))
    found |= {Identifier.make("cas", number) for number in registry_numbers if is_cas(number)}
    found |= {Identifier.make("unii", m.group(1)) for m in map(_UNII.fullmatch, synonyms) if m}
    found |= {Identifier.make("drugbank", q.value) for q in questions if q.namespace == "drugbank"}
    names = [Name(text) for text in synonyms[:MAX_SYNONYMS] if 0 < len(text) <= MAX_SYNONYM]
    if compound.iupac_name and len(compound.iupac_name) <= MAX_NAME:
        names.append(Name(compound.iupac_name, "iupac"))
    return DrugRecord(
        key=f"{CID}:{compound.cid}",
        name=_title(compound, synonyms),
        document=document,
        kind="small molecule",
        smiles=compound.smiles,
        inchikey=compound.inchikey,
        formula=compound.formula or None,
        identifiers=tuple(sorted(found)),
        names=tuple(names),
    )


def _title(compound: Compound, synonyms: Sequence[str]) -> str:
    """PubChem's title, else the first synonym, else the IUPAC name; none that an index cannot hold."""
    named = next((text for text in synonyms if 0 < len(text) <= MAX_SYNONYM), "")
    names = (compound.title, named, compound.iupac_name or "")
    return next((name for name in names if 0 < len(name) <= MAX_NAME), f"CID {compound.cid}")


def is_titled(compound: Compound, synonyms: Sequence[str]) -> bool:
    """Whether a compound's title is among its synonyms, where it has both: titles can be mixed up."""
    title = compound.title.casefold()
    return not title or not synonyms or compound.title == compound.iupac_name or title in map(str.casefold, synonyms)


def contradicts(
    question: KeyQuestion, compound: Compound, synonyms: Sequence[str], numbers: Sequence[str]
) -> str | None:
    """Why a compound cannot be what a question asked for, or None; a structure is compared, a name looked for.

    PubChem standardises the structure that it is asked for, so that only the heavy atoms must agree. A DrugBank id is
    not among what PubChem says of a compound.
    """
    led = f"led to CID {compound.cid}, "
    if question.namespace == "inchikey" and compound.inchikey not in (None, question.value):
        return f"{led}whose InChIKey is {compound.inchikey}"
    if question.namespace == "smiles" and compound.formula:
        try:
            asked = composition(str(standardise(question.value).formula))[0]
        except DataError:
            return None
        if asked - Counter({"H": asked["H"]}) != _heavy(compound.formula):
            return f"{led}whose formula is {compound.formula}"
    if question.namespace == "name":
        wanted = _letters(question.value)
        known = (compound.title, compound.iupac_name or "", compound.inchikey or "", *synonyms, *numbers)
        if not any(wanted in _letters(text) for text in known):
            return f"{led}which is not known by this name"
    return None


def _heavy(formula: str) -> Counter[str]:
    atoms = composition(formula)[0]
    return atoms - Counter({"H": atoms["H"]})


def _letters(text: str) -> str:
    """Letters and digits of a name, whatever its case."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text
