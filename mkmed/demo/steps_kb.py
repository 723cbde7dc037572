"""The demo's knowledge base: the bundled corpus, and what RDKit computes from its structures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kb import output
from kb.sources.contract import IngestOptions
from mkmed.demo.step import Demo, Stage

if TYPE_CHECKING:
    from sqlalchemy import Connection


def _corpus_done(demo: Demo) -> str | None:
    """The last file that an ingest of the corpus marks, whole or as limited; a new bundle has other marks."""
    from kb.bundle import Bundle
    from kb.ledger.entries import read_lookups
    from kb.sources.atc import Atc

    sha = Atc().digest(Bundle.open())
    marks = {f"atc.tsv.gz:{sha}"} | ({f"atc.tsv.gz:{sha}:first {demo.scale.drugs}"} if demo.scale.drugs else set())
    with demo.engine.connect() as connection:
        known = {key for key, row in read_lookups(connection, "corpus").items() if row["state"] == "present"}
        whole = bool(marks & known) and all(_is_there(connection, name) for name in demo.scale.also)
    return "the corpus is in the ledger" if whole and _graph_loaded(demo) else None


def _is_there(connection: Connection, name: str) -> bool:
    from sqlalchemy import text

    return connection.scalar(text("SELECT mkmed.find_drug(:name)"), {"name": name}) is not None


def _graph_loaded(demo: Demo) -> bool:
    from kb.bundle import Bundle
    from kb.graph.load import is_loaded

    digest = bytes.fromhex(Bundle.open().manifest["kg_triples.tsv.gz"]["sha256"])
    with demo.engine.connect() as connection:
        return is_loaded(connection, "corpus", digest)


def _ingest_corpus(demo: Demo) -> None:
    from kb.ingest.engine import ingest

    summary = ingest(demo.engine, demo.settings, "corpus", IngestOptions(limit=demo.scale.drugs))
    if demo.scale.also:
        ingest(demo.engine, demo.settings, "corpus", IngestOptions(ids=demo.scale.also))
    output.say(f"      {summary.counts.get('rows', 0):,} rows of {summary.counts.get('drugs', 0):,} drugs")


_LACKING = """
SELECT m.modality, least(count(*), CAST(:limit AS bigint)) - count(*) FILTER (WHERE c.state IS NOT NULL) AS lacking
FROM mkmed.drug d CROSS JOIN unnest(ARRAY['property', 'image']) AS m (modality)
LEFT JOIN mkmed.cell c ON c.drug_id = d.id AND c.source = 'rdkit' AND c.modality = m.modality
    AND c.state NOT IN ('unknown', 'absent')
WHERE d.smiles IS NOT NULL GROUP BY m.modality
"""


def _computed(demo: Demo) -> str | None:
    """Enough cells of both modalities are settled."""
    from sqlalchemy import text

    with demo.engine.connect() as connection:
        found = connection.execute(text(_LACKING), {"limit": demo.scale.pictures or 2**40}).all()
    return "computed already" if found and all(lacking <= 0 for _, lacking in found) else None


def _compute(demo: Demo) -> None:
    from kb.ingest.engine import ingest

    options = IngestOptions(limit=demo.scale.pictures, modalities=("property", "image"))
    summary = ingest(demo.engine, demo.settings, "rdkit", options)
    output.say(f"      {summary.counts.get('rows', 0):,} properties and depictions; the ledger marks them as computed")


def _show_coverage(demo: Demo) -> None:
    from kb.ledger.coverage import bucket_rows, buckets, draw_coverage
    from kb.pictures import save_figure

    with demo.engine.connect() as connection:
        found = buckets(connection)
    output.emit(bucket_rows(found), title="buckets: which modalities the drugs have")
    save_figure(draw_coverage(found), demo.settings.home / "buckets.svg")


def _verify(demo: Demo) -> None:
    from kb.errors import DataError
    from kb.ledger.verify import verify

    with demo.engine.connect() as connection:
        checks = verify(connection)
    broken = [check.number for check in checks if check.broken]
    if broken:
        raise DataError(f"invariants broken: {', '.join(broken)}", hint="mkmed kb verify shows the rows")
    output.say(f"      {len(checks)} invariants hold: every row has its source, and the ledger agrees with the data")


def bundled(name: str) -> Path:
    """A file or folder of the bundled data."""
    from mkmed.demo.paths import data_path

    return data_path(name)


COUNTED = "coverage and invariants"
STEPS = (
    Stage("bundled corpus", "mkmed kb ingest --source corpus", _ingest_corpus, _corpus_done),
    Stage("computed properties and depictions", "mkmed kb ingest --source rdkit --modality property --modality image",
         _compute, _computed),
    Stage(COUNTED, "mkmed kb coverage --plot buckets.svg; mkmed kb verify", _verify,
         show=_show_coverage),
)
