"""What drug labels say, whichever publisher they come from: texts by substance, and products with their ingredients.

A substance is known by its UNII; of the labels that are of it alone the newest gives the texts, all give brand names.
The words are the manufacturer's, as the FDA received them, and not a judgement of the FDA.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from kb.errors import SourceError
from kb.modalities import Modality
from kb.normalise import Identifier, normalise_ndc
from kb.sources.contract import Document, Name, ProductIngredient, ProductRecord, TextRecord
from kb.sources.stream import Entry, Left, Sold, StreamSource, make_drug

LONGEST = 20_000
"""Characters of a section that are kept; a longer one says that it was cut."""
UNNAMED = "of several substances, one of which has no label of its own"
PAGE = "https://dailymed.nlm.nih.gov/dailymed/lookup.cfm?setid="


@dataclass(frozen=True, slots=True)
class Contained:
    """An active ingredient: UNII and name of the moiety, how much, and the salt that it is in."""

    unii: str
    name: str
    strength: str = ""
    substance: str = ""


@dataclass(frozen=True, slots=True)
class LabelProduct:
    """A product that a label is of, by its National Drug Code of two segments, with the codes of its packages."""

    ndc: str
    name: str
    brand: str
    contains: tuple[Contained, ...]
    form: str = ""
    route: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One label: the substances that it is of, its sections by heading, brand names and products.

    A substance without a name is one whose name the label does not tell apart from those of others.
    """

    set_id: str
    dated: str
    substances: tuple[tuple[str, str], ...]
    sections: dict[str, str]
    brands: tuple[str, ...] = ()
    products: tuple[LabelProduct, ...] = ()
    labeler: str = ""


@dataclass(slots=True)
class Substance:
    """What the labels of one UNII say."""

    name: str
    newest: str = ""
    label: dict[str, str] = field(default_factory=dict)
    page: str = ""
    brands: set[str] = field(default_factory=set)
    labels: int = 0


Offered = tuple[str, str, str, LabelProduct]
"""The date of the label, its set id and labeler, and the product."""


@dataclass(slots=True)
class Read:
    """What was taken of labels: substances by UNII, products by NDC, and how many labels are of which several."""

    known: dict[str, Substance] = field(default_factory=dict)
    offered: dict[str, Offered] = field(default_factory=dict)
    combined: Counter[frozenset[str]] = field(default_factory=Counter)


class LabelSource(StreamSource):
    """A source of labels."""

    modalities = (Modality.text,)
    provider: ClassVar[str]
    """Whose texts they are said to be."""

    @abstractmethod
    def labels(self, path: Path) -> Iterator[Label | Left]:
        """Every label of the file, one item each, or the reason why it is none."""

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Sold | Left]:
        """Every substance by its UNII, then every product."""
        read = Read()
        left: Counter[str] = Counter()
        first = ""
        for label in self.labels(path):
            if isinstance(label, Left) and label.fault:
                first = first or f": {label.fault}"
                yield label
            elif isinstance(label, Left):
                left[label.reason] += label.items
            elif (reason := _take(label, read)) is not None:
                left[reason] += 1
        if not read.known and not left and not read.combined:
            raise SourceError(f"{path.name} has no labels{first}",
                              hint=f"docs/sources/{self.name}.md tells what is read")
        for uniis, number in read.combined.items():
            if uniis <= read.known.keys():
                read.known[min(uniis)].labels += number
            else:
                left[UNNAMED] += number
        for unii in sorted(read.known):
            yield self._entry(unii, read.known[unii], document)
        for ndc in sorted(read.offered):
            yield _product(read.offered[ndc], read.known, document)
        yield from (Left(reason, items=number) for reason, number in left.items())

    def _entry(self, unii: str, said: Substance, document: Document) -> Entry:
        key = f"unii:{unii}"
        drug, faults = make_drug(key, said.name, document, identifiers=[("unii", unii)],
                                 names=[Name(brand, "brand") for brand in sorted(said.brands)])
        texts = [TextRecord(key, document, self.provider, text, document.licence, heading, said.page)
                 for heading, text in said.label.items()]
        return Entry(drug, texts=texts, faults=faults, items=said.labels)


def _take(label: Label, read: Read) -> str | None:
    """Take the label, or say why not."""
    dated = f"{label.dated} {label.set_id}"
    substances = dict(label.substances)
    if not substances:
        return "without an identified substance"
    if len(substances) == 1:
        if not label.sections and not label.products:
            return "without a section that is read or a product"
        (unii, name), = substances.items()
        found = read.known.setdefault(unii, Substance(name))
        found.labels += 1
        found.brands |= {brand for brand in label.brands if brand.lower() != found.name.lower()}
        if label.sections and dated >= found.newest:
            found.newest, found.page = dated, PAGE + label.set_id
            found.label = {heading: _cut(text) for heading, text in label.sections.items()}
    elif not label.products:
        return "of several substances, without a product"
    else:
        read.combined[frozenset(substances)] += 1
        for unii, name in substances.items():
            if name:
                read.known.setdefault(unii, Substance(name))
    for product in label.products:
        if product.ndc not in read.offered or dated >= read.offered[product.ndc][0]:
            read.offered[product.ndc] = dated, label.set_id, label.labeler, product
    return None


def _product(said: Offered, known: Mapping[str, Substance], document: Document) -> Sold | Left:
    """The product; a fault where it has no ingredient, or one whose name is not known."""
    _, set_id, labeler, product = said
    if not product.contains or not all(part.unii in known for part in product.contains):
        missing = "an ingredient without a name" if product.contains else "no active ingredient with a UNII"
        return Left("malformed", fault=f"ndc:{product.ndc}: {missing}", items=0)
    strengths: dict[str, list[Contained]] = {}
    for part in product.contains:
        strengths.setdefault(part.unii, []).append(part)
    ingredients = tuple(
        ProductIngredient(f"unii:{unii}", _joined(p.strength for p in parts), _joined(p.substance for p in parts))
        for unii, parts in sorted(strengths.items()))
    codes = {code: normalise_ndc(code) for code in product.packages}
    record = ProductRecord(
        f"ndc:{product.ndc}", product.name, document, ingredients, product.brand or None, product.form or None,
        product.route or None, labeler or None, tuple(sorted({c for c in codes.values() if c})), set_id or None)
    faults = [f"ndc:{product.ndc}: {code!r} is no NDC of a package" for code, found in codes.items() if found is None]
    return Sold(record, faults, items=0)


def _joined(said: Iterable[str]) -> str | None:
    return "; ".join(dict.fromkeys(filter(None, said))) or None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} … (cut)"


def is_unii(text: str) -> bool:
    """Whether a text is a UNII by its form."""
    return re.fullmatch(r"[0-9A-Z]{10}", text) is not None and Identifier.make("unii", text).value == text
