"""Drug–drug interactions: the bundled NDF-RT and ONC lists, or the user's own table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kb.bundle import Bundle
from kb.records import Batch, InteractionRecord
from kb.sources.contract import Plan, Source
from kb.sources.pubchem_rules import US_GOVERNMENT

if TYPE_CHECKING:
    from kb.ingest import Job

PARSER = "interactions/1"


class Interactions(Source):
    """Interactions with the severity that their provider gives."""

    name = "interactions"
    title = "NDF-RT and ONC drug–drug interactions"
    url = "https://github.com/dbmi-pitt/public-PDDI-analysis"
    origin = "bundled"
    licences = (US_GOVERNMENT,)

    def plan(self, job: Job) -> Plan:
        """The rows of the table."""
        return Plan(int(Bundle.open().manifest["interactions.tsv.gz"]["rows"]))

    def ingest(self, job: Job) -> None:
        """Write the bundled interactions."""

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> Batch:
        """The bundled interactions between drugs in ``ids``."""
        document = bundle.document("interactions.tsv.gz", self.name, PARSER)
        batch = Batch()
        for row in bundle.rows("interactions.tsv.gz"):
            a, b = (ids.get(f"drugbank:{row[side]}") for side in ("drugbank_a", "drugbank_b"))
            if a is not None and b is not None:
                batch.interactions.append(
                    InteractionRecord(
                        a, b, document, row["source"], document.licence, row["severity"] or None, None
                    )
                )
        return batch
