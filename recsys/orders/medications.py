"""From orders to medications, the labels of a visit: ingredients, or one ATC class for each ingredient ordered.

A medication is ``DRUG:<identity>`` (level ``ingredient``) or ``ATC:<code>`` at level 1 to 5. Two protocols:

``one`` (the default)
    Every ingredient of an order gives one class, by route, form and dose (``recsys.orders.classes``). Where the source
    itself gives the ATC code of a combination for an order of several ingredients, that class is the order's. Orders of
    nothing but a diluent are vehicles and are left out.
``literature``
    Every class that the ATC table lists for every drug of the order, whatever its route, as the literature's mapping of
    NDC to ATC level 3 does; diluents count. Plain hydrochlorothiazide is then in four classes.

A product that is no single drug (a multivitamin, a vaccine) has its class at every level, ``ingredient`` included.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kb.errors import UsageError
from recsys.formats.contract import CodePairs
from recsys.orders.classes import LEVELS, ambiguous, choose_class, is_combination
from recsys.orders.order import Order
from recsys.orders.own_map import OwnMap
from recsys.orders.resolve import Resolved, Resolver, empty_resolver, read_resolver

if TYPE_CHECKING:
    from sqlalchemy import Connection

INGREDIENT = "ingredient"
PROTOCOLS = ("one", "literature")

NO_ATC = "drug without an ATC code"
TOO_COARSE = "ATC code coarser than the level"
SEVERAL_FIT = "several classes fit the route alike, the first was taken"

_MILLIGRAMS = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*mg\b")


def check_level(level: str) -> str:
    """The level, or UsageError when there is none of that name."""
    if level not in LEVELS and level != INGREDIENT:
        raise UsageError(f"unknown medication level {level!r}", hint=f"known: {', '.join(LEVELS)}, {INGREDIENT}")
    return level


def check_protocol(protocol: str) -> str:
    """The protocol, or UsageError when there is none of that name."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown label protocol {protocol!r}", hint=f"known: {', '.join(PROTOCOLS)}")
    return protocol


@dataclass(frozen=True, slots=True)
class OrderLabels:
    """The labels of one order, each with the ingredient behind it, or the reason why there are none."""

    pairs: tuple[tuple[str, str], ...] = ()
    """(label, ingredient key); the ingredient is the product's class where there is no single drug."""
    reason: str = ""
    how: tuple[str, ...] = ()
    """How the ingredients were found."""
    remarks: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(sorted({label for label, _ in self.pairs}))


@dataclass(frozen=True)
class MedicationMap:
    """Labels orders at one level, by one protocol."""

    level: str
    protocol: str = "one"
    resolver: Resolver = field(default_factory=empty_resolver)

    def codes(self, key: str) -> tuple[str, ...] | str:
        """The labels of an order's key, sorted; or the reason why it has none."""
        labels = self.label(Order.parse(key))
        return labels.reason or labels.labels

    def label(self, order: Order) -> OrderLabels:
        """The labels of an order."""
        resolved = self.resolver.resolve(order)
        how = tuple(dict.fromkeys(one.how for one in resolved.ingredients)) or (("class",) if resolved.product else ())
        if not resolved.found:
            return OrderLabels(reason=resolved.reason, remarks=resolved.remarks)
        if self.level == INGREDIENT:
            return OrderLabels(tuple((key, key) for key in resolved.keys), how=how, remarks=resolved.remarks)
        remarks = list(resolved.remarks)
        pairs = self._every(resolved, order) if self.protocol == "literature" else self._one(resolved, order, remarks)
        length = LEVELS[self.level]
        fine = tuple(dict.fromkeys((f"ATC:{code[:length]}", key) for code, key in pairs if len(code) >= length))
        if fine:
            return OrderLabels(fine, how=how, remarks=tuple(remarks))
        return OrderLabels(reason=TOO_COARSE if any(code for code, _ in pairs) else NO_ATC, remarks=tuple(remarks))

    def _one(self, resolved: Resolved, order: Order, remarks: list[str]) -> list[tuple[str, str]]:
        """(ATC code, ingredient): one code for each ingredient, or the source's code of the combination for all."""
        pairs = [(resolved.product, f"ATC:{resolved.product}")] if resolved.product else []
        alone = len(resolved.ingredients) == 1
        mixed = [code for code in order.atc if is_combination(code)]
        length = LEVELS[self.level]
        if mixed and len(resolved.ingredients) > 1:
            code = choose_class(mixed, resolved.route, resolved.texts, least=length)
            return pairs + [(code, one.key) for one in resolved.ingredients]
        milligrams = max((float(n) for text in resolved.texts for n in _MILLIGRAMS.findall(text.lower())), default=0.0)
        for one in resolved.ingredients:
            own = self.resolver.codes(one.drug)
            said = [code for code in order.atc if not own or any(known.startswith(code[:5]) for known in own)]
            codes = said if said and alone else own
            code = choose_class(codes, resolved.route, resolved.texts, milligrams=milligrams, least=length)
            if ambiguous(codes, resolved.route, resolved.texts, length, milligrams=milligrams):
                remarks.append(SEVERAL_FIT)
            pairs.append((code, one.key))
        return pairs

    def _every(self, resolved: Resolved, order: Order) -> list[tuple[str, str]]:
        """(ATC code, ingredient): every code that the source or the table has."""
        pairs = [(resolved.product, f"ATC:{resolved.product}")] if resolved.product else []
        for one in resolved.ingredients:
            pairs += [(code, one.key) for code in (order.atc or self.resolver.codes(one.drug) or ("",))]
        return pairs


def read_map(connection: Connection, level: str, *, protocol: str = "one", own_map: OwnMap | None = None,
             keep_vehicles: bool = False) -> MedicationMap:
    """The map of the knowledge base as it is now; the literature's protocol keeps vehicles."""
    check_level(level)
    check_protocol(protocol)
    keep = keep_vehicles or protocol == "literature"
    return MedicationMap(level, protocol, read_resolver(connection, own_map, keep_vehicles=keep))


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
    ordered: CodePairs | None = None
    """Pairs of (visit, ``label<TAB>ingredient``): which ingredients were ordered under each label."""
    how: Mapping[str, int] = field(default_factory=dict)
    """Rows by how their ingredients were found."""
    remarks: Mapping[str, int] = field(default_factory=dict)
    """Rows with a remark: codes and name that disagree, a name partly understood, …"""


def map_orders(orders: CodePairs, medications: MedicationMap) -> Mapped:
    """The orders as medications; several drugs of one class in a visit are one medication, no row is lost by that.

    What the source's own codes (HICL, GSN, NDC) mean is learned first from its named orders.
    """
    rows_of = np.bincount(orders.codes, weights=orders.rows, minlength=len(orders.names)).astype(np.int64)
    parsed = [Order.parse(key) for key in orders.names]
    medications.resolver.learn(zip(parsed, rows_of.tolist(), strict=True))
    names: dict[str, int] = {}
    both: dict[str, int] = {}
    lists: list[list[int]] = []
    pair_lists: list[list[int]] = []
    lost: dict[str, int] = defaultdict(int)
    how: Counter[str] = Counter()
    remarks: Counter[str] = Counter()
    unmapped: list[tuple[str, str, int]] = []
    for i, order in enumerate(parsed):
        found, rows = medications.label(order), int(rows_of[i])
        for remark in found.remarks:
            remarks[remark] += rows
        if found.reason:
            lost[found.reason] += rows
            unmapped.append((orders.names[i], found.reason, rows))
        how.update(dict.fromkeys(found.how, rows))
        lists.append([names.setdefault(label, len(names)) for label in found.labels])
        pair_lists.append([both.setdefault(f"{label}\t{key}", len(both)) for label, key in found.pairs])
    unmapped.sort(key=lambda item: (-item[2], item[0]))
    mapped = sum(1 for codes in lists if codes)
    return Mapped(_spread(orders, lists, list(names)), dict(lost), unmapped, len(lists), mapped,
                  _spread(orders, pair_lists, list(both)), dict(how), dict(remarks))


def _spread(orders: CodePairs, lists: Sequence[Sequence[int]], names: list[str]) -> CodePairs:
    """The pairs of (visit, order) as pairs of (visit, code), where each order has the codes of its list."""
    lengths = np.asarray([len(codes) for codes in lists], np.int64)
    flat = np.asarray([code for codes in lists for code in codes], np.int64)
    if lengths.max(initial=0) <= 1:
        code = np.full(len(lengths), -1, np.int32)
        code[lengths == 1] = flat
        has = lengths[orders.codes] == 1
        return CodePairs(orders.table, orders.visits[has], code[orders.codes[has]], orders.rows[has], names)
    repeat = lengths[orders.codes]
    offset = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    start = np.repeat((np.cumsum(lengths) - lengths)[orders.codes], repeat)
    rows = np.where(offset == 0, np.repeat(orders.rows, repeat), 0)
    return CodePairs(orders.table, np.repeat(orders.visits, repeat), flat[start + offset], rows, names)


def ingredients_of(ordered: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The ingredients under each label, of ``label<TAB>ingredient`` texts."""
    found: dict[str, set[str]] = defaultdict(set)
    for text in ordered:
        label, _, key = text.partition("\t")
        found[label].add(key)
    return {label: tuple(sorted(keys)) for label, keys in found.items()}
