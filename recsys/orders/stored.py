"""The map from orders to medications as it is stored with a model, so that an answer needs no knowledge base.

All names are kept, those of drugs outside the model's vocabulary too: without ``insulin glargine`` in the lexicon the
text would be read as insulin. What was learned from the orders of patients is left out. Of the user's own map, whose
texts may be a patient's, what orders mean is kept under salted hashes of their texts (``SealedMap``); the salt is a
hash of the map, so that the same training stores the same bytes.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from kb.names.lexicon import Lexicon, Meaning
from recsys.orders.codes import MEDICATION, normalised
from recsys.orders.medications import MedicationMap
from recsys.orders.order import Order
from recsys.orders.own_map import SealedMap
from recsys.orders.resolve import Resolver


def pack(medications: MedicationMap) -> bytes:
    """The map as compressed JSON; ``unpack`` is its inverse but for what was learned."""
    sealed = _sealed(medications.resolver)
    resolver, lexicon = medications.resolver, medications.resolver.lexicon
    document = {
        "level": medications.level, "protocol": medications.protocol, "keep_vehicles": resolver.keep_vehicles,
        "meanings": {name: _short(meaning) for name, meaning in sorted(lexicon.meanings.items())},
        "base_of": sorted(lexicon.base_of.items()), "names": sorted(lexicon.names.items()),
        "biologics": sorted(lexicon.biologics), "identities": sorted(resolver.identities.items()),
        "identifiers": {space: {value: list(drugs) for value, drugs in sorted(found.items())}
                        for space, found in sorted(resolver.identifiers.items())},
        "atc": [[drug, list(codes)] for drug, codes in sorted(resolver.atc.items())],
        "own": {"salt": sealed.salt.hex(), "rows": sorted(sealed.rows.items())},
    }
    return zlib.compress(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), 6)


def unpack(data: bytes) -> MedicationMap:
    """The map that ``pack`` stored."""
    stored: dict[str, Any] = json.loads(zlib.decompress(data))
    lexicon = Lexicon({name: _long(short) for name, short in stored["meanings"].items()}, dict(stored["base_of"]),
                      dict(stored["names"]), frozenset(stored["biologics"]))
    identifiers = {space: {value: tuple(drugs) for value, drugs in found.items()}
                   for space, found in stored["identifiers"].items()}
    resolver = Resolver(lexicon, dict(stored["identities"]), identifiers,
                        {drug: tuple(codes) for drug, codes in stored["atc"]}, own_map=_unsealed(stored.get("own", {})),
                        keep_vehicles=stored["keep_vehicles"])
    return MedicationMap(stored["level"], stored["protocol"], resolver)


def _sealed(resolver: Resolver) -> SealedMap:
    """The own map with hashes for its texts; a meaning that names no drug of the knowledge base says nothing."""
    own = resolver.own_map
    if isinstance(own, SealedMap):
        return own
    seal = SealedMap(bytes.fromhex(own.sha256)[:16])
    return SealedMap(seal.salt, {seal.seal(order): resolver.meant(means) for order, means in own.rows.items()})


def _unsealed(stored: dict[str, Any]) -> SealedMap:
    return SealedMap(bytes.fromhex(stored.get("salt", "")),
                     {key: means if isinstance(means, str) else tuple(means) for key, means in stored.get("rows", ())})


def _short(meaning: Meaning) -> int | list[Any]:
    """A meaning as JSON; the drug alone where it is a name of one drug."""
    if meaning == Meaning("name", meaning.drugs) and len(meaning.drugs) == 1:
        return meaning.drugs[0]
    return [meaning.how, meaning.drugs, meaning.missing, meaning.atc, meaning.rivals, meaning.nothing]


def _long(short: int | list[Any]) -> Meaning:
    if isinstance(short, int):
        return Meaning("name", (short,))
    how, drugs, missing, atc, rivals, nothing = short
    return Meaning(how, tuple(drugs), tuple(missing), atc, tuple(rivals), nothing)


def order_of(text: str) -> Order:
    """The order that a text stands for: a code with its system, or a name as ordered."""
    code = normalised(text, MEDICATION) or ""
    system, _, value = code.partition(":")
    if system == "ATC":
        return Order(atc=(value,))
    if system == "RXCUI":
        return Order(rxcui=(value,))
    if system == "NDC":
        return Order(ndc=value)
    if system == "DRUG":
        return Order(code=value)
    if system == "NAME":
        return Order(name=(value,))
    # Drug texts have colons too: only a single word before one is the name of a system.
    return Order(name=(" ".join(text.lower().split()),), code=code if code and " " not in system else None)
