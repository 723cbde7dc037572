"""The ATC class of an ingredient as it was ordered: one, by route, form and dose.

A drug of several uses has several ATC codes (hydrocortisone has eleven). Of a drug that is ordered alone, codes of
combinations do not count; of the others the one counts whose group is given by the order's route
(``atc_choice.tsv``), narrow uses last. An order without a route counts as systemic where the drug has a systemic code.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from recsys.orders.routes import ANY, UNSAID

COMBINATION = re.compile(
    r"A02A[DFG]|A02BD|A06AB(?:20|3)|A06AC5|A06AD(?:10|6)|A07CA|A10BD|A11[AB]|B01AC30|C02L|C03E|"
    r"C07[BCDEF]|C08G|C09B|C09D|"
    r"C10B|D01AC20|D06C|D07[BCX]|G01AE10|G01B|G03A[AB]|G03[EFH]|H02B|J01CR|J01E[BCDE]20|J01EE|J01R|J04AM|J05AR|M01B|N02A[GJ]|"
    r"N04BA0[2-7]|N05CB|R01AA20|R01AB|R02AA20|R03A[HKL]|R03D[AB]2|R05DA20|R05F|S01C|S01BB|S02C|S03C")
_NUMBERED = re.compile(r"[A-Z]\d\d[A-Z]{2}[57]\d$")  # WHO numbers combinations 50-59 and, with psycholeptics, 70-79

LEVELS = {"1": 1, "2": 3, "3": 4, "4": 5, "5": 7}
"""Characters of an ATC code at each level."""

LOW_DOSE_ASPIRIN = 325.0
"""Milligrams of aspirin up to which an order counts as antithrombotic."""


def is_combination(code: str) -> bool:
    """Whether an ATC code is of a combination product."""
    return bool(COMBINATION.match(code)) or bool(_NUMBERED.match(code))


@dataclass(frozen=True, slots=True)
class Use:
    """What ``atc_choice.tsv`` says of the codes with one beginning."""

    routes: frozenset[str]
    rank: int
    words: re.Pattern[str] | None


_DEFAULT = Use(ANY, 0, None)


@lru_cache(maxsize=1)
def _uses() -> dict[str, Use]:
    with files("recsys.orders").joinpath("atc_choice.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t"))
    return {row["code"]: Use(frozenset(route for name in row["routes"].split()
                                       for route in (ANY if name == "any" else {name})),
                             int(row["rank"]), re.compile(row["words"]) if row["words"] else None) for row in rows}


@lru_cache(maxsize=1)
def added_codes() -> dict[str, tuple[str, ...]]:
    """The ATC codes of drugs, by name, that the bundled table lacks."""
    with files("recsys.orders").joinpath("atc_added.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t"))
    return {row["name"]: tuple(row["codes"].split()) for row in rows}


@lru_cache(maxsize=20_000)
def use_of(code: str) -> Use:
    """For which routes a code is, by the longest beginning of it that is listed."""
    table = _uses()
    return next((table[code[:size]] for size in range(len(code), 0, -1) if code[:size] in table), _DEFAULT)


def choose_class(
    codes: Iterable[str], route: str, texts: Sequence[str], *, milligrams: float = 0.0, least: int = 1
) -> str:
    """The one ATC code of an ingredient in an order; empty where there is none.

    ``route`` is one of recsys.orders.routes or empty, ``texts`` are the order's words; codes of fewer than ``least``
    characters count only where no other does. Codes that fit alike go by the alphabet, which ``ambiguous`` tells.
    """
    ranked = _ranked(codes, route, texts, milligrams, least)
    return ranked[0][1] if ranked else ""


def ambiguous(codes: Iterable[str], route: str, texts: Sequence[str], length: int, *, milligrams: float = 0.0) -> bool:
    """Whether codes of different classes (of ``length`` characters) fit an order alike."""
    ranked = _ranked(codes, route, texts, milligrams, length)
    return len({code[:length] for score, code in ranked if score == ranked[0][0]}) > 1 if ranked else False


def _ranked(codes: Iterable[str], route: str, texts: Sequence[str], milligrams: float,
            least: int) -> list[tuple[tuple[int, int], str]]:
    """The codes that count, best first, each with its score: whether the route fits, and the rank."""
    given = sorted(set(codes))
    given = [code for code in given if len(code) >= least] or given
    text = " ".join(texts).lower()
    counted = [code for code in given if code in _uses() or not is_combination(code)] or given
    found = []
    for code in counted:
        use = use_of(code)
        if use.words is not None and not use.words.search(text):
            continue
        rank = 2 if code == "N02BA01" and milligrams > LOW_DOSE_ASPIRIN else use.rank
        # an order that says nothing of its route is systemic, or where the drug's first use is
        fits = route in use.routes if route else bool(use.routes & UNSAID) or use.rank > 0
        found.append(((-int(fits), -rank), code))
    return sorted(found) or [((0, 0), code) for code in counted]
