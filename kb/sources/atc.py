"""ATC codes of drugs, and the names of ATC classes: the bundled ones, or the user's own table.

A user's table (TSV or CSV) has a column ``code`` and either ``drug`` (a ``namespace:value`` identifier or a name) or
``name`` (of the class), or both.
WHO's own index may not be passed on, so the bundled codes come by way of PharmGKB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kb.bundle import Bundle
from kb.records import AtcClassRecord, AtcRecord, Batch
from kb.sources.contract import Plan, Source
from kb.sources.pubchem_rules import BY_SA

if TYPE_CHECKING:
    from kb.ingest import Job

PARSER = "atc/1"


class Atc(Source):
    """ATC codes at every level."""

    name = "atc"
    title = "ATC classification by way of PharmGKB"
    url = "https://www.pharmgkb.org"
    origin = "bundled"
    licences = (BY_SA,)

    def plan(self, job: Job) -> Plan:
        """The rows of the table."""
        bundle = Bundle.open()
        return Plan(int(bundle.manifest["atc.tsv.gz"]["rows"]))

    def ingest(self, job: Job) -> None:
        """Write the bundled codes."""

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> Batch:
        """The bundled codes of the drugs in ``ids``, and all bundled class names."""
        codes = bundle.document("atc.tsv.gz", self.name, PARSER)
        classes = bundle.document("atc_classes.tsv.gz", self.name, PARSER)
        return Batch(
            atc=[AtcRecord(ids[r["key"]], codes, r["code"]) for r in bundle.rows("atc.tsv.gz") if r["key"] in ids],
            atc_classes=[AtcClassRecord(r["code"], r["name"], classes) for r in bundle.rows("atc_classes.tsv.gz")],
        )
