"""ATC codes of drugs, and the names of ATC classes: the bundled ones, or the user's own table.

A user's table (CSV or TSV) has a column ``code`` and either ``drug`` (``namespace:value`` or a name) or ``name`` (of
the class), or both; ``--column`` maps other headers onto these. WHO's own index may not be passed on, so the bundled
codes come by way of PharmGKB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from kb.bundle import Bundle
from kb.errors import DataError, UsageError
from kb.identifiers import Identifier
from kb.records import AtcClassRecord, AtcRecord, Batch, Document, Licence
from kb.sources.contract import Plan, Source
from kb.sources.interactions import finish_file
from kb.sources.pubchem_rules import BY_SA
from kb.sources.table import USER, Problem, Table, file_document, find_drugs

if TYPE_CHECKING:
    from kb.ingest import Job

PARSER = "atc/1"
ROLES = ("code", "drug", "name")


class Atc(Source):
    """ATC codes at every level."""

    name = "atc"
    title = "ATC classification by way of PharmGKB"
    url = "https://www.pharmgkb.org"
    origin = "bundled"
    licences: ClassVar[tuple[Licence, ...]] = (BY_SA, USER)

    def plan(self, job: Job) -> Plan:
        """The rows of the table."""
        if job.options.path is not None:
            return Plan(sum(1 for _ in Table(self.path(job)).rows()), bytes=self.path(job).stat().st_size)
        return Plan(int(Bundle.open().manifest["atc.tsv.gz"]["rows"]))

    def ingest(self, job: Job) -> None:
        """Write the bundled codes, or those of the user's file, of drugs that are known."""
        if job.options.path is not None:
            self._from_file(job)
            return
        bundle = Bundle.open()
        keys = {row["key"] for row in bundle.rows("atc.tsv.gz")}
        with job.transaction() as connection:
            found = find_drugs(connection, list(keys))
        ids = {key: found[key.lower()] for key in keys if key.lower() in found}
        mark = f"atc.tsv.gz:{bundle.manifest['atc.tsv.gz']['sha256']}:{len(ids)} drugs"
        if not job.is_done(mark):
            job.write(self.bundled(bundle, ids), done=mark)

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> Batch:
        """The bundled codes of the drugs in ``ids``, and all bundled class names."""
        codes = bundle.document("atc.tsv.gz", self.name, PARSER)
        classes = bundle.document("atc_classes.tsv.gz", self.name, PARSER)
        return Batch(
            atc=[AtcRecord(ids[r["key"]], codes, r["code"]) for r in bundle.rows("atc.tsv.gz") if r["key"] in ids],
            atc_classes=[AtcClassRecord(r["code"], r["name"], classes) for r in bundle.rows("atc_classes.tsv.gz")],
        )

    def _from_file(self, job: Job) -> None:
        """Write what the user's table says; malformed codes and unknown drugs are rejected with their row number."""
        table, document = Table(self.path(job)), file_document(self.path(job), self.name, PARSER)
        columns = {role: job.options.columns.get(role, role) for role in ROLES}
        table.require({role: columns[role] for role in ("code", *job.options.columns)})
        if job.is_done(document.sha256.hex()):
            return
        rows = [(n, {role: cells.get(columns[role], "").strip() for role in ROLES}) for n, cells in table.rows()]
        if rows and not any(row["drug"] or row["name"] for _, row in rows):
            raise UsageError(f"{table.path.name} has neither drugs nor class names", hint="--column drug=… or name=…")
        with job.transaction() as connection:
            ids = find_drugs(connection, [row["drug"] for _, row in rows])
        batch = Batch(documents=[document])
        for number, row in rows:
            problem = _take(batch, row, ids, document)
            if problem:
                table.problems.append(Problem(number, problem))
        finish_file(job, batch, document.sha256.hex(), table)


def _take(batch: Batch, row: Mapping[str, str], ids: Mapping[str, int], document: Document) -> str | None:
    """Add one row to the batch; or the reason why it cannot be."""
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
