"""What a source is: its name, its licences, an estimate, and a way to hand over its data chunk by chunk.

A source reads and parses; it never writes tables. ``Job`` (``kb.ingest.engine``) gives it a connection to read what is
due, and writes each batch with the ledger in one transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kb.errors import UsageError
from kb.inputs import require_regular
from kb.licences import Licence

if TYPE_CHECKING:
    from kb.ingest.engine import Job
    from kb.ingest.records import Batch


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What the user asked for; ``columns`` maps a tabular file's columns, ``also`` names further files by role."""

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
    yes: bool = False


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


class Source(ABC):
    """Where facts come from. Subclasses set the class variables and implement ``plan`` and ``ingest``."""

    name: ClassVar[str]
    title: ClassVar[str]
    url: ClassVar[str]
    origin: ClassVar[str]
    """fetched, bundled, computed or user."""
    licences: ClassVar[tuple[Licence, ...]]
    """The first one is the source's own; further ones are those that single rows may carry."""
    modalities: ClassVar[tuple[str, ...]] = ()
    needs_path: ClassVar[bool] = False
    takes_folder: ClassVar[bool] = False

    @abstractmethod
    def plan(self, job: Job) -> Plan:
        """The estimate that ``--dry-run`` prints; reads the database and files, makes no request."""

    @abstractmethod
    def ingest(self, job: Job) -> None:
        """Hand everything that is due to ``job``, which commits it piece by piece; may be killed at any point."""

    def path(self, job: Job) -> Path:
        """The file or folder that the user gave; raises UsageError when it is missing."""
        path = job.options.path
        if path is None:
            raise UsageError(
                f"source {self.name} reads a file", hint=f"mkmed kb ingest --source {self.name} --path FILE"
            )
        return path if self.takes_folder and path.is_dir() else require_regular(path, "--path")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a file: ``key`` names file (by sha256) and range, so that a finished part is never read again."""

    key: str
    size: int


class StreamSource(Source):
    """A source that reads files from start to end, in chunks that are each committed once and then skipped."""

    @abstractmethod
    def chunks(self, job: Job) -> Sequence[Chunk] | Iterator[Chunk]:
        """The parts of the input, in order."""

    @abstractmethod
    def load(self, job: Job, chunk: Chunk) -> Batch:
        """The records of one part."""

    def ingest(self, job: Job) -> None:
        """Write every chunk that is not done yet, each in one transaction with its mark."""
        for chunk in self.chunks(job):
            if job.is_done(chunk.key):
                job.advance(chunk.size, note="already there")
                continue
            job.write(self.load(job, chunk), done=chunk.key)
            job.advance(chunk.size)
