"""Drug–drug interactions: the bundled NDF-RT and ONC lists, or the user's own table.

A user's table (CSV or TSV) has columns ``drug_a`` and ``drug_b`` (``namespace:value`` or a name), and may have
``severity``, ``description`` and ``provider``; ``--column`` maps other headers onto these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from kb.bundle import Bundle
from kb.licences import US_GOVERNMENT, USER, Licence
from kb.sources.contract import Document, InteractionRecord, RecordBatch
from kb.sources.tables.columns import TableSource

SIDES = ("drugbank_a", "drugbank_b")
"""The bundled table's columns of drugs."""


class InteractionSource(TableSource):
    """Interactions with the severity that their provider gives."""

    name = "interactions"
    title = "NDF-RT and ONC drug–drug interactions"
    url = "https://github.com/dbmi-pitt/public-PDDI-analysis"
    origin = "bundled"
    licences: ClassVar[tuple[Licence, ...]] = (US_GOVERNMENT, USER)
    bundled_file, parser = "interactions.tsv.gz", "interactions/1"
    roles = ("drug_a", "drug_b", "severity", "description", "provider")
    required = drug_roles = ("drug_a", "drug_b")

    def keys(self, bundle: Bundle) -> set[str]:
        """The drugs on either side."""
        return {f"drugbank:{row[side]}" for row in bundle.rows(self.bundled_file) for side in SIDES}

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
        """The bundled interactions between drugs in ``ids``."""
        document = bundle.document(self.bundled_file, self.name, self.parser)
        batch = RecordBatch(whole=True)
        for row in bundle.rows(self.bundled_file):
            a, b = (ids.get(f"drugbank:{row[side]}") for side in SIDES)
            if a is not None and b is not None:
                batch.interactions.append(
                    InteractionRecord(a, b, document, row["source"], document.licence, row["severity"] or None)
                )
        return batch

    def settle(self, batch: RecordBatch) -> None:
        """Keep every statement of one provider about a pair apart that gives another severity, by a number."""
        said: dict[tuple[int, int, str], list[str | None]] = {}
        for place, record in enumerate(batch.interactions):
            a, b = sorted((int(record.drug_a), int(record.drug_b)))
            severities = said.setdefault((a, b, record.provider), [])
            if record.severity not in severities:
                severities.append(record.severity)
            number = severities.index(record.severity) + 1
            if number > 1:
                batch.interactions[place] = replace(record, provider=f"{record.provider} ({number})")

    def take(
        self, batch: RecordBatch, row: Mapping[str, str], ids: Mapping[str, int], document: Document
    ) -> str | None:
        """Add the interaction; one with a drug that is not known, or of a drug with itself, is rejected."""
        named = [row[side] for side in self.drug_roles]
        unknown = next((name for name in named if name.lower() not in ids), None)
        if unknown is not None:
            return f"no drug, or several, {unknown!r}"
        a, b = (ids[name.lower()] for name in named)
        if a == b:
            return f"{row['drug_a']!r} with itself"
        provider = row["provider"] or document.url
        said = (row["severity"] or None, row["description"] or None)
        batch.interactions.append(InteractionRecord(a, b, document, provider, document.licence, *said))
        return None
