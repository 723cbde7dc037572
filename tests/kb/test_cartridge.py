"""RDKit's extension of PostgreSQL, where Debian's is installed: what it answers is what we answer without it.

Debian's PostgreSQL 15 has the extension and no pgvector, so a knowledge base cannot lie there; what a search of
substructures asks of the extension is asked of a table of the same columns, and its Tanimoto beside that of our bits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rdkit import Chem
from sqlalchemy import Connection, create_engine, text

from kb.identity.fingerprints import compute_fingerprints, morgan_bits, pattern_bits
from kb.query import find
from tests.bundled_drugs import drugs

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
EXTENSION = Path("/usr/share/postgresql/15/extension/rdkit.control")
COUNT = 1_200
SMARTS = ["c1ccccc1C(=O)N", "[NX3;H2]", "C(=O)[O;H1,-]", "[#7]~C~[#7]", "[Na+]", "C1CCNCC1", "S(=O)(=O)N", "[R]=[R]", "*"]

pytestmark = pytest.mark.skipif(not (PROGRAMS / "initdb").exists() or not EXTENSION.exists(),
                                reason="RDKit's extension is not installed: apt-get install postgresql-15-rdkit")


@pytest.fixture(scope="module")
def cartridge() -> Iterator[Connection]:
    """A connection to a server of Debian's with RDKit's extension and the fingerprints of a part of the corpus."""
    folder = Path(tempfile.mkdtemp(prefix="mkc-", dir="/tmp"))
    data = folder / "data"
    account = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if account:
        shutil.chown(folder, "postgres")

    def do(program: str, *words: str) -> None:
        subprocess.run([*account, str(PROGRAMS / program), "-D", str(data), *words], check=True, stdout=subprocess.DEVNULL)

    do("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c rdkit.morgan_fp_size=2048"
    do("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    engine = create_engine(f"postgresql+psycopg2://postgres@/postgres?host={folder}")
    try:
        with engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION rdkit; CREATE SCHEMA mkmed; CREATE TABLE mkmed.fingerprints"
                                    " (drug_id bigint, name text, smiles text, morgan bit(2048), pattern bit(2048))"))
            kept = [(n, row["smiles"]) for n, row in enumerate(drugs()) if row["smiles"]][:COUNT]
            values = [{"i": i, "n": drugs()[i]["name"], "s": s, "m": m, "p": p} for i, s, m, p in compute_fingerprints(kept)]
            connection.execute(text("INSERT INTO mkmed.fingerprints VALUES (:i, :n, :s, CAST(:m AS bit(2048)),"
                                    " CAST(:p AS bit(2048)))"), values)
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
        do("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_the_extension_is_found(cartridge: Connection) -> None:
    assert find.has_cartridge(cartridge)
    assert cartridge.scalar(text("SELECT count(*) FROM mkmed.fingerprints")) > COUNT * 0.99


@pytest.mark.parametrize("smarts", SMARTS)
def test_the_extension_finds_what_rdkit_finds_here(cartridge: Connection, smarts: str) -> None:
    """Every drug that has the part by RDKit in Python, and none that the extension says has it and Python does not."""
    pattern = find.read_smarts(smarts)
    found = find.screened(cartridge, smarts, pattern, None)
    every = cartridge.execute(text("SELECT drug_id, name, smiles FROM mkmed.fingerprints ORDER BY drug_id")).all()
    wanted = [row for row in every if Chem.MolFromSmiles(row.smiles).HasSubstructMatch(pattern)]
    assert found == wanted and wanted, smarts
    assert find.screened(cartridge, smarts, pattern, 1) == wanted[:1]
    assert set(wanted) <= set(cartridge.execute(find.SCREEN, {"bits": pattern_bits(pattern)}).all())


def test_its_likeness_is_ours(cartridge: Connection) -> None:
    """The extension's Tanimoto of its own Morgan bits, radius 2, is that of the bits that pgvector compares."""
    asked = "OC(=O)c1ccccc1O"
    rows = cartridge.execute(text("""
        SELECT drug_id, tanimoto_sml(morganbv_fp(mol_from_smiles(CAST(smiles AS cstring)), 2),
                                     morganbv_fp(mol_from_smiles(CAST(:asked AS cstring)), 2)) AS theirs,
               bit_count(morgan & CAST(:bits AS bit(2048)))::float8
               / bit_count(morgan | CAST(:bits AS bit(2048))) AS ours
        FROM mkmed.fingerprints"""), {"asked": asked, "bits": morgan_bits(Chem.MolFromSmiles(asked))}).all()
    apart = [row.drug_id for row in rows if abs(row.theirs - row.ours) > 1e-6]
    assert len({round(row.ours, 6) for row in rows}) > 100
    assert apart == []
