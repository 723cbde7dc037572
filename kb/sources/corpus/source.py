"""The bundled open corpus: drugs, texts, PubChem's and the CCD's values, interactions, ATC and a knowledge graph.

One command fills a knowledge base without a network. Rows are filed under the source they come from: identity, texts
and graph under ``corpus``, recorded PubChem properties under ``pubchem``, component coordinates under ``ccd``, computed
conformers under ``rdkit``, interactions and ATC under their own sources; so fetched and computed are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from kb.bundle import Bundle
from kb.compute.ahead import ahead
from kb.graph.link import relink
from kb.graph.load import encode_rows, is_loaded, load_triples
from kb.graph.tables import DescribedRelation
from kb.ingest.retract import retract_records
from kb.licences import LICENCES, most_restrictive
from kb.modalities import Modality, State
from kb.sources.atc import Atc
from kb.sources.contract import DrugRecord, Outcome, Part, Plan, RecordBatch, Source
from kb.sources.corpus import rows
from kb.sources.corpus.rows import CCD, NAMES, OWN_LICENCES, PARSER, PUBCHEM
from kb.sources.interactions import InteractionSource
from kb.sources.rdkit.source import RdkitSource

if TYPE_CHECKING:
    from kb.ingest.engine import Job

CHUNK = 3000
"""Drugs that one transaction writes."""
STEPS = (
    *rows.STEPS,
    (Atc.bundled_file, Atc.name, Atc().bundled),
    (InteractionSource.bundled_file, InteractionSource.name, InteractionSource().bundled),
)
"""File, the source that its rows are filed under, and its reader, in the order in which they are written."""


class CorpusSource(Source):
    """Writes the bundle step by step, each in one transaction with its mark, so that a killed run goes on."""

    name = "corpus"
    title = "mkmed's bundled open corpus"
    url = "mkmed/demo/data"
    origin = "bundled"
    licences = OWN_LICENCES
    modalities = (Modality.text, Modality.graph)
    options = frozenset({"ids", "limit", "path", "refresh_days"})
    brings = (PUBCHEM, CCD, NAMES, RdkitSource, InteractionSource, Atc)

    def plan(self, job: Job) -> Plan:
        """The drugs and bytes of the bundle; no request is made."""
        bundle = Bundle.open(job.options.path)
        drugs = int(bundle.manifest["drugs.tsv.gz"]["rows"])
        size = sum((bundle.folder / name).stat().st_size for name in bundle.manifest)
        return Plan(min(drugs, job.options.limit or drugs), seconds=drugs / 700, bytes=size)

    def read(self, job: Job) -> Iterator[Part]:
        """Drugs first, then what is said about them; steps that an earlier run finished are passed over."""
        bundle = Bundle.open(job.options.path)
        job.expect(int(bundle.manifest["drugs.tsv.gz"]["rows"]) + len(rows.STEPS) + 3)
        with closing(ahead(self._drugs(job, bundle))) as drugs:
            yield from drugs
        if job.refresh and job.options.ids is None and job.options.limit is None:
            yield Part(RecordBatch(), also=self._forget(job, bundle), size=0)
        with closing(ahead(chain(self._steps(job, bundle), self._graph(job, bundle)))) as parts:
            yield from parts

    def _steps(self, job: Job, bundle: Bundle) -> Iterator[Part]:
        """What is said about the drugs that are known, file by file."""
        ids, drawn = job.transact(rows.drug_ids), job.transact(rows.drawn_ids)
        for file, source, make in STEPS:
            mark = _mark(job, bundle, file)
            if _is_done(job, mark):
                job.advance()
            else:
                yield Part(make(bundle, drawn if file in rows.OF_STRUCTURES else ids), mark, source)

    def _drugs(self, job: Job, bundle: Bundle) -> Iterator[Part]:
        """The drugs that were not written yet; the file is ordered, so that a limit keeps the best-described ones."""
        document = bundle.document("drugs.tsv.gz", self.name, PARSER)
        texts = bundle.document("texts.tsv.gz", self.name, PARSER)
        described = {row["key"] for row in bundle.rows("texts.tsv.gz")}
        lacking = f"rule:not-in-bundle texts.tsv.gz sha256={texts.sha256.hex()[:16]}"
        for number, records in enumerate(_chunks(job, rows.drug_records(bundle, document))):
            mark = f"{_mark(job, bundle, 'drugs.tsv.gz')}:{number}"
            if _is_done(job, mark):
                job.advance(len(records))
                continue
            absent = [
                Outcome(r.key, Modality.text, State.absent, evidence=lacking, document=texts)
                for r in records
                if r.key not in described
            ]
            yield Part(RecordBatch(drugs=records, outcomes=absent), mark, size=len(records))

    def _forget(self, job: Job, bundle: Bundle) -> Callable[[Connection, Mapping[str, int]], None]:
        """What takes back the drugs that the bundle does not have any more."""
        here = {row["key"] for row in bundle.rows("drugs.tsv.gz")}

        def forget(connection: Connection, _: Mapping[str, int]) -> None:
            gone = [(self.name, key) for key in rows.drug_ids(connection) if key not in here]
            if retract_records(connection, job.run_id, gone):
                relink(connection, job.run_id)

        return forget

    def _graph(self, job: Job, bundle: Bundle) -> Iterator[Part]:
        """The bundled graph, unless it is loaded; new drugs are linked to it by the engine."""
        document = bundle.document("kg_triples.tsv.gz", self.name, PARSER)
        if job.transact(lambda c: is_loaded(c, self.name, document.sha256)):
            job.advance()
            return
        triples = encode_rows((r["head"], r["relation"], r["tail"]) for r in bundle.rows("kg_triples.tsv.gz"))
        relations = {
            r["relation"]: DescribedRelation(r["relation"], r["head_type"], r["tail_type"], r["provider"], r["licence"])
            for r in bundle.rows("kg_relations.tsv.gz")
        }
        labels = {r["entity"]: r["label"] for r in bundle.rows("kg_labels.tsv.gz")}
        quoted = {document.licence, *(relation.licence for relation in relations.values())}
        document = replace(document, licence=most_restrictive(LICENCES[name] for name in quoted).id)
        labelled = bundle.document("kg_labels.tsv.gz", self.name, PARSER)

        def load(connection: Connection, _: Mapping[str, int]) -> None:
            load_triples(connection, job.run_id, document, triples, relations, labels=labels, labelled=labelled)

        yield Part(RecordBatch(), also=load)


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
    digest = Atc().digest(bundle) if file == Atc.bundled_file else bundle.manifest[file]["sha256"]
    return f"{file}:{digest}{part}"


def _is_done(job: Job, mark: str) -> bool:
    """Whether the step was finished; a choice of drugs is always looked at again."""
    return job.options.ids is None and job.is_done(mark)
