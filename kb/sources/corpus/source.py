"""The bundled open corpus: drugs, texts, PubChem's and the CCD's values, interactions, ATC and a knowledge graph.

One command fills a knowledge base without a network. Rows are filed under the source they come from: identity, texts
and graph under ``corpus``, recorded PubChem properties under ``pubchem``, component coordinates under ``ccd``, computed
conformers under ``rdkit``, interactions and ATC under their own sources; so fetched and computed are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kb.bundle import Bundle
from kb.graph.load import encode_rows, is_loaded, load_triples, relink
from kb.graph.tables import Relation
from kb.ingest.engine import register_source
from kb.ingest.records import Batch, DrugRecord, Outcome
from kb.licences import LICENCES, most_restrictive
from kb.modalities import Modality, State
from kb.sources.atc import Atc
from kb.sources.contract import Plan, Source
from kb.sources.corpus import rows
from kb.sources.corpus.rows import CCD, OWN_LICENCES, PARSER, PUBCHEM
from kb.sources.interactions import Interactions
from kb.sources.rdkit.source import RdkitSource

if TYPE_CHECKING:
    from kb.ingest.engine import Job

CHUNK = 3000
"""Drugs that one transaction writes."""


class Corpus(Source):
    """Writes the bundle step by step, each in one transaction with its mark, so that a killed run goes on."""

    name = "corpus"
    title = "mkmed's bundled open corpus"
    url = "demo/data"
    origin = "bundled"
    licences = OWN_LICENCES
    modalities = (Modality.text, Modality.graph)

    def plan(self, job: Job) -> Plan:
        """The drugs and bytes of the bundle; no request is made."""
        bundle = Bundle.open(job.options.path)
        drugs = int(bundle.manifest["drugs.tsv.gz"]["rows"])
        size = sum((bundle.folder / name).stat().st_size for name in bundle.manifest)
        return Plan(min(drugs, job.options.limit or drugs), seconds=drugs / 700, bytes=size)

    def ingest(self, job: Job) -> None:
        """Drugs first, then what is said about them; steps that an earlier run finished are passed over."""
        bundle = Bundle.open(job.options.path)
        with job.transaction() as connection:
            for described in (PUBCHEM, CCD, RdkitSource(), Interactions(), Atc()):
                register_source(connection, described)
        job.expect(int(bundle.manifest["drugs.tsv.gz"]["rows"]) + len(rows.STEPS) + 3)
        new = self._drugs(job, bundle)
        with job.transaction() as connection:
            ids = rows.drug_ids(connection)
        for file, source, make in rows.STEPS:
            mark = _mark(job, bundle, file)
            if not _is_done(job, mark):
                job.write(make(bundle, ids), source=source, done=mark)
            job.advance()
        for plugin, file in ((Atc(), "atc.tsv.gz"), (Interactions(), "interactions.tsv.gz")):
            mark = _mark(job, bundle, file)
            if not _is_done(job, mark):
                job.write(plugin.bundled(bundle, ids), source=plugin.name, done=mark)
            job.advance()
        self._graph(job, bundle, new)
        job.advance()

    def _drugs(self, job: Job, bundle: Bundle) -> bool:
        """Whether any drugs were written; the file is ordered, so that a limit keeps the best-described ones."""
        document = bundle.document("drugs.tsv.gz", self.name, PARSER)
        texts = bundle.document("texts.tsv.gz", self.name, PARSER)
        described = {row["key"] for row in bundle.rows("texts.tsv.gz")}
        lacking = f"rule:not-in-bundle texts.tsv.gz sha256={texts.sha256.hex()[:16]}"
        new = False
        for number, records in enumerate(_chunks(job, rows.drugs(bundle, document))):
            mark = f"{_mark(job, bundle, 'drugs.tsv.gz')}:{number}"
            if not _is_done(job, mark):
                absent = [
                    Outcome(r.key, Modality.text, State.absent, evidence=lacking, document=texts)
                    for r in records
                    if r.key not in described
                ]
                job.write(Batch(drugs=records, outcomes=absent), done=mark)
                new = True
            job.advance(len(records))
        return new

    def _graph(self, job: Job, bundle: Bundle, new: bool) -> None:
        """Load the bundled graph, or only link new drugs to it."""
        document = bundle.document("kg_triples.tsv.gz", self.name, PARSER)
        with job.transaction() as connection:
            if is_loaded(connection, self.name, document.sha256):
                if new:
                    relink(connection, job.run_id)
                return
            triples = encode_rows((r["head"], r["relation"], r["tail"]) for r in bundle.rows("kg_triples.tsv.gz"))
            relations = {
                r["relation"]: Relation(r["relation"], r["head_type"], r["tail_type"], r["provider"], r["licence"])
                for r in bundle.rows("kg_relations.tsv.gz")
            }
            labels = {r["entity"]: r["label"] for r in bundle.rows("kg_labels.tsv.gz")}
            quoted = {document.licence, *(relation.licence for relation in relations.values())}
            document = replace(document, licence=most_restrictive(LICENCES[name] for name in quoted).id)
            labelled = bundle.document("kg_labels.tsv.gz", self.name, PARSER)
            load_triples(connection, job.run_id, document, triples, relations, labels=labels, labelled=labelled)


def _chunks(job: Job, records: Iterator[DrugRecord]) -> Iterator[list[DrugRecord]]:
    """The wanted records, ``CHUNK`` at a time."""
    wanted = {text.lower() for text in job.options.ids} if job.options.ids is not None else None
    chunk: list[DrugRecord] = []
    taken = 0
    for record in records:
        if wanted is not None and not wanted & rows.handles(record):
            continue
        if job.options.limit is not None and taken >= job.options.limit:
            break
        chunk.append(record)
        taken += 1
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _mark(job: Job, bundle: Bundle, file: str) -> str:
    """The mark of one file's step; one with a limit is another step than one without."""
    part = "" if job.options.limit is None else f":first {job.options.limit}"
    if job.options.ids is not None:
        part += ":chosen"  # else the whole corpus would be taken for done after a choice of drugs
    return f"{file}:{bundle.manifest[file]['sha256']}{part}"


def _is_done(job: Job, mark: str) -> bool:
    """Whether the step was finished; a choice of drugs is always looked at again."""
    return job.options.ids is None and job.is_done(mark)
