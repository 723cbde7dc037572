"""What PubChem's documents may hold: one typed model a kind, without conversions, every number and text in a range.

A value that is not of its type is refused with its place and the reason; it is never read as something near it
(``"1_000"``, ``true`` and ``1e29`` are no counts). Numbers that PubChem writes as text are decimals in ASCII.
Shapes: https://pubchem.ncbi.nlm.nih.gov/docs/pug-rest and https://pubchem.ncbi.nlm.nih.gov/docs/pug-view
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kb.sources.pubchem.bodies import ContentError

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
    """A value of a PUG View record; only texts are used."""

    texts: Annotated[list[Marked], Field(alias="StringWithMarkup", max_length=500)] = []


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
