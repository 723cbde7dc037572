"""What a source is: its name, its licences, its options, an estimate, and a generator of what there is to write.

A source reads and parses; it never writes tables. The engine (``kb.ingest.engine``) writes each part that it yields in
one transaction with the part's mark, replays that transaction when the server dies, and shows the progress.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb.errors import UsageError
from kb.inputs import require_regular
from kb.licences import Licence

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from kb.ingest.engine import Job
    from kb.ingest.records import RecordBatch

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
