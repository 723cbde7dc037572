"""How long DRKG at full size takes from the TSV to the linked, checked graph, beside the raw COPY of the same rows.

Run: ``python benchmarks/bench_drkg.py [--entities embed/entities.tsv] [--keep drkg.tsv]``. The file is synthetic:
DRKG's relation names, counts and skew, and its entity names where its ``entities.tsv`` is given. The floor is measured
in the same run on the same server: sorted, encoded triples with their provenance by binary COPY, a primary key and a
second index, committed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from drkg_like import make
from ingest_child import finish, start
from record import report, scratch_home
from sqlalchemy import Engine, text

from kb import output
from kb.db.bulk import copy_arrays
from kb.db.engine import open_engine
from kb.graph.load import CodedTriples
from kb.sources.drkg.read import read_triples

LIMITS = {"first ingest": 2.0, "second ingest": 1.5}
LIMIT_MIB = 1024
DRUGS = 10_000
SETUP = """
INSERT INTO mkmed.licence (id, title, share) VALUES ('x', 'x', 'open');
INSERT INTO mkmed.source (name, title, url, origin, licence_id) VALUES ('bench', '', '', 'user', 'x');
INSERT INTO mkmed.run (id, stage, status, version, host, pid, finished_at)
VALUES (gen_random_uuid(), 'ingest', 'complete', '', '', 0, now());
INSERT INTO mkmed.content (sha256, payload, bytes) VALUES (sha256(''), '', 0);
INSERT INTO mkmed.artifact (id, content, media_type, source, url, licence_id, attribution, parser, retrieved_at, run_id)
SELECT sha256(''), sha256(''), '', 'bench', '', 'x', '', '', now(), id FROM mkmed.run;
INSERT INTO mkmed.drug (identity, name, kind, run_id)
SELECT 'drugbank:' || v, v, 'unknown', (SELECT id FROM mkmed.run LIMIT 1) FROM unnest(CAST(:names AS text[])) v;
INSERT INTO mkmed.drug_record (source, key, drug_id, name, kind, identifiers, artifact)
SELECT 'bench', identity, id, name, kind, jsonb_build_array(identity), sha256('') FROM mkmed.drug;
INSERT INTO mkmed.identifier (drug_id, namespace, value, source, key, artifact)
SELECT id, 'drugbank', name, 'bench', identity, sha256('') FROM mkmed.drug
"""
"""Ten thousand drugs, made in SQL: the benchmark is not about them."""


def floor(engine: Engine, triples: CodedTriples) -> float:
    """Seconds of the raw COPY, the primary key and the second index."""
    begun = time.perf_counter()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS public.floor"))
        columns = ", ".join(f"{name} int NOT NULL" for name in ("head", "relation", "tail"))
        connection.execute(text(f"CREATE TABLE public.floor ({columns}, provenance smallint NOT NULL)"))
        arrays = [triples.heads, triples.relations, triples.tails, triples.relations.astype(np.int16)]
        copy_arrays(connection, "public.floor", ["head", "relation", "tail", "provenance"], arrays)
        connection.execute(text("ALTER TABLE public.floor ADD PRIMARY KEY (head, relation, tail, provenance)"))
        connection.execute(text("CREATE INDEX ON public.floor (tail, relation, head)"))
    seconds = time.perf_counter() - begun
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE public.floor"))
    return seconds


def add_drugs(engine: Engine, triples: CodedTriples) -> None:
    """Drugs for the ledger's sake: most are in the graph under their DrugBank id, some are not."""
    known = [n.removeprefix("Compound::") for n in triples.entities if n.startswith("Compound::DB") and len(n) == 17]
    rng = np.random.default_rng(0)
    chosen = sorted(rng.permutation(known)[: DRUGS - 500].tolist()) + [f"DB{90000 + i}" for i in range(500)]
    with engine.begin() as connection:
        for statement in SETUP.split(";"):
            connection.execute(text(statement), {"names": chosen})


def state(engine: Engine) -> str:
    """A digest over everything that an ingest may write, but for the runs."""
    tables = ("kg_triple", "kg_entity", "kg_relation", "kg_provenance", "kg_alias", "drug_entity", "cell", "lookup",
              "artifact")
    with engine.connect() as connection:
        return str(
            [
                connection.scalar(
                    text(f"SELECT (count(*), bit_xor(hashtextextended(t::text, 0)))::text FROM mkmed.{table} t")
                )
                for table in tables
            ]
        )


def measure(home: Path, entities: Path | None, keep: Path | None) -> dict:
    """All figures."""
    path = keep or home / "drkg.tsv"
    if not path.exists():
        make(path, entities)
    triples = read_triples(path)
    engine = open_engine()
    add_drugs(engine, triples)
    floors = [floor(engine, triples)]
    first = finish(start("drkg", path))
    floors.append(floor(engine, triples))
    left = state(engine)
    second = finish(start("drkg", path))
    unchanged = state(engine) == left
    floors.append(floor(engine, triples))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM mkmed.kg_triple WHERE head % 1000 = 1"))
    healed = finish(start("drkg", path))
    with engine.connect() as connection:
        count = connection.scalar(text("SELECT count(*) FROM mkmed.kg_triple"))
    engine.dispose()
    return {
        "lines": triples.counts.rows,
        "bytes": path.stat().st_size,
        "floors": floors,
        "first": first,
        "second": second,
        "healed": healed,
        "second_changed_nothing": unchanged,
        "triples": count,
    }


def conclude(found: dict) -> bool:
    """Print and write the figures beside the fastest of the floors; whether all limits hold."""
    base = min(found["floors"])
    rows = [{"what": "floor: binary COPY + primary key + second index", "seconds": base, "ratio": 1.0, "limit": None}]
    for what, key in (("first ingest", "first"), ("second ingest", "second"), ("after 0.1 % was deleted", "healed")):
        ran = found[key]
        rows.append(
            {
                "what": what,
                "seconds": ran["seconds"],
                "ratio": ran["seconds"] / base,
                "limit": LIMITS.get(what),
                "peak MiB": ran["mib"],
                "of them libraries": ran["mib_before"],
            }
        )
    holds = all(row["limit"] is None or row["ratio"] <= row["limit"] for row in rows)
    holds &= found["second_changed_nothing"] and found["first"]["mib"] <= LIMIT_MIB
    title = f"{found['lines']:,} lines, {found['bytes'] / 1e6:.0f} MB (synthetic)"
    report("drkg", rows, title=title, **found, floor=base, holds=bool(holds))
    output.say(
        f"floors {', '.join(f'{s:.2f}' for s in found['floors'])} s; second run changed nothing:"
        f" {found['second_changed_nothing']}; limits hold: {holds}"
    )
    return bool(holds)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=Path, help="DRKG's embed/entities.tsv")
    parser.add_argument("--keep", type=Path, help="where the synthetic file lies, or shall lie, beyond this run")
    options = parser.parse_args()
    with scratch_home() as home:
        holds = conclude(measure(home, options.entities, options.keep))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
