"""The names and codes of a model's ingredients, stored with it, so that an order is read without a database.

It is the knowledge base's lexicon at the time of training, cut down to the ingredients behind the model's medications,
with the label protocol and the user's own map: an order that is asked about is labelled as those of the cohort were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kb.identity.identifiers import normalise_ndc
from kb.names.lexicon import Lexicon, Meaning
from recsys.orders.medications import MedicationMap
from recsys.orders.order import Order
from recsys.orders.own_map import OwnMap
from recsys.orders.resolve import Resolver

_CODES = ("ndc", "gsn", "hicl", "rxcui", "atc")


@dataclass(frozen=True)
class OrderBook:
    """What is needed to label an order as those of one cohort were."""

    level: str
    protocol: str
    keys: tuple[str, ...]
    """The ingredients, by number."""
    names: tuple[str, ...]
    """Their preferred names."""
    codes: tuple[tuple[str, ...], ...]
    """Their ATC codes."""
    meanings: Mapping[str, tuple[int, ...] | str]
    """Canonical names: numbers of ingredients, an ATC class, or empty for what is no drug."""
    numbers: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Numbers of ingredients by ``ndc`` and ``rxcui``."""
    own_map: Mapping[str, str]

    @cached_property
    def _map(self) -> MedicationMap:
        lexicon = Lexicon({name: _meaning(means) for name, means in self.meanings.items()},
                          names=dict(enumerate(self.names)))
        resolver = Resolver(lexicon, {i: key.removeprefix("DRUG:") for i, key in enumerate(self.keys)}, self.numbers,
                            dict(enumerate(self.codes)), OwnMap(self.own_map), keep_vehicles=True)
        return MedicationMap(self.level, self.protocol, resolver)

    def labels(self, text: str) -> tuple[str, ...]:
        """The labels of an order as written, a drug's name or ``NDC:…``; empty where it is not understood."""
        return self._map.label(asked(text)).labels

    def ingredients(self, text: str) -> tuple[str, ...]:
        """The keys of the ingredients of an order as written."""
        return self._map.resolver.resolve(asked(text)).keys

    def as_json(self) -> dict[str, Any]:
        """The book as plain values."""
        return {"level": self.level, "protocol": self.protocol, "keys": list(self.keys), "names": list(self.names),
                "codes": [list(codes) for codes in self.codes],
                "meanings": {name: means if isinstance(means, str) else list(means)
                             for name, means in self.meanings.items()},
                "numbers": {space: {value: list(some) for value, some in found.items()}
                            for space, found in self.numbers.items()},
                "own_map": dict(self.own_map)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> OrderBook:
        """The book of plain values."""
        return cls(document["level"], document["protocol"], tuple(document["keys"]), tuple(document["names"]),
                   tuple(tuple(codes) for codes in document["codes"]),
                   {name: means if isinstance(means, str) else tuple(means)
                    for name, means in document["meanings"].items()},
                   {space: {value: tuple(some) for value, some in found.items()}
                    for space, found in document["numbers"].items()}, dict(document["own_map"]))


def asked(text: str) -> Order:
    """The order that a text asks about: a code of a known system, or a drug as written."""
    space, colon, value = text.strip().partition(":")
    name = space.strip().lower()
    if colon and name in _CODES:
        value = value.strip()
        if name == "ndc":
            value = normalise_ndc(value) or value
        return Order(**{name: (value,) if name in ("rxcui", "atc") else value})  # type: ignore[arg-type]
    return Order(name=(" ".join(text.lower().split()),))


def _meaning(means: tuple[int, ...] | str) -> Meaning:
    if isinstance(means, str):
        return Meaning("name", atc=means, nothing=not means)
    return Meaning("name", tuple(means))


def make_book(resolver: Resolver, level: str, protocol: str, ingredients: Iterable[str]) -> OrderBook:
    """The book of these ingredients (keys as in a cohort), and of the products that are no single drug."""
    wanted = set(ingredients)
    drugs = [drug for drug in sorted({drug for meaning in resolver.lexicon.meanings.values() for drug in meaning.drugs})
             if resolver.key(drug) in wanted]
    number = {drug: i for i, drug in enumerate(drugs)}
    meanings: dict[str, tuple[int, ...] | str] = {}
    for name, meaning in resolver.lexicon.meanings.items():
        if meaning.nothing or meaning.atc:
            meanings[name] = meaning.atc
        elif meaning.drugs and all(drug in number for drug in meaning.drugs):
            meanings[name] = tuple(number[drug] for drug in meaning.drugs)
    numbers = {space: {value: tuple(number[drug] for drug in some) for value, some in
                       resolver.identifiers.get(space, {}).items() if some and all(drug in number for drug in some)}
               for space in ("ndc", "rxcui")}
    return OrderBook(level, protocol, tuple(resolver.key(drug) for drug in drugs),
                     tuple(resolver.lexicon.names.get(drug, "") for drug in drugs),
                     tuple(resolver.codes(drug) for drug in drugs), meanings, numbers, dict(resolver.own_map.rows))


