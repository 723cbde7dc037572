"""A knowledge base written by hand, for the tests of what the recommender knows of medications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine

from kb.ingest.engine import register_source
from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.licences import CC0
from kb.sources.contract import AtcRecord, Document, DrugRecord, InteractionRecord, Plan, RecordBatch, Source

DOCUMENT = Document("hand", "https://example.org/list", "text/plain", "CC0-1.0", "somebody",
                    datetime(2026, 1, 1, tzinfo=UTC), "test", payload=b"drugs")


class Hand(Source):
    """A source written by hand."""

    name, title, url, origin = "hand", "by hand", "https://example.org/hand", "user"
    licences = (CC0,)

    def plan(self, job):
        return Plan(0)

    def read(self, job):
        raise NotImplementedError


def write(engine: Engine, drugs: Sequence[DrugRecord], codes: Mapping[str, Sequence[str]],
          pairs: Sequence[InteractionRecord] = ()) -> None:
    """Write the drugs with their ATC codes by key, and their interactions."""
    atc = [AtcRecord(key, DOCUMENT, code) for key, own in codes.items() for code in own]
    with engine.begin() as connection:
        register_source(connection, Hand())
        run = start_run(connection, "ingest")
        write_batch(connection, run, "hand", RecordBatch(drugs=list(drugs), atc=atc, interactions=list(pairs)))
