"""Finds the bundled open corpus, in a checkout or an installed wheel, and describes its files as documents."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kb import sdf
from kb.errors import ContractViolation, NotFound
from kb.sources.contract import Document

MEDIA_TYPES = {".tsv.gz": "text/tab-separated-values+gzip", ".sdf.gz": "chemical/x-mdl-sdfile+gzip"}


CORPUS = Path(__file__).resolve().parent.parent / "mkmed" / "demo" / "data"


def bundle_path() -> Path:
    """The folder of the bundled corpus; raises NotFound when this installation came without it."""
    if not (CORPUS / "MANIFEST.json").is_file():
        raise NotFound(f"the bundled corpus is not in {CORPUS}", hint="install mkmed from its checkout or its wheel")
    return CORPUS


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with tables and a MANIFEST.json that says of each what it is."""

    folder: Path
    manifest: dict[str, dict[str, str]]

    @classmethod
    def open(cls, folder: Path | None = None) -> Bundle:
        """The bundle in ``folder`` or the one that came with mkmed."""
        folder = folder or bundle_path()
        manifest = folder / "MANIFEST.json"
        if not manifest.is_file():
            raise NotFound(f"{folder} has no MANIFEST.json", hint="give the folder of a corpus, or no --path at all")
        return cls(folder, json.loads(manifest.read_text(encoding="utf-8")))

    def document(self, name: str, source: str, parser: str) -> Document:
        """One file as a document; raises ContractViolation when its bytes are not those of the manifest."""
        path, about = self.folder / name, self.manifest[name]
        payload = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(payload).digest()
        if digest.hex() != about["sha256"]:
            raise ContractViolation(
                f"{name} of the bundled corpus is missing or altered",
                hint="git checkout mkmed/demo/data, or install again",
            )
        return Document(
            source=source,
            url=about["url"],
            media_type=MEDIA_TYPES[name[name.index(".") :]],
            licence=about["licence"],
            attribution=about["attribution"],
            retrieved_at=datetime.fromisoformat(about["retrieved_at"]),
            parser=parser,
            uri=f"demo/data/{name}",  # a name within the database, as earlier releases wrote it
            sha256=digest,
            size=len(payload),
            upstream_version=about["version"],
        )

    def rows(self, name: str) -> Iterator[dict[str, str]]:
        """The rows of one of its tables."""
        with gzip.open(self.folder / name, "rt", encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)

    def molecules(self, name: str) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Title, mol block and data items of every record of one of its SDF files."""
        with gzip.open(self.folder / name) as stream:
            for raw in sdf.split(io.BufferedReader(stream)):
                record = sdf.parse_sd_record(raw)
                yield record.title, record.block, record.items
