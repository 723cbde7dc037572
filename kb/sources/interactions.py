"""Drug–drug interactions: the bundled NDF-RT and ONC lists, or the user's own table.

A user's table (CSV or TSV) has columns ``drug_a`` and ``drug_b`` (``namespace:value`` or a name), and may have
``severity``, ``description`` and ``provider``; ``--column`` maps other headers onto these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from kb import output
from kb.bundle import Bundle
from kb.records import Batch, InteractionRecord, Licence
from kb.sources.contract import Plan, Source
from kb.sources.pubchem_rules import US_GOVERNMENT
from kb.sources.table import USER, Problem, Table, file_document, find_drugs, write_problems

if TYPE_CHECKING:
    from kb.ingest import Job

PARSER = "interactions/1"
ROLES = ("drug_a", "drug_b", "severity", "description", "provider")
FILE = "interactions.tsv.gz"


class Interactions(Source):
    """Interactions with the severity that their provider gives."""

    name = "interactions"
    title = "NDF-RT and ONC drug–drug interactions"
    url = "https://github.com/dbmi-pitt/public-PDDI-analysis"
    origin = "bundled"
    licences: ClassVar[tuple[Licence, ...]] = (US_GOVERNMENT, USER)

    def plan(self, job: Job) -> Plan:
        """The rows of the table."""
        if job.options.path is not None:
            return Plan(sum(1 for _ in Table(self.path(job)).rows()), bytes=self.path(job).stat().st_size)
        return Plan(int(Bundle.open().manifest[FILE]["rows"]))

    def ingest(self, job: Job) -> None:
        """Write the bundled interactions, or those of the user's file, between drugs that are known."""
        if job.options.path is not None:
            self._from_file(job)
            return
        bundle = Bundle.open()
        with job.transaction() as connection:
            handles = {f"drugbank:{r[s]}" for r in bundle.rows(FILE) for s in ("drugbank_a", "drugbank_b")}
            ids = {k.replace("drugbank:db", "drugbank:DB"): v for k, v in find_drugs(connection, list(handles)).items()}
        # More drugs may be known the next time, so the mark tells how many were.
        mark = f"{FILE}:{bundle.manifest[FILE]['sha256']}:{len(ids)} drugs"
        if not job.is_done(mark):
            batch = self.bundled(bundle, ids)
            job.write(batch, done=mark)
            output.say(f"{len(batch.interactions)} of {bundle.manifest[FILE]['rows']} rows are between known drugs")

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> Batch:
        """The bundled interactions between drugs in ``ids``."""
        document = bundle.document(FILE, self.name, PARSER)
        batch = Batch()
        for row in bundle.rows(FILE):
            a, b = (ids.get(f"drugbank:{row[side]}") for side in ("drugbank_a", "drugbank_b"))
            if a is not None and b is not None:
                batch.interactions.append(
                    InteractionRecord(a, b, document, row["source"], document.licence, row["severity"] or None)
                )
        return batch

    def _from_file(self, job: Job) -> None:
        """Write what the user's table says; rows with a drug that is not known are rejected with their number."""
        table, document = Table(self.path(job)), file_document(self.path(job), self.name, PARSER)
        columns = {role: job.options.columns.get(role, role) for role in ROLES}
        table.require({role: columns[role] for role in (*ROLES[:2], *job.options.columns)})
        if job.is_done(document.sha256.hex()):
            return
        rows = [(n, {role: cells.get(columns[role], "").strip() for role in ROLES}) for n, cells in table.rows()]
        with job.transaction() as connection:
            ids = find_drugs(connection, [row[side] for _, row in rows for side in ROLES[:2]])
        batch = Batch(documents=[document])
        for number, row in rows:
            unknown = [row[side] for side in ROLES[:2] if row[side].lower() not in ids]
            if unknown:
                table.problems.append(Problem(number, f"no drug, or several, {unknown[0]!r}"))
                continue
            a, b = (ids[row[side].lower()] for side in ROLES[:2])
            if a == b:
                table.problems.append(Problem(number, f"{row['drug_a']!r} with itself"))
                continue
            provider = row["provider"] or document.url
            said = (row["severity"] or None, row["description"] or None)
            batch.interactions.append(InteractionRecord(a, b, document, provider, USER.id, *said))
        finish_file(job, batch, document.sha256.hex(), table)


def finish_file(job: Job, batch: Batch, mark: str, table: Table) -> None:
    """Commit a user's file with its rejected rows, and say how many there were."""
    document = batch.documents[0]
    job.write(
        batch,
        done=mark,
        also=lambda c, _: write_problems(c, job.run_id, job.source.name, document, table.problems),
    )
    job.counts["rejected"] += len(table.problems)
    if table.problems:
        first = table.problems[0]
        output.say(f"{len(table.problems)} rows rejected; the first is row {first.row}: {first.reason}")
