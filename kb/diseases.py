"""ICD-10-CM codes of diseases by their ids (MeSH, UMLS, DOID), as the bundled indications have them.

A publisher names a disease by an id and seldom by a code. Where several rows of one id have other codes, those of most
rows count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from kb.bundle import Bundle
from kb.errors import NotFound
from kb.sources.contract import IndicationRecord

BY = "an equal id"
"""What gave the codes, beside the bundled ``table`` and ``title``."""


@lru_cache(maxsize=1)
def codes_by_id() -> Mapping[str, tuple[str, ...]]:
    """Codes without the dot by ``namespace:value``; empty where this installation came without the corpus."""
    told: dict[str, Counter[str]] = defaultdict(Counter)
    try:
        for row in Bundle.open().rows("indications.tsv.gz"):
            for disease in filter(None, row["ids"].split("|") if row["icd10"] else ()):
                told[disease][row["icd10"]] += 1
    except NotFound:
        return {}
    return {disease: tuple(min(codes, key=lambda c: (-codes[c], c)).split("|")) for disease, codes in told.items()}


def with_codes(said: IndicationRecord) -> IndicationRecord:
    """The indication with the codes of its disease; one that has codes, or whose ids are not known, as it is."""
    if said.icd10:
        return said
    known = codes_by_id()
    found = next((known[disease] for disease in said.disease_ids if disease in known), None)
    return said if found is None else replace(said, icd10=found, icd10_by=BY)
