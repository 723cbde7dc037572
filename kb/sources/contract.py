"""What a source is: what it declares, what it yields, and the records and documents that its parts consist of."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb.errors import UsageError
from kb.inputs import require_regular
from kb.licences import Licence
from kb.modalities import FACETS, State
from kb.normalise import Identifier, public_url

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from kb.ingest.engine import Job


# What a source hands over: documents as they came, and frozen records parsed from them.
#
# A record without a document cannot be made, so every row that reaches the database has source, licence, time and
# sha256. ``RecordBatch`` is what one transaction writes.

@dataclass(frozen=True, slots=True)
class Document:
    """A payload as it came, or a file by its ``uri``; ``retrieved_at`` is aware, in UTC.

    ``sha256`` is that of the bytes and ``id`` that of the retrieval, which rows refer to: over the content's sha256 and
    those of source, URL, licence and HTTP status. Credentials are taken out of
    ``url`` here, and of a local file only the name is kept in it.
    """

    source: str
    url: str
    media_type: str
    licence: str
    attribution: str
    retrieved_at: datetime
    parser: str
    payload: bytes | None = None
    uri: str | None = None
    sha256: bytes = b""
    size: int = 0
    http_status: int | None = None
    upstream_version: str | None = None
    id: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        if (self.payload is None) == (self.uri is None):
            raise ValueError("a document has either a payload or a uri")
        if self.retrieved_at.tzinfo is None:
            raise ValueError("retrieved_at must be an aware time")
        if self.payload is not None:
            object.__setattr__(self, "sha256", hashlib.sha256(self.payload).digest())
            object.__setattr__(self, "size", len(self.payload))
        if len(self.sha256) != 32:
            raise ValueError("a document kept by uri needs its sha256")
        object.__setattr__(self, "url", public_url(self.url))
        status = "" if self.http_status is None else str(self.http_status)
        parts = (self.source, self.url, self.licence, status)
        whole = self.sha256 + b"".join(hashlib.sha256(part.encode()).digest() for part in parts)
        object.__setattr__(self, "id", hashlib.sha256(whole).digest())


@dataclass(frozen=True, slots=True)
class Name:
    """A drug's name; ``kind`` is preferred, synonym, brand or iupac."""

    text: str
    kind: str = "synonym"


@dataclass(frozen=True, slots=True)
class DrugRecord:
    """A source's claim that a drug exists: its key there, and everything that identifies it.

    ``smiles`` is canonical and ``inchikey`` computed from it or stated by the source; ``key`` is ``namespace:value``.
    """

    key: str
    name: str
    document: Document
    kind: str = "unknown"
    smiles: str | None = None
    inchikey: str | None = None
    formula: str | None = None
    identifiers: tuple[Identifier, ...] = ()
    names: tuple[Name, ...] = ()
    digest: bytes | None = None
    """The sha256 of the record as its source wrote it, by which a new version is told from the old one."""


DrugRef = str | int
"""Which drug a record is about: the ``key`` of a DrugRecord of the same source, or a ``drug.id``.

What is said of a ``key`` hangs on that record. What is said of an id hangs on the drug's first record, by preference of
the same source; or on the drug itself where it was ``computed_from`` the drug's SMILES."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A picture; the document's payload is the picture itself. ``width`` and ``height`` in pixels."""

    drug: DrugRef
    document: Document
    width: int
    height: int
    computed_from: str | None = None


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A description with its own provider and licence."""

    drug: DrugRef
    document: Document
    provider: str
    content: str
    licence: str
    heading: str = ""
    url: str | None = None
    is_note: bool = False
    language: str | None = None
    """ISO 639-1, where the source says it; else it is told from the words."""


@dataclass(frozen=True, slots=True)
class ConformerRecord:
    """A 3D conformer as an MDL V2000 block with hydrogens, ångström; ``energy`` in kcal/mol."""

    drug: DrugRef
    document: Document
    molblock: str
    heavy_atoms: int
    method: str
    energy: float | None = None
    note: str | None = None
    computed_from: str | None = None


@dataclass(frozen=True, slots=True)
class PropertyRecord:
    """Numbers by their canonical names (``kb.properties.PROPERTIES``)."""

    drug: DrugRef
    document: Document
    values: Mapping[str, float]
    computed_from: str | None = None


@dataclass(frozen=True, slots=True)
class AtcRecord:
    """An ATC code of a drug, at any level (usually 5)."""

    drug: DrugRef
    document: Document
    code: str


@dataclass(frozen=True, slots=True)
class AtcClassRecord:
    """The name of an ATC class, at any level."""

    code: str
    name: str
    document: Document


@dataclass(frozen=True, slots=True)
class DddRecord:
    """A defined daily dose of an ATC code: ``value`` in ``unit``, by ``route`` in WHO's letters (O, P, …)."""

    code: str
    value: float
    unit: str
    document: Document
    route: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProductIngredient:
    """What is in a product: the ``key`` of a DrugRecord of the same source, how much, and the salt that it is in."""

    drug: str
    strength: str | None = None
    substance: str | None = None


@dataclass(frozen=True, slots=True)
class ProductRecord:
    """What drugs are sold as; ``ndc`` are the National Drug Codes of its packages, 11 digits each.

    ``key`` is the source's; ingredients are records that are written before it or with it.
    """

    key: str
    name: str
    document: Document
    ingredients: tuple[ProductIngredient, ...]
    brand: str | None = None
    form: str | None = None
    route: str | None = None
    labeler: str | None = None
    ndc: tuple[str, ...] = ()
    set_id: str | None = None


@dataclass(frozen=True, slots=True)
class InteractionRecord:
    """A drug–drug interaction; severity in the provider's own words."""

    drug_a: DrugRef
    drug_b: DrugRef
    document: Document
    provider: str
    licence: str
    severity: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class IndicationRecord:
    """What a drug is or must not be given for; ``kind`` is one of ``kb.schema.graph.INDICATION_KINDS``.

    ``disease_ids`` are ``namespace:value``, ``icd10`` codes of ICD-10-CM without the dot, and ``icd10_by`` says what
    gave them. ``phase`` is that of the trials, 4 for what is approved.
    """

    drug: DrugRef
    document: Document
    provider: str
    licence: str
    disease: str
    kind: str = "indication"
    disease_ids: tuple[str, ...] = ()
    icd10: tuple[str, ...] = ()
    icd10_by: str | None = None
    phase: float | None = None
    evidence: str | None = None
    reference: str | None = None

    @property
    def disease_key(self) -> str:
        """What tells two diseases of one provider apart: the first id, or the name in small letters."""
        return self.disease_ids[0] if self.disease_ids else " ".join(self.disease.lower().split())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell without data: absent (with evidence), failed, rejected or withheld (with the error)."""

    drug: DrugRef
    modality: str
    state: State
    evidence: str | None = None
    error: str | None = None
    document: Document | None = None
    computed_from: str | None = None

    def __post_init__(self) -> None:
        if self.modality not in FACETS:
            raise ValueError(f"{self.modality!r} is not one of {FACETS}")
        if self.state is State.absent and not self.evidence:
            raise ValueError("absent needs evidence: a parsed NotFound or a structural rule")
        if self.state in (State.failed, State.rejected, State.withheld) and not self.error:
            raise ValueError(f"{self.state} needs an error")
        if self.state is State.present:
            raise ValueError("present is written with its data, not as an outcome")


Record = (
    DrugRecord | ImageRecord | TextRecord | ConformerRecord | PropertyRecord | AtcRecord | InteractionRecord
    | IndicationRecord
)


@dataclass(slots=True)
class RecordBatch:
    """Everything that one transaction writes; ``requests`` counts what was asked of the network.

    ``whole`` says that the ATC codes, interactions and indications are all that the source says: others of it are taken
    back.
    ``anew`` are keys of records that are new versions of stored ones: what their source said of them before is taken
    back first.
    """

    drugs: list[DrugRecord] = field(default_factory=list)
    payloads: list[ImageRecord | TextRecord | ConformerRecord | PropertyRecord] = field(default_factory=list)
    atc: list[AtcRecord] = field(default_factory=list)
    atc_classes: list[AtcClassRecord] = field(default_factory=list)
    ddd: list[DddRecord] = field(default_factory=list)
    products: list[ProductRecord] = field(default_factory=list)
    interactions: list[InteractionRecord] = field(default_factory=list)
    indications: list[IndicationRecord] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    requests: int = 0
    whole: bool = False
    anew: frozenset[str] = frozenset()

    def __len__(self) -> int:
        facts = len(self.atc) + len(self.atc_classes) + len(self.interactions) + len(self.indications)
        facts += len(self.ddd) + len(self.products)
        return len(self.drugs) + len(self.payloads) + facts + len(self.outcomes)


# What a source is: its name, its licences, its options, an estimate, and a generator of what there is to write.
#
# A source reads and parses; it never writes tables. The engine (``kb.ingest.engine``) writes each part that it yields
# in one transaction with the part's mark, replays that transaction when the server dies, and shows the progress.

FLAGS = {"refresh_days": "--refresh", "columns": "--column", "modalities": "--modality"}
"""Options of the command line whose names are not those of the fields of ``IngestOptions``."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What the user asked for; ``columns`` maps a tabular file's columns, ``also`` names further files by role.

    ``on`` says where to compute, as ``kb.compute.pool.open_pool`` takes it.
    """

    ids: tuple[str, ...] | None = None
    limit: int | None = None
    workers: int | None = None
    retry_failed: bool = False
    refresh_days: float | None = None
    path: Path | None = None
    url: str | None = None
    allow_subset: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    also: dict[str, Path] = field(default_factory=dict)
    modalities: tuple[str, ...] | None = None
    dataset: str | None = None
    licence: str | None = None
    yes: bool = False
    on: str = "local"

    def given(self) -> list[str]:
        """The options that the user gave, as they are called on the command line."""
        empty = type(self)()
        return [flag(f.name) for f in fields(self) if getattr(self, f.name) != getattr(empty, f.name)]


def flag(name: str) -> str:
    """What a field of IngestOptions is called on the command line."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ingest would do: keys to work on, requests to make, seconds and bytes, as estimated."""

    keys: int
    requests: int = 0
    seconds: float = 0.0
    bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """A source by description alone: rows are filed under it that another source's ingest brings along."""

    name: str
    title: str
    url: str
    origin: str
    licences: tuple[Licence, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one transaction writes: a batch of records and its mark, which an ingest that goes on passes over.

    ``source`` files the records under another registered source. ``also`` writes more in the same transaction, given
    the drug ids by record key; it is called again when the transaction is replayed, so it changes the database only.
    ``then`` is called once, after the commit. ``size`` is how much of the progress it stands for.
    """

    batch: RecordBatch
    mark: str | None = None
    source: str | None = None
    also: Callable[[Connection, Mapping[str, int]], None] | None = None
    then: Callable[[], None] | None = None
    size: int = 1
    note: str = ""


class Source(ABC):
    """Where facts come from. Subclasses set the class variables and implement ``plan`` and ``read``."""

    name: ClassVar[str]
    title: ClassVar[str]
    url: ClassVar[str]
    origin: ClassVar[str]
    """fetched, bundled, computed or user."""
    licences: ClassVar[tuple[Licence, ...]]
    """The first one is the source's own; further ones are those that single rows may carry."""
    modalities: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[frozenset[str]] = frozenset()
    """The fields of ``IngestOptions`` that the source honours; any other that the user gives is a usage error."""
    brings: ClassVar[tuple[type[Source] | Origin, ...]] = ()
    """Other sources that parts are filed under."""

    @abstractmethod
    def plan(self, job: Job) -> Plan:
        """The estimate that ``--dry-run`` prints; reads the database and files, makes no request."""

    @abstractmethod
    def read(self, job: Job) -> Iterator[Part]:
        """Everything that is due, part by part; a part is committed before the next one is asked for.

        It may be killed at any point, and holds no transaction open between two parts.
        """

    def refuse_other_options(self, options: IngestOptions) -> None:
        """Raise UsageError for an option that the user gave and this source does not honour."""
        honoured = sorted(flag(name) for name in self.options)
        other = [given for given in options.given() if given not in honoured]
        if other:
            raise UsageError(f"source {self.name} has no {other[0]}",
                             hint=f"it has {', '.join(honoured)}" if honoured else "it has no options")

    def path(self, job: Job) -> Path:
        """The file or folder that the user gave; raises UsageError when it is missing, a pipe or a device."""
        path = job.options.path
        if path is None:
            raise UsageError(
                f"source {self.name} reads a file", hint=f"mkmed kb ingest --source {self.name} --path FILE"
            )
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="check --path")
        return path if path.is_dir() else require_regular(path, "--path")
