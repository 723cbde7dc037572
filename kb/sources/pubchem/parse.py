"""Reads PubChem's documents, which ``answers`` has judged present: bytes to frozen values. No network."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pubchempy

from kb.licences import NCBI, Licence, most_restrictive
from kb.normalise import clean, tidy
from kb.sources.pubchem import bodies as answers_body
from kb.sources.pubchem.bodies import BodyError
from kb.sources.pubchem.rules import licence_of

NUMBERS: dict[str, str] = {
    "mol_weight": "molecular_weight",
    "exact_mass": "monoisotopic_mass",
    "xlogp": "xlogp",
    "tpsa": "tpsa",
    "hbond_donors": "h_bond_donor_count",
    "hbond_acceptors": "h_bond_acceptor_count",
    "rotatable_bonds": "rotatable_bond_count",
    "heavy_atoms": "heavy_atom_count",
    "charge": "charge",
    "stereo_centers": "atom_stereo_count",
    "complexity": "complexity",
}
"""Canonical property names and what PubChemPy calls the same numbers."""

_TEXTS = ("title", "iupac_name", "molecular_formula", "smiles", "inchikey", "covalent_unit_count")
_TITLE_TAG = "Title"


def _tag(attribute: str) -> str:
    return pubchempy.PROPERTY_MAP.get(attribute, _TITLE_TAG)


TAGS: tuple[str, ...] = tuple(_tag(attribute) for attribute in (*_TEXTS, *NUMBERS.values()))
"""The property tags that are asked for, as PUG REST spells them."""


@dataclass(frozen=True, slots=True)
class Compound:
    """What PubChem knows a compound by; ``values`` under canonical property names; ``units`` is its fragments."""

    cid: int
    title: str
    formula: str
    smiles: str | None
    inchikey: str | None
    iupac_name: str | None
    units: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Passage:
    """A text with whoever wrote it and the licence that PubChem states for it."""

    cid: int
    heading: str
    content: str
    provider: str
    url: str | None = None
    licence_note: str | None = None
    licence_url: str | None = None


@dataclass(frozen=True, slots=True)
class Conformer:
    """A 3D conformer: an MDL V2000 block with hydrogens, ``energy`` in kcal/mol (MMFF94)."""

    cid: int
    molblock: str
    heavy_atoms: int
    energy: float | None
    conformer_id: str | None


def _number(value: Any) -> float | None:
    """A finite number out of PubChem's numbers and numeric strings."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e30 else None


def _text(value: Any) -> str | None:
    return tidy(value) or None if isinstance(value, str) else None


def parse_properties(body: bytes) -> list[Compound]:
    """The compounds of a property table (JSON)."""
    listed = answers_body.rows(answers_body.load_json(body), "PropertyTable", "Properties")
    return [_compound(row["CID"], {a: row.get(_tag(a)) for a in (*_TEXTS, *NUMBERS.values())}) for row in listed]


def parse_records(body: bytes) -> list[Compound]:
    """The compounds of full records (``PC_Compounds``), read by PubChemPy; such a record has no title."""
    found = []
    for record in answers_body.load_json(body)["PC_Compounds"]:
        try:
            compound = pubchempy.Compound(record)
            wanted = {a: getattr(compound, a) for a in (*_TEXTS[1:], *NUMBERS.values())}
            found.append(_compound(int(compound.cid or 0), wanted))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BodyError(f"a record that PubChemPy cannot read: {type(error).__name__}") from None
    return found


def _compound(cid: int, row: Mapping[str, Any]) -> Compound:
    numbers = {name: _number(row.get(attribute)) for name, attribute in NUMBERS.items()}
    return Compound(
        cid=cid,
        title=_text(row.get("title")) or _text(row.get("iupac_name")) or f"CID {cid}",
        formula=_text(row.get("molecular_formula")) or "",
        smiles=_text(row.get("smiles")),
        inchikey=_text(row.get("inchikey")),
        iupac_name=_text(row.get("iupac_name")),
        units=int(_number(row.get("covalent_unit_count")) or 1),
        values={name: value for name, value in numbers.items() if value is not None},
    )


def parse_lists(body: bytes, tag: str) -> dict[int, tuple[str, ...]]:
    """The values under ``tag`` (Synonym, RN, RegistryID, …) by CID, each once, in PubChem's order."""
    found: dict[int, dict[str, None]] = {}
    for row in answers_body.rows(answers_body.load_json(body), "InformationList", "Information"):
        texts = (tidy(str(value)) for value in row.get(tag, []))
        found.setdefault(row["CID"], {}).update(dict.fromkeys(text for text in texts if text))
    return {cid: tuple(values) for cid, values in found.items()}


def parse_descriptions(body: bytes) -> list[Passage]:
    """All descriptions of a compound with their source and address; the row that has only a title is left out."""
    rows = answers_body.rows(answers_body.load_json(body), "InformationList", "Information")
    return [
        Passage(row["CID"], "Record Description", clean(row["Description"]).strip(),
                _text(row.get("DescriptionSourceName")) or "unstated", _text(row.get("DescriptionURL")))
        for row in rows if isinstance(row.get("Description"), str) and row["Description"].strip()
    ]


def parse_view(body: bytes, headings: tuple[str, ...] | None = None) -> list[Passage]:
    """The texts of a PUG View record below ``headings`` (all if None), each with its reference's licence."""
    document = answers_body.load_json(body)
    record = document.get("Record", document)
    references = {ref.get("ReferenceNumber"): ref for ref in record["Reference"] if isinstance(ref, dict)}
    found: dict[tuple[str, str, str], Passage] = {}
    for heading, information in _walk(record["Section"]):
        if headings is not None and heading not in headings:
            continue
        reference = references.get(information.get("ReferenceNumber"), {})
        for content in _strings(information.get("Value")):
            passage = Passage(
                record["RecordNumber"], heading, content, _text(reference.get("SourceName")) or "unstated",
                _text(reference.get("URL")), _text(reference.get("LicenseNote")), _text(reference.get("LicenseURL")),
            )
            found.setdefault((heading, passage.provider, content), passage)
    return list(found.values())


def parse_view_licence(body: bytes) -> Licence:
    """The licence of a PUG View record as a whole: the most restrictive of all that it refers to."""
    record = answers_body.load_json(body)
    listed = record.get("Record", record)["Reference"]
    quoted = [
        licence_of(_text(ref.get("SourceName")) or "", _text(ref.get("LicenseNote")), _text(ref.get("LicenseURL")))
        for ref in listed
        if isinstance(ref, dict)
    ]
    return most_restrictive([NCBI, *quoted])


def _walk(sections: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every piece of information with the heading it stands under; ill-formed sections are passed over."""
    queue = list(sections) if isinstance(sections, list) else []
    while queue:
        section = queue.pop(0)
        if not isinstance(section, dict):
            continue
        heading = str(section.get("TOCHeading", ""))
        listed = section.get("Information")
        for information in listed if isinstance(listed, list) else []:
            if isinstance(information, dict):
                yield heading, information
        inner = section.get("Section")
        queue = (inner if isinstance(inner, list) else []) + queue


def _strings(value: Any) -> Iterator[str]:
    marked = value.get("StringWithMarkup") if isinstance(value, dict) else None
    for piece in marked if isinstance(marked, list) else []:
        content = piece.get("String") if isinstance(piece, dict) else None
        if isinstance(content, str) and content.strip():
            yield clean(content).strip()


def parse_cids(body: bytes) -> tuple[int, ...]:
    """The CIDs of an identifier list, each once; empty when PubChem answers 0, i.e. never saw the structure."""
    document = answers_body.load_json(body)
    if "InformationList" in document:
        rows = answers_body.rows(document, "InformationList", "Information")
        lists = [row["CID"] if isinstance(row["CID"], list) else [row["CID"]] for row in rows]
    else:
        lists = [document["IdentifierList"]["CID"]]
    return tuple(dict.fromkeys(cid for listed in lists for cid in listed if cid))


def parse_conformer(record: str) -> Conformer:
    """The conformer of one record of an SD file; raises BodyError when it is flat or its numbers are none."""
    lines = record.split("\n")
    if not lines[1].rstrip().endswith("3D"):
        raise BodyError("the record has no 3D coordinates")
    count = int(lines[3][:3])
    heavy = 0
    for line in lines[4:4 + count]:
        if any(_number(line[at:at + 10]) is None for at in (0, 10, 20)):
            raise BodyError("an atom without finite coordinates")
        heavy += line[31:34].strip() != "H"
    block = "\n".join(lines[:lines.index("M  END") + 1]) + "\n"
    tags = sdf_tags(record)
    energy = _number(tags.get("PUBCHEM_MMFF94_ENERGY"))
    return Conformer(int(lines[0]), block, heavy, energy, tags.get("PUBCHEM_CONFORMER_ID"))


_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d*)")


def check_composition(record: str, formula: str) -> None:
    """Raise BodyError when the record's heavy atoms are not those of the formula, i.e. it is another compound's.

    A record names its own CID, so an answer that mixes up two compounds which were both asked for agrees with itself.
    """
    lines = record.split("\n")
    atoms = Counter(line[31:34].strip() for line in lines[4 : 4 + int(lines[3][:3])])
    wanted: Counter[str] = Counter()
    for symbol, count in _ELEMENT.findall(formula):
        wanted[symbol] += int(count or 1)
    for hydrogen in ("H", "D", "T"):
        atoms.pop(hydrogen, None)
        wanted.pop(hydrogen, None)
    if formula and atoms != wanted:
        raise BodyError("the conformer's atoms are not the compound's")


def sdf_tags(record: str) -> dict[str, str]:
    """The data items of one record of an SD file."""
    tags: dict[str, str] = {}
    lines = iter(record.split("\n"))
    for line in lines:
        if line.startswith("> <") and line.rstrip().endswith(">"):
            values = []
            for value in lines:
                if not value.strip():
                    break
                values.append(value)
            tags[line.rstrip()[3:-1]] = "\n".join(values)
    return tags


def png_size(body: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    width, height = struct.unpack(">II", body[16:24])
    return int(width), int(height)
