"""DrugBank's full database, the user's own copy: ``full database.xml``, read drug by drug.

It is under the licence that the user has from DrugBank: rows are marked as restricted, and leave in no open export.
Texts, names, codes and structures go to the drug; interactions and targets to the graph.

Source: the XML schema of DrugBank 5.1, https://docs.drugbank.com/xml/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb.errors import DataError, SourceError
from kb.graph.tables import DescribedRelation
from kb.graph.words import EdgeNote
from kb.inputs import open_plain
from kb.languages import ENGLISH
from kb.licences import LICENCES, Licence
from kb.modalities import Modality
from kb.normalise import Identifier
from kb.sources.contract import AtcRecord, Document, Name, TextRecord
from kb.sources.stream import Edges, Entry, Left, StreamSource, is_zip, make_drug, open_in_zip

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NS = "{http://www.drugbank.ca}"
TEXTS = {"description": "description", "indication": "indications", "mechanism-of-action": "mechanism",
         "pharmacodynamics": "pharmacodynamics", "toxicity": "toxicity", "metabolism": "metabolism"}
SPACES = {"PubChem Compound": "pubchem.compound", "ChEBI": "chebi", "ChEMBL": "chembl", "RxCUI": "rxcui",
          "PharmGKB": "pharmgkb"}
UNPACKED = 1 << 33
INTERACTS = "DRUGBANK::ddi-interactor-in::Compound:Compound"
TARGETS = "DRUGBANK::target::Compound:Protein"


class DrugBank(StreamSource):
    """Every drug of the release."""

    name = "drugbank"
    title = "DrugBank, the user's own copy"
    url = "https://go.drugbank.com/releases/latest"
    licences: ClassVar[tuple[Licence, ...]] = (LICENCES["LicenseRef-DrugBank"],)
    modalities = (Modality.text, Modality.graph)
    parser = "drugbank/1"
    media_type = "application/xml"
    bytes_an_item = 90_000

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Left]:
        """Every drug in the order of the file."""
        for place, drug in enumerate(_drugs(path), 1):
            primary = _primary(drug)
            if primary is None:
                yield Left("without a DrugBank id", place, f"drug {place} has no DrugBank id")
            else:
                yield _entry(primary, drug, document)

    def edges(self, path: Path, document: Document) -> Edges:
        """Interactions, each pair once with its description, and targets with the actions."""
        edges, licence = Edges(), document.licence
        interacts = DescribedRelation(INTERACTS, "Compound", "Compound", "DrugBank", licence)
        targets = DescribedRelation(TARGETS, "Compound", "Protein", "DrugBank", licence)
        for drug in _drugs(path):
            primary = _primary(drug)
            if primary is None:
                continue
            edges.labels[f"Compound::{primary}"] = _text(drug, "name")
            for other in drug.iterfind(f"{NS}drug-interactions/{NS}drug-interaction"):
                a, b = sorted((primary, _text(other, "drugbank-id")))
                if a and a != b:
                    note = EdgeNote(evidence=_text(other, "description") or None)
                    edges.add(f"Compound::{a}", interacts, f"Compound::{b}", note)
            for target in drug.iterfind(f"{NS}targets/{NS}target"):
                polypeptide = target.find(f"{NS}polypeptide")
                if polypeptide is not None and polypeptide.get("id"):
                    actions = ", ".join(a.text or "" for a in target.iterfind(f"{NS}actions/{NS}action"))
                    entity = f"Protein::{polypeptide.get('id')}"
                    edges.add(f"Compound::{primary}", targets, entity, EdgeNote(evidence=actions or None))
                    edges.labels[entity] = _text(target, "name")
        return edges


def _drugs(path: Path) -> Iterator[Element]:
    """The drugs one after another, each forgotten behind it. A document type or an entity is refused."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, iterparse

    with ExitStack() as stack:
        stream = stack.enter_context(open_in_zip(path, ".xml") if is_zip(path) else open_plain(path, limit=UNPACKED))
        depth, root = 0, None
        try:
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                depth += 1 if event == "start" else -1
                if root is None:
                    root = element
                    if root.tag != f"{NS}drugbank":
                        raise SourceError(f"{path.name} is not DrugBank's XML", hint="give full database.xml")
                elif event == "end" and depth == 1 and element.tag == f"{NS}drug":
                    yield element
                    root.clear()
        except DefusedXmlException as error:
            raise SourceError(f"{path.name} declares a document type or entities: {error}",
                              hint="DrugBank's file has none: download it again") from None
        except ParseError as error:
            raise SourceError(f"{path.name} is not whole XML: {error}", hint="download it again") from None


def _text(element: Element, name: str) -> str:
    return " ".join((element.findtext(f"{NS}{name}") or "").split())


def _primary(drug: Element) -> str | None:
    found = next((e for e in drug.iterfind(f"{NS}drugbank-id") if e.get("primary") == "true"), None)
    return found.text.strip() if found is not None and found.text and found.text.strip() else None


def _entry(primary: str, drug: Element, document: Document) -> Entry:
    key = f"drugbank:{primary}"
    computed = {
        _text(e, "kind"): _text(e, "value")
        for e in drug.iterfind(f"{NS}calculated-properties/{NS}property")
    }
    codes = [("drugbank", primary), *(("cas", c) for c in [_text(drug, "cas-number")] if c),
             *(("unii", c) for c in [_text(drug, "unii")] if c)]
    for other in drug.iterfind(f"{NS}external-identifiers/{NS}external-identifier"):
        space = SPACES.get(_text(other, "resource"))
        if space:
            codes.append((space, _text(other, "identifier")))
    names = [Name(e.text) for e in drug.iterfind(f"{NS}synonyms/{NS}synonym") if e.text]
    for sold in (f"{NS}international-brands/{NS}international-brand", f"{NS}products/{NS}product"):
        names += [Name(_text(e, "name"), "brand") for e in drug.iterfind(sold)]
    record, faults = make_drug(key, _text(drug, "name") or primary, document, smiles=computed.get("SMILES"),
                               inchikey=computed.get("InChIKey"), identifiers=codes, names=names,
                               kind="biologic" if drug.get("type") == "biotech" else "unknown")
    texts = [TextRecord(key, document, "DrugBank", text, document.licence, heading, language=ENGLISH)
             for name, heading in TEXTS.items() if (text := _text(drug, name))]
    atc = []
    for code in drug.iterfind(f"{NS}atc-codes/{NS}atc-code"):
        try:
            atc.append(AtcRecord(key, document, Identifier.make("atc", code.get("code", "")).value))
        except DataError as error:
            faults.append(f"{key}: {error.message}")
    return Entry(record, texts=texts, atc=atc, faults=faults)
