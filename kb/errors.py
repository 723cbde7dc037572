"""Every error that mkmed raises on purpose, as one tree.

::

    MkmedError                      exit 1   expected failure: what happened, and a hint with the next step
    ├── UsageError                  exit 2   the command line or an argument is wrong
    │   ├── ConfigError             exit 2   a setting or a config file is wrong
    │   └── UnknownName             exit 2   a registry does not know the name (the nearest one is offered)
    ├── PluginError                 exit 1   somebody else's plug-in cannot be loaded
    ├── NotFound                    exit 1   a drug, run or file that was asked for is not there
    │   └── Ambiguous               exit 1   several drugs have the name; the candidates are listed
    ├── DatabaseError               exit 1   Postgres refused something
    │   ├── DatabaseUnavailable     exit 75  it cannot be reached now; trying again may help
    │   │   └── ConnectionLost      exit 75  it was reached, and went away
    │   └── SchemaMismatch          exit 1   migrations are missing, or pgvector is too old
    ├── SourceError                 exit 1   a source's answer or file is not what its contract says
    │   ├── ContractViolation       exit 1   exact counts or columns differ from the published ones
    │   └── TransportError          exit 1   a request failed for good
    │       ├── Transient           exit 75  a request failed in a way that is worth repeating
    │       │   └── Unusable        exit 75  what the answer says cannot be true; worth repeating once
    │       └── Blocked             exit 75  the service told us to stop for a while
    ├── DataError                   exit 1   bad input rows, molecules or vectors
    ├── CheckpointError             exit 1   a checkpoint is truncated, altered or of another shape
    ├── TrainingDiverged            exit 1   NaN or infinite loss; nothing was published
    ├── Busy                        exit 75  another process holds what this one needs
    ├── DiskFull                    exit 74  no space left; everything committed is kept
    ├── Incomplete                  exit 3   finished, but some items failed; run again with --retry-failed
    ├── NotUnderstood               exit 3   too little of what was given is understood to answer
    └── Interrupted                 exit 130 stopped by the user; everything committed is kept
"""

from __future__ import annotations

from typing import Any


class MkmedError(Exception):
    """An expected failure: ``message`` says what happened, ``hint`` says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MkmedError):
    """The command line or an argument is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting or a configuration file is wrong."""


class UnknownName(UsageError):
    """A registry does not know the name."""


class PluginError(MkmedError):
    """Somebody else's plug-in cannot be loaded."""


class NotFound(MkmedError):
    """A drug, run or file that was asked for is not there."""


class Ambiguous(NotFound):
    """Several drugs have the name; ``candidates`` are rows with how each matched."""

    def __init__(self, message: str, candidates: list[dict[str, Any]], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.candidates = candidates


class DatabaseError(MkmedError):
    """Postgres refused something."""


class DatabaseUnavailable(DatabaseError):
    """Postgres cannot be reached now; trying again may help."""

    exit_code = 75


class ConnectionLost(DatabaseUnavailable):
    """A connection that stood has ended."""


class SchemaMismatch(DatabaseError):
    """The database's schema or extensions are not what this version needs."""


class SourceError(MkmedError):
    """A source's answer or file is not what its contract says."""


class ContractViolation(SourceError):
    """Exact counts or columns differ from the published ones."""


class TransportError(SourceError):
    """A request failed for good."""


class Transient(TransportError):
    """A request failed in a way that is worth repeating; ``retry_after`` is in seconds.

    ``answered`` says that an answer came, which was no use: then a shorter list may be answered better.
    """

    exit_code = 75

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None, answered: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.answered = answered


class Unusable(Transient):
    """An answer came whole, but what it says cannot be true or is about something else."""


class Blocked(TransportError):
    """The service told us to stop for a while; everything so far is committed."""

    exit_code = 75


class DataError(MkmedError):
    """Bad input rows, molecules or vectors."""


class CheckpointError(MkmedError):
    """A checkpoint is truncated, altered or of another shape."""


class TrainingDiverged(MkmedError):
    """The loss or a gradient became NaN or infinite; nothing was published."""


class Busy(MkmedError):
    """Another process holds what this one needs."""

    exit_code = 75


class DiskFull(MkmedError):
    """No space is left; everything committed is kept."""

    exit_code = 74


class Incomplete(MkmedError):
    """The job finished, but some items failed."""

    exit_code = 3


class NotUnderstood(MkmedError):
    """Too little of what was given is understood to answer."""

    exit_code = 3


class Interrupted(MkmedError):
    """The user stopped the job; everything committed is kept."""

    exit_code = 130
