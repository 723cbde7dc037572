"""PubChem's bulk files from disk, streamed: 2D and 3D SD files and the ``CID-…`` tables of Extras, a folder at a time.

``--path`` is one file or a folder. The 2D records say who the compounds are (without them ``CID-InChI-Key``, else
``CID-SMILES`` does); titles, synonyms and parents are looked up in the tables beside them, which PubChem sorts by CID.
Every part of a file is committed with its mark, so a run that was stopped goes on with the next part.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb import output, sdf
from kb.errors import DataError
from kb.ingest.records import Document, Outcome, PropertyRecord, RecordBatch
from kb.inputs import sha256_of
from kb.licences import NCBI, Licence
from kb.modalities import Modality, State
from kb.sources.contract import Part, Plan, Source
from kb.sources.pubchem.bodies import ContentError
from kb.sources.pubchem.bulk_3d import read_conformer_file, rejections
from kb.sources.pubchem.files import BulkFiles, SortedTable, bulk_lines, find_bulk_files, open_bulk
from kb.sources.pubchem.identity import drug_record, is_cas
from kb.sources.pubchem.proof import Compound, prove
from kb.sources.pubchem.rules import three_d_rule
from kb.sources.pubchem.sdf import cid_of, parse_flat, parse_line, smiles_of

if TYPE_CHECKING:
    from kb.ingest.engine import Job

PART = 2_000
"""Compounds a transaction."""
SDF_BYTES, LINE_BYTES = 700, 25
"""Packed bytes of a record and of a line, for the estimate."""
PER_SECOND = 1_000
ATTRIBUTION = "PubChem, National Library of Medicine (US)"


@dataclass(frozen=True, slots=True)
class FileReading:
    """One main file on its way in: how it is split and parsed, and what it is filed under."""

    path: Path
    document: Document
    split: Callable[..., Iterator[sdf.Raw | bytes | None]]
    parse: Callable[..., Compound]
    wanted: frozenset[int] | None
    mark: str


class PubChemBulk(Source):
    """Reads what was downloaded from PubChem's FTP site; needs no network."""

    name: ClassVar[str] = "pubchem-bulk"
    title: ClassVar[str] = "PubChem bulk files"
    url: ClassVar[str] = "https://ftp.ncbi.nlm.nih.gov/pubchem/"
    origin: ClassVar[str] = "fetched"
    licences: ClassVar[tuple[Licence, ...]] = (NCBI,)
    modalities: ClassVar[tuple[str, ...]] = (Modality.property, Modality.structure)
    options: ClassVar[frozenset[str]] = frozenset({"path", "ids", "limit", "refresh_days"})
    takes_folder: ClassVar[bool] = True

    def plan(self, job: Job) -> Plan:
        """Estimated from the files' sizes."""
        files = find_bulk_files(self.path(job))
        mains = _mains(files)
        compounds = sum(path.stat().st_size // (SDF_BYTES if role == "flat" else LINE_BYTES) for path, role in mains)
        compounds = min(compounds, job.options.limit or compounds)
        size = sum(p.stat().st_size for p in (*files.flat, *files.spatial, *files.tables.values()))
        return Plan(compounds, seconds=compounds / PER_SECOND, bytes=size, notes=("estimated from the files' sizes",))

    def read(self, job: Job) -> Iterator[Part]:
        """All parts that are not there yet, then 3D conformers."""
        files = find_bulk_files(self.path(job))
        job.expect(self.plan(job).keys)
        began = time.monotonic()
        wanted = _wanted(job.options.ids)
        left = job.options.limit
        with ExitStack() as stack:
            tables = {role: stack.enter_context(closing(SortedTable(p))) for role, p in files.tables.items()}
            sides = hashlib.sha256(b"".join(sha256_of(p) for _, p in sorted(files.tables.items()))).hexdigest()[:8]
            for path, role in _mains(files):
                reading = _reading(path, role, wanted, sides)
                taken = yield from self._compounds(job, reading, tables, left)
                left = None if left is None else left - taken
            skipped = sum(table.skipped for table in tables.values())
        if skipped:
            output.say(f"{skipped:,} lines of the tables were not CID TAB value and were passed over")
        self._say_rate(job, time.monotonic() - began)
        for path in files.spatial:
            document = document_of(path, "pubchem-bulk-3d/1")
            yield from read_conformer_file(job, path, document, files.tables.get("parent"), wanted)

    def _compounds(
        self, job: Job, reading: FileReading, tables: Mapping[str, SortedTable], limit: int | None
    ) -> Generator[Part, None, int]:
        """How many compounds the file gave (or had given before), up to ``limit``."""
        taken = 0
        with open_bulk(reading.path) as stream, ThreadPoolExecutor(1) as ahead:
            raw_parts = self._parts(job, reading, reading.split(stream), limit)
            # The next part is parsed while PostgreSQL writes this one; never more than two are in memory.
            coming = ahead.submit(_next_batch, raw_parts, reading, tables)
            while (part := coming.result()) is not None:
                coming = ahead.submit(_next_batch, raw_parts, reading, tables)
                taken += part.size
                if part.batch is None:
                    job.advance(part.size, note="already there")
                else:
                    rejected = rejections(job, reading.path, reading.document, part.rejected, part.cut)
                    yield Part(part.batch, None if part.cut else part.key, size=part.size, **rejected)
        return taken

    def _parts(
        self, job: Job, reading: FileReading, parts: Iterator[sdf.Raw | bytes | None], limit: int | None
    ) -> Iterator[tuple[str, int, list[sdf.Raw | bytes | None], bool]]:
        """Mark, start and raw records of every part up to ``limit``, and whether it is to be parsed at all."""
        for start in count(0, PART):
            size = PART if limit is None else min(PART, limit - start)
            raw = list(islice(parts, max(0, size)))
            if not raw:
                return
            key = f"{reading.mark}:{start}-{start + size}"
            yield key, start, raw, not job.is_done(key)

    def _say_rate(self, job: Job, seconds: float) -> None:
        written, rejected = job.counts["drugs"], job.counts["rejected"]
        if written or rejected:
            rate = written / max(seconds, 1e-9)
            output.say(f"{written:,} compounds in {seconds:.1f} s: {rate:,.0f} a second; {rejected:,} parts rejected")


def _mains(files: BulkFiles) -> list[tuple[Path, str]]:
    """The files that say who the compounds are, each with its role."""
    if files.flat:
        return [(path, "flat") for path in files.flat]
    roles = [role for role in ("inchikey", "smiles") if role in files.tables]
    return [(files.tables[role], role) for role in roles[:1]]


def _reading(path: Path, role: str, wanted: frozenset[int] | None, sides: str) -> FileReading:
    document = document_of(path, "pubchem-bulk/1")
    chosen = "" if wanted is None else hashlib.sha256(repr(sorted(wanted)).encode()).hexdigest()[:8]
    mark = f"bulk:{document.sha256.hex()[:24]}:{sides}:{chosen}"
    if role == "flat":
        return FileReading(path, document, sdf.split, parse_flat, wanted, mark)
    return FileReading(path, document, bulk_lines, partial(parse_line, role=role), wanted, mark)


def document_of(path: Path, parser: str) -> Document:
    """The file itself as a document, kept by its address on disk."""
    return Document(
        source=PubChemBulk.name,
        url=path.absolute().as_uri(),
        media_type="application/gzip" if path.suffix == ".gz" else "chemical/x-mdl-sdfile",
        licence=NCBI.id,
        attribution=ATTRIBUTION,
        retrieved_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        parser=parser,
        uri=path.absolute().as_uri(),
        sha256=sha256_of(path),
        size=path.stat().st_size,
    )


def _wanted(ids: Sequence[str] | None) -> frozenset[int] | None:
    """The CIDs that the user asked for, None for all."""
    return None if ids is None else frozenset(cid_of(text.rpartition(":")[2]) for text in ids)


@dataclass(frozen=True, slots=True)
class Parsed:
    """Some records of a file, parsed; ``batch`` is None where they were committed before."""

    key: str
    size: int
    batch: RecordBatch | None
    rejected: Mapping[int, str]
    cut: frozenset[int] = frozenset()
    """Of those that were rejected, the one that the file ends within."""


def _next_batch(
    parts: Iterator[tuple[str, int, list[sdf.Raw | bytes | None], bool]], reading: FileReading,
    tables: Mapping[str, SortedTable],
) -> Parsed | None:
    """The next part of a file, None at its end."""
    following = next(parts, None)
    if following is None:
        return None
    key, start, raw, due = following
    batch, rejected = _batch(reading, raw, start, tables) if due else (None, {})
    cut = frozenset(part.number for part in raw if isinstance(part, sdf.Raw) and not part.closed)
    return Parsed(key, len(raw), batch, rejected, cut & rejected.keys())


def _batch(
    reading: FileReading, raw: Sequence[sdf.Raw | bytes | None], start: int, tables: Mapping[str, SortedTable]
) -> tuple[RecordBatch, dict[int, str]]:
    """The records of one part, and by number the reasons why some could not be read."""
    found: dict[int, tuple[int, Compound]] = {}
    rejected: dict[int, str] = {}
    for number, part in enumerate(raw, start + 1):
        try:
            if part is None:
                raise DataError("longer than any record may be")
            compound = reading.parse(part)
        except DataError as error:
            rejected[number] = error.message
            continue
        if reading.wanted is None or compound.cid in reading.wanted:
            found[compound.cid] = number, compound
    sides = {role: table.of(list(found)) for role, table in tables.items() if role != "parent"}
    batch = RecordBatch(documents=[reading.document])
    for cid, (number, compound) in sorted(found.items()):
        try:
            complete = _complete(compound, sides)
        except (DataError, ContentError) as error:
            rejected[number] = str(error)
            continue
        _add(batch, complete, sides.get("synonym", {}).get(cid, []), reading.document)
    return batch, rejected


def _complete(compound: Compound, sides: Mapping[str, Mapping[int, list[str]]]) -> Compound:
    """The compound with the title and the SMILES of the tables, where it has none of its own."""
    title = sides.get("title", {}).get(compound.cid, [""])[0].strip() or compound.title
    smiles = smiles_of(sides.get("smiles", {}).get(compound.cid, [""])[0])
    if compound.smiles or not smiles:
        return replace(compound, title=title)
    proven = prove(replace(compound, title=title, smiles=smiles))
    return proven if proven.inchikey else replace(compound, title=title)


def _add(batch: RecordBatch, compound: Compound, synonyms: Sequence[str], document: Document) -> None:
    """Put the compound's records into the batch: identity, properties, and whether it can have a conformer at all."""
    record = drug_record(compound, document, synonyms, [text for text in synonyms if is_cas(text)])
    batch.drugs.append(record)
    if compound.values:
        batch.payloads.append(PropertyRecord(record.key, document, compound.values))
    if compound.formula and compound.units == 1:
        rule = three_d_rule(compound.smiles, compound.formula, compound.values.get("rotatable_bonds", 0))
        if rule:
            batch.outcomes.append(Outcome(record.key, Modality.structure, State.absent, evidence=rule))
