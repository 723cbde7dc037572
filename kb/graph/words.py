"""One vocabulary for the relations of all graphs, and what a source says of a single edge.

``kb/data/relation_words.tsv`` gives the relations of DRKG, Hetionet, PrimeKG, ChEMBL, RxNorm, DrugMechDB and
DrugCentral a word each; what it does not have keeps its own name alone. Directions are those of the source.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from kb.sources.contract import Document

if TYPE_CHECKING:
    from kb.graph.tables import DescribedRelation

Triple = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class EdgeNote:
    """What a source says of one edge: a number in its own terms, what it rests on, where to read it, and the rest."""

    score: float | None = None
    evidence: str | None = None
    reference: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1)
def _words() -> Mapping[tuple[str, str], str]:
    with (files("kb") / "data" / "relation_words.tsv").open(encoding="utf-8") as lines:
        return {(row["provider"], row["relation"]): row["word"] for row in csv.DictReader(lines, delimiter="\t")}


def word_of(name: str) -> str | None:
    """The word for a relation named ``provider::relation[::head:tail]``, or None."""
    provider, _, rest = name.partition("::")
    return _words().get((provider, rest.partition("::")[0])) or _words().get((provider, rest.partition(":")[0]))


def write_words(connection: Connection) -> None:
    """Give every relation of the graph its word as the vocabulary has it now."""
    rows = connection.execute(text("SELECT id, name, word FROM mkmed.kg_relation"))
    known = {row.id: (row.name, row.word) for row in rows}
    changed = {number: word_of(name) for number, (name, word) in known.items() if word_of(name) != word}
    if changed:
        connection.execute(
            text("UPDATE mkmed.kg_relation r SET word = w.word FROM unnest(CAST(:ids AS int[]), CAST(:words AS text[]))"
                 " AS w (id, word) WHERE r.id = w.id"),
            {"ids": list(changed), "words": list(changed.values())},
        )


def write_notes(
    connection: Connection, document: Document, notes: Mapping[Triple, EdgeNote],
    relations: Mapping[str, DescribedRelation],
) -> None:
    """Write what the document's source says of its edges, in place of what it said of them before.

    A note is under the licence of the edge that it comes with, and hangs on no edge under another one.
    """
    rows = [
        (*triple, note.score, note.evidence, note.reference, json.dumps(dict(note.properties), sort_keys=True),
         relations[triple[1]].provider, relations[triple[1]].licence)
        for triple, note in sorted(notes.items())
    ]
    for start in range(0, len(rows), SLICE):
        columns = [list(column) for column in zip(*rows[start : start + SLICE], strict=True)]
        connection.execute(
            text("""
                INSERT INTO mkmed.kg_note AS n
                    (head, relation, tail, provenance, score, evidence, reference, properties)
                SELECT k.head, k.relation, k.tail, k.provenance, max(s.score), max(s.evidence), max(s.reference),
                       (array_agg(s.properties))[1]
                FROM unnest(CAST(:a AS text[]), CAST(:b AS text[]), CAST(:c AS text[]), CAST(:d AS float8[]),
                            CAST(:e AS text[]), CAST(:f AS text[]), CAST(:g AS jsonb[]), CAST(:h AS text[]),
                            CAST(:i AS text[]))
                     AS s (head, relation, tail, score, evidence, reference, properties, provider, licence)
                JOIN mkmed.kg_entity h ON h.name = s.head JOIN mkmed.kg_entity t ON t.name = s.tail
                JOIN mkmed.kg_relation r ON r.name = s.relation
                JOIN mkmed.kg_triple k ON k.head = h.id AND k.relation = r.id AND k.tail = t.id
                JOIN mkmed.kg_provenance p ON p.id = k.provenance AND p.source = :source
                     AND p.provider = s.provider AND p.licence_id = s.licence
                GROUP BY 1, 2, 3, 4
                ON CONFLICT (head, relation, tail, provenance) DO UPDATE
                SET score = excluded.score, evidence = excluded.evidence, reference = excluded.reference,
                    properties = excluded.properties
                WHERE (n.score, n.evidence, n.reference, n.properties)
                      IS DISTINCT FROM (excluded.score, excluded.evidence, excluded.reference, excluded.properties)"""),
            dict(zip("abcdefghi", columns, strict=True)) | {"source": document.source},
        )


SLICE = 20_000
"""Notes that one statement writes."""
