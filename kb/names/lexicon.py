"""The names that drugs go by, arranged for look-up: the knowledge base's own, hospital shorthand, and brands.

A drug here is a *base* drug: salts, hydrates and simple esters of one drug count as that drug, as RxNorm's ingredients
do (metoprolol tartrate is metoprolol), except where the salt itself is the drug (potassium chloride, ferrous sulfate).
What is a salt or hydrate of what is read off the structures (``mkmed.substance_relation``), whatever the names are, a
user's own salt included; where there is no structure the names say it.
Names come, in this order, from ``written_names.tsv`` (shorthand and combinations, our own), the knowledge base, and
``brand_names.tsv.gz`` (share-alike; see ``kb/data/NOTICE.md``). A name of several drugs means the drug that bears it as
its preferred name, failing that the one with an ATC code, and failing that none: it is ambiguous.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kb.names.tables import brand_names, written_names
from kb.names.words import CATIONS, FORMS, SALTS, canonical_name, without_salt

if TYPE_CHECKING:
    from sqlalchemy import Connection

SHORTEST = 4
"""Letters of a name that may be found within a longer text; a shorter one must be the whole of it."""
NO_BASE = CATIONS | set(re.findall(r"\S+", """hydrogen sulfur cobalt chromium manganese antimony choline trolamine
imidazole adenosine dihydroxyacetone pyridoxal isosorbide cholesterol estrone pyrithione rubidium indium gallium chromic
etamsylate thimerosal"""))
"""First words of substances whose salts and esters are other drugs, not forms of them."""
DRUGS_TOO = CATIONS | {"arginine", "lysine"}
"""Words for a salt that are also drugs."""
SHORTEST_BEGINNING = 6
"""Letters of a word that may be taken as the beginning of a name."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one name means: drugs, the names of drugs that the knowledge base lacks, or an ATC class."""

    how: str
    """``name``, ``shorthand``, ``brand`` or ``beginning``."""
    drugs: tuple[int, ...] = ()
    """Base drugs; several for a combination."""
    missing: tuple[str, ...] = ()
    """Ingredients that the knowledge base has no drug for."""
    atc: str = ""
    """The class of a product that is no single drug, such as a multivitamin."""
    rivals: tuple[int, ...] = ()
    """The drugs that an ambiguous name may mean; it then means none of them."""
    nothing: bool = False
    """It is known to be no drug: a container, a device."""


@dataclass(frozen=True)
class Lexicon:
    """Canonical names and what they mean; ``base_of`` gives the base drug of a salt."""

    meanings: Mapping[str, Meaning]
    base_of: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    """The preferred name of every drug."""
    biologics: frozenset[int] = frozenset()

    @cached_property
    def longest(self) -> Mapping[str, int]:
        """The most words that a name with this first word has."""
        found: dict[str, int] = {}
        for name in self.meanings:
            first, words = name.partition(" ")[0], name.count(" ") + 1
            if words > found.get(first, 0):
                found[first] = words
        return found

    @cached_property
    def _single(self) -> list[tuple[str, int]]:
        """(preferred name of one word, base drug), sorted."""
        named = ((canonical_name(name), self.base(drug)) for drug, name in self.names.items())
        return sorted((name, drug) for name, drug in named if " " not in name)

    def base(self, drug: int) -> int:
        """The base drug of a drug, itself where it is one."""
        return self.base_of.get(drug, drug)

    def beginning(self, word: str) -> Meaning | None:
        """The drug whose preferred name alone begins with the word (``hydrocodon``); None where none or several do."""
        if len(word) < SHORTEST_BEGINNING or not word.isalpha():
            return None
        at = bisect_left(self._single, (word, 0))
        found = set()
        for name, drug in self._single[at:at + 20]:
            if not name.startswith(word):
                break
            found.add(drug)
        return Meaning("beginning", tuple(found)) if len(found) == 1 else None


def base_drugs(names: Mapping[int, str], synonyms: Iterable[tuple[int, str]] = (),
               extra: Iterable[tuple[int, int]] = ()) -> dict[int, int]:
    """The base drug of every salt, hydrate and simple ester among the drugs, by their preferred names.

    ``metoprolol tartrate`` folds into the drug that is called ``metoprolol`` (or alone has that synonym);
    ``potassium chloride`` does not fold into ``potassium``. ``extra`` are further (salt, base) pairs.
    """
    by_name: dict[str, int] = {}
    for drug, name in sorted(names.items()):
        by_name.setdefault(canonical_name(name), drug)
    bearers: dict[str, set[int]] = defaultdict(set)
    for drug, name in synonyms:
        bearers[canonical_name(name)].add(drug)
    for name, drugs in bearers.items():
        if len(drugs) == 1:
            by_name.setdefault(name, min(drugs))
    found = {salt: base for salt, base in extra if salt != base}
    for drug, name in names.items():
        own = canonical_name(name)
        base = without_salt(own)
        if base != own and base.split()[0] not in NO_BASE and base in by_name and by_name[base] != drug:
            found.setdefault(drug, by_name[base])
    return {drug: _root(drug, found) for drug in found if _root(drug, found) != drug}


def read_bases(connection: Connection) -> dict[int, int]:
    """The base drug of every salt, hydrate and simple ester of the knowledge base."""
    from kb.query import read as query

    listed = query.drugs(connection)
    names = dict(zip(listed.ids.tolist(), listed.names, strict=True))
    return base_drugs(names, query.names(connection), _related(connection, names))


def _related(connection: Connection, names: Mapping[int, str]) -> list[tuple[int, int]]:
    """The (salt or hydrate, parent) pairs that structures tell, where the salt is not a drug in its own right.

    It is one that has an ATC code of its own (aminophylline), or is the salt of a metal (calcium gluconate).
    """
    from kb.query import read as query

    coded = {drug for drug, _ in query.atc(connection)}
    return [(salt, parent) for salt, parent in query.salts(connection)
            if salt not in coded and canonical_name(names[salt]).partition(" ")[0] not in NO_BASE]


def _root(drug: int, parents: Mapping[int, int]) -> int:
    seen = set()
    while drug in parents and drug not in seen:
        seen.add(drug)
        drug = parents[drug]
    return drug


def make_lexicon(preferred: Mapping[int, str], names: Iterable[tuple[int, str]], *,
                 with_atc: Iterable[int] = (), biologics: Iterable[int] = (),
                 salts: Iterable[tuple[int, int]] = ()) -> Lexicon:
    """The lexicon of drugs with their preferred names and all other names."""
    names = list(names)
    base_of = base_drugs(preferred, names, salts)
    coded = {base_of.get(drug, drug) for drug in with_atc}
    first: dict[str, set[int]] = defaultdict(set)
    every: dict[str, set[int]] = defaultdict(set)
    for drug, name in preferred.items():
        first[canonical_name(name)].add(base_of.get(drug, drug))
    for drug, name in names:
        every[canonical_name(name)].add(base_of.get(drug, drug))
    meanings: dict[str, Meaning] = {}
    for name in first.keys() | every.keys():
        parts = name.split()
        if not name or (len(parts) == 1 and (name in FORMS or (name in SALTS and name not in DRUGS_TOO))):
            continue
        drugs = first.get(name) or every[name]
        if len(drugs) > 1:
            drugs = {drug for drug in drugs if drug in coded} or drugs
        sure = len(drugs) == 1
        meanings[name] = Meaning("name", tuple(drugs) if sure else (), rivals=() if sure else tuple(sorted(drugs)))
    own = dict(meanings)
    for name, generic in brand_names().items():
        if name not in meanings and name not in FORMS:
            meanings[name] = _meant("brand", generic, own)
    for name, means in written_names().items():
        meant = _meant("shorthand", means, own)
        if not (meant.missing and not meant.drugs and name in own):  # the knowledge base has the very name
            meanings[name] = meant
    return Lexicon(meanings, base_of, dict(preferred), frozenset(base_of.get(d, d) for d in biologics))


def _meant(how: str, means: str, own: Mapping[str, Meaning]) -> Meaning:
    """The meaning of a name that stands for other names."""
    if means == "none":
        return Meaning(how, nothing=True)
    if means.startswith("ATC:"):
        return Meaning(how, atc=means[4:])
    drugs: list[int] = []
    missing: list[str] = []
    for name in means.split(" + "):
        found = own.get(canonical_name(name)) or own.get(without_salt(canonical_name(name)))
        if found and found.drugs:
            drugs += [drug for drug in found.drugs if drug not in drugs]
        else:
            missing.append(name)
    return Meaning(how, tuple(drugs), tuple(missing))


def read_lexicon(connection: Connection) -> Lexicon:
    """The lexicon of the knowledge base as it is now."""
    from kb.query import read as query

    listed = query.drugs(connection)
    ids = listed.ids.tolist()
    names = dict(zip(ids, listed.names, strict=True))
    return make_lexicon(
        names, query.names(connection),
        with_atc={drug for drug, _ in query.atc(connection)},
        biologics=[drug for drug, kind in zip(ids, listed.kinds, strict=True) if kind == "biologic"],
        salts=_related(connection, names),
    )
