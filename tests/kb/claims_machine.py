"""A state machine over claims: a real database beside a plain Python model, compared after every step.

The model is a dictionary of records; who is whom follows from all of them at once by the pure function ``resolve``. The
database is changed record by record, in any order, and must come to the same.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, Engine, select, text

from kb.errors import DataError, NotFound
from kb.identity.claims import Claim, Key, portray, resolve
from kb.identity.relations import relate
from kb.identity.undo import list_merges, undo_merge
from kb.ingest.engine import register_source
from kb.ingest.retract import remove_source, retract_records
from kb.ingest.write import write_batch
from kb.ledger.verify import verify
from kb.normalise import Identifier
from kb.schema.identity import drug
from kb.sources.contract import (
    AtcRecord,
    DrugRecord,
    InteractionRecord,
    Origin,
    PropertyRecord,
    RecordBatch,
    TextRecord,
)
from tests.kb.facts import CC0, begin, document

COMPUTED = Origin("computed", "computed here", "https://example.org", "computed", (CC0,))
SOURCES = ("hand", "other")
KEYS = ("x:1", "x:2", "x:3")
STRUCTURES = {
    None: (None, None),
    "metformin": ("CN(C)C(=N)NC(=N)N", "XZWYZXLIPXDOLR-UHFFFAOYSA-N"),
    "metformin, as imine": ("CN(C)C(=N)N=C(N)N", "XZWYZXLIPXDOLR-UHFFFAOYSA-N"),
    "its hydrochloride": ("CN(C)C(=N)NC(=N)N.Cl", "OETHQSJEHLVLGH-UHFFFAOYSA-N"),
    "aspirin": ("CC(=O)Oc1ccccc1C(=O)O", "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"),
}
IDENTIFIERS = [
    frozenset(some)
    for some in (
        ["drugbank:DB00001"], ["drugbank:DB00001", "cas:50-78-2"], ["drugbank:DB00002"],
        ["drugbank:DB00001", "unii:AAAAAAAAAA"], ["unii:AAAAAAAAAA"], [],
    )
]
"""Few, so that records share them and merge."""
TABLES = "drug, drug_record, lookup, cell, artifact, run, drug_merge, drug_conflict, retired, kg_entity, atc_class"


@dataclass(frozen=True)
class Record:
    """What one source says of one substance."""

    structure: str | None
    identifiers: frozenset[str]
    name: str
    about: str | None
    mass: float | None
    code: str | None
    pinned: str | None = None

    @property
    def inchikey(self) -> str | None:
        return STRUCTURES[self.structure][1]


contents = st.builds(
    Record,
    structure=st.sampled_from([None, None, None, None, *(s for s in STRUCTURES if s)]),
    identifiers=st.sampled_from(IDENTIFIERS),
    name=st.sampled_from(("alpha", "beta", "gamma")),
    about=st.sampled_from((None, "one text", "another text")),
    mass=st.sampled_from((None, 100.0, 200.0)),
    code=st.sampled_from((None, "A10BA02", "N02BA01")),
)
places = st.tuples(st.sampled_from(SOURCES), st.sampled_from(KEYS))


class Claims(RuleBasedStateMachine):
    """The machine; ``engine`` is set by the test that runs it."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[Key, Record] = {}
        self.pairs: set[tuple[Key, Key]] = set()
        self.merges = False
        self.written = 0
        with self.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {TABLES} CASCADE"))

    def _say(self, connection: Connection, place: Key, record: Record, *, again: bool) -> None:
        source, key = place
        self.written += 1
        smiles, inchikey = STRUCTURES[record.structure]
        proof = document(f"{source} {key} {self.written}", source)
        said = DrugRecord(
            key, record.name, proof, "unknown", smiles, inchikey,
            identifiers=tuple(Identifier.parse(i) for i in sorted(record.identifiers)),
        )
        batch = RecordBatch(drugs=[said], anew=frozenset({key}) if place in self.records else frozenset())
        if record.about:
            batch.payloads.append(TextRecord(key, proof, "somebody", record.about, "CC0-1.0"))
        if record.mass:
            batch.payloads.append(PropertyRecord(key, proof, {"mol_weight": record.mass}))
        if record.code:
            batch.atc.append(AtcRecord(key, proof, record.code))
        if again and place in self.records:  # a refresh knows by itself what is gone
            batch.anew = frozenset({key})
        write_batch(connection, begin(connection), source, batch, replace=again)
        old = self.records.get(place)
        kept = old.pinned if old is not None and old.inchikey == record.inchikey else None
        self.records[place] = replace(record, pinned=kept)

    @rule(place=places, record=contents, refresh=st.booleans())
    def insert_or_replace(self, place: Key, record: Record, refresh: bool) -> None:
        with self.engine.begin() as connection:
            self._say(connection, place, record, again=refresh)

    @precondition(lambda self: any(not r.inchikey and r.identifiers and not r.pinned for r in self.records.values()))
    @rule(structure=st.sampled_from([s for s in STRUCTURES if s]), part=st.booleans(), data=st.data())
    def meet(self, structure: str, part: bool, data: st.DataObject) -> None:
        """A record with a structure states the identifiers of one without, so that they become one drug, or part again."""
        loose = sorted(p for p, r in self.records.items() if not r.inchikey and r.identifiers and not r.pinned)
        chosen = data.draw(st.sampled_from(loose), label="loose")
        place = data.draw(places.filter(lambda p: p != chosen), label="place")
        record = Record(structure, self.records[chosen].identifiers, "met", None, None, None)
        with self.engine.begin() as connection:
            self._say(connection, place, record, again=False)
        self.every_fact_is_under_the_right_substance()
        with self.engine.connect() as connection:
            merges = [m for m in list_merges(connection) if (m["source"], m["key"]) == chosen and not m["undone_at"]]
        if part and merges:
            self._undo(merges[0])

    @rule(record=contents, data=st.data())
    def insert_elsewhere(self, record: Record, data: st.DataObject) -> None:
        free = [(source, key) for source in SOURCES for key in KEYS if (source, key) not in self.records]
        with self.engine.begin() as connection:
            self._say(connection, data.draw(st.sampled_from(free or list(self.records))), record, again=False)

    @precondition(lambda self: self.records)
    @rule(place=places, name=st.sampled_from(("alpha", "delta")))
    def change_name(self, place: Key, name: str) -> None:
        if place in self.records:
            with self.engine.begin() as connection:
                self._say(connection, place, replace(self.records[place], name=name), again=False)

    @precondition(lambda self: self.records)
    @rule(place=places, structure=st.sampled_from(list(STRUCTURES)))
    def change_structure(self, place: Key, structure: str | None) -> None:
        if place in self.records:
            with self.engine.begin() as connection:
                self._say(connection, place, replace(self.records[place], structure=structure), again=False)

    @precondition(lambda self: self.merges)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        with self.engine.connect() as connection:
            merges = [m for m in list_merges(connection) if m["undone_at"] is None]
        if merges:
            self._undo(data.draw(st.sampled_from(merges), label="merge"))

    def _undo(self, chosen: dict[str, Any]) -> None:
        same = ("from_identity", "to_identity", "at")
        with self.engine.connect() as connection:
            merges = [m for m in list_merges(connection) if m["undone_at"] is None]
        moved = {(m["source"], m["key"]) for m in merges if all(m[n] == chosen[n] for n in same)}
        with self.engine.connect() as connection:
            try:
                undo_merge(connection, chosen["id"], begin(connection))
            except NotFound:
                assert not moved <= set(self.records)
                return
            except DataError:
                assert any(self.records[place].inchikey for place in moved)
                return
            connection.commit()
        for place in moved:
            self.records[place] = replace(self.records[place], pinned=chosen["from_identity"])

    @precondition(lambda self: len(self.records) > 1)
    @rule(place=places)
    def retract(self, place: Key) -> None:
        with self.engine.begin() as connection:
            assert retract_records(connection, begin(connection), [place]) == (place in self.records)
        self.records.pop(place, None)
        self.pairs = {pair for pair in self.pairs if place not in pair}

    @precondition(lambda self: len(self.records) > 3)
    @rule(source=st.sampled_from(SOURCES))
    def remove(self, source: str) -> None:
        with self.engine.begin() as connection:
            remove_source(connection, begin(connection), source)
        self.records = {place: record for place, record in self.records.items() if place[0] != source}
        self.pairs = {pair for pair in self.pairs if pair[0][0] != source}

    @precondition(lambda self: self.records)
    @rule()
    def compute(self) -> None:
        """What the source rdkit does, and the relations: from the SMILES that each drug has now."""
        with self.engine.begin() as connection:
            run_id = begin(connection)
            register_source(connection, COMPUTED)
            rows = connection.execute(select(drug.c.id, drug.c.smiles).where(drug.c.smiles.is_not(None))).all()
            batch = RecordBatch(payloads=[
                PropertyRecord(n, document(f"computed {smiles}", "computed"), {"tpsa": len(smiles)}, computed_from=smiles)
                for n, smiles in rows
            ])
            write_batch(connection, run_id, "computed", batch)
            relate(connection)

    @rule(place=places, record=contents, also=st.booleans())
    def die_half_way(self, place: Key, record: Record, also: bool) -> None:
        before = dict(self.records)
        connection = self.engine.connect()
        transaction = connection.begin()
        self._say(connection, place, record, again=False)
        if also:
            retract_records(connection, begin(connection), [place])
        transaction.rollback()
        connection.close()
        self.engine.dispose()
        self.records = before

    @precondition(lambda self: len(self.records) > 1)
    @rule(a=places, b=places)
    def say_that_two_interact(self, a: Key, b: Key) -> None:
        if a in self.records and b in self.records and a[0] == b[0]:
            with self.engine.begin() as connection:
                fact = InteractionRecord(a[1], b[1], document("pair", a[0]), "a list", "CC0-1.0", "major")
                keep = RecordBatch(interactions=[fact])
                run_id = begin(connection)
                said = [
                    DrugRecord(
                        key, self.records[a[0], key].name, document(f"say {key}", a[0]), "unknown",
                        *STRUCTURES[self.records[a[0], key].structure],
                        identifiers=tuple(Identifier.parse(i) for i in sorted(self.records[a[0], key].identifiers)),
                    )
                    for key in {a[1], b[1]}
                ]
                keep.drugs = said
                write_batch(connection, run_id, a[0], keep)
            identities = self.identities()
            if identities[a] != identities[b]:
                self.pairs.add((min(a, b), max(a, b)))

    def claims(self) -> list[Claim]:
        return [
            Claim(source, key, r.inchikey, r.identifiers, r.pinned, r.name, "unknown", STRUCTURES[r.structure][0])
            for (source, key), r in self.records.items()
        ]

    def identities(self) -> dict[Key, str]:
        """Who every record is, by all claims at once."""
        return resolve(self.claims())[0]

    def portraits(self) -> dict[str, tuple[str, str | None, str | None]]:
        """What every drug shows of itself."""
        identities, members = self.identities(), defaultdict(list)
        for claim in self.claims():
            members[identities[claim.source, claim.key]].append(claim)
        found = {identity: portray(identity, claims) for identity, claims in members.items()}
        return {identity: (shown.name, shown.smiles, shown.inchikey) for identity, shown in found.items()}

    @invariant()
    def every_fact_is_under_the_right_substance(self) -> None:
        identities = self.identities()
        expected = {
            "drug_record": {(identities[p], *p) for p in self.records},
            "drug_name": {(identities[p], *p, r.name) for p, r in self.records.items()},
            "identifier": {(identities[p], *p, i) for p, r in self.records.items() for i in r.identifiers},
            "text": {(identities[p], *p, r.about) for p, r in self.records.items() if r.about},
            "property_set": {(identities[p], *p, r.mass) for p, r in self.records.items() if r.mass},
            "drug_atc": {(identities[p], *p, r.code) for p, r in self.records.items() if r.code},
        }
        with self.engine.connect() as connection:
            for table, columns in FOUND.items():
                rows = connection.execute(text(
                    f"SELECT d.identity, {columns} FROM mkmed.{table} t JOIN mkmed.drug d ON d.id = t.drug_id"
                ))
                found = [tuple(row) for row in rows]
                if table == "property_set":
                    found = [row for row in found if row[1] is not None]
                assert len(found) == len(set(found)) and set(found) == expected[table], table
            pairs = connection.execute(text("SELECT a_source, a_key, b_source, b_key FROM mkmed.interaction")).all()
            assert {((row[0], row[1]), (row[2], row[3])) for row in pairs} == self.pairs
            shown = {row.identity: (row.name, row.smiles, row.inchikey) for row in connection.execute(select(drug))}
            assert shown == self.portraits()
            self.merges = any(merge["undone_at"] is None for merge in list_merges(connection))
            assert [check for check in verify(connection) if check.broken] == []


FOUND = {
    "drug_record": "t.source, t.key",
    "drug_name": "t.source, t.key, t.name",
    "identifier": "t.source, t.key, t.namespace || ':' || t.value",
    "text": "t.record_source, t.record_key, t.content",
    "property_set": "t.record_source, t.record_key, (t.values ->> 'mol_weight')::float8",
    "drug_atc": "t.record_source, t.record_key, t.code",
}
