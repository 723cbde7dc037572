"""Which records are the same drug: a pure function of the set of all claims, so neither order nor repetition matters.

Rules, in order:

1. A pinned record (an undone merge) keeps the identity it was pinned to.
2. A record with an InChIKey is the drug of that InChIKey. Two structures are never merged, whatever they share.
   Where records of one structure have registered substances' numbers that differ (UNII, else DrugCentral's), as when a
   source drew heparin for enoxaparin, the structure is the first one's; the others are taken without it and without
   the identifiers that the first has too, and each is reported as a conflict.
3. Records without a structure that share a strong identifier form a cluster.
4. A cluster joins the one structure that shares its best identifier (by ``STRONG``'s order). If several structures
   share it (two salts under one DrugBank id), that is a conflict: the cluster stays a drug of its own and is reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

STRONG: tuple[str, ...] = ("drugbank", "unii", "pubchem.compound", "chembl", "chebi", "pharmgkb", "drugcentral")
"""Namespaces that identify a substance, best first. CAS, RxNorm, ATC and NDC name products and groups as well; a key of
a user's table names a row of that table and nothing else."""

REGISTRIES: tuple[str, ...] = ("unii", "drugcentral")
"""Namespaces with one number a substance, best first: two numbers are two substances, whatever structure is drawn."""

SOURCE_ORDER: tuple[str, ...] = ("corpus", "pubchem", "pubchem-bulk")
"""Whose name and SMILES a drug shows when several sources have one; sources not listed come after, by name."""

CONFLICT = "drugs of different structure claim the identifier"
STRUCTURE_CONFLICT = "a substance of another UNII or DrugCentral number claims the structure"

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
        known = [i for i in (*self.identifiers, self.key) if i.partition(":")[0] in STRONG]
        return sorted(set(known), key=_rank)


@dataclass(frozen=True, slots=True)
class Conflict:
    """An identifier that drugs of different structure claim, or a structure that different substances claim."""

    source: str
    key: str
    identifier: str
    identities: tuple[str, ...]
    reason: str = CONFLICT


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
            for identifier in claim.strong:
                owners[identifier].add(f"inchikey:{inchikey}")
        if others:
            taken = {identifier for claim in own for identifier in claim.strong}
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
        conflicts.append(Conflict(*key, structure, tuple(sorted({structure, identity[key]})), STRUCTURE_CONFLICT))
    return identity, conflicts


def _of_one_substance(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim]]:
    """The claims of one structure that are the first one's substance, and those of other registered substances."""
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
    for identifier in shared:
        claimed = owners.get(identifier, set()) - barred
        if claimed:
            return (next(iter(claimed)), None) if len(claimed) == 1 else (None, (identifier, tuple(sorted(claimed))))
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
        for identifier in claim.strong:
            parent[root(index)] = root(first.setdefault(identifier, index))
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
