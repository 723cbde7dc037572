"""The bundled corpus' drugs, names and ATC codes as a resolver of orders, read from its files without a database."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from kb.names.lexicon import Lexicon, make_lexicon
from kb.names.words import canonical_name
from recsys.orders.own_map import OwnMap
from recsys.orders.resolve import Resolver, codes_by_drug

DATA = Path(__file__).parents[1] / "mkmed" / "demo" / "data"


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of one of the corpus' tables."""
    with gzip.open(DATA / name, "rt", encoding="utf-8") as stream:
        yield from csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t")


@lru_cache(maxsize=1)
def drugs() -> list[dict[str, str]]:
    """The drugs; a drug's number is its place."""
    return list(rows("drugs.tsv.gz"))


@lru_cache(maxsize=1)
def atc() -> list[tuple[int, str]]:
    """(drug, ATC code)."""
    number = {row["key"]: i for i, row in enumerate(drugs())}
    return [(number[row["key"]], row["code"]) for row in rows("atc.tsv.gz") if row["key"] in number]


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The lexicon of the corpus."""
    preferred = {i: row["name"] for i, row in enumerate(drugs())}
    names = [(i, name) for i, row in enumerate(drugs()) for name in (row["name"], *row["synonyms"].split(" | ")) if name]
    biologics = [i for i, row in enumerate(drugs()) if row["kind"] == "biologic"]
    return make_lexicon(preferred, names, with_atc={drug for drug, _ in atc()}, biologics=biologics)


def resolver(own_map: OwnMap | None = None, *, keep_vehicles: bool = False) -> Resolver:
    """A resolver of the corpus' names, ATC codes, RxNorm concepts and NDCs."""
    words = lexicon()
    identifiers: dict[str, dict[str, tuple[int, ...]]] = {"rxcui": {}, "ndc": {}}
    for i, row in enumerate(drugs()):
        for text in row["identifiers"].split(" | "):
            namespace, _, value = text.partition(":")
            if namespace in identifiers:
                known = identifiers[namespace].get(value, ())
                identifiers[namespace][value] = tuple(sorted({*known, words.base(i)}))
    return Resolver(words, {i: row["key"] for i, row in enumerate(drugs())}, identifiers,
                    codes_by_drug(atc(), words), own_map or OwnMap(), keep_vehicles)


def drug(name: str) -> int:
    """The base drug that has this name alone."""
    (found,) = lexicon().meanings[canonical_name(name)].drugs
    return found
