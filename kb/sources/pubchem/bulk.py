"""PubChem's bulk files from disk, streamed: 2D and 3D SD files and the ``CID-…`` tables of Extras, a folder at a time.

``--path`` is one file or a folder. The 2D records say who the compounds are (without them ``CID-InChI-Key``, else
``CID-SMILES`` does); titles, synonyms and parents are looked up in the tables beside them, which PubChem sorts by CID.
Every part of a file is committed with its mark, so a run that was stopped goes on with the next part.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from sqlalchemy import Connection, select

from kb import inputs, output, sdf
from kb.errors import DataError, UsageError
from kb.inputs import sha256_of
from kb.ledger.entries import write_lookup
from kb.licences import NCBI, Licence
from kb.modalities import Modality, State
from kb.normalise import Identifier, clean, tidy
from kb.schema.identity import drug, identifier
from kb.schema.payloads import conformer
from kb.sources.contract import ConformerRecord, Document, Outcome, Part, Plan, PropertyRecord, RecordBatch, Source
from kb.sources.pubchem.parse import (
    PropertyRow,
    Structure,
    cid_of_record,
    compound_of,
    decimal,
    parse_conformer,
    validated,
)
from kb.sources.pubchem.proof import CID, Compound, ContentError, is_cas, prove, record_of, three_d_rule
from kb.sources.pubchem.source import METHOD

if TYPE_CHECKING:
    from kb.ingest.engine import Job


# PubChem's bulk files as streams of raw parts: SD records, and the lines of the ``CID-…`` tables of Extras.
#
# Formats: ftp.ncbi.nlm.nih.gov/pubchem/Compound/README-Compound-SDF and Compound/Extras/README-Extras. Nothing here
# holds more than one line in memory, and a line that is longer than ``LONGEST`` is passed over and told as None.

LONGEST = 1 << 20
"""Bytes of one line."""
TABLES = {
    "inchikey": re.compile(r"CID-InChI-Key(\.gz)?"),
    "smiles": re.compile(r"CID-SMILES(\.gz)?"),
    "title": re.compile(r"CID-Title(\.gz)?"),
    "synonym": re.compile(r"CID-Synonym-(un)?filtered(\.gz)?"),
    "parent": re.compile(r"CID-Parent(\.gz)?"),
}
_SDF = re.compile(r".*\.sdf(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BulkFiles:
    """What a folder holds: 2D records, 3D records, and tables by role."""

    flat: tuple[Path, ...]
    spatial: tuple[Path, ...]
    tables: dict[str, Path]


def find_bulk_files(path: Path) -> BulkFiles:
    """The bulk files at ``path``, a folder or one file, told apart by name and by their first record."""
    found = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    tables = {role: p for p in found for role, form in TABLES.items() if form.fullmatch(p.name)}
    sdf = [p for p in found if _SDF.fullmatch(p.name)]
    spatial = tuple(p for p in sdf if _is_spatial(p))
    if not sdf and not tables:
        raise UsageError(f"{path} holds no bulk file of PubChem", hint="expected *.sdf.gz or CID-….gz")
    return BulkFiles(tuple(p for p in sdf if p not in spatial), spatial, tables)


def _is_spatial(path: Path) -> bool:
    with open_bulk(path) as stream:
        head = stream.read(4096).split(b"\n", 2)
    return len(head) > 1 and head[1].rstrip().endswith(b"3D")


def open_bulk(path: Path) -> AbstractContextManager[io.BufferedReader]:
    """The unpacked bytes of a file, capped, as a context."""
    return inputs.open_plain(path)


def bulk_lines(stream: io.BufferedReader) -> Iterator[bytes | None]:
    """The lines of a table without their end; None for one that is longer than ``LONGEST``."""
    return (line if line is None else line.rstrip(b"\r\n") for line in inputs.read_lines(stream, LONGEST))


class SortedTable:
    """A table sorted by CID, read once along with the compounds, which come in the same order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.skipped = 0
        self._open()

    def _open(self) -> None:
        self._files = ExitStack()
        self._rows = self._read(self._files.enter_context(open_bulk(self._path)))
        self._next = next(self._rows, None)
        self._at = 0

    def _read(self, stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
        for line in bulk_lines(stream):
            cid, tab, value = (line or b"").partition(b"\t")
            if tab and cid.isdigit():
                yield int(cid), clean(value.decode("utf-8", "replace"))
            else:
                self.skipped += 1

    def of(self, cids: Sequence[int]) -> dict[int, list[str]]:
        """The values of each CID that the table has; starts again from the top when the CIDs go back."""
        wanted = sorted(set(cids))
        if wanted and wanted[0] < self._at:
            self.close()
            self._open()
        found: dict[int, list[str]] = {}
        for cid in wanted:
            while self._next is not None and self._next[0] < cid:
                self._next = next(self._rows, None)
            while self._next is not None and self._next[0] == cid:
                found.setdefault(cid, []).append(self._next[1])
                self._next = next(self._rows, None)
        self._at = wanted[-1] + 1 if wanted else self._at
        return found

    def close(self) -> None:
        """Close the file."""
        self._files.close()


# Reads one raw part of PubChem's bulk files: a 2D record of an SD file, or a line of ``CID-InChI-Key``/``CID-SMILES``.
#
# Whatever is wrong with a part is a DataError with the reason; nothing is guessed. A record goes through the same
# schema and proof as an answer of PUG REST. PubChem's ``pubchem_sdtags.pdf`` (Compound/Documentation) documents the
# tags.

MAX_HEAVY_ATOMS = 1_000
MAX_SMILES = 10_000

_COUNTS: dict[str, tuple[str, ...]] = {
    "CovalentUnitCount": ("PUBCHEM_COMPONENT_COUNT",),
    "HBondDonorCount": ("PUBCHEM_CACTVS_HBOND_DONOR",),
    "HBondAcceptorCount": ("PUBCHEM_CACTVS_HBOND_ACCEPTOR",),
    "RotatableBondCount": ("PUBCHEM_CACTVS_ROTATABLE_BOND",),
    "HeavyAtomCount": ("PUBCHEM_HEAVY_ATOM_COUNT",),
    "Charge": ("PUBCHEM_TOTAL_CHARGE",),
}
_NUMBERS: dict[str, tuple[str, ...]] = {
    "MolecularWeight": ("PUBCHEM_MOLECULAR_WEIGHT",),
    "MonoisotopicMass": ("PUBCHEM_MONOISOTOPIC_WEIGHT",),
    "XLogP": ("PUBCHEM_XLOGP3", "PUBCHEM_XLOGP3_AA"),
    "TPSA": ("PUBCHEM_CACTVS_TPSA",),
    "Complexity": ("PUBCHEM_CACTVS_COMPLEXITY",),
}
_TEXTS: dict[str, tuple[str, ...]] = {
    "Title": ("PUBCHEM_IUPAC_TRADITIONAL_NAME", "PUBCHEM_IUPAC_NAME", "PUBCHEM_IUPAC_OPENEYE_NAME"),
    "IUPACName": ("PUBCHEM_IUPAC_NAME",),
    "MolecularFormula": ("PUBCHEM_MOLECULAR_FORMULA",),
    "SMILES": ("PUBCHEM_SMILES", "PUBCHEM_OPENEYE_ISO_SMILES", "PUBCHEM_CONNECTIVITY_SMILES",
               "PUBCHEM_OPENEYE_CAN_SMILES"),
    "InChIKey": ("PUBCHEM_IUPAC_INCHIKEY",),
}
"""PUG REST's tags and those of the files that carry the same, the first that is there winning."""
_STEREO = ("PUBCHEM_ATOM_DEF_STEREO_COUNT", "PUBCHEM_ATOM_UDEF_STEREO_COUNT")
_INTEGER = re.compile(r"-?\d{1,6}", re.ASCII)


def parse_flat(raw: sdf.Raw) -> Compound:
    """The compound of a 2D record, proven; without a title it goes by its traditional IUPAC name."""
    record = sdf.parse_sd_record(raw)
    if record.unfinished is not None:
        raise DataError(f"the file ends within its last record, in {record.unfinished}")
    cid = cid_of(record.items.get("PUBCHEM_COMPOUND_CID", ""))
    if record.title != str(cid):
        raise DataError(f"the record is headed {record.title[:20]!r} and tagged CID {cid}")
    row: dict[str, Any] = {"CID": cid, "AtomStereoCount": sum(_integer(record.items, (tag,)) or 0 for tag in _STEREO)}
    said: dict[str, Any] = {tag: _integer(record.items, names) for tag, names in _COUNTS.items()}
    said |= {tag: _decimal(record.items, names) for tag, names in _NUMBERS.items()}
    said |= {tag: _first(record.items, names) for tag, names in _TEXTS.items()}
    row |= {tag: value for tag, value in said.items() if value is not None}
    try:
        checked = validated(PropertyRow, row, "the record")
        if checked.HeavyAtomCount > MAX_HEAVY_ATOMS:
            raise DataError(f"{checked.HeavyAtomCount} heavy atoms: the limit is {MAX_HEAVY_ATOMS:,}")
        return prove(compound_of(checked))
    except ContentError as error:
        raise DataError(str(error)) from None


def parse_line(raw: bytes, role: str) -> Compound:
    """The compound of a line of ``CID-InChI-Key`` (CID, InChI, InChIKey) or ``CID-SMILES`` (CID, SMILES).

    The InChIKey must be that of the InChI; where only the SMILES is known it is computed from it.
    """
    cells = _text_of(raw).split("\t")
    if len(cells) != (3 if role == "inchikey" else 2):
        raise DataError(f"{len(cells)} columns")
    cid = cid_of(cells[0])
    if role == "inchikey":
        from rdkit.Chem import InchiToInchiKey

        inchikey = stated_inchikey(cells[2])
        if (computed := InchiToInchiKey(cells[1])) != inchikey:
            raise DataError(f"InChIKey {inchikey} is not that of the InChI, {computed or 'which is none'}")
        return Compound(cid, f"CID {cid}", "", None, inchikey, None, 1, {})
    from kb.chemistry import standardise

    molecule = standardise(cells[1])
    units = molecule.smiles.count(".") + 1
    return Compound(cid, f"CID {cid}", molecule.formula, molecule.smiles, molecule.inchikey, None, units, {})


def _text_of(raw: bytes) -> str:
    try:
        return clean(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError("not UTF-8") from None


def cid_of(text: str) -> int:
    """The CID that a text is; raises DataError otherwise."""
    return int(Identifier.make("pubchem.compound", text).value)


def stated_inchikey(text: str) -> str:
    """The InChIKey that a text is; raises DataError otherwise, since it is what identifies the drug."""
    return Identifier.make("inchikey", text).value


def smiles_of(text: str) -> str | None:
    """The SMILES, None where there is none; raises DataError when it is too long to be read by anything."""
    if len(text) > MAX_SMILES:
        raise DataError(f"a SMILES of {len(text):,} characters: the limit is {MAX_SMILES:,}")
    return text or None


def _first(items: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((tidy(items[name]) for name in names if items.get(name)), None)


def _integer(items: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    """The integer under the first tag that is there; raises DataError for a text that is none."""
    text = _first(items, names)
    if text is not None and not _INTEGER.fullmatch(text):
        raise DataError(f"{names[0]} is {text[:30]!r}")
    return None if text is None else int(text)


def _decimal(items: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    """The number under the first tag that is there; raises DataError for a text that is none."""
    text = _first(items, names)
    try:
        return None if text is None else float(decimal(text))
    except ValueError as error:
        raise DataError(f"{names[0]}: {error}") from None


# The 3D half of PubChem's bulk files: one conformer a compound, for drugs that are in the knowledge base already.
#
# A 3D record has no InChIKey, so it says nothing about identity: the drug is found by its CID. A salt has no
# conformer of its own and takes its parent's, which ``CID-Parent`` names.

CONFORMERS = 1_000
"""Conformers a transaction."""


def read_conformer_file(
    job: Job, path: Path, document: Document, parents: Path | None, wanted: frozenset[int] | None
) -> Iterator[Part]:
    """The conformers of all drugs that are known by CID; those of unknown compounds are counted."""
    drugs = job.transact(lambda c: _drugs_of(c, job, parents, wanted))
    unknown = 0
    with open_bulk(path) as stream:
        parts = sdf.split(stream)
        for start in count(0, CONFORMERS):
            raw = list(islice(parts, CONFORMERS))
            if not raw:
                break
            batch, rejected = RecordBatch(documents=[document]), dict[int, str]()
            for number, part in enumerate(raw, start + 1):
                try:
                    found = _conformers(part, drugs, document)
                except ContentError as error:
                    rejected[number] = str(error)
                    continue
                unknown += not found
                batch.payloads += found
            mark = f"bulk3d:{document.sha256.hex()[:24]}:{start}"
            cut = {part.number for part in raw if not part.closed} & rejected.keys()
            if batch.payloads or cut or not job.is_done(mark):
                filed = rejections(job, path, document, rejected, cut)
                yield Part(batch, None if cut else mark, size=len(raw), **filed)
            else:
                job.advance(len(raw), note="already there")
    if unknown:
        output.say(f"{unknown:,} conformers of {path.name} are of compounds that need none, or are no drugs here")


@dataclass(frozen=True, slots=True)
class Due:
    """A drug without a conformer: its structure, and a note when the conformer is its parent's."""

    drug_id: int
    structure: Structure
    note: str | None = None


def _drugs_of(
    connection: Connection, job: Job, parents: Path | None, wanted: frozenset[int] | None
) -> dict[int, list[Due]]:
    """By CID the drugs without a conformer that it serves."""
    query = (
        select(identifier.c.value, identifier.c.drug_id, drug.c.smiles, drug.c.formula)
        .join(drug, drug.c.id == identifier.c.drug_id)
        .where(identifier.c.namespace == CID)
        .distinct()
    )
    has = select(conformer.c.drug_id).where(conformer.c.source == job.source.name)
    every = {int(value): Due(drug_id, Structure(smiles, formula or ""))
             for value, drug_id, smiles, formula in connection.execute(query)}
    served = set() if job.refresh else set(connection.scalars(has))
    due = {c: d for c, d in every.items() if d.drug_id not in served and (wanted is None or c in wanted)}
    drugs: dict[int, list[Due]] = {cid: [known] for cid, known in due.items()}
    for child, parent in _parents(parents):
        if child in due and parent != child and (parent not in every or every[parent].drug_id != due[child].drug_id):
            note = f"of the parent compound, {CID}:{parent}"
            drugs.setdefault(parent, []).append(replace(due[child], note=note))
    return drugs


def _parents(path: Path | None) -> Iterator[tuple[int, int]]:
    """Pairs of CID and parent's CID."""
    if path is None:
        return
    with open_bulk(path) as stream:
        for line in bulk_lines(stream):
            child, _, parent = (line or b"").partition(b"\t")
            if child.isdigit() and parent.isdigit():
                yield int(child), int(parent)


def _conformers(part: sdf.Raw, drugs: Mapping[int, list[Due]], document: Document) -> list[ConformerRecord]:
    """The records of one conformer, one a drug that it serves."""
    cid = cid_of_record(part)
    found = []
    for known in drugs.get(cid or 0, []):
        parsed = parse_conformer(part, known.structure)
        found.append(ConformerRecord(known.drug_id, document, parsed.molblock, parsed.heavy_atoms, METHOD,
                                     parsed.energy, known.note))
    if cid is None:
        raise ContentError("a record that does not say whose it is")
    return found


class Rejections(TypedDict):
    """What a part brings along for the records that were refused."""

    also: Callable[[Connection, Mapping[str, int]], None]
    then: Callable[[], None]


def rejections(
    job: Job, path: Path, document: Document, rejected: Mapping[int, str], cut: Collection[int] = ()
) -> Rejections:
    """What files every record of a file that was refused, under its number and with the reason, and counts them.

    Records that the file ends within (``cut``) are failures: the file is not whole, and the ingest is incomplete.
    """

    def write(connection: Connection, _: Mapping[str, int]) -> None:
        for number, reason in sorted(rejected.items()):
            key = f"{path.name}:{document.sha256.hex()[:12]}:{number}"
            state = State.failed if number in cut else State.rejected
            write_lookup(connection, job.run_id, document.source, key, state, error=f"record {number}: {reason}"[:500])

    def count() -> None:
        job.counts["rejected"] += len(rejected)

    return {"also": write, "then": count}


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
    record = record_of(compound, document, synonyms, [text for text in synonyms if is_cas(text)])
    batch.drugs.append(record)
    if compound.values:
        batch.payloads.append(PropertyRecord(record.key, document, compound.values))
    if compound.formula and compound.units == 1:
        rule = three_d_rule(compound.smiles, compound.formula, compound.values.get("rotatable_bonds", 0))
        if rule:
            batch.outcomes.append(Outcome(record.key, Modality.structure, State.absent, evidence=rule))
