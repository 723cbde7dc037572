"""DailyMed's drug labels (US National Library of Medicine): Structured Product Labeling, XML of HL7 version 3.

Reads one label (``.xml``), a release (``dm_spl_release_human_rx_part1.zip``, whose members are a zip a label), or a
folder of either. Sections are known by their LOINC codes, substances by the UNII of the active moiety, products by
their National Drug Codes.

Source: FDA's Structured Product Labeling implementation guide with validation procedures.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb.errors import SourceError, UsageError
from kb.inputs import Capped, open_plain, open_regular
from kb.licences import LICENCES, Licence
from kb.sources.labels import Contained, Label, LabelProduct, LabelSource, is_unii
from kb.sources.stream import Left, is_zip, members

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NS = "{urn:hl7-org:v3}"
LOINC, NDC, UNII = "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.69", "2.16.840.1.113883.4.9"
SECTIONS = {"34067-9": "indications", "34070-3": "contraindications", "34066-1": "boxed warning",
            "34073-7": "interactions", "34068-7": "dose"}
"""LOINC codes of the sections that are read."""
LARGEST = 64 << 20
"""Bytes of one label."""
APART = {NS + tag for tag in ("paragraph", "item", "td", "th", "tr", "br", "caption", "title", "list", "table", "text")}
"""Elements between which there is a blank at least."""
NOTHING = frozenset({NS + "renderMultiMedia", NS + "footnoteRef"})


class DailyMed(LabelSource):
    """One drug a substance, with the sections of its newest label, and products with form, strength and packages."""

    name = "dailymed"
    title = "DailyMed drug labels"
    url = "https://dailymed.nlm.nih.gov/dailymed/spl-resources-all-drug-labels.cfm"
    licences: ClassVar[tuple[Licence, ...]] = (LICENCES["LicenseRef-public-domain"],)
    provider = "FDA label (DailyMed)"
    parser = "dailymed/1"
    media_type = "application/xml"
    bytes_an_item = 30_000

    def measured(self, path: Path) -> list[Path]:
        """The file, or the labels and releases below the folder in the order of their names."""
        if not path.is_dir():
            return [path]
        ends = (".xml", ".xml.gz", ".zip")
        found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(ends))
        if not found:
            raise UsageError(f"{path} has no .xml or .zip", hint="give the folder of the downloaded labels")
        return found

    def labels(self, path: Path) -> Iterator[Label | Left]:
        """Every label; one that is not whole XML of a label is a fault, and the others are taken."""
        for place, (name, said) in enumerate(self._documents(path), 1):
            try:
                yield read_label(said, name)
            except SourceError as error:
                yield Left("malformed", place, error.message)
            except RecursionError:
                yield Left("malformed", place, f"{name} nests too deep")

    def _documents(self, path: Path) -> Iterator[tuple[str, bytes]]:
        for part in self.measured(path):
            if is_zip(part):
                with open_regular(part, "--path") as raw:
                    yield from _zipped(raw, part.name)
            else:
                with open_plain(part, limit=LARGEST) as stream:
                    yield part.name, stream.read()


def _zipped(raw: io.BufferedReader | io.BytesIO, name: str, *, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The labels of an archive and of the archives in it; of one that is damaged within another, its bytes."""
    try:
        with zipfile.ZipFile(raw) as archive:
            for member in members(archive, name):
                inner = f"{name}: {member.filename}"
                lower = member.filename.lower()
                if lower.endswith(".xml") or (lower.endswith(".zip") and not depth):
                    with archive.open(member) as packed:
                        data = io.BufferedReader(Capped(packed, LARGEST, inner)).read()  # type: ignore[arg-type]
                    if lower.endswith(".xml"):
                        yield inner, data
                    else:
                        yield from _inner(data, inner)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{name} is damaged: {error}", hint="download it again") from None


def _inner(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    try:
        yield from list(_zipped(io.BytesIO(data), name, depth=1))
    except SourceError:
        yield name, data


def read_label(said: bytes, name: str) -> Label | Left:
    """The label in one document; raises SourceError for what is no whole SPL, or declares a document type."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(said, forbid_dtd=True)
    except DefusedXmlException as error:
        raise SourceError(f"{name} declares a document type or entities: {error}") from None
    except (ParseError, ValueError, LookupError) as error:  # LookupError: of an unknown encoding
        raise SourceError(f"{name} is not whole XML: {error}") from None
    if root.tag != f"{NS}document":
        raise SourceError(f"{name} is no SPL document but {root.tag[:60]}")
    kind = root.find(f"{NS}code")
    if kind is not None and "ANIMAL" in kind.get("displayName", "").upper():
        return Left("of a drug for animals")
    body = f"{NS}component/{NS}structuredBody/{NS}component/{NS}section"
    sections: dict[str, list[str]] = {}
    for section in root.iterfind(body):
        _read_sections(section, sections)
    products = tuple(_products(root))
    substances = {part.unii: part.name for product in products for part in product.contains}
    dated, set_id = root.find(f"{NS}effectiveTime"), root.find(f"{NS}setId")
    labeler = root.find(f"{NS}author/{NS}assignedEntity/{NS}representedOrganization/{NS}name")
    return Label(
        "" if set_id is None else set_id.get("root", ""), "" if dated is None else dated.get("value", ""),
        tuple(sorted(substances.items())), {heading: " ".join(texts) for heading, texts in sections.items()},
        tuple(dict.fromkeys(product.brand for product in products if product.brand)), products, _words(labeler))


def _read_sections(section: Element, found: dict[str, list[str]]) -> None:
    """Add the words of the outermost sections that are read, with those of the sections in them."""
    code = section.find(f"{NS}code")
    heading = SECTIONS.get(code.get("code", "")) if code is not None and code.get("codeSystem") == LOINC else None
    if heading is not None:
        words = _section(section, titled=False)
        if words:
            found.setdefault(heading, []).append(words)
        return
    for inner in section.iterfind(f"{NS}component/{NS}section"):
        _read_sections(inner, found)


def _section(section: Element, *, titled: bool = True) -> str:
    parts = [_words(section.find(f"{NS}title"))] if titled else []
    parts.append(_words(section.find(f"{NS}text")))
    parts += [_section(inner) for inner in section.iterfind(f"{NS}component/{NS}section")]
    return " ".join(filter(None, parts))


def _words(element: Element | None) -> str:
    """The words of an element: those of table cells, items and paragraphs apart, those of formatting not."""
    found: list[str] = []

    def walk(node: Element) -> None:
        blank = " " if node.tag in APART else ""
        found.append(blank)
        if node.tag not in NOTHING:
            found.append(node.text or "")
            for child in node:
                walk(child)
                found.append(child.tail or "")
        found.append(blank)

    if element is not None:
        walk(element)
    return " ".join("".join(found).split())


def _products(root: Element) -> Iterator[LabelProduct]:
    for outer in root.iter(f"{NS}manufacturedProduct"):
        inner = outer.find(f"{NS}manufacturedProduct")
        if inner is None:  # of the releases before 2012
            inner = outer.find(f"{NS}manufacturedMedicine")
        if inner is None:
            continue
        code = inner.find(f"{NS}code")
        if code is None or code.get("codeSystem") != NDC or not code.get("code"):
            continue
        brand = _words(inner.find(f"{NS}name"))
        generic = _words(inner.find(f"{NS}asEntityWithGeneric/{NS}genericMedicine/{NS}name"))
        forms = dict.fromkeys(e.get("displayName", "") for e in inner.iter(f"{NS}formCode")
                              if e.get("displayName") and e.get("displayName") != "KIT")
        routes = dict.fromkeys(e.get("displayName", "") for e in outer.iter(f"{NS}routeCode") if e.get("displayName"))
        contains = tuple(part for element in inner.iter(f"{NS}ingredient") if (part := _ingredient(element)))
        form = inner.find(f"{NS}formCode")
        own = form.get("displayName", "") if form is not None else ""
        packages = dict.fromkeys(
            e.get("code", "") for e in inner.iter(f"{NS}code") if e.get("codeSystem") == NDC and e is not code
            and e.get("code", "").count("-") == 2)
        is_brand = bool(brand) and brand.lower() != generic.lower()
        yield LabelProduct(
            str(code.get("code")), brand or generic, brand if is_brand else "", contains,
            own if own != "KIT" else "; ".join(forms), "; ".join(routes), tuple(packages))


def _ingredient(element: Element) -> Contained | None:
    """The active moiety of an active ingredient with its strength; None for one that is not active or identified."""
    substance = element.find(f"{NS}ingredientSubstance")
    if not element.get("classCode", "").startswith("ACTI") or substance is None:
        return None
    name, code = _words(substance.find(f"{NS}name")), _unii(substance)
    moiety = substance.find(f"{NS}activeMoiety/{NS}activeMoiety")
    whole, whole_code = (_words(moiety.find(f"{NS}name")), _unii(moiety)) if moiety is not None else ("", "")
    if whole and whole_code:
        salt = name if name.lower() != whole.lower() else ""
        return Contained(whole_code, whole.title(), _strength(element), salt.title())
    return Contained(code, name.title(), _strength(element)) if name and code else None


def _unii(element: Element) -> str:
    code = element.find(f"{NS}code")
    found = code.get("code", "") if code is not None and code.get("codeSystem") == UNII else ""
    return found if is_unii(found) else ""


def _strength(element: Element) -> str:
    """As "5 mg" or "5 mg/1 mL"; a unit of "1" is a piece."""
    above, below = (element.find(f"{NS}quantity/{NS}{part}") for part in ("numerator", "denominator"))
    if above is None or not above.get("value"):
        return ""
    parts = [" ".join(filter(None, (e.get("value"), "" if e.get("unit") == "1" else e.get("unit")))) if e is not None
             else "" for e in (above, below)]
    return parts[0] if parts[1] in ("", "1") else "/".join(parts)
