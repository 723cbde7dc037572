"""A compound of PubChem as a drug record: its names, and the identifiers that may decide who it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kb.identity.identifiers import Identifier
from kb.ingest.records import Document, DrugRecord, Name
from kb.sources.pubchem.keys import CID, MAX_SMILES, Question
from kb.sources.pubchem.parse import Compound

MAX_SYNONYMS = 100
MAX_SYNONYM = 300
MAX_HEAVY_ATOMS = 1000
_CAS = re.compile(r"(\d{2,7})-(\d\d)-(\d)")
_UNII = re.compile(r"UNII-([0-9A-Z]{10})")


def drug_record(
    compound: Compound,
    document: Document,
    synonyms: Sequence[str] = (),
    registry_numbers: Sequence[str] = (),
    questions: Iterable[Question] = (),
) -> DrugRecord:
    """The record of a compound; of the user's questions that led to it, DrugBank ids become identifiers."""
    found = {Identifier.make(CID, compound.cid)}
    if compound.inchikey:
        found.add(Identifier.make("inchikey", compound.inchikey))
    found |= {Identifier.make("cas", number) for number in registry_numbers if is_cas(number)}
    found |= {Identifier.make("unii", m.group(1)) for m in map(_UNII.fullmatch, synonyms) if m}
    found |= {Identifier.make("drugbank", q.value) for q in questions if q.namespace == "drugbank"}
    names = [Name(text) for text in synonyms[:MAX_SYNONYMS] if 0 < len(text) <= MAX_SYNONYM]
    if compound.iupac_name:
        names.append(Name(compound.iupac_name, "iupac"))
    return DrugRecord(
        key=f"{CID}:{compound.cid}",
        name=compound.title,
        document=document,
        kind="small molecule",
        smiles=canonical_smiles(compound.smiles),
        inchikey=compound.inchikey,
        formula=compound.formula or None,
        identifiers=tuple(sorted(found)),
        names=tuple(names),
    )


def is_cas(text: str) -> bool:
    """Whether a text is a CAS Registry Number with a right check digit (EC numbers, e.g., are not)."""
    match = _CAS.fullmatch(text)
    if not match:
        return False
    digits = (match.group(1) + match.group(2))[::-1]
    return sum(place * int(digit) for place, digit in enumerate(digits, 1)) % 10 == int(match.group(3))


def canonical_smiles(smiles: str | None) -> str | None:
    """RDKit's canonical SMILES, or None where there is none or it is monstrous (text and atoms are capped first)."""
    if not smiles or len(smiles) > MAX_SMILES:
        return None
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or not 0 < molecule.GetNumHeavyAtoms() <= MAX_HEAVY_ATOMS:
            return None
        return str(Chem.MolToSmiles(molecule))
