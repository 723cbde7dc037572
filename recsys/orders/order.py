"""An order as the source wrote it: every identifier that an EHR gives a medication, before anything is resolved.

The seam between ``recsys.formats``, which fill it, and ``recsys.orders``, which resolves it to ingredients. Times are the
row's, not the order's: two orders are equal when everything but their times is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

SEPARATOR = "\t"


@dataclass(frozen=True, slots=True)
class Order:
    """One distinct order; None where the source says nothing. Values are as written, stripped, without tabs."""

    ndc: str | None = None
    """National Drug Code, 11 digits (``recsys.orders.codes``)."""
    gsn: str | None = None
    """Generic Sequence Number of First Databank, six digits (MIMIC's PRESCRIPTIONS)."""
    hicl: str | None = None
    """HICL sequence number of First Databank (eICU's ``drughiclseqno``)."""
    rxcui: str | None = None
    """RxNorm concept."""
    concept: str | None = None
    """OMOP concept id where it could not be turned into one of the others."""
    atc: str | None = None
    """ATC code where the source gives one itself."""
    code: str | None = None
    """Any other coded medication, as ``SYSTEM:value``."""
    name: str | None = None
    """The drug as written."""
    route: str | None = None
    form: str | None = None
    """Dose form, as written."""
    kind: str | None = None
    """MIMIC's DRUG_TYPE: MAIN, BASE or ADDITIVE."""
    dose: str | None = None
    """Product strength, as written."""

    @property
    def key(self) -> str:
        """The order as one line: ``NDC:…<TAB>NAME:…``; ``parse`` is its inverse."""
        named = ((field.name.upper(), getattr(self, field.name)) for field in fields(self))
        return SEPARATOR.join(f"{name}:{value}" for name, value in named if value)

    @classmethod
    def parse(cls, key: str) -> Order:
        """The order of a key; parts of unknown names are left out."""
        known = {field.name for field in fields(cls)}
        parts = (part.partition(":") for part in key.split(SEPARATOR))
        return cls(**{name.lower(): value for name, _, value in parts if name.lower() in known})
