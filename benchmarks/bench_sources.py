"""Reading files of the size of ChEMBL, RxNorm and PrimeKG, beside plain reading: rate, and memory up to 1 GiB.

    python benchmarks/bench_sources.py [--molecules 2400000] [--concepts 200000] [--edges 8100498]

The files are synthesised in the publishers' schemas and say nothing of chemistry; every hundredth molecule is clinical.
Read is everything but the database: selection, RDKit's check of each structure, records, and of graphs the encoded
triples. Exits with 1 where more than 1 GiB was held.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from kb import output

SCHEMA = """
CREATE TABLE molecule_dictionary (molregno BIGINT PRIMARY KEY, pref_name TEXT, chembl_id TEXT, max_phase NUMERIC,
    molecule_type TEXT);
CREATE TABLE compound_structures (molregno BIGINT PRIMARY KEY, standard_inchi TEXT, standard_inchi_key TEXT,
    canonical_smiles TEXT, molfile TEXT);
CREATE TABLE molecule_synonyms (molregno BIGINT, syn_type TEXT, synonyms TEXT);
CREATE TABLE molecule_atc_classification (molregno BIGINT, level5 TEXT);
CREATE TABLE molecule_hierarchy (molregno BIGINT PRIMARY KEY, parent_molregno BIGINT);
CREATE TABLE target_dictionary (tid BIGINT PRIMARY KEY, pref_name TEXT, chembl_id TEXT, organism TEXT);
CREATE TABLE drug_mechanism (molregno BIGINT, mechanism_of_action TEXT, tid BIGINT, action_type TEXT);
CREATE TABLE drug_indication (molregno BIGINT, max_phase_for_ind NUMERIC, mesh_id TEXT, mesh_heading TEXT, efo_id TEXT,
    efo_term TEXT);
"""
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"


def make_chembl(path: Path, molecules: int, clinical: int) -> None:
    """A database of so many molecules, every ``clinical``-th with a phase; structures are chains of carbon."""
    with sqlite3.connect(path) as base:
        base.executescript("PRAGMA journal_mode = off; PRAGMA synchronous = off;" + SCHEMA)
        base.execute(f"INSERT INTO molecule_dictionary {NUMBERS} SELECT i, 'MOLECULE ' || i, 'CHEMBL' || i,"
                     " CASE WHEN i % ? = 0 THEN 4 END, 'Small molecule' FROM n", (molecules, clinical))
        base.execute(f"INSERT INTO compound_structures {NUMBERS} SELECT i, printf('InChI=1S/%0200d', i), NULL,"
                     " 'C' || substr('CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC', 1, 1 + i % 30) || 'O', printf('%0400d', i)"
                     " FROM n", (molecules,))
        base.execute(f"INSERT INTO molecule_hierarchy {NUMBERS} SELECT i, i FROM n", (molecules,))
        base.execute(f"INSERT INTO molecule_synonyms {NUMBERS} SELECT i, 'INN', 'name ' || i FROM n",
                     (molecules // 10,))
    base.close()


def make_rxnorm(folder: Path, concepts: int) -> None:
    """RXNCONSO, RXNREL and RXNSAT with so many products, one ingredient for fifteen of them."""
    folder.mkdir()
    base = 1_000_000
    with (folder / "RXNCONSO.RRF").open("w") as conso, (folder / "RXNREL.RRF").open("w") as rel, \
            (folder / "RXNSAT.RRF").open("w") as sat:
        for i in range(concepts):
            ingredient, product = base + i // 15, 3_000_000 + i
            if i % 15 == 0:
                conso.write(f"{ingredient}|ENG||||||A|S|S||RXNORM|IN|{ingredient}|ingredient {i}|0|N|4096|\n")
            conso.write(f"{product}|ENG||||||A|S|S||RXNORM|SCD|{product}|ingredient {i} 5 MG Oral Tablet|0|N|4096|\n")
            conso.write(f"{product}|ENG||||||A|S|S||SNOMEDCT_US|PT|{product}|the same elsewhere|9|N||\n")
            for word in ("has_ingredient", "ingredient_of", "isa", "inverse_isa", "quantified_form_of"):
                rel.write(f"{ingredient}||CUI|RO|{product}||CUI|{word}|R||RXNORM|RXNORM||||4096|\n")
            for ndc in range(5):
                sat.write(f"{product}|||A|AUI|{product}|AT||NDC|RXNORM|{i * 10 + ndc:011d}|N|4096|\n")


def make_primekg(path: Path, edges: int) -> None:
    """kg.csv with so many rows, every edge in both directions, over as many nodes as PrimeKG has (129,375)."""
    kinds = (("disease_protein", "gene/protein", "NCBI", "disease", "MONDO"),
             ("protein_protein", "gene/protein", "NCBI", "gene/protein", "NCBI"),
             ("indication", "drug", "DrugBank", "disease", "MONDO"),
             ("drug_effect", "drug", "DrugBank", "effect/phenotype", "HPO"))
    with path.open("w") as file:
        file.write("relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n")
        for i in range(edges // 2):
            word, x, x_source, y, y_source = kinds[2 if i % 100 == 0 else (0, 1, 3)[i % 3]]
            a, b = i * 7919 % 64_000, 64_000 + i * 104_729 % 65_375
            one, other = f"{a},{a},{x},name of {a},{x_source}", f"{b},{b},{y},name of {b},{y_source}"
            file.write(f"{word},{word},{one},{other}\n{word},{word},{other},{one}\n")


READ = """
import sys, time, json, resource
from datetime import UTC, datetime
from pathlib import Path
from kb.sources.contract import Document
from kb.sources import SOURCES
from kb.sources.stream import Edges, Entry, Sold
from kb.sources.tables.read import UserTable
name, path = sys.argv[1], Path(sys.argv[2])
paper = Document(name, "f", "text/plain", "CC0-1.0", "", datetime.now(UTC), "x", uri="f", sha256=bytes(32))
source, begun, taken, items = SOURCES[name](), time.process_time(), 0, 0
for item in source.entries(path, paper):
    items += item.items
    taken += isinstance(item, Entry | Sold)
if name == "primekg":
    edges = Edges()
    for row in source.rows(UserTable(path)):
        items += 1
        taken += source.take(row, edges, paper) is None
    edges.encoded()
else:
    graph = source.edges(path, paper)
    graph.encoded()
print(json.dumps({"items": items, "taken": taken, "cpu_s": round(time.process_time() - begun, 1),
                  "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
"""
PLAIN = """
import sqlite3, sys, time, json, resource
begun, items = time.process_time(), 0
if sys.argv[1] == "chembl":
    base = sqlite3.connect(sys.argv[2])
    for row in base.execute("SELECT d.*, s.canonical_smiles, s.standard_inchi_key FROM molecule_dictionary d"
                            " LEFT JOIN compound_structures s USING (molregno) ORDER BY d.molregno"):
        items += 1
elif sys.argv[1] == "primekg":
    import csv
    for row in csv.reader(open(sys.argv[2], encoding="utf-8", newline="")):
        items += 1
else:
    for name in ("RXNCONSO", "RXNREL", "RXNSAT"):
        for line in open(f"{sys.argv[2]}/{name}.RRF", encoding="utf-8"):
            line.split("|")
            items += 1
print(json.dumps({"items": items, "cpu_s": round(time.process_time() - begun, 1),
                  "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
"""


def measured(script: str, name: str, path: Path) -> dict[str, float]:
    """What the script prints, in a process of its own."""
    answer = subprocess.run([sys.executable, "-c", script, name, str(path)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def main() -> None:
    """Make the files, read each both ways, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=2_400_000)
    parser.add_argument("--concepts", type=int, default=200_000)
    parser.add_argument("--edges", type=int, default=8_100_498)
    given = parser.parse_args()
    result: dict[str, object] = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    too_much = False
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        make_chembl(Path(folder) / "chembl.db", given.molecules, 100)
        make_rxnorm(Path(folder) / "rrf", given.concepts)
        make_primekg(Path(folder) / "kg.csv", given.edges)
        output.say(f"made in {time.perf_counter() - begun:.0f} s")
        for name, path in (("chembl", Path(folder) / "chembl.db"), ("rxnorm", Path(folder) / "rrf"),
                           ("primekg", Path(folder) / "kg.csv")):
            ours, plain = measured(READ, name, path), measured(PLAIN, name, path)
            result[name] = {"bytes": sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir())),
                            "ours": ours, "plain": plain}
            output.write(f"{name} {json.dumps(result[name])}")
            too_much |= ours["peak_MiB"] > 1024
    full = parser.parse_args([])
    if vars(given) == vars(full):
        (Path(__file__).parent / "results" / "sources.json").write_text(json.dumps(result, indent=1) + "\n")
    if too_much:
        raise SystemExit("more than 1 GiB was held")


if __name__ == "__main__":
    main()
