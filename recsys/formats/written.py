"""An order as its source wrote it, made into a ``recsys.orders.order.Order``: texts tidied, missing words left out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kb.normalise import normalise_ndc, tidy
from recsys.orders.order import Order

MISSING = frozenset({"", "0", "nan", "null", "none", "n/a", "na", "unk", "unknown", "?", "\\n"})
"""Texts, in lower case, that exports write where they have no value."""

NO_DRUG = "neither drug name nor drug code"
_CONTAINERS = frozenset({"bag", "syringe", "vial", "bottle", "cassette", "container", "iv bag", "empty bag"})
"""Rows of a prescription table that name what a drug comes in, and no drug."""


def said(text: str | None) -> str:
    """A cell's text with single blanks and no tabs; empty where it is a word for a missing value."""
    plain = tidy((text or "").replace("\t", " "))
    return "" if plain.lower() in MISSING else plain


def order_key(
    *, ndc: str = "", gsn: str = "", hicl: str = "", code: str = "", rxcuis: Iterable[str] = (),
    atc: Iterable[str] = (), names: Iterable[str] = (), route: str = "", form: str = "", kind: str = "",
    strength: str = "",
) -> str:
    """The key of the order with these cells; empty where nothing identifies a drug."""
    generic = said(gsn).partition(" ")[0].removesuffix(".0")
    number = said(hicl).removesuffix(".0")
    order = Order(
        atc=tuple(dict.fromkeys(filter(None, map(said, atc)))),
        ndc=(normalise_ndc(ndc) or None) if ndc else None,
        rxcui=tuple(dict.fromkeys(filter(None, map(said, rxcuis)))),
        gsn=generic.zfill(6) if generic.isdigit() and int(generic) else None,
        hicl=number if number.isdigit() and int(number) else None,
        code=said(code) or None,
        name=tuple(dict.fromkeys(name for name in (said(name).lower() for name in names)
                                 if re.search(r"[^\W\d_]", name) and name not in _CONTAINERS)),
    )
    if not order.key:
        return ""
    return Order(
        atc=order.atc, ndc=order.ndc, rxcui=order.rxcui, gsn=order.gsn, hicl=order.hicl, code=order.code,
        name=order.name, route=said(route).upper() or None, form=said(form).upper() or None,
        kind=said(kind).upper() or None, strength=said(strength).lower() or None,
    ).key
