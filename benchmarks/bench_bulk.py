"""How fast and in how much memory ``pubchem-bulk`` takes 100,000 compounds, and whether it goes on after a SIGKILL.

Run: ``python benchmarks/bench_bulk.py [--records FILE.sdf ...] [--compounds N]``. The compounds are SYNTHETIC: real
PubChem records (the 48 of the tests, or the given files) repeated under new CIDs with made-up InChIKeys, so parsing
costs what it costs for real ones and every compound is a drug of its own. The peer, in the same run, is RDKit's own
reader of the same file with all data items, which writes nothing.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import signal
import sys
import time
from pathlib import Path

from ingest_child import finish, start
from record import report, scratch_home
from sqlalchemy import text

from kb import output, sdf
from kb.db.engine import open_engine
from kb.ledger.verify import verify
from kb.sources.pubchem.bulk import open_bulk

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "pubchem_bulk" / "Compound_sample.sdf.gz"
LIMIT_MIB = 1024
FIRST_CID = 10_000_001


def made_up_key(cid: int) -> str:
    """An InChIKey that no molecule has."""
    letters = "".join(chr(65 + byte % 26) for byte in hashlib.sha256(str(cid).encode()).digest())
    return f"{letters[:14]}-{letters[14:22]}SA-N"


def make(path: Path, sources: list[Path], compounds: int) -> None:
    """Write a gzipped SD file of ``compounds`` records with ascending CIDs."""
    originals = []
    for source in sources:
        with open_bulk(source) as stream:
            originals += [raw.data.decode() for raw in sdf.split(stream) if raw.data]
    with gzip.open(path, "wt", compresslevel=1) as out:
        for cid in range(FIRST_CID, FIRST_CID + compounds):
            record = originals[cid % len(originals)]
            old = record.split("\n", 1)[0].strip()
            record = record.replace(f"{old}\n", f"{cid}\n", 1)
            record = re.sub(r"(<PUBCHEM_COMPOUND_CID>.*\n)\d+", rf"\g<1>{cid}", record)
            record = re.sub(r"(<PUBCHEM_IUPAC_INCHIKEY>.*\n)\S+", rf"\g<1>{made_up_key(cid)}", record)
            out.write(f"{record}$$$$\n")


def read_only(path: Path) -> float:
    """Seconds of RDKit's reader over the whole file."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    begun = time.perf_counter()
    with gzip.open(path) as stream:
        for molecule in Chem.ForwardSDMolSupplier(stream):
            if molecule is not None:
                molecule.GetPropsAsDict()
    return time.perf_counter() - begun


def drugs_now() -> int:
    """How many drugs are committed."""
    with open_engine().connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM mkmed.drug")) or 0


def measure(home: Path, sources: list[Path], compounds: int) -> dict:
    """All figures: killed at about 40 %, resumed to the end, run once more."""
    path = home / "Compound_synthetic.sdf.gz"
    make(path, sources, compounds)
    drugs_now()
    begun = time.perf_counter()
    process = start("pubchem-bulk", path)
    while drugs_now() < 0.4 * compounds and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed_after, kept = time.perf_counter() - begun, drugs_now()
    resumed = finish(start("pubchem-bulk", path))
    again = finish(start("pubchem-bulk", path))
    with open_engine().connect() as connection:
        broken = sum(len(check.broken) for check in verify(connection))
    return {
        "compounds": compounds,
        "bytes": path.stat().st_size,
        "killed_after": killed_after,
        "kept": kept,
        "resumed": resumed,
        "again": again,
        "drugs": drugs_now(),
        "broken_invariants": broken,
        "rdkit_seconds": read_only(path),
    }


def conclude(found: dict) -> bool:
    """Print and write the figures; whether everything holds."""
    n, resumed = found["compounds"], found["resumed"]
    peer = n / found["rdkit_seconds"]
    rate = (n - found["kept"]) / resumed["seconds"]
    rows = [
        {"what": "RDKit reads the file, writes nothing", "compounds": n, "seconds": found["rdkit_seconds"]},
        {"what": "pubchem-bulk, resumed after SIGKILL", "compounds": n - found["kept"], "seconds": resumed["seconds"]},
        {"what": "pubchem-bulk, all there already", "compounds": n, "seconds": found["again"]["seconds"]},
    ]
    for row, mib in zip(rows, (None, resumed["mib"], found["again"]["mib"]), strict=True):
        row["a second"] = row["compounds"] / row["seconds"]
        row["ratio"] = row["a second"] / peer
        row["peak MiB"] = mib
    done = found["drugs"] == n and found["broken_invariants"] == 0 and found["again"]["counts"].get("drugs", 0) == 0
    holds = done and resumed["mib"] <= LIMIT_MIB and resumed["counts"].get("drugs", 0) == n - found["kept"]
    output.say(
        f"killed with {found['kept']:,} committed; {rate:,.0f} a second; broken invariants:"
        f" {found['broken_invariants']}; holds: {holds}"
    )
    title = f"{n:,} compounds (synthetic), {found['bytes'] / 1e6:.0f} MB"
    report("bulk", rows, title=title, **found, rate=rate, holds=holds)
    return holds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, nargs="+", default=[SAMPLE], help="SD files of real PubChem records")
    parser.add_argument("--compounds", type=int, default=100_000)
    options = parser.parse_args()
    with scratch_home() as home:
        holds = conclude(measure(home, options.records, options.compounds))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
