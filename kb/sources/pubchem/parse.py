"""Reads PubChem's documents: bytes to frozen values that the typed models here and ``proof`` accept. No network."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlsplit

import pubchempy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kb import sdf
from kb.errors import DataError
from kb.licences import NCBI, Licence, most_restrictive
from kb.normalise import clean, tidy
from kb.sources.pubchem.proof import BodyError, Compound, ContentError, check_conformer, licence_of, prove

# Bodies as bytes: JSON objects and pictures, or BodyError with the reason; none trusts a byte.

IMAGE_PIXELS = 300
"""Width and height of the picture that is asked for (``image_size=large``)."""
DEEPEST = 50
"""Objects and lists within each other; PubChem's have about ten."""



def _no_constant(name: str) -> float:
    raise BodyError(f"{name} in JSON")


def load_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; NaN and Infinity, which JSON does not have, are refused."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except BodyError:
        raise
    except (ValueError, RecursionError) as error:
        raise BodyError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise BodyError("JSON, but not an object")
    if _is_deep(document):
        raise ContentError(f"objects more than {DEEPEST} deep")
    return _cleaned(document) if b"\\ud" in body.lower() else document


def _cleaned(value: Any) -> Any:
    """The value with lone surrogates, which are no characters, replaced."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned(inner) for key, inner in value.items()}
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for one in level:
            for value in one.values() if isinstance(one, dict) else one:
                if isinstance(value, dict | list):
                    inner.append(value)
        if not inner:
            return False
        level = inner
    return True


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(body: bytes) -> tuple[int, int]:
    """Width and height of a complete PNG of the size asked for, with something drawn on it.

    Every chunk's CRC must be right, IHDR first and alone, IEND last, and the picture must decode.
    """
    if body[:8] != PNG_SIGNATURE:
        raise BodyError("not a PNG")
    at, kinds = 8, list[bytes]()
    while at < len(body) and kinds[-1:] != [b"IEND"]:
        if len(body) < at + 12:
            raise BodyError("a PNG chunk is cut short")
        length, kind = struct.unpack(">I4s", body[at : at + 8])
        data = body[at + 8 : at + 8 + length]
        told = int.from_bytes(body[at + 8 + length :][:4], "big")
        if len(body) < at + 12 + length or zlib.crc32(kind + data) != told:
            raise BodyError("a PNG chunk is cut short or its checksum is wrong")
        if (kind == b"IHDR") != (not kinds):
            raise ContentError("a PNG without a header, or with two")
        if not kinds:
            _check_header(data)
        _check_chunk(kind, length)
        kinds.append(kind)
        at += 12 + length
    if kinds[-1:] != [b"IEND"] or at != len(body):
        raise BodyError("a PNG without a proper end")
    _decode(body)
    return IMAGE_PIXELS, IMAGE_PIXELS


def _check_chunk(kind: bytes, length: int) -> None:
    """Refuse a chunk that a decoder must know and does not, and a palette that is none (PNG specification, §11)."""
    if kind[:1].isupper() and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        raise ContentError("a PNG with an unknown critical chunk")
    if (kind == b"PLTE" and (length % 3 or not 0 < length <= 768)) or (kind == b"tRNS" and length > 256):
        raise ContentError("a PNG whose palette is none")


def _check_header(data: bytes) -> None:
    if len(data) != 13:
        raise BodyError("a PNG without a header")
    width, height = struct.unpack(">II", data[:8])
    if (width, height) != (IMAGE_PIXELS, IMAGE_PIXELS):
        raise ContentError(f"a PNG of {width} x {height} pixels, not {IMAGE_PIXELS} x {IMAGE_PIXELS}")


def _decode(body: bytes) -> None:
    from PIL import Image, UnidentifiedImageError

    damaged = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, SyntaxError, Warning,
               UnidentifiedImageError, OverflowError, zlib.error, struct.error)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of decompression bombs
            with Image.open(io.BytesIO(body), formats=("PNG",)) as picture:
                blank = picture.convert("RGB").getcolors(1) is not None
    except damaged as error:
        raise BodyError(f"a PNG that does not decode: {type(error).__name__}") from None
    if blank:
        raise ContentError("a PNG with nothing on it")


# What PubChem's documents may hold: one typed model a kind, without conversions, every number and text in a range.
#
# A value that is not of its type is refused with its place and the reason; it is never read as something near it
# (``"1_000"``, ``true`` and ``1e29`` are no counts). Numbers that PubChem writes as text are decimals in ASCII.
# Shapes: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest and https://pubchem.ncbi.nlm.nih.gov/docs/pug-view

M = TypeVar("M", bound=BaseModel)

MAX_CID = 2**31 - 1
_DECIMAL = re.compile(r"-?\d{1,9}(\.\d{1,12})?", re.ASCII)
_FORMULA = r"^([A-Z][a-z]?\d{0,5}){1,120}([+-]\d{0,3})?$"
NUMERIC = frozenset({"Molecular Weight", "Weight", "Mass"})
"""Labels of a record's properties whose texts are numbers."""


def decimal(value: Any) -> Any:
    """The number that an ASCII decimal is, or the value as it is."""
    if not isinstance(value, str):
        return value
    if not _DECIMAL.fullmatch(value):
        raise ValueError(f"{value[:30]!r} is not a decimal number")
    return float(value)


def _address(value: str) -> str:
    try:
        urlsplit(value)
    except ValueError:
        raise ValueError(f"{value[:60]!r} is not a URL") from None
    return value


class Strict(BaseModel):
    """A model that converts nothing; keys that it does not know are passed over."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


Cid = Annotated[int, Field(gt=0, le=MAX_CID)]
Count = Annotated[int, Field(ge=0, le=5000)]
Mass = Annotated[float, BeforeValidator(decimal), Field(gt=0, lt=200_000)]
Address = Annotated[str, Field(max_length=2000), AfterValidator(_address)]
Line = Annotated[str, Field(min_length=1, max_length=500)]


class PropertyRow(Strict):
    """One row of a property table; what PubChem leaves out where there is none may be missing, but not null."""

    CID: Cid
    Title: Annotated[str, Field(min_length=1, max_length=4000)] = ""
    IUPACName: Annotated[str, Field(min_length=1, max_length=20_000)] = ""
    MolecularFormula: Annotated[str, Field(max_length=300, pattern=_FORMULA)]
    SMILES: Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[!-~]+$")]
    InChIKey: Annotated[str, Field(pattern=r"^[A-Z]{14}-[A-Z]{10}-[A-Z]$")]
    CovalentUnitCount: Annotated[int, Field(ge=1, le=1000)]
    MolecularWeight: Mass
    MonoisotopicMass: Mass
    XLogP: Annotated[float, Field(ge=-200, le=200)] = float("nan")
    TPSA: Annotated[float, Field(ge=0, le=50_000)] = float("nan")
    HBondDonorCount: Count
    HBondAcceptorCount: Count
    RotatableBondCount: Count
    HeavyAtomCount: Annotated[int, Field(ge=0, le=5000)]
    Charge: Annotated[int, Field(ge=-500, le=500)]
    AtomStereoCount: Count
    Complexity: Annotated[float, Field(ge=0, le=1_000_000)]


class ListRow(Strict):
    """What an information list says of one compound: ``values`` under the tag asked for."""

    CID: Cid
    values: Annotated[list[Annotated[str, Field(max_length=20_000)]], Field(max_length=20_000)] = []


class IdentifierList(Strict):
    """CIDs by themselves; a single 0 means that PubChem has never seen the structure."""

    CID: Annotated[list[Annotated[int, Field(ge=0, le=MAX_CID)]], Field(min_length=1, max_length=200_000)]

    @model_validator(mode="after")
    def _zero_stands_alone(self) -> IdentifierList:
        if 0 in self.CID and self.CID != [0]:
            raise ValueError("0 among CIDs")
        return self


class SubstanceRow(Strict):
    """A substance and its compounds."""

    SID: Annotated[int, Field(gt=0, le=2**40)]
    CID: Annotated[list[Cid], Field(min_length=1, max_length=10_000)]


class Urn(Strict):
    """What a property of a record is."""

    label: Line
    name: Line | None = None


class PropValue(Strict):
    """A property's value, of one type."""

    ival: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    fval: Annotated[float, Field(ge=-1e7, le=1e7)] | None = None
    sval: Annotated[str, Field(max_length=100_000)] | None = None
    binary: Annotated[str, Field(max_length=100_000)] | None = None


class Prop(Strict):
    """A property of a record."""

    urn: Urn
    value: PropValue

    @model_validator(mode="after")
    def _numbers_are_decimals(self) -> Prop:
        if self.urn.label in NUMERIC and self.value.sval is not None:
            decimal(self.value.sval)
        return self


class Atoms(Strict):
    """The atoms of a record by number and element."""

    aid: Annotated[list[Annotated[int, Field(gt=0, le=10_000)]], Field(min_length=1, max_length=10_000)]
    element: Annotated[list[Annotated[int, Field(gt=0, le=255)]], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _one_element_an_atom(self) -> Atoms:
        if len(self.aid) != len(self.element) or len(set(self.aid)) != len(self.aid):
            raise ValueError("atoms and elements do not go together")
        return self


class InnerId(Strict):
    """A record's CID."""

    cid: Cid


class OuterId(Strict):
    """Where a record keeps its CID."""

    id: InnerId


class Record(Strict):
    """A full compound record, as far as it is used."""

    id: OuterId
    atoms: Atoms
    props: Annotated[list[Prop], Field(min_length=1, max_length=1000)]
    charge: Annotated[int, Field(ge=-500, le=500)] = 0
    count: dict[str, Annotated[int, Field(ge=-1, le=10_000)]]


class Marked(Strict):
    """A text of a PUG View record."""

    String: Annotated[str, Field(max_length=100_000)]


class ViewValue(Strict):
    """A value of a PUG View record: its texts, or the name of a table of PubChem's that it refers to."""

    texts: Annotated[list[Marked], Field(alias="StringWithMarkup", max_length=500)] = []
    table: Annotated[str | None, Field(alias="ExternalTableName", max_length=500)] = None


class Information(Strict):
    """A piece of information and the number of its reference."""

    reference: Annotated[int, Field(alias="ReferenceNumber", gt=0, le=1_000_000)]
    value: ViewValue = Field(ViewValue(), alias="Value")


class Section(Strict):
    """A section of a PUG View record, with sections in it."""

    heading: Annotated[str, Field(alias="TOCHeading", max_length=500)]
    information: Annotated[list[Information], Field(alias="Information", max_length=5000)] = []
    sections: Annotated[list[Section], Field(alias="Section", max_length=500)] = []


class ViewReference(Strict):
    """Who said it, and under which licence."""

    number: Annotated[int, Field(alias="ReferenceNumber", gt=0, le=1_000_000)]
    source: Line = Field(alias="SourceName")
    url: Address | None = Field(None, alias="URL")
    licence_note: Annotated[str, Field(max_length=20_000)] | None = Field(None, alias="LicenseNote")
    licence_url: Address | None = Field(None, alias="LicenseURL")


class View(Strict):
    """A PUG View record of a compound."""

    kind: Annotated[str, Field(alias="RecordType", pattern="^CID$")]
    cid: Cid = Field(alias="RecordNumber")
    sections: Annotated[list[Section], Field(alias="Section", min_length=1, max_length=100)]
    references: Annotated[list[ViewReference], Field(alias="Reference", min_length=1, max_length=20_000)]

    def walk(self) -> Iterator[Section]:
        """Every section, before those in it."""
        waiting = list(reversed(self.sections))
        while waiting:
            yield (section := waiting.pop())
            waiting += reversed(section.sections)

    @model_validator(mode="after")
    def _references_are_numbered(self) -> View:
        if len({r.number for r in self.references}) != len(self.references):
            raise ValueError("two references have one number")
        return self


class FaultBody(Strict):
    """What a service says when it cannot answer."""

    Code: Annotated[str, Field(max_length=100)]
    Message: Annotated[str, Field(max_length=10_000)] = ""


def validated(model: type[M], value: Any, what: str) -> M:
    """The value as the model; raises ContentError with the place and reason of what is wrong first."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        untold = first["type"] in ("missing", "value_error") or isinstance(given, dict | list)
        shown = "" if untold else f": {repr(given)[:40]}"
        raise ContentError(f"{what}: {place + ': ' if place else ''}{said}{shown}") from None


# Readers, one a kind of document. A document about several compounds is read compound by compound: what one of them
# says wrongly is a reason under its CID, and the others are taken.

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
TAGS: tuple[str, ...] = tuple(name for name in PropertyRow.model_fields if name != "CID")
"""The property tags that are asked for, as PUG REST spells them."""
_ATTRIBUTES = {tag: attribute for attribute, tag in pubchempy.PROPERTY_MAP.items() if tag in TAGS}
"""What PubChemPy calls the same things."""
MAX_PASSAGES, MAX_TEXT = 2_000, 2 << 20
"""Texts in one document, and their characters together."""
DESCRIPTION = "Record Description"
HEADINGS = {"mechanism": "Mechanism of Action", "indication": "Drug Indication", "pharmacology": "Pharmacodynamics",
            "atc": "ATC Code", "targets": "Chemical-Target Interactions"}
"""Further headings of PUG View that may be asked for, each with its own sources and licences."""


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
        return prove(compound_of(validated(PropertyRow, row, "a row of properties")), readable=True)

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
    cid = validated(Record, record, "a record").id.id.cid
    try:
        compound = pubchempy.Compound(record)
        said = {tag: getattr(compound, attribute) for tag, attribute in _ATTRIBUTES.items()}
    except (pubchempy.PubChemPyError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ContentError(f"a record that PubChemPy cannot read: {type(error).__name__}") from None
    row = {"CID": cid, **{tag: value for tag, value in said.items() if value not in (None, "")}}
    return prove(compound_of(validated(PropertyRow, row, "a record")))


def compound_of(row: PropertyRow) -> Compound:
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
        checked = validated(ListRow, {"CID": row.get("CID"), "values": values}, f"a row of {tag}s")
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
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_CID


def parse_cids(body: bytes) -> tuple[int, ...]:
    """The CIDs of an identifier list, each once; empty when PubChem answers 0, i.e. never saw the structure."""
    document = load_json(body)
    if "InformationList" in document:
        rows = _rows(document, "InformationList", "Information")
        lists = [validated(SubstanceRow, row, "a substance").CID for row in rows]
    elif "IdentifierList" in document:
        lists = [validated(IdentifierList, document["IdentifierList"], "a list of CIDs").CID]
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
    record = validated(View, document.get("Record", document), "the record")
    if record.cid not in asked:
        raise ContentError("the record is of a compound that was not asked for")
    references = {reference.number: reference for reference in record.references}
    found: dict[tuple[str, str, str], Passage] = {}
    for heading, information in ((s.heading, i) for s in record.walk() for i in s.information):
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
        number = None if energy is None else decimal(energy)
    except ValueError as error:
        raise ContentError(f"PUBCHEM_MMFF94_ENERGY: {error}") from None
    if number is not None and abs(number) > MAX_ENERGY:
        raise ContentError(f"PUBCHEM_MMFF94_ENERGY of {number:g} kcal/mol")
    return Conformer(cid, record.block, heavy, number, record.items.get("PUBCHEM_CONFORMER_ID"),
                     (raw.data or b"") + b"$$$$\n")


MAX_ENERGY = 100_000.0
"""Kilocalories a mole."""
