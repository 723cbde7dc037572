"""Who is who: what records claim, what a set of claims resolves to, and how that is applied to the database."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ARRAY, Connection, Text, and_, cast, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from kb.db.bulk import among, any_of, copy_rows, insert_many
from kb.normalise import tidy
from kb.schema.identity import drug, drug_conflict, drug_merge, drug_name, drug_record, identifier
from kb.schema.ledger import cell
from kb.sources.contract import DrugRecord

# Which records are the same drug: a pure function of the set of all claims, so neither order nor repetition matters.
#
# Rules, in order:
#
# 1. A pinned record (an undone merge) keeps the identity it was pinned to.
# 2. A record with an InChIKey is the drug of that InChIKey. Two structures are never merged, whatever they share.
#    Where records of one structure have registered substances' numbers that differ (UNII, else DrugCentral's), as when
#    a source drew heparin for enoxaparin, the structure is the first one's; the others are taken without it and without
#    the identifiers that the first has too, and each is reported as a conflict.
# 3. Records without a structure that share a strong identifier form a cluster.
# 4. A cluster joins the one structure that shares its best identifier (by ``STRONG``'s order). If several structures
#    share it (two salts under one DrugBank id), that is a conflict: the cluster stays a drug of its own and is
#    reported.

STRONG: tuple[str, ...] = ("drugbank", "unii", "pubchem.compound", "chembl", "chebi", "pharmgkb", "drugcentral")
"""Namespaces that identify a substance, best first. CAS, RxNorm, ATC and NDC name products and groups as well; a key of
a user's table names a row of that table and nothing else."""

REGISTRIES: tuple[str, ...] = ("unii", "drugcentral")
"""Namespaces with one number a substance, best first: two numbers are two substances, whatever structure is drawn."""

SOURCE_ORDER: tuple[str, ...] = ("corpus", "pubchem", "pubchem-bulk")
"""Whose name and SMILES a drug shows when several sources have one; sources not listed come after, by name."""

REASONS: dict[str, str] = {
    "identifier": "drugs of different structure claim the identifier",
    "structure": "a substance of another UNII or DrugCentral number claims the structure",
}
"""What is told of a conflict, by its kind."""

Key = tuple[str, str]
"""A record: its source, and its key there."""


def precedence(source: str, key: str) -> tuple[int, str, int, str]:
    """Where a record stands among those of one drug; of one source the shorter key, so the smaller number, is first."""
    rank = SOURCE_ORDER.index(source) if source in SOURCE_ORDER else len(SOURCE_ORDER)
    return rank, source, len(key), key


@dataclass(frozen=True, slots=True)
class Claim:
    """One record's say in who it is; ``identifiers`` are ``namespace:value`` texts."""

    source: str
    key: str
    inchikey: str | None = None
    identifiers: frozenset[str] = frozenset()
    pinned: str | None = None
    name: str = ""
    kind: str = "unknown"
    smiles: str | None = None
    formula: str | None = None

    @property
    def strong(self) -> list[str]:
        """The strong identifiers, best first."""
        known = {i for i in (*self.identifiers, self.key) if i.partition(":")[0] in STRONG}
        return sorted(known, key=_rank) if len(known) > 1 else list(known)


@dataclass(frozen=True, slots=True)
class Conflict:
    """An identifier that drugs of different structure claim, or a structure that different substances claim."""

    source: str
    key: str
    identifier: str
    identities: tuple[str, ...]
    kind: str = "identifier"


def _rank(identifier: str) -> tuple[int, str]:
    return STRONG.index(identifier.partition(":")[0]), identifier


def resolve(claims: Iterable[Claim]) -> tuple[dict[Key, str], list[Conflict]]:
    """The identity of every claim, and the conflicts found; independent of the order of ``claims``."""
    identity: dict[Key, str] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    drawn: dict[str, list[Claim]] = defaultdict(list)
    loose: list[Claim] = []
    for claim in sorted(set(claims), key=lambda c: (c.source, c.key)):
        if claim.pinned:
            identity[claim.source, claim.key] = claim.pinned
        elif claim.inchikey:
            drawn[claim.inchikey].append(claim)
        else:
            loose.append(claim)
    conflicts: list[Conflict] = []
    apart: dict[Key, str] = {}
    for inchikey, same in drawn.items():
        own, others = _of_one_substance(same)
        for claim in own:
            identity[claim.source, claim.key] = f"inchikey:{inchikey}"
            for handle in claim.strong:
                owners[handle].add(f"inchikey:{inchikey}")
        if others:
            taken = {handle for claim in own for handle in claim.strong}
            apart |= {(claim.source, claim.key): f"inchikey:{inchikey}" for claim in others}
            loose += [replace(claim, inchikey=None, identifiers=claim.identifiers - taken) for claim in others]
    for cluster in _clusters(loose):
        shared = sorted({i for claim in cluster for i in claim.strong}, key=_rank)
        target, found = _attach(shared, owners, {apart.get((claim.source, claim.key)) for claim in cluster})
        alone = shared[0] if shared else _own_identity(cluster[0])
        for claim in cluster:
            identity[claim.source, claim.key] = target or alone
            if found:
                conflicts.append(Conflict(claim.source, claim.key, found[0], found[1]))
    for key, structure in apart.items():
        conflicts.append(Conflict(*key, structure, tuple(sorted({structure, identity[key]})), "structure"))
    return identity, conflicts


def _of_one_substance(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim]]:
    """The claims of one structure that are the first one's substance, and those of other registered substances."""
    if len(claims) == 1:
        return list(claims), []
    numbers = {id(claim): [{i for i in claim.strong if i.startswith(f"{registry}:")} for registry in REGISTRIES]
               for claim in claims}
    first = min(claims, key=lambda c: (*(not held for held in numbers[id(c)]), precedence(c.source, c.key)))
    own: list[Claim] = []
    others: list[Claim] = []
    for claim in claims:
        both = next(((a, b) for a, b in zip(numbers[id(first)], numbers[id(claim)], strict=True) if a and b), None)
        (others if both and not both[0] & both[1] else own).append(claim)
    return own, others


def _own_identity(claim: Claim) -> str:
    """What a record is by itself: the key in its dataset, or source and key, which no other record has."""
    return claim.key if claim.key.startswith("user.") else f"record:{claim.source}:{claim.key}"


def _attach(
    shared: list[str], owners: Mapping[str, set[str]], barred: set[str | None]
) -> tuple[str | None, tuple[str, tuple[str, ...]] | None]:
    """The one structure that owns the best shared identifier, or the conflict that prevents it; none of ``barred``."""
    for handle in shared:
        claimed = owners.get(handle, set()) - barred
        if claimed:
            return (next(iter(claimed)), None) if len(claimed) == 1 else (None, (handle, tuple(sorted(claimed))))
    return None, None


def _clusters(claims: list[Claim]) -> list[list[Claim]]:
    """The connected components of claims that share a strong identifier (union–find)."""
    parent = list(range(len(claims)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for index, claim in enumerate(claims):
        for handle in claim.strong:
            parent[root(index)] = root(first.setdefault(handle, index))
    grouped: dict[int, list[Claim]] = defaultdict(list)
    for index, claim in enumerate(claims):
        grouped[root(index)].append(claim)
    return list(grouped.values())


@dataclass(frozen=True, slots=True)
class Portrait:
    """What a drug shows of itself."""

    name: str
    kind: str
    smiles: str | None
    inchikey: str | None
    formula: str | None


def portray(identity: str, claims: Iterable[Claim]) -> Portrait:
    """The drug's name, kind and structure, chosen from its claims by ``SOURCE_ORDER``, then by key."""

    ranked = sorted(claims, key=lambda claim: precedence(claim.source, claim.key))
    kinds = {claim.kind for claim in ranked}
    kind = "biologic" if "biologic" in kinds else "small molecule" if "small molecule" in kinds else "unknown"
    inchikey = identity.removeprefix("inchikey:") if identity.startswith("inchikey:") else None
    return Portrait(
        name=next((c.name for c in ranked if c.name), identity),
        kind=kind,
        smiles=next((c.smiles for c in ranked if c.smiles and inchikey and c.inchikey == inchikey), None),
        inchikey=inchikey,
        # A structure that was not taken from a record does not lend its formula either.
        formula=next((c.formula for c in ranked if c.formula and c.inchikey in (None, inchikey)), None),
    )


# Which record a statement about a drug hangs on, where the source that makes it has not said which.

def leading_records(connection: Connection, source: str, drugs: Iterable[int]) -> dict[int, Key]:
    """By drug the first record of ``source``, else the first of all by ``precedence``."""
    wanted = sorted(set(drugs))
    best: dict[int, tuple[Any, ...]] = {}
    query = select(drug_record.c.drug_id, drug_record.c.source, drug_record.c.key)
    for drug_id, of, key in connection.execute(query.where(drug_record.c.drug_id.in_(wanted))) if wanted else ():
        rank = (of != source, precedence(of, key), of, key)
        best[drug_id] = min(best.get(drug_id, rank), rank)
    return {drug_id: (rank[2], rank[3]) for drug_id, rank in best.items()}


def record_places(
    connection: Connection, source: str, asked: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], Key]:
    """By drug and modality the record whose cell of ``source`` is due, else one that has a cell, else the first."""
    wanted = sorted(set(asked))
    if not wanted:
        return {}
    query = (
        select(cell.c.drug_id, cell.c.modality, cell.c.record_source, cell.c.record_key)
        .where(cell.c.source == source, cell.c.record_key.is_not(None))
        .where(among((cell.c.drug_id, cell.c.modality), wanted))
        .order_by(cell.c.state.not_in(("unknown", "failed")), cell.c.record_source, cell.c.record_key)
    )
    found: dict[tuple[int, str], Key] = {}
    for drug_id, modality, of, key in connection.execute(query):
        found.setdefault((drug_id, modality), (of, key))
    leading = leading_records(connection, source, {drug_id for drug_id, m in wanted if (drug_id, m) not in found})
    return {w: found.get(w) or leading[w[0]] for w in wanted if w in found or w[0] in leading}


# The resolution applied to the database: records are filed and moved, and every merge is logged.
#
# A record is what one source said at one time. It is replaced as a whole, with its names and identifiers, and never
# edited; where its structure became another, what was said of the old one goes too. Rows that hang on a record follow
# it by a foreign key (``kb.schema.base.follows``), so that a move is one UPDATE of records.

IDENTITY_LOCK = 0x6D6B6D65
"""Advisory transaction lock: one writer of identities at a time, so that two ingests agree who is who."""

SAID = ("name", "kind", "smiles", "inchikey", "formula", "identifiers", "digest")
"""The columns of a record that its source fills."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it lies in the database: its claim, its drug, and what else its source said."""

    claim: Claim
    drug_id: int
    said: tuple[Any, ...]


def register_drugs(
    connection: Connection, run_id: uuid.UUID, source: str, records: Sequence[DrugRecord]
) -> tuple[dict[str, int], frozenset[str]]:
    """The ``drug.id`` of every record's key, and the keys that are new, after identity was resolved again."""
    if not records:
        return {}, frozenset()
    connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))
    unique = {record.key: record for record in records}
    stored = stored_records(connection, [(source, key) for key in unique])
    new: dict[Key, Claim] = {}
    for key, record in unique.items():
        claim = Claim(
            source, key, record.inchikey, frozenset(map(str, record.identifiers)), None, tidy(record.name), record.kind,
            record.smiles, record.formula,
        )
        old = stored.get((source, key))
        if old is not None and old.claim.pinned and old.claim.inchikey == claim.inchikey:
            claim = replace(claim, pinned=old.claim.pinned)
        new[source, key] = claim
    claims = closure(connection, [*new.values(), *(old.claim for old in stored.values())])
    claims |= new
    identities, conflicts = resolve(claims.values())
    ids = settle(connection, run_id, claims, identities, stored, unique, source)
    log_conflicts(connection, claims, conflicts)
    fresh = frozenset(key for key in unique if (source, key) not in stored)
    return {key: ids[identities[source, key]] for key in unique}, fresh


def stored_records(connection: Connection, keys: Iterable[Key]) -> dict[Key, Stored]:
    """Those of the records that are in the database."""
    wanted = list(keys)
    if not wanted:
        return {}
    columns = ("source", "key", "inchikey", "identifiers", "pinned", "name", "kind", "smiles", "formula")
    query = select(
        *(drug_record.c[n] for n in columns), drug_record.c.drug_id, drug_record.c.digest, drug_record.c.artifact
    ).where(among((drug_record.c.source, drug_record.c.key), wanted))
    found: dict[Key, Stored] = {}
    for row in connection.execute(query).mappings():
        claim = _claim({name: row[name] for name in columns})
        said = (claim.name, claim.kind, claim.smiles, claim.inchikey, claim.formula, sorted(claim.identifiers),
                row["digest"] and bytes(row["digest"]))
        found[claim.source, claim.key] = Stored(claim, row["drug_id"], said)
    return found


def closure(connection: Connection, seeds: Iterable[Claim]) -> dict[Key, Claim]:
    """Every stored claim that could share an identity with the seeds: their own, and whoever shares an identifier."""
    claims: dict[Key, Claim] = {}
    wanted: set[str] = set()
    for claim in seeds:
        wanted |= {f"key:{claim.source}\t{claim.key}", *_handles(claim)}
    seen: set[str] = set()
    while wanted - seen:
        fresh, wanted = wanted - seen, set()
        seen |= fresh
        for claim in claims_for(connection, fresh):
            if (claim.source, claim.key) not in claims:
                claims[claim.source, claim.key] = claim
                wanted |= _handles(claim)
    return claims


def _handles(claim: Claim) -> set[str]:
    """What other records may share with the claim that makes them one drug."""
    found = set(claim.strong)
    if claim.inchikey:
        found.add(f"inchikey:{claim.inchikey}")
    if claim.pinned:
        found.add(claim.pinned)
    return found


def claims_for(connection: Connection, wanted: Iterable[str]) -> list[Claim]:
    """The claims named by ``key:<source>\\t<key>``, ``inchikey:<key>`` or a strong ``namespace:value``."""
    keys = [tuple(w[4:].split("\t", 1)) for w in wanted if w.startswith("key:")]
    inchikeys = [w[9:] for w in wanted if w.startswith("inchikey:")]
    others = [w for w in wanted if not w.startswith(("key:", "inchikey:"))]
    columns = [
        drug_record.c[n]
        for n in ("source", "key", "inchikey", "identifiers", "pinned", "name", "kind", "smiles", "formula")
    ]
    query = select(*columns)
    found: list[Claim] = []
    spaces, values = ([w.partition(":")[part] for w in others] for part in (0, 2))
    claimed = func.unnest(cast(spaces, ARRAY(Text)), cast(values, ARRAY(Text))).table_valued("space", "value")
    claimed = claimed.render_derived()
    owners = select(identifier.c.source, identifier.c.key).join(
        claimed, and_(identifier.c.namespace == claimed.c.space, identifier.c.value == claimed.c.value)
    )
    asked = [f"inchikey:{key}" for key in inchikeys] + others
    for condition, present in (
        (among((drug_record.c.source, drug_record.c.key), keys), keys),
        (any_of(drug_record.c.inchikey, inchikeys), inchikeys),
        (any_of(drug_record.c.key, others), others),
        (tuple_(drug_record.c.source, drug_record.c.key).in_(owners), others),
        (any_of(drug_record.c.pinned, asked), asked),
    ):
        if present:
            found += [_claim(dict(row)) for row in connection.execute(query.where(condition)).mappings()]
    return found


def _claim(row: Mapping[str, Any]) -> Claim:
    values = dict(row)
    values["identifiers"] = frozenset(values["identifiers"])
    return Claim(**values)


def settle(
    connection: Connection,
    run_id: uuid.UUID,
    claims: Mapping[Key, Claim],
    identities: Mapping[Key, str],
    stored: Mapping[Key, Stored],
    said: Mapping[str, DrugRecord] | None = None,
    source: str = "",
    *,
    logged: bool = True,
) -> dict[str, int]:
    """The drug ids by identity, after every claim's record was filed under its drug.

    ``said`` are the records of ``source`` that are written; the other claims lie in the database already. ``logged``
    says whether moves are merges that may be taken back.
    """
    said = said or {}
    known = dict(stored)
    known |= stored_records(
        connection, [key for key in claims if key not in stored and not (key[0] == source and key[1] in said)]
    )
    members: dict[str, list[Claim]] = defaultdict(list)
    for key, claim in claims.items():
        members[identities[key]].append(claim)
    ids, made = _make_drugs(connection, run_id, members, known)
    changed = {key for key in known if key[0] == source and key[1] in said and _differs(known[key], said[key[1]])}
    moved = {key: old.drug_id for key, old in known.items() if old.drug_id != ids[identities[key]]}
    restructured = {key for key in changed if known[key].claim.inchikey != claims[key].inchikey}
    if restructured:
        take_back_payloads(connection, restructured)
    _replace(connection, source, [said[key[1]] for key in sorted(changed)], claims, identities, ids)
    _point(connection, {key: ids[identities[key]] for key in moved if key not in changed})
    _insert(connection, source, [said[k] for k in said if (source, k) not in known], claims, identities, ids)
    touched = set(moved.values()) | {ids[identities[key]] for key in (*moved, *changed)}
    touched |= {ids[identities[source, key]] for key in said if (source, key) not in known}
    merges = _log_moves(
        connection, run_id, identities, {k: v for k, v in moved.items() if logged and k not in restructured}
    )
    if moved:
        _follow(connection, moved, identities, ids)
        remove_empty(connection, run_id, set(moved.values()), merges)
    repaint(connection, touched - made)
    return ids


def _differs(old: Stored, record: DrugRecord) -> bool:
    identifiers = sorted({str(i) for i in record.identifiers})
    new = (tidy(record.name), record.kind, record.smiles, record.inchikey, record.formula, identifiers, record.digest)
    return old.said != new


def _make_drugs(
    connection: Connection, run_id: uuid.UUID, members: Mapping[str, list[Claim]], known: Mapping[Key, Stored]
) -> tuple[dict[str, int], set[int]]:
    """The ids by identity, and the new ones; a drug that merely got a better identifier is renamed and keeps its id."""
    query = select(drug.c.identity, drug.c.id).where(any_of(drug.c.identity, list(members)))
    ids: dict[str, int] = {row.identity: row.id for row in connection.execute(query)}
    missing = sorted(set(members) - set(ids))
    for identity in missing if known else ():
        if identity.startswith("inchikey:"):
            continue
        before = {known[c.source, c.key].drug_id for c in members[identity] if (c.source, c.key) in known}
        if len(before) == 1 and _is_renamed(connection, before.copy().pop(), identity, members):
            ids[identity] = before.pop()
    portraits = []
    for identity in missing:
        if identity not in ids:
            shown = portray(identity, members[identity])
            portraits.append({
                "identity": identity, "name": shown.name, "kind": shown.kind, "smiles": shown.smiles,
                "inchikey": shown.inchikey, "formula": shown.formula, "run_id": run_id,
            })
    if portraits:
        copy_rows(connection, drug.fullname, portraits)  # nobody else makes drugs while the lock is held
        made = select(drug.c.identity, drug.c.id).where(any_of(drug.c.identity, [p["identity"] for p in portraits]))
        new = {row.identity: row.id for row in connection.execute(made)}
        return ids | new, set(new.values())
    return ids, set()


def _is_renamed(connection: Connection, drug_id: int, identity: str, members: Mapping[str, list[Claim]]) -> bool:
    """Whether the drug took the new identity: it has no structure, and all of its records go there together."""
    here = {(c.source, c.key) for c in members[identity]}
    row = connection.execute(select(drug.c.identity, drug.c.inchikey).where(drug.c.id == drug_id)).one()
    every = connection.execute(
        select(drug_record.c.source, drug_record.c.key).where(drug_record.c.drug_id == drug_id)
    ).all()
    if row.inchikey or row.identity in members or not {tuple(key) for key in every} <= here:
        return False
    connection.execute(drug.update().where(drug.c.id == drug_id).values(identity=identity))
    return True


_POINT = """
UPDATE mkmed.drug_record r SET drug_id = w.d
FROM unnest(CAST(:s AS text[]), CAST(:k AS text[]), CAST(:d AS bigint[])) AS w (s, k, d)
WHERE r.source = w.s AND r.key = w.k
"""


def _point(connection: Connection, targets: Mapping[Key, int]) -> None:
    """Point stored records at their drugs; what hangs on them follows."""
    if targets:
        columns = {"s": [k[0] for k in targets], "k": [k[1] for k in targets], "d": list(targets.values())}
        connection.execute(text(_POINT), columns)


def _row(record: DrugRecord, source: str, claim: Claim, drug_id: int) -> dict[str, Any]:
    return {
        "source": source,
        "key": record.key,
        "drug_id": drug_id,
        "name": claim.name,
        "kind": claim.kind,
        "smiles": claim.smiles,
        "inchikey": claim.inchikey,
        "formula": claim.formula,
        "identifiers": sorted(claim.identifiers),
        "pinned": claim.pinned,
        "digest": record.digest,
        "artifact": record.document.id,
    }


def _rows(
    source: str, records: Sequence[DrugRecord], claims: Mapping[Key, Claim], identities: Mapping[Key, str],
    ids: Mapping[str, int],
) -> list[dict[str, Any]]:
    return [
        _row(r, source, claims[source, r.key], ids[identities[source, r.key]])
        for r in sorted(records, key=lambda record: record.key)
    ]


def _insert(
    connection: Connection, source: str, records: Sequence[DrugRecord], claims: Mapping[Key, Claim],
    identities: Mapping[Key, str], ids: Mapping[str, int],
) -> None:
    """Write records that are new, with their names and identifiers, by COPY."""
    if not records:
        return
    rows = _rows(source, records, claims, identities, ids)
    copy_rows(connection, "mkmed.drug_record", rows)
    names, identifiers = _hung(source, records, {row["key"]: row["drug_id"] for row in rows})
    copy_rows(connection, "mkmed.drug_name", names)
    copy_rows(connection, "mkmed.identifier", identifiers)


def _replace(
    connection: Connection, source: str, records: Sequence[DrugRecord], claims: Mapping[Key, Claim],
    identities: Mapping[Key, str], ids: Mapping[str, int],
) -> None:
    """Put new versions of stored records into their places; names and identifiers not said again are taken back."""
    if not records:
        return
    rows = _rows(source, records, claims, identities, ids)
    statement = insert(drug_record)
    new = {name: statement.excluded[name] for name in ("drug_id", *SAID, "pinned", "artifact")}
    insert_many(
        connection,
        statement.on_conflict_do_update(index_elements=["source", "key"], set_={**new, "updated_at": func.now()}),
        rows,
    )
    names, identifiers = _hung(source, records, {row["key"]: row["drug_id"] for row in rows})
    keys = [record.key for record in records]
    for table, hung, told in ((drug_name, names, ("name",)), (identifier, identifiers, ("namespace", "value"))):
        kept = [(row["key"], *(row[n] for n in told)) for row in hung]
        said = tuple_(table.c.key, *(table.c[n] for n in told))
        outdated = (table.c.source == source) & table.c.key.in_(keys)
        connection.execute(delete(table).where(outdated & said.not_in(kept) if kept else outdated))
    if names:
        statement = insert(drug_name)
        set_ = {"kind": statement.excluded.kind, "artifact": statement.excluded.artifact}
        insert_many(
            connection, statement.on_conflict_do_update(index_elements=["source", "key", "name"], set_=set_), names
        )
    if identifiers:
        statement = insert(identifier)
        insert_many(
            connection,
            statement.on_conflict_do_update(
                index_elements=["source", "key", "namespace", "value"], set_={"artifact": statement.excluded.artifact}
            ),
            identifiers,
        )


def _hung(
    source: str, records: Sequence[DrugRecord], places: Mapping[str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of names and of identifiers that the records bring."""
    names, identifiers = [], []
    for record in records:
        shared = {
            "drug_id": places[record.key], "source": source, "key": record.key, "artifact": record.document.id
        }
        kinds: dict[str, str] = {}
        for called, kind in ((record.name, "preferred"), *((n.text, n.kind) for n in record.names)):
            kinds.setdefault(tidy(called), kind)
        kinds.pop("", None)
        names += [{**shared, "name": called, "kind": kind} for called, kind in kinds.items()]
        stated = {(i.namespace, i.value) for i in record.identifiers}
        identifiers += [{**shared, "namespace": space, "value": value} for space, value in sorted(stated)]
    return names, identifiers


def take_back_payloads(connection: Connection, keys: Iterable[Key]) -> None:
    """Take away what was said of the records' old structures; their cells are due again."""
    pairs = sorted(keys)
    columns = {"s": [k[0] for k in pairs], "k": [k[1] for k in pairs]}
    of = "(SELECT * FROM unnest(CAST(:s AS text[]), CAST(:k AS text[])) AS w (s, k)) w"
    for table in ("image", "text", "conformer", "property_set"):
        connection.execute(
            text(f"DELETE FROM mkmed.{table} t USING {of} WHERE t.record_source = w.s AND t.record_key = w.k"),  # noqa: S608
            columns,
        )
    connection.execute(
        text(
            "UPDATE mkmed.cell t SET state = 'unknown', artifact = NULL, evidence = NULL, last_error = NULL,"  # noqa: S608
            f" updated_at = now() FROM {of} WHERE t.record_source = w.s AND t.record_key = w.k"
            " AND t.modality <> 'identity'"
        ),
        columns,
    )


def _log_moves(
    connection: Connection, run_id: uuid.UUID, identities: Mapping[Key, str], moved: Mapping[Key, int]
) -> dict[int, list[int]]:
    """The numbers of the logged merges by the drug that was left; a record that was replaced by another is none."""
    if not moved:
        return {}
    query = select(drug.c.id, drug.c.identity).where(drug.c.id.in_(set(moved.values())))
    before = {row.id: row.identity for row in connection.execute(query)}
    logged: dict[int, list[int]] = defaultdict(list)
    for (source, key), old in sorted(moved.items()):
        if before[old] == identities[source, key]:
            continue
        number = connection.scalar(
            insert(drug_merge)
            .values(
                source=source, key=key, from_identity=before[old], to_identity=identities[source, key], from_drug=old,
                reason="claims resolved again", run_id=run_id,
            )
            .returning(drug_merge.c.id)
        )
        logged[old].append(int(number or 0))
    return logged


_LOOKUPS = """
UPDATE mkmed.lookup l SET drug_id = w.d
FROM unnest(CAST(:s AS text[]), CAST(:k AS text[]), CAST(:d AS bigint[]), CAST(:o AS bigint[])) AS w (s, k, d, o)
WHERE l.source = w.s AND l.drug_id = w.o AND (l.key = w.k OR l.evidence = w.k OR starts_with(l.evidence, w.k || ' '))
"""


def _follow(
    connection: Connection, moved: Mapping[Key, int], identities: Mapping[Key, str], ids: Mapping[str, int]
) -> None:
    """Point look-ups at the drug that their record is now, and have the graph look again at the drugs left."""
    columns = {
        "s": [k[0] for k in moved], "k": [k[1] for k in moved], "d": [ids[identities[k]] for k in moved],
        "o": list(moved.values()),
    }
    connection.execute(text(_LOOKUPS), columns)
    left = {"left": sorted(set(moved.values()))}
    connection.execute(text("DELETE FROM mkmed.drug_entity WHERE drug_id = ANY(:left)"), left)
    connection.execute(
        text("UPDATE mkmed.cell SET state = 'unknown', artifact = NULL, evidence = NULL, updated_at = now()"
             " WHERE modality = 'graph' AND drug_id = ANY(:left)"),
        left,
    )


_KEPT = """
SELECT d.id, jsonb_build_object(
    'drug', jsonb_build_array(to_jsonb(d) - 'inchikey_block'),
    'cell', coalesce((SELECT jsonb_agg(to_jsonb(t)) FROM mkmed.cell t
                      WHERE t.drug_id = d.id AND t.record_key IS NULL AND t.modality <> 'graph'), '[]'),
    'image', coalesce((SELECT jsonb_agg(to_jsonb(t)) FROM mkmed.image t WHERE t.drug_id = d.id AND t.record_key IS NULL), '[]'),
    'conformer', coalesce((SELECT jsonb_agg(to_jsonb(t)) FROM mkmed.conformer t
                           WHERE t.drug_id = d.id AND t.record_key IS NULL), '[]'),
    'property_set', coalesce((SELECT jsonb_agg(to_jsonb(t)) FROM mkmed.property_set t
                              WHERE t.drug_id = d.id AND t.record_key IS NULL), '[]'),
    'substance_relation', coalesce((SELECT jsonb_agg(to_jsonb(t)) FROM mkmed.substance_relation t
                                    WHERE t.drug_id = d.id), '[]')) AS kept
FROM mkmed.drug d WHERE d.id = ANY(:ids) AND NOT EXISTS (SELECT FROM mkmed.drug_record r WHERE r.drug_id = d.id)
"""  # noqa: E501


def remove_empty(
    connection: Connection, run_id: uuid.UUID, drugs: Iterable[int], merges: Mapping[int, list[int]]
) -> None:
    """Remove those of the drugs that have no record left; what hung on them alone is kept with the merges."""
    empty = connection.execute(text(_KEPT), {"ids": sorted(drugs)}).all()
    for drug_id, kept in empty:
        if merges.get(drug_id):
            connection.execute(drug_merge.update().where(drug_merge.c.id.in_(merges[drug_id])).values(kept=kept))
    if empty:
        connection.execute(delete(drug).where(drug.c.id.in_([drug_id for drug_id, _ in empty])))


def repaint(connection: Connection, drugs: Iterable[int]) -> None:
    """Show every drug as its records say now; what was computed from a SMILES that it no longer has is taken away."""
    wanted = sorted(set(drugs))
    if not wanted:
        return
    columns = ("source", "key", "inchikey", "identifiers", "pinned", "name", "kind", "smiles", "formula")
    members: dict[int, list[Claim]] = defaultdict(list)
    query = select(drug_record.c.drug_id, *(drug_record.c[n] for n in columns))
    for row in connection.execute(query.where(drug_record.c.drug_id.in_(wanted))).mappings():
        members[row["drug_id"]].append(_claim({name: row[name] for name in columns}))
    outdated = []
    for known in connection.execute(select(drug).where(drug.c.id.in_(wanted))):
        shown = portray(known.identity, members[known.id])
        new = {"name": shown.name, "kind": shown.kind, "smiles": shown.smiles, "inchikey": shown.inchikey,
               "formula": shown.formula}
        if any(getattr(known, name) != value for name, value in new.items()):
            connection.execute(drug.update().where(drug.c.id == known.id).values(**new))
            if known.smiles != shown.smiles:
                outdated.append(known.id)
    forget_computed(connection, outdated)


def forget_computed(connection: Connection, drugs: Sequence[int]) -> None:
    """Take away what was computed from another SMILES than the drugs have; its cells are due again."""
    if not drugs:
        return
    changed = "t.drug_id = ANY(:ids) AND d.id = t.drug_id AND t.record_key IS NULL"
    stale = "t.input IS DISTINCT FROM sha256(convert_to(d.smiles, 'UTF8'))"
    for table in ("image", "conformer", "property_set"):
        connection.execute(
            text(f"DELETE FROM mkmed.{table} t USING mkmed.drug d WHERE {changed} AND {stale}"), {"ids": list(drugs)}  # noqa: S608
        )
    connection.execute(
        text(
            "UPDATE mkmed.cell t SET state = 'unknown', artifact = NULL, evidence = NULL, last_error = NULL,"  # noqa: S608
            f" input = NULL, updated_at = now() FROM mkmed.drug d WHERE {changed} AND t.modality <> 'graph' AND {stale}"
        ),
        {"ids": list(drugs)},
    )
    connection.execute(text("DELETE FROM mkmed.substance_relation WHERE drug_id = ANY(:ids)"), {"ids": list(drugs)})
    connection.execute(text("UPDATE mkmed.drug SET related_from = NULL WHERE id = ANY(:ids)"), {"ids": list(drugs)})


def log_conflicts(connection: Connection, claims: Iterable[Key], conflicts: Sequence[Conflict]) -> None:
    """Note the conflicts of the claims that were looked at; those that are settled are taken off the list."""
    resolved = drug_conflict.c.kind.in_(REASONS)
    known = connection.execute(select(drug_conflict.c.source, drug_conflict.c.key).where(resolved))
    here = {(row.source, row.key) for row in known} & set(claims)
    if here:
        settled = among((drug_conflict.c.source, drug_conflict.c.key), here)
        connection.execute(delete(drug_conflict).where(resolved, settled))
    if conflicts:
        connection.execute(
            insert(drug_conflict).on_conflict_do_nothing(),
            [
                {"source": c.source, "key": c.key, "identifier": c.identifier, "identities": list(c.identities),
                 "kind": c.kind, "reason": REASONS[c.kind]}
                for c in conflicts
            ],
        )
