"""RxNorm (US National Library of Medicine): ingredients, brands, and products with form, strength and NDCs.

Reads the Rich Release Format: RXNCONSO.RRF, RXNREL.RRF and RXNSAT.RRF, in a folder or in the zip as it is published.
The Current Prescribable Content may be used by anybody; of a full release only rows without a restriction (SRL 0) are
taken. Ingredients become drugs, what they are sold as products, and all of it stands in the graph.

Source: RxNorm Technical Documentation, National Library of Medicine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

from kb.errors import DataError, SourceError, UsageError
from kb.graph.tables import DescribedRelation
from kb.inputs import open_plain, read_lines
from kb.licences import US_GOVERNMENT, Licence
from kb.normalise import Identifier, normalise_ndc
from kb.sources.contract import AtcRecord, Document, Name, ProductIngredient, ProductRecord
from kb.sources.stream import Edges, Entry, Left, Sold, StreamSource, is_zip, make_drug, open_in_zip

SUBSTANCES = ("IN", "PIN")
BRANDS, FORMS, COMPONENT = ("BN",), ("DF",), "SCDC"
PRODUCTS = ("SCD", "SBD", "GPCK", "BPCK")
PACKS = ("GPCK", "BPCK")
SYNONYMS = ("SY", "TMSY", "PSN")
CODES = {"MTHSPL": "unii", "DRUGBANK": "drugbank", "ATC": "atc"}
"""Vocabularies whose code is an identifier of the ingredient."""
LONGEST = 1 << 16
CONSO, REL, SAT = 18, 16, 13
"""Fields of a line of each file, the empty one behind the last bar not counted."""
WIDTH = {"RXNCONSO": CONSO, "RXNREL": REL, "RXNSAT": SAT}
RELATIONS = {
    "has_ingredient": ("Product", "Compound", "the product contains the ingredient"),
    "has_brand": ("Product", "Brand", "the product is sold under the brand"),
    "brand_of": ("Brand", "Compound", "the brand has the ingredient"),
    "has_dose_form": ("Product", "Dose Form", "the product comes in the form"),
    "form_of": ("Compound", "Compound", "the salt or ester is a form of the ingredient"),
}


@dataclass(slots=True)
class Release:
    """What is taken of the three files, by RxNorm concept id."""

    kind: dict[str, str] = field(default_factory=dict)
    name: dict[str, str] = field(default_factory=dict)
    synonyms: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    codes: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    rows: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, str, str]] = field(default_factory=set)
    """(relation, head, tail) as ``RELATIONS`` has them."""
    components: dict[str, str] = field(default_factory=dict)
    """The names of components: an ingredient in a strength."""
    strength: dict[str, str] = field(default_factory=dict)
    contains: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By component its ingredients, and by product its components or the products that it is made of."""
    ndc: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    left: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)


class RxNorm(StreamSource):
    """Ingredients and precise ingredients as drugs, with what they are sold as."""

    name = "rxnorm"
    title = "RxNorm"
    url = "https://www.nlm.nih.gov/research/umls/rxnorm/"
    licences: ClassVar[tuple[Licence, ...]] = (US_GOVERNMENT,)
    parser = "rxnorm/2"
    media_type = "application/zip"
    bytes_an_item = 120

    def __init__(self) -> None:
        self._held: tuple[Path, Release] | None = None

    def measured(self, path: Path) -> list[Path]:
        """The zip, or the three files of the folder."""
        return [_member(path, name) for name in WIDTH] if path.is_dir() else [path]

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Sold | Left]:
        """Every ingredient, then every product; rows of other vocabularies and kinds, and suppressed ones, left out."""
        release = self._release(path)
        brands, of_product = defaultdict(list), defaultdict(list)
        for relation, head, tail in sorted(release.pairs):
            if relation == "brand_of":
                brands[tail].append(head)
            elif relation in ("has_brand", "has_dose_form"):
                of_product[relation, head].append(release.name[tail])
        sold = _sold(release)
        for rxcui in sorted((c for c, kind in release.kind.items() if kind in SUBSTANCES), key=int):
            yield _entry(rxcui, release, brands[rxcui], sold[rxcui], document)
        nothing = 0
        for rxcui in sorted((c for c, kind in release.kind.items() if kind in PRODUCTS), key=int):
            said = {word: "; ".join(of_product[word, rxcui]) for word in ("has_brand", "has_dose_form")}
            product = _product(rxcui, release, said, document)
            if product is None:
                nothing += release.rows[rxcui]
            else:
                yield product
        if nothing:
            yield Left("of a product with an ingredient that is not known", items=nothing)
        for place, fault in release.faults:
            yield Left("malformed", place, fault)
        for reason, number in release.left.items():
            yield Left(reason, items=number)
        others = sum(number for c, number in release.rows.items()
                     if release.kind.get(c) not in (*SUBSTANCES, *PRODUCTS))
        if others:
            yield Left("of brands, dose forms and components, which are told with products", items=others)

    def edges(self, path: Path, document: Document) -> Edges:
        """Brands, products and dose forms in relation to ingredients."""
        release = self._release(path)
        relations = {
            name: DescribedRelation(f"RxNorm::{name}::{head}:{tail}", head, tail, "RxNorm", document.licence, text)
            for name, (head, tail, text) in RELATIONS.items()
        }
        edges = Edges()
        for relation, head, tail in sorted(release.pairs):
            edges.add(_entity(head, release), relations[relation], _entity(tail, release))
            edges.labels |= {_entity(c, release): release.name[c] for c in (head, tail)}
        return edges

    def _release(self, path: Path) -> Release:
        if self._held is None or self._held[0] != path:
            self._held = path, _read(path)
        return self._held[1]


def _entity(rxcui: str, release: Release) -> str:
    kind = release.kind[rxcui]
    words = (("Compound", SUBSTANCES), ("Brand", BRANDS), ("Dose Form", FORMS), ("Product", PRODUCTS))
    return f"{next(word for word, kinds in words if kind in kinds)}::rxcui:{rxcui}"


def _entry(rxcui: str, release: Release, brands: list[str], ndcs: list[str], document: Document) -> Entry:
    key = f"rxcui:{rxcui}"
    codes = [code for code in release.codes[rxcui] if code[0] != "atc"]
    names = [Name(text) for text in release.synonyms[rxcui]] + [Name(release.name[b], "brand") for b in brands]
    drug, faults = make_drug(key, release.name[rxcui], document, identifiers=[("rxcui", rxcui), *codes,
                             *(("ndc", ndc) for ndc in ndcs)], names=names)
    atc = []
    for space, code in release.codes[rxcui]:
        if space == "atc":
            try:
                atc.append(AtcRecord(key, document, Identifier.make("atc", code).value))
            except DataError as error:
                faults.append(f"{key}: {error.message}")
    return Entry(drug, atc=atc, faults=faults, items=release.rows[rxcui])


def _product(rxcui: str, release: Release, said: Mapping[str, str], document: Document) -> Sold | None:
    """The product with its ingredients (IN) and, of each, strength and salt (PIN); None where one is not known."""
    strengths: dict[str, dict[str, None]] = defaultdict(dict)
    salts: dict[str, dict[str, None]] = defaultdict(dict)
    for part in sorted(_parts(rxcui, release)):
        inside = sorted(release.contains.get(part, ())) if part in release.components else [part]
        precise = [release.name[c] for c in inside if release.kind[c] == "PIN"]
        ingredients = [c for c in inside if release.kind[c] == "IN"]
        if not ingredients and part in release.components:
            return None
        for ingredient in ingredients:
            strengths[ingredient][_strength(part, [release.name[ingredient], *precise], release)] = None
            salts[ingredient].update(dict.fromkeys(precise))
    if not strengths:
        return None
    ndcs = {ndc: normalise_ndc(ndc) for ndc in release.ndc.get(rxcui, ())}
    parts = tuple(
        ProductIngredient(f"rxcui:{c}", "; ".join(filter(None, strengths[c])) or None, "; ".join(salts[c]) or None)
        for c in sorted(strengths))
    record = ProductRecord(
        f"rxcui:{rxcui}", release.name[rxcui], document, parts, said["has_brand"] or None,
        said["has_dose_form"] or None, ndc=tuple(sorted({code for code in ndcs.values() if code})))
    faults = [f"rxcui:{rxcui}: {ndc!r} is no NDC" for ndc, code in ndcs.items() if code is None]
    return Sold(record, faults, items=release.rows[rxcui])


def _parts(product: str, release: Release) -> set[str]:
    """Components and substances of the product, also by way of what it is a brand of, or of a pack's products."""
    found: set[str] = set()
    seen, waiting = {product}, [product]
    while waiting:
        for part in release.contains.get(waiting.pop(), ()):
            if part in release.components or release.kind[part] in SUBSTANCES:
                found.add(part)
            elif part not in seen:
                seen.add(part)
                waiting.append(part)
    return found


def _strength(component: str, names: list[str], release: Release) -> str:
    """As RXNSAT gives it, or else what stands behind the ingredient in the component's name."""
    stated = release.strength.get(component)
    if stated:
        return stated
    whole = release.components.get(component, "")
    behind = [whole[len(name):].strip() for name in names if whole.lower().startswith(f"{name.lower()} ")]
    return min(behind, key=len) if behind else ""


def _sold(release: Release) -> Mapping[str, list[str]]:
    """The NDCs of each ingredient, of products that have no other."""
    contains: dict[str, set[str]] = defaultdict(set)
    for relation, product, ingredient in release.pairs:
        if relation == "has_ingredient" and release.kind[ingredient] == "IN":
            contains[product].add(ingredient)
    for product in contains:
        if any(part in release.components and not release.contains.get(part) for part in _parts(product, release)):
            contains[product].clear()  # what else is in it is not known
    found: dict[str, list[str]] = defaultdict(list)
    for product, ingredients in sorted(contains.items()):
        if len(ingredients) == 1:
            found[next(iter(ingredients))] += sorted(release.ndc.get(product, ()))
    return found


def _read(path: Path) -> Release:
    """The three files; raises SourceError when RXNCONSO has no ingredient."""
    release = Release()
    for place, row in _rows(path, "RXNCONSO", release):
        _take_name(row, release, place)
    if not any(kind == "IN" for kind in release.kind.values()):
        raise SourceError(f"RXNCONSO.RRF of {path.name} has no ingredient (SAB RXNORM, TTY IN)",
                          hint="give the folder rrf of a release, or its zip")
    _read_relations(path, release)
    for _, row in _rows(path, "RXNSAT", release):
        if row[9] != "RXNORM" or row[11] == "O":
            continue
        if row[8] == "NDC" and row[0] in release.kind:
            release.ndc[row[0]].append(row[10])
        elif row[8] == "RXN_STRENGTH" and row[0] in release.components:
            release.strength[row[0]] = row[10]
    return release


def _take_name(row: list[str], release: Release, place: int) -> None:
    rxcui, vocabulary, kind, code, text, restricted, suppressed = row[0], *row[11:17]
    if suppressed not in ("N", ""):
        release.left["suppressed"] += 1
    elif restricted not in ("0", ""):
        release.left["restricted by its vocabulary"] += 1
    elif vocabulary != "RXNORM" and vocabulary not in CODES:
        release.left["of another vocabulary"] += 1
    elif not rxcui.isdigit() or not text.strip():
        release.faults.append((place, f"RXNCONSO line {place}: no concept or no name"))
    elif vocabulary in CODES:
        release.codes[rxcui].append((CODES[vocabulary], code))
        release.rows[rxcui] += 1
    elif kind in SYNONYMS:
        release.synonyms[rxcui].append(text)
        release.rows[rxcui] += 1
    elif kind in (*SUBSTANCES, *BRANDS, *FORMS, *PRODUCTS):
        release.kind[rxcui], release.name[rxcui] = kind, text
        release.rows[rxcui] += 1
    elif kind == COMPONENT:
        release.components[rxcui] = text
        release.rows[rxcui] += 1
    else:
        release.left["of another term type"] += 1


def _read_relations(path: Path, release: Release) -> None:
    """Fill ``pairs`` and ``contains``: RXNREL states both directions, so a pair is read by the kinds of its ends.

    What a product contains stands at its components (SCDC): product, component, ingredient.
    """
    kind, components, contains = release.kind, release.components, release.contains
    for _, row in _rows(path, "RXNREL", release):
        first, second, word = row[0], row[4], row[7]
        if row[10] != "RXNORM" or row[14] not in ("N", ""):
            continue
        for one, other in ((first, second), (second, first)):
            a, b = kind.get(one), kind.get(other)
            if word in ("has_ingredient", "ingredient_of", "has_precise_ingredient", "precise_ingredient_of"):
                if one in components and b in SUBSTANCES:
                    contains[one].add(other)
                elif a in PRODUCTS and b in BRANDS:
                    release.pairs.add(("has_brand", one, other))
                elif a in PRODUCTS and b in SUBSTANCES:
                    contains[one].add(other)
            elif word in ("consists_of", "constitutes", "contains", "contained_in"):
                in_pack = a in PACKS and b in PRODUCTS and b not in PACKS
                if in_pack or (a in PRODUCTS and other in components):
                    contains[one].add(other)
            elif word in ("tradename_of", "has_tradename"):
                if a in BRANDS and b in SUBSTANCES:
                    release.pairs.add(("brand_of", one, other))
                elif a in ("SBD", "BPCK") and b in ("SCD", "GPCK"):
                    contains[one].add(other)
            elif word in ("has_dose_form", "dose_form_of") and a in PRODUCTS and b in FORMS:
                release.pairs.add(("has_dose_form", one, other))
            elif word in ("form_of", "has_form") and a == "PIN" and b == "IN":
                release.pairs.add(("form_of", one, other))
    for product in (c for c, known in kind.items() if known in PRODUCTS):
        for part in _parts(product, release):
            inside = contains.get(part, ()) if part in components else (part,)
            release.pairs |= {("has_ingredient", product, substance) for substance in inside}


@contextmanager
def _opened(path: Path, name: str) -> Iterator[BinaryIO]:
    if path.is_dir():
        with open_plain(_member(path, name), limit=1 << 36) as stream:
            yield stream
    else:
        if not is_zip(path):
            raise UsageError(f"{path.name} is neither a folder nor a zip", hint="--path rrf, or the release's zip")
        with open_in_zip(path, f"/{name}.RRF" if name != "RXNCONSO" else "RXNCONSO.RRF") as stream:
            yield stream


def _member(folder: Path, name: str) -> Path:
    found = next((p for p in (folder, folder / "rrf") if (p / f"{name}.RRF").is_file()), None)
    if found is None:
        raise UsageError(f"{folder} has no {name}.RRF", hint="give the folder rrf of a release")
    return found / f"{name}.RRF"


def _rows(path: Path, name: str, release: Release) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of a file; a line with another number of fields is a fault, an empty one is none.

    Raises SourceError for a file that ends within a line.
    """
    with _opened(path, name) as stream:
        for place, line in enumerate(read_lines(stream, LONGEST), 1):
            try:
                row = line.decode("utf-8").rstrip("\r\n").split("|") if line is not None else []
            except UnicodeDecodeError:
                row = []
            if row == [""]:
                continue
            if len(row) not in (WIDTH[name], WIDTH[name] + 1):
                if line is not None and not line.endswith(b"\n"):
                    raise SourceError(f"{name}.RRF ends within line {place}", hint="download it again")
                release.faults.append((place, f"{name} line {place}: {len(row)} fields, expected {WIDTH[name]}"))
            else:
                yield place, row
