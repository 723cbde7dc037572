"""The read API of the knowledge base: plain dataclasses and arrays, streamed where they are large.

``embed`` and ``recsys`` read through these functions only. Rows come in the order of ``drug.id``, so that the same
knowledge base gives the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ARRAY, BigInteger, Connection, Select, any_, cast, func, select, text

from kb.db.bulk import copy_out
from kb.modalities import MODALITIES
from kb.query.names import Candidate as Candidate  # part of the read API
from kb.query.names import find_drug as find_drug
from kb.query.names import find_drugs as find_drugs
from kb.schema.graph import atc_class, drug_atc, drug_entity, indication, interaction, kg_entity, kg_relation
from kb.schema.identity import drug, drug_name, identifier, substance_relation
from kb.schema.ledger import artifact, content
from kb.schema.payloads import conformer, description, image

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drugs:
    """All drugs, column by column; ``ids`` ascend."""

    ids: Ids
    identities: list[str]
    names: list[str]
    smiles: list[str | None]
    inchikeys: list[str | None]
    kinds: list[str]


@dataclass(frozen=True, slots=True)
class DrugText:
    """One description; ``sha256`` is that of the text itself, in hex."""

    drug_id: int
    source: str
    provider: str
    text: str
    is_note: bool
    sha256: str


@dataclass(frozen=True, slots=True)
class DrugImage:
    """One picture as the bytes that came, with their sha256 in hex."""

    drug_id: int
    source: str
    png: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class DrugConformer:
    """One conformer as an MDL block with hydrogens (ångström), with the artifact's sha256 in hex."""

    drug_id: int
    source: str
    molblock: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Digest:
    """The sha256 (32 bytes) of what a source has of a drug."""

    drug_id: int
    source: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Properties:
    """Numeric properties: ``values`` is [N, F] with NaN where a drug has none."""

    drug_ids: Ids
    names: list[str]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Triples:
    """The knowledge graph as indices into ``entities`` and ``relations``; ``entity_ids`` are the database's."""

    head: NDArray[np.int32]
    relation: NDArray[np.int32]
    tail: NDArray[np.int32]
    entities: list[str]
    entity_types: list[str]
    entity_ids: NDArray[np.int32]
    relations: list[str]


@dataclass(frozen=True, slots=True)
class Availability:
    """The bucket matrix: ``mask`` is [N, 5] in the order of ``modalities``."""

    drug_ids: Ids
    modalities: tuple[str, ...]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class InteractionRows:
    """Drug–drug interactions; ``drug_a`` < ``drug_b``; severity and text are the provider's own words, or empty."""

    drug_a: Ids
    drug_b: Ids
    severity: list[str]
    provider: list[str]
    licence: list[str]
    text: list[str]


@dataclass(frozen=True, slots=True)
class Indication:
    """What one provider says that a drug is (or must not be) given for; ``icd10`` are codes without the dot."""

    drug_id: int
    kind: str
    disease: str
    disease_ids: tuple[str, ...]
    icd10: tuple[str, ...]
    phase: float | None
    provider: str
    source: str
    licence: str


def drugs(connection: Connection, *, drug_ids: Ids | None = None) -> Drugs:
    """Every drug (or the given ones), biologics and others without a structure included."""
    query = select(drug.c.id, drug.c.identity, drug.c.name, drug.c.smiles, drug.c.inchikey, drug.c.kind)
    rows = connection.execute(_of(query, drug.c.id, drug_ids).order_by(drug.c.id)).all()
    ids, identities, names, smiles, inchikeys, kinds = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 6
    )
    return Drugs(np.asarray(ids, np.int64), identities, names, smiles, inchikeys, kinds)


def salts(connection: Connection) -> list[tuple[int, int]]:
    """(salt or hydrate, its parent) of drugs whose structures say so; the parent of a salt before that of a hydrate."""
    query = (
        select(substance_relation.c.drug_id, drug.c.id)
        .join(drug, drug.c.inchikey == substance_relation.c.inchikey)
        .where(substance_relation.c.relation.in_(["salt of", "hydrate of"]))
        .order_by(substance_relation.c.relation.desc(), substance_relation.c.drug_id, drug.c.id)
    )
    return [(salt, parent) for salt, parent in connection.execute(query) if salt != parent]


def _stream(connection: Connection, query: Select, size: int = 500) -> Iterator[Sequence]:
    """The rows of a query through a server-side cursor, so that memory stays bounded."""
    yield from connection.execution_options(yield_per=size, stream_results=True).execute(query)


def texts(connection: Connection, *, notes: bool = False, drug_ids: Ids | None = None) -> Iterator[DrugText]:
    """Every description (of the given drugs); indexing notes only when asked for.

    What several sources or providers say in the same words of a drug comes once, under the first of them.
    """
    t = description.c
    query = select(t.drug_id, t.source, t.provider, t.content, t.is_note, func.encode(t.content_sha256, "hex"))
    if not notes:
        query = query.where(~t.is_note)
    query = _of(query, t.drug_id, drug_ids)
    at, said = None, set[str]()
    for row in _stream(connection, query.order_by(t.drug_id, t.source, t.provider, t.content_sha256)):
        found = DrugText(*row)
        if found.drug_id != at:
            at, said = found.drug_id, set()
        if found.sha256 not in said:
            said.add(found.sha256)
            yield found


def images(connection: Connection, *, drug_ids: Ids | None = None) -> Iterator[DrugImage]:
    """Every picture (of the given drugs)."""
    query = (
        select(image.c.drug_id, image.c.source, content.c.payload, func.encode(content.c.sha256, "hex"))
        .join(artifact, artifact.c.id == image.c.artifact)
        .join(content, content.c.sha256 == artifact.c.content)
        .where(content.c.payload.is_not(None))
        .order_by(image.c.drug_id, image.c.source, image.c.artifact)
    )
    for drug_id, source, payload, sha256 in _stream(connection, _of(query, image.c.drug_id, drug_ids), 200):
        yield DrugImage(drug_id, source, bytes(payload), sha256)


def conformers(connection: Connection, *, drug_ids: Ids | None = None) -> Iterator[DrugConformer]:
    """Every conformer (of the given drugs); several sources may have one of the same drug."""
    c = conformer.c
    query = select(
        c.drug_id, c.source, c.molblock, func.encode(func.sha256(func.convert_to(c.molblock, "UTF8")), "hex")
    )
    for row in _stream(connection, _of(query, c.drug_id, drug_ids).order_by(c.drug_id, c.source, c.artifact)):
        yield DrugConformer(*row)


def _of(query: Select, column: Any, drug_ids: Ids | None) -> Select:
    """The query for these drugs only, or as it is."""
    return query if drug_ids is None else query.where(column == any_(cast(drug_ids.tolist(), ARRAY(BigInteger))))


def digests(connection: Connection, payload: str, *, notes: bool = False,
            drug_ids: Ids | None = None) -> list[Digest]:
    """Which text, image or conformer each drug has, by the sha256 of its content, without the content itself.

    ``payload`` is ``text``, ``image`` or ``conformer``; the order is that of the reader of the same payload.
    """
    t, c = description.c, conformer.c
    if payload == "text":
        query = select(t.drug_id, t.source, t.content_sha256)
        query = query.order_by(t.drug_id, t.source, t.provider, t.content_sha256)
        query = query if notes else query.where(~t.is_note)
    elif payload == "image":
        query = (
            select(image.c.drug_id, image.c.source, content.c.sha256)
            .join(artifact, artifact.c.id == image.c.artifact)
            .join(content, content.c.sha256 == artifact.c.content)
            .where(content.c.payload.is_not(None))
            .order_by(image.c.drug_id, image.c.source, image.c.artifact)
        )
    else:
        digest = func.sha256(func.convert_to(c.molblock, "UTF8"))
        query = select(c.drug_id, c.source, digest).order_by(c.drug_id, c.source, c.artifact)
    column = {"text": t.drug_id, "image": image.c.drug_id}.get(payload, c.drug_id)
    rows = connection.execute(_of(query, column, drug_ids))
    return [Digest(int(drug_id), source, bytes(sha256)) for drug_id, source, sha256 in rows]


def properties(connection: Connection, *, drug_ids: Ids | None = None) -> Properties:
    """The properties of every drug (of the given ones) that has any; of several sources fetched wins over computed."""
    rows = connection.execute(
        text("""
            SELECT drug_id, e.key, (array_agg((e.value)::float8 ORDER BY s.origin = 'computed', s.name, p.artifact))[1]
            FROM mkmed.property_set p JOIN mkmed.source s ON s.name = p.source
            CROSS JOIN LATERAL jsonb_each_text(p.values) e
            WHERE CAST(:ids AS bigint[]) IS NULL OR p.drug_id = ANY (CAST(:ids AS bigint[]))
            GROUP BY drug_id, e.key ORDER BY drug_id, e.key"""),
        {"ids": None if drug_ids is None else drug_ids.tolist()},
    ).all()
    ids = np.unique(np.asarray([row[0] for row in rows], np.int64))
    names = sorted({row[1] for row in rows})
    column = {name: i for i, name in enumerate(names)}
    values = np.full((len(ids), len(names)), np.nan)
    if rows:
        values[np.searchsorted(ids, [row[0] for row in rows]), [column[row[1]] for row in rows]] = [
            row[2] for row in rows
        ]
    return Properties(ids, names, values)


def triples(
    connection: Connection, *, exclude_relations: Sequence[str] = (), exclude_entity_types: Sequence[str] = ()
) -> Triples:
    """The graph without the named relations and without triples that touch the named entity types."""
    entities = connection.execute(
        select(kg_entity.c.id, kg_entity.c.name, kg_entity.c.type).order_by(kg_entity.c.id)
    ).all()
    kept_entities = [e for e in entities if e[2] not in exclude_entity_types]
    relations = connection.execute(select(kg_relation.c.id, kg_relation.c.name).order_by(kg_relation.c.id)).all()
    kept_relations = [r for r in relations if r[1] not in exclude_relations]
    stated = "SELECT DISTINCT head, relation, tail FROM mkmed.kg_triple ORDER BY head, relation, tail"
    columns = copy_out(connection, stated)
    rows = np.stack([columns[name] for name in ("head", "relation", "tail")], axis=1).astype(np.int32)
    ids = np.asarray([e[0] for e in kept_entities], np.int32)
    relation_ids = np.asarray([r[0] for r in kept_relations], np.int32)
    keep = np.isin(rows[:, 0], ids) & np.isin(rows[:, 2], ids) & np.isin(rows[:, 1], relation_ids)
    rows = rows[keep]
    return Triples(
        head=np.searchsorted(ids, rows[:, 0]).astype(np.int32),
        relation=np.searchsorted(relation_ids, rows[:, 1]).astype(np.int32),
        tail=np.searchsorted(ids, rows[:, 2]).astype(np.int32),
        entities=[e[1] for e in kept_entities],
        entity_types=[e[2] for e in kept_entities],
        entity_ids=ids,
        relations=[r[1] for r in kept_relations],
    )


def drug_entities(connection: Connection, *, weak: bool = False) -> tuple[Ids, NDArray[np.int32]]:
    """Pairs of drug id and database entity id; skeleton-only links only when asked for."""
    query = select(drug_entity.c.drug_id, drug_entity.c.entity_id).order_by(
        drug_entity.c.drug_id, drug_entity.c.entity_id
    )
    if not weak:
        query = query.where(~drug_entity.c.weak)
    rows = np.asarray(connection.execute(query).all(), np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1].astype(np.int32)


INDICATIONS = ("CtD", "CpD", "indication", "treats")
"""Relations whose name holds one of these say what a drug is given for."""


def treated_diseases(connection: Connection) -> list[tuple[int, str, str]]:
    """Drug id, the name of a disease or phenotype that a relation of ``INDICATIONS`` joins it to, and the relation."""
    rows = connection.execute(text("""
        SELECT DISTINCT link.drug_id, other.label, r.name
        FROM mkmed.drug_entity link
        JOIN mkmed.kg_triple t ON link.entity_id IN (t.head, t.tail)
        JOIN mkmed.kg_relation r ON r.id = t.relation AND r.name LIKE ANY (:wanted)
        JOIN mkmed.kg_entity other ON other.id = CASE link.entity_id WHEN t.head THEN t.tail ELSE t.head END
        WHERE NOT link.weak AND other.type IN ('Disease', 'Phenotype') AND other.label IS NOT NULL
        ORDER BY link.drug_id, other.label, r.name"""), {"wanted": [f"%{word}%" for word in INDICATIONS]})
    return [(int(drug_id), str(label), str(relation)) for drug_id, label, relation in rows]


def availability(connection: Connection) -> Availability:
    """Which modalities each drug has in any source."""
    columns = ", ".join(MODALITIES)
    rows = connection.execute(text(f"SELECT drug_id, {columns} FROM mkmed.bucket ORDER BY drug_id")).all()  # noqa: S608
    table = np.asarray([tuple(row) for row in rows], np.int64).reshape(-1, len(MODALITIES) + 1)
    return Availability(table[:, 0].copy(), tuple(m.value for m in MODALITIES), table[:, 1:].astype(bool))


def atc(connection: Connection) -> list[tuple[int, str]]:
    """Pairs of drug id and ATC code, usually at level 5 (seven characters)."""
    query = select(drug_atc.c.drug_id, drug_atc.c.code).distinct().order_by(drug_atc.c.drug_id, drug_atc.c.code)
    return [(row[0], row[1]) for row in connection.execute(query)]


def atc_classes(connection: Connection) -> list[tuple[str, str]]:
    """Pairs of ATC code and name, of the classes at any level that have a name."""
    query = select(atc_class.c.code, atc_class.c.name).where(atc_class.c.name.is_not(None)).order_by(atc_class.c.code)
    return [(row[0], row[1]) for row in connection.execute(query)]


def interactions(connection: Connection) -> InteractionRows:
    """Every interaction, once a pair and provider."""
    i = interaction.c
    rows = connection.execute(
        select(i.drug_a, i.drug_b, i.severity, i.provider, i.licence_id, i.description)
        .order_by(i.drug_a, i.drug_b, i.provider, i.source)
    ).all()
    return InteractionRows(
        np.asarray([r[0] for r in rows], np.int64),
        np.asarray([r[1] for r in rows], np.int64),
        [r[2] or "" for r in rows],
        [r[3] for r in rows],
        [r[4] for r in rows],
        [r[5] or "" for r in rows],
    )


def indications(connection: Connection, *, kinds: Sequence[str] = ("indication", "symptomatic")) -> list[Indication]:
    """What is said of the given kinds, one statement of one provider about one drug and disease each."""
    i = indication.c
    rows = connection.execute(
        select(i.drug_id, i.kind, i.disease, i.disease_ids, i.icd10, i.phase, i.provider, i.source, i.licence_id)
        .where(i.kind.in_(kinds))
        .order_by(i.drug_id, i.kind, i.disease, i.provider, i.source, i.disease_key)
    )
    return [
        Indication(r.drug_id, r.kind, r.disease, tuple(r.disease_ids), tuple(r.icd10), r.phase, r.provider, r.source,
                   r.licence_id)
        for r in rows
    ]


def identifiers(connection: Connection, namespace: str) -> list[tuple[int, str]]:
    """Pairs of drug id and value in one namespace."""
    query = select(identifier.c.drug_id, identifier.c.value).where(identifier.c.namespace == namespace).distinct()
    return [(row[0], row[1]) for row in connection.execute(query.order_by(identifier.c.value, identifier.c.drug_id))]


def names(connection: Connection) -> list[tuple[int, str]]:
    """Pairs of drug id and lower-case name or synonym."""
    query = select(drug_name.c.drug_id, drug_name.c.name_key).distinct()
    return [(row[0], row[1]) for row in connection.execute(query.order_by(drug_name.c.name_key, drug_name.c.drug_id))]


def lineage(connection: Connection) -> str:
    """What tells this knowledge base from others: the id of its first run, or nothing before one."""
    found = connection.scalar(text("SELECT id::text FROM mkmed.run ORDER BY started_at, id LIMIT 1"))
    return str(found or "")


def licences_used(connection: Connection) -> list[dict[str, Any]]:
    """How many ``items`` of each ``modality`` are here under which ``licence``, with its ``share``."""
    rows = connection.execute(
        text("""
            SELECT c.modality, l.id AS licence, l.share, count(*)::int AS items FROM mkmed.cell c
            JOIN mkmed.artifact a ON a.id = c.artifact JOIN mkmed.licence l ON l.id = a.licence_id
            WHERE c.state = 'present' AND c.modality IN ('image', 'structure', 'property') GROUP BY 1, 2, 3
            UNION ALL
            SELECT 'text', l.id, l.share, count(*)::int FROM mkmed.text t JOIN mkmed.licence l ON l.id = t.licence_id
            GROUP BY 2, 3
            UNION ALL
            SELECT 'graph', l.id, l.share, sum(k.n)::int
            FROM (SELECT provenance, count(*) AS n FROM mkmed.kg_triple GROUP BY provenance) k
            JOIN mkmed.kg_provenance p ON p.id = k.provenance JOIN mkmed.licence l ON l.id = p.licence_id
            GROUP BY 2, 3 ORDER BY 1, 2""")
    )
    return [dict(row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is: drugs, those with anything, and how many have each modality (and a ``molecule``)."""

    drugs: int
    with_anything: int
    have: dict[str, int]
    texts: int
    triples: int


def count_rows(connection: Connection) -> Counts:
    """The numbers of drugs, payloads and triples, without reading any."""
    row = connection.execute(
        text("""
            WITH have AS (
                SELECT 'image' AS kind, drug_id FROM mkmed.image UNION SELECT 'text', drug_id FROM mkmed.text
                UNION SELECT 'structure', drug_id FROM mkmed.conformer
                UNION SELECT 'property', drug_id FROM mkmed.property_set
                UNION SELECT 'graph', drug_id FROM mkmed.drug_entity WHERE NOT weak
                UNION SELECT 'molecule', id FROM mkmed.drug WHERE smiles IS NOT NULL)
            SELECT (SELECT count(*) FROM mkmed.drug) AS drugs, count(DISTINCT drug_id) AS with_anything,
                   (SELECT count(*) FROM mkmed.text) AS texts, (SELECT count(*) FROM mkmed.kg_triple) AS triples,
                   (SELECT jsonb_object_agg(kind, n)
                    FROM (SELECT kind, count(*) AS n FROM have GROUP BY kind) k) AS have
            FROM have""")
    ).mappings().one()
    have = {str(k): int(v) for k, v in (row["have"] or {}).items()}
    return Counts(int(row["drugs"]), int(row["with_anything"]), have, int(row["texts"]), int(row["triples"]))


def sample_ids(connection: Connection, size: int, *, smiles: bool = False) -> Ids:
    """The ids of about ``size`` drugs from all over the table (of those with a structure), ascending."""
    where = "WHERE smiles IS NOT NULL" if smiles else ""
    found = connection.execute(
        text(f"SELECT id FROM mkmed.drug {where} ORDER BY md5(id::text) LIMIT :size"),  # noqa: S608
        {"size": size},
    )
    return np.sort(np.asarray(found.scalars().all(), np.int64))


# Everything that is known of one drug, each fact with its source; and the search that finds drugs by name.

def sources(connection: Connection) -> list[dict[str, Any]]:
    """The sources that have written something, with licence, records, cells and the time of the last run."""
    rows = connection.execute(
        text("""
            WITH cells AS MATERIALIZED (
                SELECT source, state, count(*) AS n FROM mkmed.availability GROUP BY source, state)
            SELECT s.name, s.origin, s.licence_id AS licence, s.title,
                   (SELECT count(*) FROM mkmed.records r WHERE r.source = s.name) AS drugs,
                   coalesce((SELECT n FROM cells c WHERE c.source = s.name AND c.state = 'present'), 0) AS present,
                   coalesce((SELECT n FROM cells c WHERE c.source = s.name AND c.state = 'absent'), 0) AS absent,
                   (SELECT max(finished_at) FROM mkmed.runs r
                    WHERE r.stage = 'ingest' AND r.name = s.name) AS last_run
            FROM mkmed.sources s ORDER BY s.name""")
    )
    return [dict(row) for row in rows.mappings()]
