"""ATC codes of drugs, and the names of ATC classes: the bundled ones, or the user's own table.

A user's table (CSV or TSV) has a column ``code`` and either ``drug`` (``namespace:value`` or a name) or ``name`` (of
the class), or both; ``--column`` maps other headers onto these. WHO's own index may not be passed on, so the bundled
codes come by way of PharmGKB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from kb.bundle import Bundle
from kb.errors import DataError, UsageError
from kb.licences import BY_SA, USER, Licence
from kb.normalise import Identifier
from kb.sources.contract import AtcClassRecord, AtcRecord, Document, RecordBatch
from kb.sources.tables.columns import TableSource
from kb.sources.tables.read import UserTable


class Atc(TableSource):
    """ATC codes at every level."""

    name = "atc"
    title = "ATC classification by way of PharmGKB"
    url = "https://www.pharmgkb.org"
    origin = "bundled"
    licences: ClassVar[tuple[Licence, ...]] = (BY_SA, USER)
    bundled_file, parser = "atc.tsv.gz", "atc/1"
    roles, required, drug_roles = ("code", "drug", "name"), ("code",), ("drug",)

    def keys(self, bundle: Bundle) -> set[str]:
        """The drugs that have a bundled code."""
        return {row["key"] for row in bundle.rows(self.bundled_file)}

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
        """The bundled codes of the drugs in ``ids``, and all bundled class names."""
        codes = bundle.document(self.bundled_file, self.name, self.parser)
        classes = bundle.document("atc_classes.tsv.gz", self.name, self.parser)
        return RecordBatch(
            atc=[AtcRecord(ids[r["key"]], codes, r["code"]) for r in bundle.rows(self.bundled_file) if r["key"] in ids],
            atc_classes=[AtcClassRecord(r["code"], r["name"], classes) for r in bundle.rows("atc_classes.tsv.gz")],
            whole=True,
        )

    def digest(self, bundle: Bundle) -> str:
        """Changes with the codes and with the names of classes."""
        return super().digest(bundle) + str(bundle.manifest["atc_classes.tsv.gz"]["sha256"])[:16]

    def check(self, table: UserTable, rows: Sequence[Mapping[str, str]]) -> None:
        """Raise UsageError for a table of bare codes."""
        if rows and not any(row["drug"] or row["name"] for row in rows):
            raise UsageError(f"{table.path.name} has neither drugs nor class names", hint="--column drug=… or name=…")

    def take(
        self, batch: RecordBatch, row: Mapping[str, str], ids: Mapping[str, int], document: Document
    ) -> str | None:
        """Add the drug's code, the class's name or both; malformed codes and unknown drugs are rejected."""
        try:
            code = Identifier.make("atc", row["code"]).value
        except DataError as error:
            return error.message
        if row["drug"]:
            if row["drug"].lower() not in ids:
                return f"no drug, or several, {row['drug']!r}"
            batch.atc.append(AtcRecord(ids[row["drug"].lower()], document, code))
        elif not row["name"]:
            return "neither a drug nor a class name"
        if row["name"]:
            batch.atc_classes.append(AtcClassRecord(code, row["name"], document))
        return None
