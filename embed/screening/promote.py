"""Hits of a screening into the knowledge base: as records of a dataset that says where they are from.

All compounds that were ever promoted from a data set lie in its ``promoted.csv``; that file is ingested, so a second
promotion adds to the first, and taking the dataset back (``mkmed kb remove``) takes all of them back.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from embed.screening.dataset import PROPERTY_COLUMNS, ScreeningSet
from embed.screening.search import Hit
from kb.files import hold, replace_file
from kb.ingest.engine import ingest
from kb.inputs import open_regular
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.tables.source import Tabular

FILE = "promoted.csv"
COLUMNS = ("id", "name", "smiles", "inchikey", *PROPERTY_COLUMNS, "artefact")


def promote(engine: Engine, settings: Settings, one: ScreeningSet, hits: Sequence[Hit]) -> dict[str, Any]:
    """Write the hits as drugs of the dataset ``screen-<folder>``, under the data set's licence; what is there stays.

    The answer is the ingest's counts, with the dataset's name.
    """
    path = one.folder / FILE
    with hold(one.folder / ".promoting", f"{path}"):
        rows = {row["id"]: row for row in _rows(path)}
        rows |= {hit.id: _row(one, hit) for hit in hits if hit.id not in rows}
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
        replace_file(path, text.getvalue(), mode=None)
        name = dataset_of(one)
        roles = {"key": "id", "name": "name", "smiles": "smiles",
                 **{f"property.{column}": column for column in PROPERTY_COLUMNS}}
        done = ingest(engine, settings, Tabular(), IngestOptions(
            path=path, columns=roles, dataset=name, licence=one.licence, yes=True))
    return {"dataset": name, "promoted": len(hits), **done.counts}


def dataset_of(one: ScreeningSet) -> str:
    """The name of the dataset that a set's hits become records of."""
    name = re.sub(r"[^a-z0-9_-]+", "-", one.folder.resolve().name.lower()).strip("-_")[:50]
    return f"screen-{name or 'set'}"


def _row(one: ScreeningSet, hit: Hit) -> dict[str, str]:
    numbers = {name: repr(hit.properties[name]) if name in hit.properties else "" for name in PROPERTY_COLUMNS}
    return {"id": hit.id, "name": hit.id, "smiles": hit.smiles, "inchikey": hit.inchikey, **numbers,
            "artefact": one.artefact}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open_regular(path, str(path)) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
