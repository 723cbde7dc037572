"""An order as the source wrote it: every identifier that an EHR gives a medication, before anything is resolved.

The seam between ``recsys.formats``, which fill it, and ``recsys.orders``, which resolves it to ingredients. Times are
the row's, not the order's: two orders are equal when everything but their times is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

SEPARATOR = "\t"
_SEVERAL = ("atc", "rxcui", "name")


@dataclass(frozen=True, slots=True)
class Order:
    """One distinct order; empty or None where the source says nothing. Values are stripped and have no tabs."""

    atc: tuple[str, ...] = ()
    """ATC codes where the source gives them itself."""
    ndc: str | None = None
    """National Drug Code, 11 digits (``kb.normalise.normalise_ndc``)."""
    rxcui: tuple[str, ...] = ()
    """RxNorm concepts."""
    gsn: str | None = None
    """Generic Sequence Number of First Databank, six digits (MIMIC's PRESCRIPTIONS)."""
    hicl: str | None = None
    """HICL sequence number of First Databank (eICU's ``drughiclseqno``)."""
    code: str | None = None
    """Any other coded medication, as ``SYSTEM:value`` (an OMOP concept, a SNOMED code, a local one)."""
    name: tuple[str, ...] = ()
    """The drug as written, lower case, the most telling text first."""
    route: str | None = None
    form: str | None = None
    """Dose form, as written."""
    kind: str | None = None
    """MIMIC's DRUG_TYPE: MAIN, BASE or ADDITIVE."""
    strength: str | None = None
    """Product strength or dose with its unit, as written."""

    @property
    def key(self) -> str:
        """The order as one line, ``NDC:…<TAB>NAME:…``; empty when nothing is known. ``parse`` is its inverse."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        listed = ((name, value if isinstance(value, tuple) else (value,)) for name, value in given)
        return SEPARATOR.join(f"{name.upper()}:{one}" for name, values in listed for one in values if one)

    @classmethod
    def parse(cls, key: str) -> Order:
        """The order of a key; parts of unknown names are left out."""
        known = {field.name for field in fields(cls)}
        found: dict[str, tuple[str, ...]] = {}
        for part in key.split(SEPARATOR):
            name, _, value = part.partition(":")
            if name.lower() in known:
                found[name.lower()] = (*found.get(name.lower(), ()), value)
        return cls(**{n: values if n in _SEVERAL else values[0] for n, values in found.items()})  # type: ignore[arg-type]
