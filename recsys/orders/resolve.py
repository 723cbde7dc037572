"""From an order to its ingredients, each with how it was found; what was not found has a reason.

The order of evidence:

1. the user's own map (``recsys.orders.own_map``);
2. codes that name ingredients: RxNorm concepts, and the NDC and other codes that the knowledge base knows a drug by;
3. names, best first (``kb.names.matching``); a name that holds all drugs of the codes and more wins over the codes,
   since a code often stands for one part of a combination;
4. tables of products: GSN and NDC to ATC (ethos-paper), NDC to RxNorm (MoleRec): the drug that alone has that code;
5. ATC codes of the source;
6. HICL, GSN and NDC as other orders of the same source name them (``Resolver.learn``).

Where codes and name say different drugs the codes stay, and the disagreement is counted.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from kb.errors import DataError
from kb.names.lexicon import Lexicon, Meaning, make_lexicon, read_lexicon
from kb.names.matching import DILUENTS, Reading, understand
from kb.names.words import canonical_name, without_salt
from kb.normalise import NAMESPACES, normalise_ndc
from recsys.orders.classes import added_codes, is_combination
from recsys.orders.order import Order
from recsys.orders.own_map import Meant, OwnMap, SealedMap
from recsys.orders.routes import millilitres, route_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

NO_NAME = "no name or code"
NOT_A_DRUG = "no drug: a container, a device, an unknown"
NO_DRUG = "no drug of the knowledge base"
AMBIGUOUS = "a name of several drugs"
VEHICLE = "a vehicle: a diluent that carries drugs"
MAPPED_AWAY = "none by the user's map"

EXPECTED = (VEHICLE, NOT_A_DRUG, MAPPED_AWAY)
"""Reasons that need no mending."""

DISAGREE = "codes and name say different drugs"
PRODUCT_DISAGREES = "a table of products says another drug than the name"
PARTLY = "a part of the name was not understood"
LACKING = "an ingredient is lacking in the knowledge base"

AGREE = 0.9
"""The share of a code's named orders that must have the same ingredients before nameless ones get them."""
LARGE_VOLUME = 500.0
"""Millilitres from which a bag of diluent is a fluid given for its own sake."""

_MEANT = ("dextrose", "glucose")
_CONCENTRATED = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*%")
_FLUSH = re.compile(r"\bflush|\block\b|bacteriostatic|diluent|sterile water for inj|swfi")
_STRONG_SUGAR = re.compile(r"\bd(?:50|25|20)w?\b")
_LOCAL = ("eye", "nasal", "inhaled", "skin", "oral", "ear", "mouth", "irrigation")
_EATEN = re.compile(r"\bgel\b|\btabs?\b|chew")
_CLASS = re.compile(r"ATC:\s*[A-Z](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?", re.IGNORECASE)
_BOLUS = re.compile(r"bolus|maintenance")


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A base drug of the knowledge base, and how an order was found to have it."""

    drug: int
    key: str
    """``DRUG:<identity>``."""
    name: str
    how: str
    """``map``, ``rxcui``, ``ndc``, ``name``, ``shorthand``, ``brand``, ``beginning``, ``gsn table``, ``atc``,
    ``hicl of others`` or two of them."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an order is: its ingredients, the class of a product that is no single drug, or the reason for neither."""

    ingredients: tuple[Ingredient, ...] = ()
    product: str = ""
    """An ATC code, e.g. of a multivitamin."""
    reason: str = ""
    route: str = ""
    texts: tuple[str, ...] = ()
    """The order's words, for choosing a class."""
    remarks: tuple[str, ...] = ()
    """DISAGREE, PARTLY, LACKING where they hold."""
    rivals: tuple[str, ...] = ()
    """The names of the drugs that an ambiguous name may mean."""

    @property
    def found(self) -> bool:
        """Whether there is anything to label the order with."""
        return bool(self.ingredients or self.product)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the ingredients, sorted; the product's class where there is no single drug."""
        own = {ingredient.key for ingredient in self.ingredients}
        return tuple(sorted(own | ({f"ATC:{self.product}"} if self.product else set())))


@lru_cache(maxsize=1)
def product_tables() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]], dict[str, str]]:
    """The ATC codes of a GSN, the ATC codes of an NDC, and the RxNorm concept of an NDC."""
    by_gsn: dict[str, set[str]] = defaultdict(set)
    by_ndc: dict[str, set[str]] = defaultdict(set)
    for row in _table("gsn_atc_ndc.tsv.gz"):
        by_gsn[row["gsn"]].add(row["atc"])
        if row["ndc"]:
            by_ndc[row["ndc"]].add(row["atc"])
    rxcui = {row["ndc"]: row["rxcui"] for row in _table("ndc_rxcui.tsv.gz")}
    return ({gsn: tuple(sorted(codes)) for gsn, codes in by_gsn.items()},
            {ndc: tuple(sorted(codes)) for ndc, codes in by_ndc.items()}, rxcui)


def _table(name: str) -> Iterable[dict[str, str]]:
    packed = files("kb").joinpath("data", name).read_bytes()
    return csv.DictReader(gzip.decompress(packed).decode().splitlines(), delimiter="\t")


@dataclass
class Resolver:
    """Resolves orders by the knowledge base's names and codes; what it learns of a source is kept in it."""

    lexicon: Lexicon
    identities: Mapping[int, str] = field(default_factory=dict)
    identifiers: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    """Base drugs by namespace and value."""
    atc: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """ATC codes of base drugs, those of their salts included."""
    own_map: OwnMap | SealedMap = field(default_factory=OwnMap)
    keep_vehicles: bool = False
    _learned: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _read: dict[str, Reading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        alone: dict[str, set[int]] = defaultdict(set)
        for drug, codes in self.atc.items():
            for code in codes:
                if len(code) == 7 and not is_combination(code):
                    alone[code].add(drug)
        self._by_atc = {code: drugs.pop() for code, drugs in alone.items() if len(drugs) == 1}

    def resolve(self, order: Order) -> Resolved:
        """What an order is, by the stated order of evidence."""
        texts = tuple(dict.fromkeys((*order.name, *(part for part in (order.form, order.strength) if part))))
        route = route_of(order.route, order.form, order.name)
        empty = Resolved(route=route, texts=texts)
        mapped = self.own_map.find(order)
        if mapped is not None:
            return self._mapped(mapped, empty)
        if not order.key:
            return replace(empty, reason=NO_NAME)
        coded, how = self._coded(order)
        reading = self._named(order.name)
        named = reading.drugs
        if coded and not set(named) >= set(coded):
            remarks = (DISAGREE,) if named and not set(coded) >= set(named) else ()
            result = replace(empty, ingredients=self._ingredients(coded, how), remarks=remarks)
        elif named or any(part.meaning.atc for part in reading.parts):
            result = self._of_reading(reading, empty, how if coded else "")
            product = self._by_table(order)[0]
            if product and named and not set(named) >= set(product):
                result = replace(result, remarks=(*result.remarks, PRODUCT_DISAGREES))
        else:
            result = self._of_products(order, reading, empty)
        return self._without_vehicle(order, result)

    def learn(self, orders: Iterable[tuple[Order, int]]) -> int:
        """Take from named orders (each with its rows) what their HICL, GSN and NDC mean, for orders without a name.

        A code whose named orders agree in fewer than AGREE of their rows is not learned. Gives the codes learned.
        """
        votes: dict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
        for order, rows in orders:
            codes = _product_codes(order)
            if codes and order.name:
                drugs = tuple(sorted(self._named(order.name).drugs))
                for code in codes if drugs else ():
                    votes[code][drugs] += rows
        for code, counted in votes.items():
            drugs, rows = counted.most_common(1)[0]
            if rows >= AGREE * counted.total():
                self._learned[code] = drugs
        return len(self._learned)

    def nearest(self, text: str, reason: str, count: int = 3) -> list[str]:
        """The names of the lexicon that are most like a text that was not understood; none for what is no drug."""
        if reason in (*EXPECTED, NO_NAME):
            return []
        reading = self._named([text])
        if rivals := [self.lexicon.names.get(drug, "") for part in reading.parts for drug in part.meaning.rivals]:
            return rivals[:count]
        found: list[str] = []
        for word in [canonical_name(text), *sorted(reading.left, key=len, reverse=True)]:
            names = self._by_start.get(word[:2], ())
            found += difflib.get_close_matches(word, names, n=count, cutoff=0.75)
        return list(dict.fromkeys(found))[:count]

    @cached_property
    def _by_start(self) -> Mapping[str, list[str]]:
        """Canonical names by their first two letters."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.lexicon.meanings):
            found[name[:2]].append(name)
        return found

    def key(self, drug: int) -> str:
        """The key of a base drug."""
        return f"DRUG:{self.identities.get(drug, str(drug))}"

    def codes(self, drug: int) -> tuple[str, ...]:
        """The ATC codes of a base drug, those that the bundled table lacks included."""
        return self.atc.get(drug, ())

    def _ingredients(self, drugs: Iterable[int], how: str) -> tuple[Ingredient, ...]:
        return tuple(Ingredient(drug, self.key(drug), self.lexicon.names.get(drug, ""), how)
                     for drug in dict.fromkeys(drugs))

    def _mapped(self, means: Meant, empty: Resolved) -> Resolved:
        if not isinstance(means, str):
            return replace(empty, ingredients=self._ingredients(means, "map"), reason="" if means else NO_DRUG)
        if means.lower() == "none":
            return replace(empty, reason=MAPPED_AWAY)
        if means.upper().startswith("ATC:"):
            return replace(empty, product=means[4:].strip().upper())
        meanings = [self.lexicon.meanings.get(canonical_name(name)) for name in means.split("+")]
        drugs = [drug for meaning in meanings if meaning for drug in meaning.drugs]
        lacking = any(meaning is None or not meaning.drugs for meaning in meanings)
        return replace(empty, ingredients=self._ingredients(drugs, "map"), reason="" if drugs else NO_DRUG,
                       remarks=(LACKING,) if lacking else ())

    def check_map(self) -> None:
        """Raise DataError for a row of the user's map that names no class and not one drug of the knowledge base."""
        for order, means in self.own_map.rows.items():
            if not isinstance(means, str) or means.lower() == "none" or _CLASS.fullmatch(means):
                continue
            coded, word = means.upper().startswith("ATC:"), canonical_name(means)
            if coded or not self._mapped(means, Resolved()).ingredients:
                near = [] if coded else difflib.get_close_matches(word, self._by_start.get(word[:2], ()), n=3)
                raise DataError(f"the map says that {order!r} is {means!r}, which names no drug and no class",
                                hint=f"did you mean {' or '.join(near)}?" if near else
                                "name a drug as mkmed kb search finds it, ATC:B05BA02, or none")

    def meant(self, means: str) -> Meant:
        """What a map says, without its words: ``none``, an ATC class, or the base drugs that it names."""
        if means.lower() == "none" or _CLASS.fullmatch(means):
            return means
        return tuple(one.drug for one in self._mapped(means, Resolved()).ingredients)

    def _coded(self, order: Order) -> tuple[tuple[int, ...], str]:
        """The drugs of the codes that name ingredients, and which code it was."""
        given = [("rxcui", value) for value in order.rxcui]
        if order.code and ":" in order.code:
            namespace, _, value = order.code.partition(":")
            given.append((_NAMESPACE_OF.get(namespace.lower(), namespace.lower()), value))
        found = [drug for namespace, value in given if namespace in NAMESPACES
                 for drug in self.identifiers.get(namespace, {}).get(value, ())]
        if found:
            return tuple(dict.fromkeys(found)), given[0][0]
        ndc = normalise_ndc(order.ndc) if order.ndc else None
        if ndc and (drugs := self.identifiers.get("ndc", {}).get(ndc)):
            return drugs, "ndc"
        return (), ""

    def _named(self, names: Sequence[str]) -> Reading:
        """The reading of the first name that gives any drug; of none, the reading of the first name."""
        first = None
        for name in names:
            reading = self._read.get(name)
            if reading is None:
                if len(self._read) > 1_000_000:
                    self._read.clear()
                reading = self._read[name] = understand(name, self.lexicon)
            if any(part.meaning.drugs or part.meaning.atc for part in reading.parts):
                return reading
            first = first or reading
        return first or Reading(())

    def _of_reading(self, reading: Reading, empty: Resolved, code: str) -> Resolved:
        how: dict[int, str] = {}
        for part in reading.parts:
            for drug in () if part.vehicle else part.meaning.drugs:
                how.setdefault(drug, f"{code} and {part.meaning.how}" if code else part.meaning.how)
        product = next((part.meaning.atc for part in reading.parts if part.meaning.atc), "")
        remarks = (*((PARTLY,) if reading.left else ()),
                   *((LACKING,) if any(part.meaning.missing for part in reading.parts) else ()))
        ingredients = tuple(one for drug, found in how.items() for one in self._ingredients([drug], found))
        return replace(empty, ingredients=ingredients, product=product, remarks=remarks)

    def _of_products(self, order: Order, reading: Reading, empty: Resolved) -> Resolved:
        """What tables of products, the source's ATC codes or other orders of the source say."""
        if any(part.meaning.nothing for part in reading.parts):
            return replace(empty, reason=NOT_A_DRUG)
        drugs, how = self._by_table(order)
        if drugs:
            return replace(empty, ingredients=self._ingredients(drugs, how))
        for code in _product_codes(order):
            if code in self._learned:
                how = f"{code.partition(':')[0].lower()} of others"
                return replace(empty, ingredients=self._ingredients(self._learned[code], how))
        if order.atc:
            return replace(empty, product=order.atc[0])
        rivals = tuple(self.lexicon.names.get(drug, "") for part in reading.parts for drug in part.meaning.rivals)
        if rivals:
            return replace(empty, reason=AMBIGUOUS, rivals=rivals)
        if any(part.meaning.missing for part in reading.parts):
            return replace(empty, reason=NO_DRUG, remarks=(LACKING,))
        named = any(part for part in order.name)
        coded = order.ndc or order.gsn or order.rxcui or order.hicl or order.code
        return replace(empty, reason=NO_DRUG if named or coded else NO_NAME)

    def _by_table(self, order: Order) -> tuple[tuple[int, ...], str]:
        """The drug that a table of products or the source's ATC code names alone, and which it was."""
        if not (order.gsn or order.ndc or order.atc):
            return (), ""
        by_gsn, by_ndc, rxcui = product_tables()
        ndc = (normalise_ndc(order.ndc) if order.ndc else None) or ""
        for codes, how in ((by_gsn.get((order.gsn or "").zfill(6), ()), "gsn table"),
                           (by_ndc.get(ndc, ()), "ndc table"), (order.atc, "atc")):
            drugs = {self._by_atc[code] for code in codes if code in self._by_atc}
            if len(drugs) == 1:
                return tuple(drugs), how
        return self.identifiers.get("rxcui", {}).get(rxcui.get(ndc, ""), ()), "ndc table"

    def _without_vehicle(self, order: Order, result: Resolved) -> Resolved:
        """The result, or the reason VEHICLE for an order of nothing but a diluent that only carries drugs.

        In MIMIC's BASE and ADDITIVE a diluent always does, but for hypertonic saline; elsewhere a flush does, and what
        is neither concentrated nor local nor a bag of LARGE_VOLUME or more.
        """
        if self.keep_vehicles or result.product or not result.ingredients or not self._is_diluent(result):
            return result
        text = " ".join(result.texts)
        percents = [float(number) for number in _CONCENTRATED.findall(text)]
        sugar = any(canonical_name(one.name).startswith(_MEANT) for one in result.ingredients)
        concentrated = max(percents, default=0.0) >= (10 if sugar else 3) or bool(_STRONG_SUGAR.search(text))
        local = bool(_EATEN.search(text)) or result.route in _LOCAL
        large = millilitres(result.texts) >= LARGE_VOLUME or bool(_BOLUS.search(text))
        if order.kind in ("BASE", "ADDITIVE"):
            carries = not (concentrated and order.kind == "BASE" and not sugar)
        else:
            carries = bool(_FLUSH.search(text)) or not (concentrated or local or large)
        return replace(result, ingredients=(), reason=VEHICLE) if carries else result

    def _is_diluent(self, result: Resolved) -> bool:
        """Whether the order is of one of salt, sugar and water; Ringer's lactate and sugar with salt are fluids."""
        return len(result.ingredients) == 1 and canonical_name(result.ingredients[0].name) in DILUENTS


_NAMESPACE_OF = {"rxnorm": "rxcui", "rxnorm extension": "rxcui"}


def _product_codes(order: Order) -> tuple[str, ...]:
    """The codes of an order that other orders of the same source may name."""
    return tuple(f"{name}:{value}" for name, value in
                 (("HICL", order.hicl), ("GSN", order.gsn), ("NDC", order.ndc)) if value)


def codes_by_drug(pairs: Iterable[tuple[int, str]], lexicon: Lexicon) -> dict[int, tuple[str, ...]]:
    """The ATC codes of base drugs: their own, their salts', and those that ``atc_added.tsv`` gives by name."""
    found: dict[int, set[str]] = defaultdict(set)
    for drug, code in pairs:
        found[lexicon.base(drug)].add(code)
    unsalted = {without_salt(canonical_name(name)): lexicon.base(drug) for drug, name in lexicon.names.items()}
    for name, codes in added_codes().items():
        meaning: Meaning | None = lexicon.meanings.get(canonical_name(name))
        drugs = meaning.drugs if meaning and len(meaning.drugs) == 1 else ()
        if not drugs and canonical_name(name) in unsalted:
            drugs = (unsalted[canonical_name(name)],)
        for drug in drugs:
            found[drug].update(codes)
    return {drug: tuple(sorted(codes)) for drug, codes in found.items()}


def read_resolver(connection: Connection, own_map: OwnMap | None = None, *, keep_vehicles: bool = False) -> Resolver:
    """The resolver of the knowledge base as it is now."""
    from kb.query import read as query

    lexicon = read_lexicon(connection)
    listed = query.drugs(connection)
    atc = codes_by_drug(query.atc(connection), lexicon)
    coded = frozenset(atc)
    identifiers: dict[str, dict[str, tuple[int, ...]]] = {}
    for namespace in ("ndc", "rxcui", "unii", "drugbank", "cas", "chebi", "chembl"):
        found: dict[str, set[int]] = defaultdict(set)
        for drug, value in query.identifiers(connection, namespace):
            found[value].add(lexicon.base(drug))
        identifiers[namespace] = {value: _meant_by(namespace, drugs, coded) for value, drugs in found.items()}
    return Resolver(
        lexicon, dict(zip(listed.ids.tolist(), listed.identities, strict=True)), identifiers,
        atc, own_map or OwnMap(), keep_vehicles,
    )


def _meant_by(namespace: str, drugs: Set[int], coded: Set[int]) -> tuple[int, ...]:
    """The drugs that an identifier means: an NDC all parts of a product, any other one drug or, of several, none.

    Of several drugs that share an identifier (heparins a CAS number) the one with an ATC code is meant.
    """
    if namespace == "ndc" or len(drugs) == 1:
        return tuple(sorted(drugs))
    likely = drugs & coded
    return tuple(likely) if len(likely) == 1 else ()


def empty_resolver() -> Resolver:
    """A resolver that knows no drug: it only passes on the ATC codes that a source gives itself."""
    return Resolver(make_lexicon({}, ()))
