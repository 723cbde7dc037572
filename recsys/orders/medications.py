"""From what an EHR orders to medications: medication key -> drug -> ATC class or ingredient, by the knowledge base.

A medication is ``ATC:<code>`` at the chosen level (1 to 5; level 3 is the literature's, four characters) or
``DRUG:<identity>``. A key's identifiers are tried in their order: ATC as given, NDC, RxCUI, names by the rule of
``recsys.orders.names``. A drug of several uses has several ATC codes; the order's route decides between those for the
eye, ear, nose, skin, mouth, airways and vagina and the systemic ones, an order without a route counts as systemic, and
what is left is all kept: choosing one class by file order, as the literature's mapping does, would be a guess.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from kb.errors import UsageError
from kb.query import read as query
from recsys.formats.contract import CodePairs
from recsys.orders.names import NOTHING, name_candidates, shorthand

LEVELS = {"1": 1, "2": 3, "3": 4, "4": 5, "5": 7}
"""Characters of an ATC code at each level."""
INGREDIENT = "ingredient"

NO_DRUG = "no drug of the knowledge base"
NO_ATC = "drug without an ATC code"
TOO_COARSE = "ATC code coarser than the level"

_PLACES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"OPHTH|EYE|\bO[USD]\b"), ("S01", "S03")),
    (re.compile(r"OTIC|\bEAR|\bA[USD]\b"), ("S02", "S03")),
    (re.compile(r"\bNAS|INTRANASAL|\bIN\b"), ("R01",)),
    (re.compile(r"\bIH\b|INHAL|\bNEB|\bINH\b"), ("R03",)),
    (re.compile(r"\bTP\b|TOPICAL|\bTOP\b|SKIN"), ("D", "M02")),
    (re.compile(r"\bVG\b|VAGIN"), ("G01", "G02", "G03")),
    (re.compile(r"\bMT\b|ORAL CARE|OROPHAR|BUCCAL|MUCOUS|DENTAL|SWISH"), ("A01", "R02")),
)
_LOCAL = ("A01", "C05", "D", "G01", "M02", "R01", "R02", "S01", "S02", "S03")


def check_level(level: str) -> str:
    """The level, or UsageError when there is none of that name."""
    if level not in LEVELS and level != INGREDIENT:
        raise UsageError(f"unknown medication level {level!r}", hint=f"known: {', '.join(LEVELS)}, {INGREDIENT}")
    return level


def by_route(codes: Iterable[str], route: str) -> list[str]:
    """The ATC codes that fit a route of administration, or all of them where none does."""
    codes = sorted(set(codes))
    place = next((groups for form, groups in _PLACES if form.search(route.upper())), None)
    if place is None:
        fitting = [code for code in codes if not code.startswith(_LOCAL)]
    else:
        fitting = [code for code in codes if code.startswith(place)]
    return fitting or codes


@dataclass(frozen=True)
class MedicationMap:
    """The knowledge base's identifiers, names and ATC codes, arranged for looking up medication keys."""

    level: str
    by_identifier: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)  # NDC, RXCUI
    by_name: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    atc: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    identities: Mapping[int, str] = field(default_factory=dict)

    def drugs(self, key: str, *, with_atc: bool = False) -> tuple[int, ...]:
        """The drugs of a medication key, by the first of its identifiers that the knowledge base knows.

        ``with_atc`` passes over drugs without an ATC code, such as a salt whose base has one.
        """
        for part in key.split("\t"):
            namespace, _, value = part.partition(":")
            if namespace == "NAME":
                found = self._named(value, with_atc)
            else:
                found = self._usable(self.by_identifier.get(namespace, {}).get(value, ()), with_atc)
            if found:
                return found
        return ()

    def _usable(self, drugs: Iterable[int], with_atc: bool) -> tuple[int, ...]:
        return tuple(sorted({drug for drug in drugs if not with_atc or drug in self.atc}))

    def _named(self, text: str, with_atc: bool) -> tuple[int, ...]:
        for candidate in name_candidates(text):
            meant = (part for name in candidate for part in shorthand().get(name, NOTHING)[0])
            found = [self.by_name[name] for name in candidate if name in self.by_name]
            found = found or [self.by_name[name] for name in meant if name in self.by_name]
            if usable := self._usable((drug for drugs in found for drug in drugs), with_atc):
                return usable
        return ()

    def _meant(self, key: str) -> list[str]:
        """The ATC codes that ``shorthand.tsv`` gives for the names of a key."""
        for part in key.split("\t"):
            if part.startswith("NAME:"):
                for candidate in name_candidates(part[5:]):
                    if codes := [code for name in candidate for code in shorthand().get(name, NOTHING)[1]]:
                        return codes
        return []

    def codes(self, key: str) -> tuple[str, ...] | str:
        """The medications of a key, sorted; or the reason why it has none."""
        parts = [part.partition(":") for part in key.split("\t")]
        route = next((value for name, _, value in parts if name == "ROUTE"), "")
        given = [value for name, _, value in parts if name == "ATC"]
        if given and self.level != INGREDIENT:
            return self._classes(given, route)
        if self.level == INGREDIENT:
            return tuple(sorted(f"DRUG:{self.identities[drug]}" for drug in self.drugs(key))) or NO_DRUG
        drugs = self.drugs(key, with_atc=True)
        if not drugs:
            meant = self._meant(key)
            return self._classes(meant, route) if meant else (NO_ATC if self.drugs(key) else NO_DRUG)
        found = [self._classes(self.atc[drug], route) for drug in drugs]
        classes = {code for result in found if not isinstance(result, str) for code in result}
        return tuple(sorted(classes)) if classes else TOO_COARSE

    def _classes(self, atc: Sequence[str], route: str) -> tuple[str, ...] | str:
        if not atc:
            return NO_ATC
        length = LEVELS[self.level]
        classes = {f"ATC:{code[:length]}" for code in by_route(atc, route) if len(code) >= length}
        return tuple(sorted(classes)) or TOO_COARSE


def _grouped(pairs: Iterable[tuple[int, str]]) -> dict[str, tuple[int, ...]]:
    groups: dict[str, set[int]] = defaultdict(set)
    for drug, value in pairs:
        groups[value].add(drug)
    return {value: tuple(sorted(drugs)) for value, drugs in groups.items()}


def read_map(connection: Connection, level: str) -> MedicationMap:
    """The map of the knowledge base as it is now.

    A name that several drugs bear means those that bear it as their preferred name; failing that, those with an ATC
    code; failing that, all of them.
    """
    check_level(level)
    drugs = query.drugs(connection)
    atc: dict[int, set[str]] = defaultdict(set)
    for drug, code in query.atc(connection):
        atc[drug].add(code)
    named = _grouped(query.names(connection))
    preferred = _grouped(zip(drugs.ids.tolist(), (name.lower() for name in drugs.names), strict=True))
    for name, several in named.items():
        if len(several) > 1:
            with_atc = tuple(drug for drug in several if drug in atc)
            named[name] = preferred.get(name) or with_atc or several
    return MedicationMap(
        level=level,
        by_identifier={space.upper(): _grouped(query.identifiers(connection, space)) for space in ("ndc", "rxcui")},
        by_name={**preferred, **named},
        atc={drug: tuple(sorted(codes)) for drug, codes in atc.items()},
        identities=dict(zip(drugs.ids.tolist(), drugs.identities, strict=True)),
    )


@dataclass(frozen=True)
class Mapped:
    """The orders of an export as medications: pairs of (visit, medication), and what could not be mapped.

    ``rows`` of ``pairs`` counts a source row at the first medication of its key, so that rows still sum up;
    ``unmapped`` lists (key, reason, rows), most rows first.
    """

    pairs: CodePairs
    lost: dict[str, int]
    unmapped: list[tuple[str, str, int]]
    keys_in: int
    keys_mapped: int


def map_orders(orders: CodePairs, medications: MedicationMap) -> Mapped:
    """The orders as medications; several drugs of one class in a visit are one medication, no row is lost by that."""
    names: dict[str, int] = {}
    rows_of = np.bincount(orders.codes, weights=orders.rows, minlength=len(orders.names)).astype(np.int64)
    lists: list[list[int]] = []
    lost: dict[str, int] = defaultdict(int)
    unmapped: list[tuple[str, str, int]] = []
    for i, key in enumerate(orders.names):
        found = medications.codes(key)
        if isinstance(found, str):
            lost[found] += int(rows_of[i])
            unmapped.append((key, found, int(rows_of[i])))
            lists.append([])
        else:
            lists.append([names.setdefault(code, len(names)) for code in found])
    lengths = np.asarray([len(codes) for codes in lists], np.int64)
    flat = np.asarray([code for codes in lists for code in codes], np.int64)
    repeat = lengths[orders.codes]
    offset = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    start = np.repeat((np.cumsum(lengths) - lengths)[orders.codes], repeat)
    rows = np.where(offset == 0, np.repeat(orders.rows, repeat), 0)
    pairs = CodePairs(orders.table, np.repeat(orders.visits, repeat), flat[start + offset], rows, list(names))
    unmapped.sort(key=lambda item: (-item[2], item[0]))
    return Mapped(pairs, dict(lost), unmapped, len(lists), int((lengths > 0).sum()))
