"""A user's table as a dataset: a source of its own with a name, of which every file is a version.

The key of a row is strong within its dataset only. A new version is compared with what is there by a digest of every
row, shown, and written only where it differs; what it does not say any more is taken back.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select, update

from kb import output
from kb.errors import UsageError
from kb.licences import LICENCES, USER, Licence
from kb.normalise import DATASET
from kb.schema.identity import drug_record
from kb.schema.ledger import source
from kb.sources.contract import Document, Origin

SAMPLE = 5
"""Rows of each kind that a comparison shows."""
_SUFFIX = re.compile(r"(\.(csv|tsv|sdf|sd|txt|xml))?(\.gz)?$", re.IGNORECASE)


def dataset_name(asked: str | None, path: Path) -> str:
    """The name that the user gave, else the file's without its suffixes; raises UsageError for one that is no name."""
    name = asked or re.sub(r"[^a-z0-9_-]+", "-", _SUFFIX.sub("", path.name).lower()).strip("-_")[:63] or "table"
    if not DATASET.fullmatch(f"user.{name}"):
        raise UsageError(
            f"{name!r} is no name of a dataset", hint="small letters, digits, - and _, up to 63: --dataset my-drugs"
        )
    return name


def dataset_origin(plugin: str, name: str, title: str, licence: Licence = USER) -> Origin:
    """The source that the rows of a dataset are filed under."""
    return Origin(f"{plugin}/{name}", f"{title}: {name}", name, "user", (licence,))


def stated_licence(asked: str | None) -> Licence:
    """The licence that the user states for a table; without one it is unknown, and nothing of it leaves as open.

    Raises UsageError for what is not the id of a licence that mkmed knows.
    """
    if asked is None:
        return USER
    by_id = {known.lower(): licence for known, licence in LICENCES.items()}
    found = by_id.get(asked.strip().lower())
    if found is None:
        near = difflib.get_close_matches(asked.strip().lower(), by_id, n=3, cutoff=0.5)
        meant = ", ".join(by_id[name].id for name in near) or "CC-BY-4.0"
        raise UsageError(f"{asked!r} is no licence that mkmed knows", hint=f"an SPDX id, e.g. {meant}; without"
                                                                           " --licence it is unknown, so not open")
    return found


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a dataset: the file's sha256, how its columns were read, and whether it was written to the end."""

    sha256: str
    columns: Mapping[str, str]
    whole: bool

    def same_file(self, other: Version | None) -> bool:
        """Whether another version is of the same bytes, read in the same way."""
        return other is not None and (self.sha256, dict(self.columns)) == (other.sha256, dict(other.columns))


@dataclass(slots=True)
class Held:
    """What the knowledge base has of a dataset: its version, and the digest of every record by key."""

    version: Version | None
    digests: dict[str, bytes | None] = field(default_factory=dict)


def read_dataset(connection: Connection, name: str) -> Held:
    """What is held of the source ``name``."""
    kept = connection.scalar(select(source.c.version).where(source.c.name == name))
    query = select(drug_record.c.key, drug_record.c.digest).where(drug_record.c.source == name)
    digests = {row.key: row.digest and bytes(row.digest) for row in connection.execute(query)}
    return Held(Version(**kept) if kept else None, digests)


def write_version(connection: Connection, name: str, dataset: str, version: Version) -> None:
    """Note which version of a dataset is being written, or was."""
    kept = {"sha256": version.sha256, "columns": dict(version.columns), "whole": version.whole}
    connection.execute(update(source).where(source.c.name == name).values(dataset=dataset, version=kept))


def table_version(document: Document, columns: Mapping[str, str], *, whole: bool) -> Version:
    """The version that a file is; a stated licence is a part of how it is read."""
    stated = {} if document.licence == USER.id else {"--licence": document.licence}
    return Version(document.sha256.hex(), {**columns, **stated}, whole)


def row_digest(said: Mapping[str, str], parser: str, licence: str = USER.id) -> bytes:
    """The sha256 of what a row says, by role, and of the licence that is stated for it."""
    stated = [] if licence == USER.id else [licence]
    return hashlib.sha256(json.dumps([parser, sorted(said.items()), *stated], ensure_ascii=False).encode()).digest()


@dataclass(frozen=True, slots=True)
class Change:
    """What a new version of a dataset adds, changes and removes, by record key."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        return f"{len(self.added)} rows added, {len(self.changed)} changed, {len(self.removed)} removed"


def compare_rows(held: Mapping[str, bytes | None], coming: Mapping[str, bytes], *, whole: bool = True) -> Change:
    """What ``coming`` changes of what is held; of a part of a file nothing is removed."""
    return Change(
        tuple(key for key in coming if key not in held),
        tuple(key for key, digest in coming.items() if key in held and held[key] != digest),
        tuple(key for key in held if key not in coming) if whole else (),
    )


def require_consent(dataset: str, change: Change, *, yes: bool) -> None:
    """Show what a new version changes; raise UsageError unless the user wants it written."""
    output.say(f"a new version of dataset {dataset}: {change}")
    for sign, keys in (("+", change.added), ("~", change.changed), ("-", change.removed)):
        shown = [key.rpartition(":")[2] if key.startswith("user.") else key for key in keys[:SAMPLE]]
        if shown:
            more = f" and {len(keys) - SAMPLE} more" if len(keys) > SAMPLE else ""
            output.say(f"  {sign} {', '.join(shown)}{more}")
    if not yes and not output.confirm("Write it?"):
        raise UsageError(
            f"dataset {dataset} is there already, and this file would change it: {change}",
            hint="--yes writes it as a new version; --dataset NAME files it as another dataset",
        )
