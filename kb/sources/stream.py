"""What sources share that read a publisher's file: bounded memory, a mark every chunk, and an account of every item.

A subclass says which entries a file has. An entry is what the file says of one drug; what is left out has its reason,
so that items in are entries out and reasons. A chunk is committed with its mark: a killed ingest goes on behind the
last one, and a file that was read to its end is passed over. Another version of the file changes what differs and takes
back the drugs that it has no more.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from abc import abstractmethod
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import Connection, delete, select

from kb import output
from kb.chemistry import standardise
from kb.db.bulk import any_of
from kb.diseases import with_codes
from kb.errors import DataError, SourceError, UsageError
from kb.graph.encode import CodedTriples, encode_codes
from kb.graph.link import relink
from kb.graph.load import Statements, is_loaded, load_triples
from kb.graph.tables import DescribedRelation
from kb.graph.words import EdgeNote, Triple
from kb.http.download import download
from kb.ingest.retract import retract_records
from kb.inputs import Capped, open_regular, sha256_of, without_mark
from kb.normalise import Identifier, tidy
from kb.schema.identity import drug_record
from kb.schema.products import product, product_part
from kb.sources.contract import (
    AtcRecord,
    Document,
    DrugRecord,
    IndicationRecord,
    Name,
    Part,
    Plan,
    ProductRecord,
    RecordBatch,
    Source,
    TextRecord,
)
from kb.sources.tables.read import Problem, write_problems

if TYPE_CHECKING:
    from kb.ingest.engine import Job

CHUNK = 1000
"""Entries that one transaction writes."""
STORED = 1000
"""Faults of a file that are stored; all are counted."""
MANY, SHARE = 100, 10
"""More drugs than so many, and than every tenth that a source has said, are taken back only after a question."""
UNPACKED = 64 << 30
"""Bytes that a member of an archive may unpack to at most."""
RATIO = 100


@dataclass(slots=True)
class Entry:
    """What a file says of one drug, and how many of the file's items it took."""

    drug: DrugRecord
    texts: list[TextRecord] = field(default_factory=list)
    atc: list[AtcRecord] = field(default_factory=list)
    indications: list[IndicationRecord] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What could not be taken of it; the rest was."""
    items: int = 1


@dataclass(frozen=True, slots=True)
class Sold:
    """A product of the file, behind the drugs that it contains, and how many of the file's items it took."""

    product: ProductRecord
    faults: list[str] = field(default_factory=list)
    items: int = 1


@dataclass(frozen=True, slots=True)
class Left:
    """Items of the file that nothing is made of. ``reason`` is one of few; a ``fault`` is stored with its place."""

    reason: str
    place: int = 0
    fault: str = ""
    items: int = 1


@dataclass(slots=True)
class Edges:
    """A graph: triples, what their relations are, people's names of entities, and what is said of single edges.

    An edge whose relation has another provider or licence than the first edge of that relation stands in ``others``.

    ``left`` counts by reason the items of the file that no edge was made of; ``uses`` are what drugs, given as
    ``namespace:value``, are or must not be used for.
    """

    relations: dict[str, DescribedRelation] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notes: dict[Triple, EdgeNote] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    uses: list[IndicationRecord] = field(default_factory=list)
    others: dict[tuple[str, str], Edges] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _words: dict[str, int] = field(default_factory=dict)
    _codes: tuple[array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("i"), array("i"), array("i")))

    def __len__(self) -> int:
        return len(self._codes[0]) + sum(map(len, self.others.values()))

    def add(self, head: str, relation: DescribedRelation, tail: str, note: EdgeNote | None = None) -> None:
        """Put in an edge between two entities named ``type::id``; of two notes of one edge the first counts."""
        known = self.relations.setdefault(relation.name, relation)
        terms = (relation.provider, relation.licence)
        if terms != (known.provider, known.licence):
            self.others.setdefault(terms, Edges()).add(head, relation, tail, note)
            return
        heads, words, tails = self._codes
        heads.append(self._names.setdefault(head, len(self._names)))
        words.append(self._words.setdefault(relation.name, len(self._words)))
        tails.append(self._names.setdefault(tail, len(self._names)))
        if note is not None:
            self.notes.setdefault((sys.intern(head), relation.name, sys.intern(tail)), note)

    def encoded(self) -> CodedTriples:
        """The distinct triples."""
        import numpy as np

        names, words = list(self._names), list(self._words)
        rows = len(self._codes[0])
        return encode_codes([[np.asarray(codes) for codes in self._codes]], rows, names, words, names)

    def statements(self) -> Statements:
        """The triples without those of others."""
        return Statements(self.encoded(), self.relations, self.notes)


class StreamSource(Source):
    """A source that reads one published file (or folder) entry by entry."""

    origin = "fetched"
    options = frozenset({"path", "url", "limit", "refresh_days", "yes"})
    parser: ClassVar[str]
    media_type: ClassVar[str] = "application/octet-stream"
    bytes_an_item: ClassVar[int] = 200
    """For the estimate."""

    def scope(self) -> str:
        """What else than the file decides what is read of it; nothing by default."""
        return ""

    def begin(self, job: Job) -> None:
        """What is read of the knowledge base before the file; nothing by default."""

    @abstractmethod
    def entries(self, path: Path, document: Document) -> Iterator[Entry | Sold | Left]:
        """Everything in the file, in an order that depends on the file alone; products behind all drugs."""

    def edges(self, path: Path, document: Document) -> Edges | None:
        """The graph that the file brings besides its drugs; none by default."""
        return None

    def measured(self, path: Path) -> list[Path]:
        """The files whose bytes are the version: the file, or those of the folder that are read."""
        return [path]

    def version(self, path: Path) -> str | None:
        """The publisher's name of the version, where the file says it."""
        return None

    def plan(self, job: Job) -> Plan:
        """Estimated from the size of the file."""
        if job.options.path is None and job.options.url:
            return Plan(1, requests=1, notes=("the file's size is known once it is asked for",))
        size = sum(part.stat().st_size for part in self.measured(self.path(job)))
        items = max(1, size // self.bytes_an_item)
        return Plan(items, seconds=items / 2000, bytes=size, notes=("estimated from the file's size",))

    def read(self, job: Job) -> Iterator[Part]:
        """The entries ``CHUNK`` at a time, then what the file does not have any more, then its graph."""
        path = given_file(self, job)
        self.begin(job)
        document = self.document(job, path)
        of = f"{document.sha256.hex()[:16]}:{self.parser}{self.scope()}"
        of += f":first {job.options.limit}" if job.options.limit else ""
        if not job.is_done(f"{of}:end"):
            yield from self._entries(job, path, document, of)
        graph = None if job.transact(lambda c: is_loaded(c, self.name, document.sha256)) else self.edges(path, document)
        if graph is not None and len(graph):
            yield Part(RecordBatch(), also=lambda c, _: load_graph(c, job, document, graph), note="graph")

    def _entries(self, job: Job, path: Path, document: Document, of: str) -> Iterator[Part]:
        counts: Counter[str] = Counter()
        keys: set[str] = set()
        sold: set[str] = set()
        faults, number = 0, -1
        items = _until(self.entries(path, document), job.options.limit)
        while chunk := list(islice(items, CHUNK)):
            number += 1
            batch, problems = RecordBatch(documents=[document]), []
            for item in chunk:
                counts["items"] += item.items
                if isinstance(item, Left):
                    counts[f"left out: {item.reason}"] += item.items
                    found = [item.fault] if item.fault else []
                elif isinstance(item, Sold):
                    counts["taken"] += item.items
                    counts["products"] += item.product.key not in sold
                    sold.add(item.product.key)
                    batch.products.append(item.product)
                    found = item.faults
                    counts["values left out"] += len(found)
                elif item.drug.key in keys:
                    counts["left out: said of a drug twice"] += item.items
                    continue
                else:
                    keys.add(item.drug.key)
                    counts["taken"] += item.items
                    _add(batch, item)
                    found = item.faults
                    counts["values left out"] += len(found)
                place = item.place if isinstance(item, Left) else counts["items"]
                problems += [Problem(place, fault, value_only=True) for fault in found[: max(0, STORED - faults)]]
                faults += len(found)
            mark = f"{of}:{number}"
            if job.is_done(mark):
                job.advance(len(chunk))
                continue
            job.transact(partial(_leave_what_is_held, source=self.name, batch=batch))
            yield Part(batch, mark, also=_writes(job, self.name, document, problems), size=len(chunk))
        job.counts.update(counts)
        whole = job.options.limit is None
        if whole:
            self._require_consent(job, path.name, keys)

        def finish(connection: Connection, _: Mapping[str, int]) -> None:
            if whole:
                held = connection.scalars(select(drug_record.c.key).where(drug_record.c.source == self.name))
                gone = [(self.name, key) for key in held if key not in keys]
                if retract_records(connection, job.run_id, gone):
                    relink(connection, job.run_id)
                _take_back_products(connection, self.name, sold)

        yield Part(RecordBatch(documents=[document]), f"{of}:end", also=finish, size=0)
        output.say(account(path.name, counts))

    def _require_consent(self, job: Job, file: str, keys: set[str]) -> None:
        """Raise UsageError for a file that lacks much of what the source has said so far, unless the user wants that.

        It may be cut off at the end of a line, or be one part of several.
        """
        query = select(drug_record.c.key).where(drug_record.c.source == self.name)
        held = job.transact(lambda c: set(c.scalars(query)))
        gone = len(held - keys)
        if job.options.yes or gone <= max(MANY, len(held) // SHARE):
            return
        output.say(f"{file} does not have {gone:,} of the {len(held):,} drugs that {self.name} has said so far")
        if not output.confirm("Take them back?"):
            raise UsageError(f"{file} lacks {gone:,} of {len(held):,} drugs of {self.name}: is it whole, or a part?",
                             hint="give the folder of all parts; --yes takes back what the file does not have")

    def document(self, job: Job, path: Path) -> Document:
        """The file as a document under the source's own licence; of a folder the hash is over those of its files."""
        parts = self.measured(path)
        digests = [sha256_of(part) for part in parts]
        digest = digests[0] if parts == [path] else hashlib.sha256(b"".join(digests)).digest()
        when = max(part.stat().st_mtime for part in parts)
        return Document(
            source=self.name,
            url=job.options.url or path.name,
            media_type=self.media_type,
            licence=self.licences[0].id,
            attribution=self.licences[0].attribution or self.title,
            retrieved_at=datetime.fromtimestamp(when, UTC),
            parser=self.parser,
            uri=path.name,
            sha256=digest,
            size=sum(part.stat().st_size for part in parts),
            upstream_version=self.version(path),
        )


def given_file(source: Source, job: Job) -> Path:
    """The file that the user gave, or the one at ``--url``, downloaded once."""
    if job.options.path is None and job.options.url:
        job.counts["requests"] += 1
        agent = f"mkmed ({job.settings.contact or 'no contact given'})"
        return download(job.options.url, job.settings.cache / "downloads", agent=agent)
    return source.path(job)


def _add(batch: RecordBatch, entry: Entry) -> None:
    """Put the entry into the batch, its drug with a digest of all that the file says of it."""
    indications = [with_codes(record) for record in entry.indications]
    said = (entry.drug, entry.texts, entry.atc, indications)
    batch.drugs.append(replace(entry.drug, digest=hashlib.sha256(repr(_plain(said)).encode()).digest()))
    batch.payloads += entry.texts
    batch.atc += entry.atc
    batch.indications += indications


def _plain(value: object) -> object:
    """Records as the values of their fields without the documents, which are of a version and not of what is said."""
    if isinstance(value, Document):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, f.name)) for f in fields(value)]
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _leave_what_is_held(connection: Connection, source: str, batch: RecordBatch) -> None:
    """Take out of the batch what the knowledge base has already, and mark what an earlier version said otherwise."""
    keys = [drug.key for drug in batch.drugs]
    c = drug_record.c
    held = {row.key: row.digest and bytes(row.digest) for row in connection.execute(
        select(c.key, c.digest).where(c.source == source, c.key.in_(keys)))}
    same = {drug.key for drug in batch.drugs if held.get(drug.key) == drug.digest}
    batch.anew = frozenset(key for key in held if key not in same)
    batch.drugs = [drug for drug in batch.drugs if drug.key not in same]
    batch.payloads = [record for record in batch.payloads if record.drug not in same]
    batch.atc = [record for record in batch.atc if record.drug not in same]
    batch.indications = [record for record in batch.indications if record.drug not in same]
    batch.products = _changed(connection, source, batch.products)


def _changed(connection: Connection, source: str, products: list[ProductRecord]) -> list[ProductRecord]:
    """The products that are not held as the batch has them."""
    if not products:
        return products
    p, t = product.c, product_part.c
    keys = [record.key for record in products]
    held: dict[str, list[object]] = {
        row.key: [row.name, row.brand, row.form, row.route, row.labeler, row.set_id, row.ndc]
        for row in connection.execute(select(product).where(p.source == source, any_of(p.key, keys)))
    }
    parts: dict[str, set[tuple[str | None, ...]]] = defaultdict(set)
    query = select(t.product_key, t.record_key, t.strength, t.substance)
    for row in connection.execute(query.where(t.source == source, any_of(t.product_key, keys))):
        parts[row.product_key].add((row.record_key, row.strength, row.substance))

    def tidied(*said: str | None) -> tuple[str | None, ...]:
        return tuple(tidy(text) if text else None for text in said)

    def is_held(record: ProductRecord) -> bool:
        said = tidied(record.name, record.brand, record.form, record.route, record.labeler, record.set_id)
        within = {(part.drug, *tidied(part.strength, part.substance)) for part in record.ingredients}
        return held.get(record.key) == [*said, sorted(set(record.ndc))] and parts[record.key] == within

    return [record for record in products if not is_held(record)]


def _take_back_products(connection: Connection, source: str, sold: set[str]) -> None:
    """Take back the products of the source that are none of ``sold``."""
    held = connection.scalars(select(product.c.key).where(product.c.source == source))
    gone = [key for key in held if key not in sold]
    if gone:
        connection.execute(delete(product).where(product.c.source == source, any_of(product.c.key, gone)))


def _writes(
    job: Job, source: str, document: Document, problems: list[Problem]
) -> Callable[[Connection, Mapping[str, int]], None]:
    return lambda connection, _: write_problems(connection, job.run_id, source, document, problems)


def _until(items: Iterable[Entry | Sold | Left], limit: int | None) -> Iterator[Entry | Sold | Left]:
    """The items up to the ``limit``-th entry."""
    taken = 0
    for item in items:
        if limit is not None and taken >= limit:
            return
        taken += isinstance(item, Entry)
        yield item


def account(name: str, counts: Mapping[str, int]) -> str:
    """One line: items in, taken, and left out by reason."""
    left = {key: n for key, n in counts.items() if key.startswith("left out: ")}
    said = "; ".join(f"{n:,} {key.removeprefix('left out: ')}" for key, n in sorted(left.items(), key=lambda i: -i[1]))
    values = f"; {counts['values left out']:,} values left out" if counts.get("values left out") else ""
    taken = f"{counts.get('items', 0):,} items of {name}: {counts.get('taken', 0):,} taken"
    return taken + (f", left out: {said}" if left else "") + values


def load_graph(connection: Connection, job: Job, document: Document, graph: Edges, *, complete: bool = False) -> None:
    """Load what a file has of the graph."""
    load_triples(connection, job.run_id, document, graph.encoded(), graph.relations, labels=graph.labels,
                 complete=complete, notes=graph.notes, further=[part.statements() for part in graph.others.values()])


def make_drug(
    key: str,
    name: str,
    document: Document,
    *,
    smiles: str | None = None,
    inchikey: str | None = None,
    identifiers: Iterable[tuple[str, str]] = (),
    names: Iterable[Name] = (),
    kind: str = "unknown",
) -> tuple[DrugRecord, list[str]]:
    """The record of a drug as a file states it, and what could not be taken of it.

    A structure that is refused, or that is not of the InChIKey which the file states, leaves the rest as it is.
    """
    faults: list[str] = []
    molecule = None
    if smiles:
        try:
            molecule = standardise(smiles)
        except DataError as error:
            faults.append(f"{key}: {error.message}")
    if molecule and inchikey and molecule.inchikey != inchikey:
        faults.append(f"{key}: the structure is {molecule.inchikey}, its InChIKey is said to be {inchikey}")
        molecule, inchikey = None, None
    found = []
    for space, value in dict.fromkeys(identifiers):
        try:
            found.append(Identifier.make(space, value))
        except DataError as error:
            faults.append(f"{key}: {error.message}")
    stated = molecule.inchikey if molecule else _inchikey(inchikey, key, faults)
    record = DrugRecord(
        key=key,
        name=name,
        document=document,
        kind="small molecule" if stated else kind,
        smiles=molecule.smiles if molecule else None,
        inchikey=stated,
        formula=molecule.formula if molecule else None,
        identifiers=tuple(found),
        names=tuple({n.text.lower(): n for n in names if n.text.strip() and n.text.lower() != name.lower()}.values()),
    )
    return record, faults


def _inchikey(stated: str | None, key: str, faults: list[str]) -> str | None:
    if not stated:
        return None
    try:
        return Identifier.make("inchikey", stated).value
    except DataError as error:
        faults.append(f"{key}: {error.message}")
        return None


@contextmanager
def open_in_zip(path: Path, suffix: str) -> Iterator[io.BufferedReader]:
    """The bytes of the first member of a zip whose name ends so, whatever its folder and case.

    Raises SourceError for a zip that is damaged, has no such member, or unpacks to far more than its size.
    """
    with open_regular(path, "--path") as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                names = [info.filename for info in members(archive, path.name)]
                names = [name for name in names if name.lower().endswith(suffix.lower())]
                if not names:
                    raise SourceError(f"{path.name} holds no file …{suffix}", hint="is it the right archive?")
                limit = min(UNPACKED, max(1 << 26, RATIO * archive.getinfo(names[0]).compress_size))
                with archive.open(names[0]) as inner:
                    yield without_mark(io.BufferedReader(Capped(inner, limit, names[0]), 1 << 20))  # type: ignore[arg-type]
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise SourceError(f"{path.name} is damaged: {error}", hint="download it again") from None


def members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """What is in the archive; raises SourceError for one that was cut off behind an archive within it.

    A list of contents is looked for from the end of a file, so that of the last whole archive within would be found.
    """
    found = archive.infolist()
    if found and all(info.header_offset for info in found):
        raise SourceError(f"{name} is damaged: it ends before its list of contents", hint="download it again")
    return found


def is_zip(path: Path) -> bool:
    """Whether the file begins as a zip does."""
    with open_regular(path, "--path") as raw:
        return raw.read(4) == b"PK\x03\x04"
