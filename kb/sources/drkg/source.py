"""DRKG, the Drug Repurposing Knowledge Graph (Ioannidis et al. 2020): 5.9 million triples from seven providers.

The licence is the provider's, relation by relation; most of it is for non-commercial use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb import output
from kb.errors import DataError, SourceError
from kb.graph.encode import CodedTriples
from kb.graph.link import FormCount, count_forms, relink
from kb.graph.load import GraphCounts, is_loaded, load_triples
from kb.graph.tables import DescribedRelation
from kb.inputs import is_gzip, sha256_of
from kb.licences import LICENCES, Licence
from kb.modalities import Modality
from kb.sources.contract import Document, Part, Plan, RecordBatch, Source
from kb.sources.drkg import contract as drkg_contract
from kb.sources.drkg.read import UNKNOWN_LICENCE, describe_relations, read_triples
from kb.sources.stream import given_file

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from kb.ingest.engine import Job

HOME = "https://github.com/gnn4dr/DRKG"
FILE = "https://dgl-data.s3-us-west-2.amazonaws.com/dataset/DRKG/drkg.tar.gz"
CITATION = "Ioannidis et al., DRKG: Drug Repurposing Knowledge Graph for Covid-19 (2020)"
TRIPLES_PER_SECOND = 350_000
PLAIN_ROW, PACKED_ROW = 65, 5
"""Bytes a row, for the estimate."""
STAGES = 4


Checked = tuple[CodedTriples, dict[str, DescribedRelation], list[drkg_contract.CountCheck]]
"""A file's triples, their relations, and the checks of its contract."""


class Drkg(Source):
    """Reads ``drkg.tsv`` (or ``drkg.tar.gz``) as a whole, checks it against the published counts, and loads it."""

    name: ClassVar[str] = "drkg"
    title: ClassVar[str] = "Drug Repurposing Knowledge Graph"
    url: ClassVar[str] = HOME
    origin: ClassVar[str] = "fetched"
    modalities: ClassVar[tuple[str, ...]] = (Modality.graph,)
    options: ClassVar[frozenset[str]] = frozenset({"path", "url", "allow_subset"})
    licences: ClassVar[tuple[Licence, ...]] = tuple(
        LICENCES[name]
        for name in (
            "LicenseRef-DRKG",
            "Apache-2.0",
            "CC-BY-NC-4.0",
            "CC-BY-NC-SA-4.0",
            "LicenseRef-Hetionet",
            "LicenseRef-DGIdb",
            "LicenseRef-DRKG-bibliography",
            UNKNOWN_LICENCE,
        )
    )

    def plan(self, job: Job) -> Plan:
        """Estimated from the file's size; the time is what 350,000 triples a second take."""
        if job.options.path is None and job.options.url:
            return Plan(1, requests=1, notes=("the file's size is known once it is asked for",))
        path = self.path(job)
        size = path.stat().st_size
        rows = min(drkg_contract.ROWS, 1 + size // (PACKED_ROW if is_gzip(path) else PLAIN_ROW))
        return Plan(rows, seconds=rows / TRIPLES_PER_SECOND, bytes=size, notes=("estimated from the file's size",))

    def read(self, job: Job) -> Iterator[Part]:
        """The file in one transaction, or nothing but links of drugs that came since when it is loaded."""
        job.expect(STAGES)
        path = given_file(self, job)
        with ThreadPoolExecutor(1) as pool:
            hashing = pool.submit(sha256_of, path)
            # A first load reads the file while it is hashed; later ones look first whether they are needed.
            checked = None if any(key.startswith("graph:") for key in job.done) else self._checked(job, path)
            digest = hashing.result()
        job.advance(note="hashed")
        if not job.transact(lambda c: is_loaded(c, self.name, digest)):
            yield from self._load(job, path, digest, checked or self._checked(job, path))
            return
        links = job.transact(lambda c: relink(c, job.run_id))
        output.say(f"{path.name} is loaded already; {links.changes:,} links and cells changed")
        job.counts["rows"] += links.changes
        job.advance(STAGES - 1)

    def _checked(self, job: Job, path: Path) -> Checked:
        """The triples, their relations, and the contract's checks; a download that fails them is thrown away."""
        try:
            triples = read_triples(path)
            job.advance(note="read")
            relations = describe_relations(triples)
            checks = drkg_contract.compare_counts(triples, relations)
            if not job.options.allow_subset:
                drkg_contract.require(checks)
        except (SourceError, DataError) as error:
            if job.options.path is None:
                path.unlink(missing_ok=True)
                hint = f"{error.hint}; the next run downloads it anew"
                raise type(error)(error.message, hint=hint) from None
            raise
        job.advance(note="checked")
        return triples, relations, checks

    def _load(self, job: Job, path: Path, digest: bytes, checked: Checked) -> Iterator[Part]:
        triples, relations, checks = checked
        document = Document(
            source=self.name,
            url=job.options.url or path.absolute().as_uri(),
            media_type="text/tab-separated-values" if path.suffix == ".tsv" else "application/gzip",
            licence=self.licences[0].id,
            attribution=CITATION,
            retrieved_at=datetime.now(UTC),
            parser="drkg/1",
            uri=path.absolute().as_uri(),
            sha256=digest,
            size=path.stat().st_size,
        )
        loaded: list[tuple[GraphCounts, list[FormCount]]] = []

        def load(connection: Connection, _: Mapping[str, int]) -> None:
            complete = all(check.passed for check in checks)
            counts = load_triples(connection, job.run_id, document, triples, relations, complete=complete)
            loaded[:] = [(counts, count_forms(connection))]

        yield Part(RecordBatch(), also=load, then=lambda: self._report(job, *loaded[0]), note="loaded")

    def _report(self, job: Job, counts: GraphCounts, forms: Sequence[FormCount]) -> None:
        """Say and count what came of the file."""
        read, links = counts.read, counts.links
        output.say(
            f"{read.rows:,} rows: {read.kept:,} distinct triples, {counts.new_triples:,} of them new ({read.duplicates}"
            f" duplicates and {read.empty_ids} rows with an empty id dropped, {read.self_loops:,} self loops kept);"
            f" {counts.entities:,} entities, {counts.relations} relations; {links.present:,} drugs present,"
            f" {links.absent:,} absent"
        )
        for form in forms:
            output.say(f"  {form.form:<20} {form.entities:>7,} drug entities, {form.linked:>6,} linked")
        job.counts.update({f"read_{k}": v for k, v in asdict(read).items()})
        job.counts.update({"rows": counts.new_triples, "present": links.present, "absent": links.absent})
        job.counts.update({"entities": counts.entities, "relations": counts.relations})
