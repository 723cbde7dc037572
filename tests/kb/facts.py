"""A handful of real drugs as records, and the shortest way to get them into a test database."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sqlalchemy import Connection

from kb.ingest.engine import register_source
from kb.ledger.entries import start_run
from kb.licences import BY_NC as NC
from kb.licences import CC0
from kb.modalities import State
from kb.normalise import Identifier
from kb.sources.contract import (
    AtcRecord,
    ConformerRecord,
    Document,
    DrugRecord,
    ImageRecord,
    InteractionRecord,
    Name,
    Outcome,
    Plan,
    PropertyRecord,
    RecordBatch,
    Source,
    TextRecord,
)

METFORMIN = "XZWYZXLIPXDOLR-UHFFFAOYSA-N"
ASPIRIN = "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"

Rows = list[tuple[str, str, str]]
TRIPLES: Rows = [
    ("Gene::5595;5594", "GpBP", "Biological Process::GO:1"),
    ("Compound::DB00945", "DDI", "Compound::DB00331"),
    ("Compound::DB00945", "DDI", "Compound::DB00331"),
    ("Compound::DB00945", "DDI", "Compound::DB00945"),
    ("Gene::", "GpBP", "Biological Process::GO:1"),
    ("Gene::NaN", "GpBP", "Biological Process::GO:2"),
    ("Compound::MESH:C002480|MESH:C113043", "DDI", "Compound::CHEMBL25"),
]
"""A duplicate, a self loop, two empty ids, and ids that list several values."""


class Hand(Source):
    """A source whose records are written by hand."""

    name, title, url, origin, licences = "hand", "by hand", "https://example.org/hand", "user", (CC0, NC)

    def plan(self, job):
        return Plan(0)

    def read(self, job):
        raise NotImplementedError


class Other(Hand):
    """A second one."""

    name = "other"


def document(text: str, source: str = "hand", licence: str = "CC0-1.0") -> Document:
    return Document(
        source,
        "https://example.org/" + text[:8],
        "text/plain",
        licence,
        "somebody",
        datetime.now(UTC),
        "hand/1",
        payload=text.encode(),
    )


def begin(connection: Connection) -> uuid.UUID:
    """A run, with both sources and their licences known."""
    register_source(connection, Hand())
    register_source(connection, Other())
    return start_run(connection, "ingest", name="hand")


def metformin(source: str = "hand") -> DrugRecord:
    return DrugRecord(
        "drugbank:DB00331",
        "Metformin",
        document("metformin", source),
        "small molecule",
        "CN(C)C(=N)N=C(N)N",
        METFORMIN,
        "C4H11N5",
        (Identifier("drugbank", "DB00331"), Identifier("pubchem.compound", "4091")),
        (Name("Dimethylbiguanide"), Name("Glucophage", "brand")),
    )


def aspirin(source: str = "hand") -> DrugRecord:
    return DrugRecord(
        "drugbank:DB00945",
        "Aspirin",
        document("aspirin", source),
        "small molecule",
        "CC(=O)Oc1ccccc1C(=O)O",
        ASPIRIN,
        "C9H8O4",
        (Identifier("drugbank", "DB00945"), Identifier("cas", "50-78-2")),
    )


def insulin(source: str = "hand") -> DrugRecord:
    return DrugRecord(
        "drugbank:DB00030",
        "Insulin human",
        document("insulin", source),
        "biologic",
        identifiers=(Identifier("drugbank", "DB00030"), Identifier("unii", "1Y17CTI5SR")),
    )


def small_batch() -> RecordBatch:
    """Three drugs in three buckets, one of them without a structure."""
    return RecordBatch(
        drugs=[metformin(), aspirin(), insulin()],
        payloads=[
            TextRecord(
                "drugbank:DB00331",
                document("about metformin"),
                "a pharmacist",
                "A biguanide that lowers glucose.",
                "CC0-1.0",
            ),
            TextRecord("drugbank:DB00030", document("about insulin"), "=cmd()", "A hormone.", "CC-BY-NC-4.0"),
            PropertyRecord("drugbank:DB00331", document("numbers"), {"mol_weight": 129.16, "xlogp": -1.3}),
            ConformerRecord("drugbank:DB00945", document("3d"), "aspirin\n\n\nM  END\n", 13, "by hand"),
            ImageRecord("drugbank:DB00945", document("png"), 300, 300),
        ],
        atc=[AtcRecord("drugbank:DB00331", document("atc"), "A10BA02")],
        interactions=[
            InteractionRecord("drugbank:DB00945", "drugbank:DB00331", document("ddi"), "a list", "CC0-1.0", "minor")
        ],
        outcomes=[
            Outcome("drugbank:DB00030", "structure", State.absent, evidence="rule:no-structure"),
            Outcome("drugbank:DB00945", "text", State.failed, error="503 from the service"),
        ],
    )
