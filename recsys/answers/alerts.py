"""Interactions in an answer: between what is recommended, and with what the patient was given or takes at home.

A statement is about two ingredients. Where one side is only known as a class of several ingredients, the alert says so:
it then holds for some drug of the class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.orders.interactions import SEVERITIES, DrugInteractions, Interaction

RECOMMENDED, GIVEN, AT_HOME = "recommended too", "given before", "taken at home"


@dataclass(frozen=True)
class Taken:
    """A medication beside a recommended one."""

    name: str
    """Its code, or as it was written."""
    where: str
    """RECOMMENDED, GIVEN or AT_HOME."""
    ingredients: tuple[str, ...]
    """Keys ``DRUG:…``; several where only the class is known."""


@dataclass(frozen=True)
class Alert:
    """The gravest statement about a recommended medication and another one."""

    code: str
    """The recommended medication."""
    other: str
    where: str
    severity: str
    """One of recsys.orders.interactions.SEVERITIES."""
    said: str
    """The severity in the source's own words."""
    source: str
    licence: str
    drugs: tuple[str, str]
    """The two drugs that the statement is about."""
    text: str
    of_class: bool
    """Whether a side is known only as a class: the alert holds for some of its drugs."""
    further: int
    """How many further pairs of drugs of the two medications are listed."""

    def as_json(self) -> dict[str, Any]:
        """The alert as plain values."""
        return {**vars(self), "drugs": list(self.drugs)}

    def row(self) -> dict[str, Any]:
        """The alert as a row of a table."""
        return {"medication": self.code, "with": self.other, "which is": self.where, "severity": self.severity,
                "drugs": " with ".join(self.drugs), "source": self.source, "text": self.text,
                "certain": not self.of_class}


def alerts(recommended: Mapping[str, Sequence[str]], beside: Sequence[Taken], known: DrugInteractions) -> list[Alert]:
    """The alerts of recommended medications (code -> ingredients), also among each other, gravest first.

    A medication that is recommended again is not set against itself.
    """
    others = [*beside, *(Taken(code, RECOMMENDED, tuple(keys)) for code, keys in recommended.items())]
    found = [alert for code, keys in recommended.items() for alert in _with(code, tuple(keys), others, known)]
    return sorted(found, key=lambda alert: (SEVERITIES.index(alert.severity), alert.of_class, alert.code, alert.other))


def _with(code: str, keys: tuple[str, ...], others: Sequence[Taken], known: DrugInteractions) -> Iterator[Alert]:
    seen: set[tuple[str, str]] = set()
    for other in others:
        if (other.where == RECOMMENDED and other.name <= code) or (other.name, other.where) in seen:
            continue  # a pair of recommended medications is told once
        if set(other.ingredients) <= set(keys):
            continue
        seen.add((other.name, other.where))
        statements = known.across(keys, other.ingredients)
        if statements:
            yield _alert(code, other, statements, of_class=len(keys) > 1 or len(other.ingredients) > 1)


def _alert(code: str, other: Taken, statements: Sequence[Interaction], *, of_class: bool) -> Alert:
    first = statements[0]
    pairs = {frozenset((statement.first, statement.second)) for statement in statements}
    return Alert(code, other.name, other.where, first.severity, first.said, first.source, first.licence,
                 (first.first_name, first.second_name), first.text, of_class, len(pairs) - 1)
