"""How long a user's table of compounds takes to be known, beside plain RDKit and COPY of the same rows.

Run: ``python benchmarks/bench_tabular.py TABLE.tsv [--limit N] [--release CHECKOUT]`` with the columns cid, cas,
smiles, inchikey, name and synonym, or with the identifiers of the package chemicals (``.tsv.gz``, no header; a dozen
synonyms are taken). With the checkout of a release, 0.1.0 among them, its code reads the same rows. The floor is what
the table says and no more: the same standard forms of every structure (RDKit, two
processes, 1,000 at a time) and the rows of compounds, names and identifiers by COPY into three bare tables, committed.
An ingest is then killed half-way and run again: it must go on, and leave what the uninterrupted one left.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import multiprocessing
import signal
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from ingest_child import finish, start
from record import report, scratch_home
from sqlalchemy import Engine, text

from kb import output
from kb.chemistry import standardise
from kb.db.bulk import copy_arrays
from kb.db.engine import open_engine
from kb.errors import DataError

COLUMNS = {
    "name": "name", "smiles": "smiles", "inchikey": "inchikey", "synonym": "synonym",
    "identifier.pubchem.compound": "cid", "identifier.cas": "cas",
}
WORKERS, CHUNK = 2, 1000
LIMIT = 2.0
TABLES = {
    "compound": ("key text, name text, smiles text, inchikey text, formula text", 5),
    "name": ("key text, name text", 2),
    "identifier": ("key text, namespace text, value text", 3),
}
LEFT = """
SELECT (SELECT count(*) FROM mkmed.drug), (SELECT count(*) FROM mkmed.drug_record),
       (SELECT count(*) FROM mkmed.drug_name), (SELECT count(*) FROM mkmed.identifier),
       (SELECT bit_xor(hashtextextended(identity, 0)) FROM mkmed.drug)"""


def forms(smiles: str) -> tuple[str | None, str | None, str | None]:
    """SMILES, InChIKey and formula of a structure; None three times for one that RDKit refuses."""
    try:
        molecule = standardise(smiles)
    except DataError:
        return None, None, None
    return molecule.smiles, molecule.inchikey, molecule.formula


def floor(engine: Engine, path: Path) -> float:
    """Seconds of the plain loop; the processes are there before the clock starts."""
    with engine.begin() as connection:
        for name, (columns, _) in TABLES.items():
            connection.execute(text(f"DROP TABLE IF EXISTS public.{name}"))
            connection.execute(text(f"CREATE TABLE public.{name} ({columns})"))
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool, path.open(newline="") as stream:
        pool.map(forms, ["C"] * 100)
        begun = time.perf_counter()
        rows = csv.DictReader(stream, delimiter="\t")
        while chunk := list(islice(rows, CHUNK)):
            found = pool.map(forms, [row["smiles"] for row in chunk], chunksize=16)
            made: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
            for row, shape in zip(chunk, found, strict=True):
                made["compound"].append((row["cid"], row["name"], *shape))
                made["name"] += [(row["cid"], name) for name in row["synonym"].split("|")]
                made["identifier"] += [(row["cid"], "cid", row["cid"]), (row["cid"], "cas", row["cas"])]
            with engine.begin() as connection:
                for name, (columns, width) in TABLES.items():
                    titles = [column.split()[0] for column in columns.split(", ")]
                    arrays = [[row[i] for row in made[name]] for i in range(width)]
                    copy_arrays(connection, f"public.{name}", titles, arrays)
        return time.perf_counter() - begun


def name_columns(source: Path, target: Path) -> None:
    """Write the identifiers of the package chemicals, which have no header, as a table whose columns have names."""
    with gzip.open(source, "rt", encoding="utf-8") as rows, target.open("w", newline="") as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS.values())
        for row in rows:
            cells = row.rstrip("\n").split("\t")
            names = [name for name in cells[8:] if name]
            said = {"cid": cells[0], "cas": cells[1], "smiles": cells[4], "inchikey": cells[6],
                    "name": (names or [cells[7] or cells[1]])[0],
                    "synonym": "|".join(dict.fromkeys(name for name in names[1:13] if "|" not in name))}
            writer.writerow(said[column] for column in COLUMNS.values())


def write_part(source: Path, target: Path, limit: int | None) -> None:
    """Write the first rows of a table, or all, with the names of ``COLUMNS``."""
    if source.suffix == ".gz":
        name_columns(source, target)
        source = target
    with source.open() as stream:
        lines = list(islice(stream, limit and limit + 1))
    target.write_text("".join(lines))


def left(engine: Engine) -> tuple[Any, ...]:
    """What there is after an ingest."""
    with engine.connect() as connection:
        return tuple(connection.execute(text(LEFT)).one())


def ingest(path: Path, killed_after: float | None = None) -> tuple[dict[str, Any], tuple[Any, ...], float]:
    """What an ingest into an empty database said, what it left, and the floor of the same server.

    With ``killed_after`` seconds it is killed once and run again.
    """
    with scratch_home():
        engine = open_engine()
        seconds = floor(engine, path)
        options = {"columns": COLUMNS, "workers": WORKERS}
        if killed_after:
            child = start("tabular", path, options)
            time.sleep(killed_after)
            child.send_signal(signal.SIGKILL)
            child.communicate()
        said = finish(start("tabular", path, options))
        found = left(engine)
        engine.dispose()
    return said, found, seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="tab-separated, with the columns named above")
    parser.add_argument("--limit", type=int, help="only so many rows")
    parser.add_argument("--release", type=Path, help="a checkout of a release, whose code reads the same rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.table
        if path.suffix == ".gz" or options.limit:
            path = Path(folder) / "some.tsv"
            write_part(options.table, path, options.limit)
        holds = conclude(path, options.release)
    sys.exit(0 if holds else 1)


def released(path: Path, checkout: Path) -> dict[str, Any]:
    """What the ingest of the same rows by a release's code said."""
    with scratch_home():
        return finish(start("tabular", path, {"columns": COLUMNS, "workers": WORKERS}, checkout))


def conclude(path: Path, release: Path | None) -> bool:
    """Print and write the figures; whether all limits hold."""
    whole, wanted, floor_before = ingest(path)
    again, found, floor_after = ingest(path, killed_after=whole["seconds"] / 2)
    base = min(floor_before, floor_after)
    count = whole["counts"]["drugs"]
    rows = [
        {"what": "floor: RDKit standard forms in two processes + COPY", "seconds": base, "ratio": 1.0,
         "rows/s": count / base},
        {"what": "ingest", "seconds": whole["seconds"], "ratio": whole["seconds"] / base,
         "rows/s": count / whole["seconds"], "cpu s": whole["cpu"], "load": whole["load"], "peak MiB": whole["mib"]},
        {"what": "again after SIGKILL half-way", "seconds": again["seconds"], "ratio": again["seconds"] / base},
    ]
    if release is not None:
        old = released(path, release)
        rows.append({"what": f"ingest by {release.name}", "seconds": old["seconds"], "ratio": old["seconds"] / base,
                     "rows/s": old["counts"]["drugs"] / old["seconds"], "cpu s": old["cpu"], "load": old["load"],
                     "peak MiB": old["mib"]})
    same, resumed = found == wanted, again["counts"]["drugs"] < count
    holds = whole["seconds"] <= LIMIT * base and same and resumed
    report("tabular", rows, title=f"{count:,} rows", floors=[floor_before, floor_after], same=same, resumed=resumed,
           holds=holds)
    output.say(f"after the kill it went on: {resumed}, and left the same: {same}; limits hold: {holds}")
    return holds


if __name__ == "__main__":
    main()
