"""Bits of every structure: Morgan's for similarity, RDKit's pattern for screening what may contain a substructure.

A fingerprint is of one SMILES, whose sha256 it names; where the drug's structure changed since, it counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from kb.chemistry import quiet

if TYPE_CHECKING:
    from rdkit.Chem import Mol

BITS = 2048
RADIUS = 2
AT_ONCE = 20_000
"""Structures whose bits an ingest computes at its end, a few seconds of work; a search computes what is left."""
CHUNK = 2000
STALE = """
    SELECT d.id, d.smiles FROM mkmed.drug d LEFT JOIN mkmed.fingerprint f ON f.drug_id = d.id
    WHERE d.smiles IS NOT NULL AND f.input IS DISTINCT FROM sha256(convert_to(d.smiles, 'UTF8'))
    ORDER BY d.id LIMIT :limit"""
WRITE = """
    INSERT INTO mkmed.fingerprint (drug_id, morgan, pattern, input)
    SELECT d.id, CAST(n.morgan AS bit(2048)), CAST(n.pattern AS bit(2048)), sha256(convert_to(d.smiles, 'UTF8'))
    FROM unnest(CAST(:ids AS bigint[]), CAST(:smiles AS text[]), CAST(:morgan AS text[]), CAST(:pattern AS text[]))
        AS n (id, smiles, morgan, pattern)
    JOIN mkmed.drug d ON d.id = n.id AND d.smiles = n.smiles ORDER BY d.id
    ON CONFLICT (drug_id) DO UPDATE
        SET morgan = excluded.morgan, pattern = excluded.pattern, input = excluded.input"""
INDEX_ABOVE = 50_000
"""Structures above which likeness is asked of an index: below, comparing with every one is exact and as fast."""
INDEX = "CREATE INDEX IF NOT EXISTS ix_fingerprint_morgan ON mkmed.fingerprint USING hnsw (morgan bit_jaccard_ops)"
FORGET = "DELETE FROM mkmed.fingerprint f USING mkmed.drug d WHERE d.id = f.drug_id AND d.smiles IS NULL"


def morgan_bits(molecule: Mol) -> str:
    """The Morgan bits of a molecule, radius 2, as 2048 zeros and ones."""
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    return str(GetMorganGenerator(radius=RADIUS, fpSize=BITS).GetFingerprint(molecule).ToBitString())


def tanimoto(molecule: Mol, smiles: str) -> float:
    """The Tanimoto similarity of the Morgan bits of a molecule and of a readable SMILES."""
    from rdkit import Chem
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
    from rdkit.DataStructs import TanimotoSimilarity

    generator = GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    other = generator.GetFingerprint(Chem.MolFromSmiles(smiles))
    return float(TanimotoSimilarity(generator.GetFingerprint(molecule), other))


def pattern_bits(molecule: Mol) -> str:
    """RDKit's pattern bits of a molecule or a query: those of a substructure are a subset of the whole's."""
    from rdkit.Chem import PatternFingerprint

    return str(PatternFingerprint(molecule, fpSize=BITS).ToBitString())


def due(connection: Connection, limit: int | None = None) -> list[tuple[int, str]]:
    """Pairs of drug id and SMILES of the structures whose bits are missing or of another SMILES."""
    return [(int(row[0]), row[1]) for row in connection.execute(text(STALE), {"limit": limit})]


def compute_fingerprints(rows: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str, str, str]]:
    """(drug id, SMILES, Morgan bits, pattern bits) of every readable structure."""
    from rdkit import Chem
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    quiet()
    morgan = GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    for drug_id, smiles in rows:
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is not None:
            yield drug_id, smiles, morgan.GetFingerprint(molecule).ToBitString(), pattern_bits(molecule)


def renew(connection: Connection, limit: int | None = AT_ONCE) -> int:
    """How many structures got the bits that they lacked, at most ``limit``."""
    connection.execute(text(FORGET))
    rows, made = due(connection, limit), 0
    for start in range(0, len(rows), CHUNK):
        found = list(compute_fingerprints(rows[start:start + CHUNK]))
        columns = [list(column) for column in zip(*found, strict=True)] or [[], [], [], []]
        values = dict(zip(("ids", "smiles", "morgan", "pattern"), columns, strict=True))
        made += connection.execute(text(WRITE), values).rowcount
    if made and _wants_index(connection):
        connection.execute(text(INDEX))
    return made


def _wants_index(connection: Connection) -> bool:
    """Whether there are many structures, and the role is the table's owner and so may index it."""
    return bool(connection.scalar(text("""
        SELECT pg_has_role(relowner, 'member')
               AND (SELECT count(*) FROM (SELECT FROM mkmed.fingerprint LIMIT :most + 1) counted) > :most
        FROM pg_class WHERE oid = 'mkmed.fingerprint'::regclass"""), {"most": INDEX_ABOVE}))
