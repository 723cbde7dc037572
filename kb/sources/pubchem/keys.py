"""What the user asks PubChem for, read from free text, and the ledger of those questions."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from kb.errors import DataError
from kb.identity.identifiers import Identifier, recognise_identifier
from kb.ledger.leases import lease_values, unleased
from kb.modalities import State
from kb.normalise import tidy
from kb.schema.ledger import lookup
from kb.sources.contract import IngestOptions

T = TypeVar("T")

CID = "pubchem.compound"
SLICE = 5000
MAX_NAME = 500
MAX_SMILES = 10_000
_AS_NAME = {"cas": "{}", "chembl": "{}", "chebi": "CHEBI:{}", "unii": "{}"}
"""Namespaces that PubChem finds among a compound's synonyms."""


@dataclass(frozen=True, slots=True, order=True)
class KeyQuestion:
    """One thing asked for: ``namespace`` is name, smiles, inchikey, drugbank or pubchem.compound."""

    namespace: str
    value: str

    @property
    def key(self) -> str:
        """Its key in the ledger."""
        return f"{self.namespace}:{self.value}"

    @classmethod
    def parse_key(cls, key: str) -> KeyQuestion:
        """The question behind a key of the ledger."""
        namespace, _, value = key.partition(":")
        return cls(namespace, value)


def read_question(text: str) -> KeyQuestion:
    """The question that a line of input is: a CID, an identifier, SMILES or a name; raises DataError for nonsense.

    ``cid:``, ``name:`` and ``smiles:`` say which it is. Without them digits are a CID, and whatever RDKit reads as a
    molecule is SMILES.
    """
    text = tidy(text)
    prefix, colon, rest = text.partition(":")
    prefix, rest = prefix.lower().strip(), rest.strip()
    if colon and prefix in ("name", "smiles"):
        return _checked(prefix, rest)
    if colon and prefix == "cid":
        return KeyQuestion(CID, Identifier.make(CID, rest).value)
    if text.isascii() and text.isdigit():
        return KeyQuestion(CID, Identifier.make(CID, text).value)
    found = recognise_identifier(text)
    if found is None:
        return _checked("smiles" if _is_smiles(text) else "name", text)
    if found.namespace in (CID, "inchikey", "drugbank"):
        return KeyQuestion(found.namespace, found.value)
    if found.namespace in _AS_NAME:
        return KeyQuestion("name", _AS_NAME[found.namespace].format(found.value).lower())
    raise DataError(f"PubChem cannot be asked by {found.namespace}",
                    hint="give a name, SMILES, InChIKey, DrugBank id or CID")


def _checked(namespace: str, value: str) -> KeyQuestion:
    limit = MAX_NAME if namespace == "name" else MAX_SMILES
    if not value or len(value) > limit:
        raise DataError(f"a {namespace} has between 1 and {limit} characters, not {len(value)}")
    return KeyQuestion(namespace, value.lower() if namespace == "name" else value)


def _is_smiles(text: str) -> bool:
    if " " in text or len(text) > MAX_SMILES:
        return False
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    return molecule is not None and molecule.GetNumAtoms() > 0


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What the ledger knows of a question."""

    key: str
    state: str
    evidence: str | None
    drug_id: int | None
    updated_at: datetime
    error: str | None = None

    @property
    def cid(self) -> int | None:
        """The CID that a name or structure led to, or that the question is."""
        text = self.key if self.key.startswith(CID + ":") else (self.evidence or "")
        value = text.partition(":")[2].partition(" ")[0]
        return int(value) if text.startswith(CID + ":") and value.isdigit() else None


FOUND = (lookup.c.key, lookup.c.state, lookup.c.evidence, lookup.c.drug_id, lookup.c.updated_at, lookup.c.last_error)
"""The columns of ``Found``."""


def open_questions(connection: Connection, run_id: uuid.UUID, source: str, keys: Iterable[str]) -> None:
    """Enter the questions that are new, in state ``unknown``."""
    for part in slices(sorted(set(keys)), SLICE):
        rows = [{"source": source, "key": k, "state": State.unknown, "run_id": run_id} for k in part]
        connection.execute(insert(lookup).on_conflict_do_nothing(), rows)


def known_questions(connection: Connection, source: str, keys: Sequence[str] | None = None) -> dict[str, KnownAnswer]:
    """What the ledger knows of the questions (of all if None), by key."""
    query = select(*FOUND).where(lookup.c.source == source)
    if keys is None:
        return {row.key: KnownAnswer(*row) for row in connection.execute(query)}
    found: dict[str, KnownAnswer] = {}
    for part in slices(keys, SLICE):
        found |= {row.key: KnownAnswer(*row) for row in connection.execute(query.where(lookup.c.key.in_(part)))}
    return found


def is_due(found: KnownAnswer, options: IngestOptions, since: datetime) -> bool:
    """Whether a question is to be asked (again) by a run that began at ``since``."""
    if found.state == State.unknown:
        return True
    if found.state in (State.present, State.absent) and found.error is not None and found.updated_at < since:
        return True  # it was to be refreshed, and could not be
    if found.state in (State.failed, State.rejected) and options.retry_failed and found.updated_at < since:
        return True
    if options.refresh_days is None or found.updated_at >= since:
        return False
    lasting = found.state == State.present and not found.key.startswith(CID + ":")  # a name keeps its CID
    return not lasting and found.updated_at < datetime.now(UTC) - timedelta(days=options.refresh_days)


def claim_questions(
    connection: Connection, run_id: uuid.UUID, source: str, keys: Sequence[str], options: IngestOptions,
    since: datetime, again: Collection[str] = (),
) -> list[str]:
    """Those of the keys that are due (or to be asked ``again``), claimed by the run beyond the end of the transaction.

    What another process is asking now is passed over.
    """
    query = select(*FOUND).where(lookup.c.source == source, lookup.c.key.in_(list(keys)), unleased(lookup, run_id))
    rows = connection.execute(query.order_by(lookup.c.key).with_for_update(skip_locked=True, of=lookup))
    claimed = [row.key for row in rows if row.key in again or is_due(KnownAnswer(*row), options, since)]
    if claimed:
        mine = update(lookup).where(lookup.c.source == source, lookup.c.key.in_(claimed))
        connection.execute(mine.values(**lease_values(run_id)))
    return claimed


def link_questions(connection: Connection, source: str, drugs: Mapping[str, int]) -> None:
    """Point questions, by key, at the drugs that they led to."""
    rows = [{"of": source, "asked": key, "drug": drug_id} for key, drug_id in sorted(drugs.items())]
    if rows:
        connection.execute(
            update(lookup)
            .where(lookup.c.source == bindparam("of"), lookup.c.key == bindparam("asked"))
            .values(drug_id=bindparam("drug")),
            rows,
        )


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in consecutive parts of at most ``size``."""
    return (items[at:at + size] for at in range(0, len(items), size))
