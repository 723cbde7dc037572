"""Reads PubChem's documents: bytes to frozen values that ``schema`` and ``proof`` accept. No network.

A document about several compounds is read compound by compound: what one of them says wrongly is a reason under its
CID, and the others are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pubchempy

from kb import sdf
from kb.errors import DataError
from kb.licences import NCBI, Licence, most_restrictive
from kb.normalise import clean, tidy
from kb.sources.pubchem import schema
from kb.sources.pubchem.bodies import BodyError, ContentError, load_json
from kb.sources.pubchem.proof import Compound, check_conformer, prove
from kb.sources.pubchem.rules import licence_of

T = TypeVar("T")

VALUES: dict[str, str] = {
    "mol_weight": "MolecularWeight",
    "exact_mass": "MonoisotopicMass",
    "xlogp": "XLogP",
    "tpsa": "TPSA",
    "hbond_donors": "HBondDonorCount",
    "hbond_acceptors": "HBondAcceptorCount",
    "rotatable_bonds": "RotatableBondCount",
    "heavy_atoms": "HeavyAtomCount",
    "charge": "Charge",
    "stereo_centers": "AtomStereoCount",
    "complexity": "Complexity",
}
"""Canonical property names and PubChem's tags."""
TAGS: tuple[str, ...] = tuple(name for name in schema.PropertyRow.model_fields if name != "CID")
"""The property tags that are asked for, as PUG REST spells them."""
_ATTRIBUTES = {tag: attribute for attribute, tag in pubchempy.PROPERTY_MAP.items() if tag in TAGS}
"""What PubChemPy calls the same things."""
MAX_PASSAGES, MAX_TEXT = 2_000, 2 << 20
"""Texts in one document, and their characters together."""
DESCRIPTION = "Record Description"


@dataclass(frozen=True, slots=True)
class ParsedCompounds(Generic[T]):
    """What a document says of compounds, by CID, and the reasons for which it is not believed of others."""

    values: dict[int, T] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


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
class Texts:
    """The passages of a record, and the licence of the record as a whole: the most restrictive of all it refers to."""

    passages: tuple[Passage, ...]
    licence: Licence


@dataclass(frozen=True, slots=True)
class Conformer:
    """A 3D conformer: an MDL V2000 block with hydrogens, ``energy`` in kcal/mol (MMFF94), the record's own bytes."""

    cid: int
    molblock: str
    heavy_atoms: int
    energy: float | None
    conformer_id: str | None
    record: bytes


@dataclass(frozen=True, slots=True)
class Structure:
    """What is known of a compound that a conformer is asked for: SMILES, and the formula of what has none."""

    smiles: str | None = None
    formula: str = ""


def parse_properties(body: bytes, asked: frozenset[int]) -> ParsedCompounds[Compound]:
    """The compounds of a property table (JSON), each proven by its own structure."""

    def read(row: Any) -> Compound:
        return prove(compound_of(schema.validated(schema.PropertyRow, row, "a row of properties")), readable=True)

    return _by_cid(_rows(load_json(body), "PropertyTable", "Properties"), asked, read)


def parse_record(body: bytes, asked: frozenset[int]) -> ParsedCompounds[Compound]:
    """The compounds of full records (``PC_Compounds``), read by PubChemPy; such a record has no title."""
    listed = load_json(body).get("PC_Compounds")
    if not isinstance(listed, list) or not listed:
        raise BodyError("no PC_Compounds")

    def cid_of(record: Any) -> Any:
        outer = record.get("id") if isinstance(record, dict) else None
        inner = outer.get("id") if isinstance(outer, dict) else None
        return inner.get("cid") if isinstance(inner, dict) else None

    return _by_cid(listed, asked, _read_record, cid_of)


def _read_record(record: Any) -> Compound:
    """PubChemPy reads numbers leniently, so their texts are checked before and what it makes of them after."""
    cid = schema.validated(schema.Record, record, "a record").id.id.cid
    try:
        compound = pubchempy.Compound(record)
        said = {tag: getattr(compound, attribute) for tag, attribute in _ATTRIBUTES.items()}
    except (pubchempy.PubChemPyError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ContentError(f"a record that PubChemPy cannot read: {type(error).__name__}") from None
    row = {"CID": cid, **{tag: value for tag, value in said.items() if value not in (None, "")}}
    return prove(compound_of(schema.validated(schema.PropertyRow, row, "a record")))


def compound_of(row: schema.PropertyRow) -> Compound:
    """The compound of a row of properties, not proven yet."""
    numbers = {name: float(getattr(row, tag)) for name, tag in VALUES.items()}
    return Compound(
        cid=row.CID,
        title=tidy(row.Title),
        formula=row.MolecularFormula,
        smiles=row.SMILES,
        inchikey=row.InChIKey,
        iupac_name=tidy(row.IUPACName) or None,
        units=row.CovalentUnitCount,
        values={name: value for name, value in numbers.items() if not math.isnan(value)},
    )


def parse_lists(body: bytes, tag: str, asked: frozenset[int]) -> ParsedCompounds[tuple[str, ...]]:
    """The values under ``tag`` (Synonym, RN, RegistryID, …) by CID, each once, in PubChem's order."""

    def read(row: Any) -> tuple[str, ...]:
        values = row.get(tag, []) if isinstance(row, dict) else row
        checked = schema.validated(schema.ListRow, {"CID": row.get("CID"), "values": values}, f"a row of {tag}s")
        return tuple(dict.fromkeys(text for text in map(tidy, checked.values) if text))

    found = _by_cid(_rows(load_json(body), "InformationList", "Information"), asked, read, repeated=True)
    if len(asked) == 1 and not found.refused and not any(found.values.values()):
        raise ContentError(f"no row has {tag}s")
    return found


def _rows(document: Mapping[str, Any], top: str, inner: str) -> list[Any]:
    """The list at ``document[top][inner]``, never empty."""
    if top not in document:
        raise BodyError(f"no {top}")
    table = document[top]
    listed = table.get(inner) if isinstance(table, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ContentError(f"no rows under {top}.{inner}")
    return listed


def _cid(row: Any) -> Any:
    return row.get("CID") if isinstance(row, dict) else None


def _by_cid(
    rows: list[Any], asked: frozenset[int], read: Callable[[Any], T], cid_of: Callable[[Any], Any] = _cid,
    *, repeated: bool = False,
) -> ParsedCompounds[T]:
    """What ``read`` makes of every row that says which of the compounds asked for it is about.

    Where a row does not say so, every compound without a row of its own is refused: the row may be its. Raises
    ContentError when a row is about a compound that was not asked for, or no row says what it is about.
    """
    found: ParsedCompounds[T] = ParsedCompounds()
    nameless = ""
    for row in rows:
        cid = cid_of(row)
        if not is_cid(cid):
            nameless = f"a row with CID {repr(cid)[:40]}"
            continue
        if cid not in asked:
            raise ContentError("the answer is about compounds that were not asked for")
        try:
            value = read(row)
        except ContentError as error:
            found.refused[cid] = str(error)
            continue
        if cid in found.values and not (repeated and found.values[cid] == value):
            found.refused[cid] = "a compound comes twice"
        found.values[cid] = value
    if nameless:
        found.refused.update({cid: nameless for cid in asked if cid not in found.values})
    for cid in found.refused:
        found.values.pop(cid, None)
    return found


def is_cid(value: Any) -> bool:
    """Whether a value can be a CID: a positive integer (0 is PubChem's way to say that it never saw a structure)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= schema.MAX_CID


def parse_cids(body: bytes) -> tuple[int, ...]:
    """The CIDs of an identifier list, each once; empty when PubChem answers 0, i.e. never saw the structure."""
    document = load_json(body)
    if "InformationList" in document:
        rows = _rows(document, "InformationList", "Information")
        lists = [schema.validated(schema.SubstanceRow, row, "a substance").CID for row in rows]
    elif "IdentifierList" in document:
        lists = [schema.validated(schema.IdentifierList, document["IdentifierList"], "a list of CIDs").CID]
    else:
        raise BodyError("no list of CIDs")
    return tuple(dict.fromkeys(cid for listed in lists for cid in listed if cid))


def parse_view(body: bytes, asked: frozenset[int], headings: tuple[str, ...] | None = None) -> Texts:
    """The texts of a PUG View record below ``headings`` (all if None), each with its reference's licence.

    Raises ContentError for a record of another compound, one without such a text, and a text without its reference.
    """
    document = load_json(body)
    if "Record" not in document and "RecordType" not in document:
        raise BodyError("no record")
    record = schema.validated(schema.View, document.get("Record", document), "the record")
    if record.cid not in asked:
        raise ContentError("the record is of a compound that was not asked for")
    references = {reference.number: reference for reference in record.references}
    found: dict[tuple[str, str, str], Passage] = {}
    for heading, information in _walk(record.sections):
        contents = [content for marked in information.value.texts if (content := clean(marked.String).strip())]
        if not contents or (headings is not None and heading not in headings):
            continue
        reference = references.get(information.reference)
        if reference is None or not tidy(reference.source):
            raise ContentError(f"a text of reference {information.reference}, which is not there or nobody's")
        for content in contents:
            passage = Passage(
                record.cid, tidy(heading), content, tidy(reference.source), _said(reference.url),
                _said(reference.licence_note), _said(reference.licence_url),
            )
            found.setdefault((heading, passage.provider, content), passage)
    if headings is not None and not found:
        raise ContentError(f"a record without a text under {' or '.join(headings)}")
    if len(found) > MAX_PASSAGES or sum(len(content) for _, _, content in found) > MAX_TEXT:
        raise ContentError(f"{len(found)} texts of {sum(len(c) for _, _, c in found):,} characters in one record")
    quoted = [licence_of(tidy(r.source), _said(r.licence_note), _said(r.licence_url)) for r in record.references]
    return Texts(tuple(found.values()), most_restrictive([NCBI, *quoted]))


def _said(text: str | None) -> str | None:
    return tidy(text or "") or None


def _walk(sections: list[schema.Section]) -> Iterator[tuple[str, schema.Information]]:
    """Every piece of information with the heading it stands under."""
    for section in sections:
        for information in section.information:
            yield section.heading, information
        yield from _walk(section.sections)


def parse_conformers(body: bytes, structures: Mapping[int, Structure]) -> ParsedCompounds[Conformer]:
    """The conformers of an SD file by CID, each checked against the structure that it was asked for.

    Raises BodyError when the file is cut off, ContentError when a record is of a compound that was not asked for.
    """
    found: ParsedCompounds[Conformer] = ParsedCompounds()
    if not body.rstrip(b"\r\n").endswith(b"\n$$$$"):
        raise BodyError("SDF does not end with $$$$")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        raise BodyError("SDF is not UTF-8") from None
    nameless = ""
    for raw in sdf.split_bytes(body):
        cid = cid_of_record(raw)
        if cid is None:
            nameless = "a record that does not say whose it is"
        elif cid not in structures:
            raise ContentError("the answer is about compounds that were not asked for")
        elif cid in found.values or cid in found.refused:
            found.refused[cid] = "a compound comes twice in the SDF"
        else:
            try:
                found.values[cid] = parse_conformer(raw, structures[cid])
            except ContentError as error:
                found.refused[cid] = str(error)
    if nameless:
        found.refused.update({cid: nameless for cid in structures if cid not in found.values})
    for cid in found.refused:
        found.values.pop(cid, None)
    return found


def cid_of_record(raw: sdf.Raw) -> int | None:
    """The CID in the first line of a record."""
    title = (raw.data or b"").split(b"\n", 1)[0].strip()
    return int(title) if title.isdigit() and len(title) < 11 and is_cid(int(title)) else None


def parse_conformer(raw: sdf.Raw, structure: Structure) -> Conformer:
    """The conformer of one record of an SD file; raises ContentError for anything that is not one of the structure."""
    try:
        record = sdf.parse_sd_record(raw)
    except DataError as error:
        raise ContentError(error.message) from None
    cid = cid_of_record(raw)
    if cid is None or record.items.get("PUBCHEM_COMPOUND_CID") != str(cid):
        raise ContentError("an SDF record whose title and CID do not agree")
    if "V2000" not in record.block.split("\n", 4)[3]:
        raise ContentError("an SDF record that is not V2000")
    heavy = check_conformer(record, structure.smiles, structure.formula)
    energy = record.items.get("PUBCHEM_MMFF94_ENERGY")
    try:
        number = None if energy is None else schema.decimal(energy)
    except ValueError as error:
        raise ContentError(f"PUBCHEM_MMFF94_ENERGY: {error}") from None
    if number is not None and abs(number) > MAX_ENERGY:
        raise ContentError(f"PUBCHEM_MMFF94_ENERGY of {number:g} kcal/mol")
    return Conformer(cid, record.block, heavy, number, record.items.get("PUBCHEM_CONFORMER_ID"),
                     (raw.data or b"") + b"$$$$\n")


MAX_ENERGY = 100_000.0
"""Kilocalories a mole."""
