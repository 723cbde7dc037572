"""Finding drugs: by words of their names and texts, by a like structure, by a part of a structure.

Words are PostgreSQL's full-text search and likeness pgvector's Jaccard distance of Morgan bits, both as SQL functions
(``docs/sql.md``). Substructures are screened by bits in the database and decided by RDKit; where the database has
RDKit's own extension, it decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from kb.chemistry import quiet, read_smiles
from kb.errors import DataError, UsageError
from kb.identity.fingerprints import AT_ONCE, morgan_bits, pattern_bits, renew, tanimoto
from kb.names.tables import generic_of
from kb.output import say

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MOST = 10_000
TEXT_COLUMNS = ("drug_id", "name", "score", "how", "found", "provider", "licence_id")
SIMILAR_COLUMNS = ("drug_id", "name", "relation", "similarity", "smiles", "atc_codes")
PART_COLUMNS = ("drug_id", "name", "smiles", "atoms")
LONGEST_SMARTS = 2_000
SIMILAR = text("SELECT * FROM mkmed.similar_to_bits(CAST(:bits AS bit(2048)), :k, CAST(:least AS real))")
WORDS = text("SELECT * FROM mkmed.search_text(:query, :k)")
MAY_WRITE = text("SELECT has_table_privilege('mkmed.fingerprint', 'INSERT')"
                 " AND current_setting('transaction_read_only') = 'off'")
SCREEN = text("""
    SELECT f.drug_id, f.name, f.smiles FROM mkmed.fingerprints f
    WHERE f.pattern & CAST(:bits AS bit(2048)) = CAST(:bits AS bit(2048)) ORDER BY f.drug_id""")
CARTRIDGE = text("""
    SELECT s.drug_id, s.name, s.smiles FROM (
        SELECT f.drug_id, f.name, f.smiles FROM mkmed.fingerprints f
        WHERE f.pattern & CAST(:bits AS bit(2048)) = CAST(:bits AS bit(2048)) OFFSET 0) s
    WHERE mol_from_smiles(CAST(s.smiles AS cstring)) @> CAST(:smarts AS qmol)
    ORDER BY s.drug_id LIMIT :k""")
"""The extension matches what the bits leave (OFFSET 0: the bits come first)."""


def search_text(connection: Connection, query: str, k: int = 20) -> list[dict[str, Any]]:
    """At most ``k`` drugs by words in their names and texts, the best first.

    Each row has ``drug_id``, ``name``, ``score``, ``how`` (name, name begins, words of a name, text), ``found`` with
    the words between « and », and for a text its ``provider`` and ``licence_id``. Quotes, ``or`` and ``-`` mean what
    they mean in a web search. A brand that no drug is called by is looked up by its generic names. Raises UsageError
    for an empty text.
    """
    _check(k)
    if not query.strip() or "\0" in query:
        raise UsageError("an empty text finds nothing", hint='mkmed kb find "lowers blood glucose"')
    rows = [dict(row) for row in connection.execute(WORDS, {"query": query, "k": k}).mappings()]
    if any(row["how"] == "name" for row in rows):
        return rows
    known = {row["drug_id"] for row in rows}
    generic = [
        {**dict(row), "how": f"brand {query.strip()}"}
        for name in generic_of(query)
        for row in connection.execute(WORDS, {"query": name, "k": k}).mappings()
        if row["how"] == "name" and row["drug_id"] not in known
    ]
    return [*generic, *rows][:k]


def similar(engine: Engine, smiles: str, k: int = 10, *, at_least: float = 0.0) -> list[dict[str, Any]]:
    """The drugs that a molecule is or is a form of, then those of the largest Tanimoto similarity; ``k`` together.

    Each row has ``drug_id``, ``name``, ``relation`` (``identical``, ``parent`` for its salts, charged and stereo forms
    and tautomers, or empty), ``similarity``, ``smiles`` and ``atc_codes``. ``at_least`` is asked of those without a
    relation alone. Raises DataError for what is no molecule.
    """
    from kb.identity.forms import known_forms

    _check(k)
    if not 0 <= at_least <= 1:
        raise UsageError(f"{at_least} is no Tanimoto similarity", hint="a number from 0 to 1")
    molecule = read_smiles(smiles)
    bits = morgan_bits(molecule)
    bring_up_to_date(engine)
    with engine.connect() as connection:
        first = known_forms(connection, molecule)[:k]
        asked = {"bits": bits, "k": min(k + len(first), MOST), "least": at_least}
        rows = connection.execute(SIMILAR, asked).mappings().all()
    likeness = {row["drug_id"]: row["similarity"] for row in rows}
    for form in first:
        form["similarity"] = likeness.get(form["drug_id"], tanimoto(molecule, str(form["smiles"])))
    forms = {form["drug_id"] for form in first}
    return [*first, *({**row, "relation": ""} for row in rows if row["drug_id"] not in forms)][:k]


def substructure(engine: Engine, smarts: str, k: int | None = None) -> list[dict[str, Any]]:
    """The drugs whose structure has a part that matches the SMARTS, in the order of their ids, at most ``k``.

    Each row has ``drug_id``, ``name``, ``smiles`` and ``atoms``, the atoms of the first match in the order of the
    SMILES (counted from 0). Raises DataError for what is no SMARTS.
    """
    from rdkit import Chem

    _check(k or 1)
    pattern = read_smarts(smarts)
    bring_up_to_date(engine)
    with engine.connect() as connection:
        rows = screened(connection, smarts, pattern, k)
    found: list[dict[str, Any]] = []
    for drug_id, name, smiles in rows:
        molecule = Chem.MolFromSmiles(smiles)
        atoms = molecule.GetSubstructMatch(pattern) if molecule is not None else ()
        if atoms:
            found.append({"drug_id": drug_id, "name": name, "smiles": smiles, "atoms": list(atoms)})
            if k is not None and len(found) == k:
                break
    return found


def screened(connection: Connection, smarts: str, pattern: Mol, k: int | None) -> Sequence[Any]:
    """(drug id, name, SMILES) of the drugs that may have a part: those whose bits do not rule it out.

    Where the database has RDKit's extension, of the first ``k`` that it finds to have the part.
    """
    if has_cartridge(connection):
        return connection.execute(CARTRIDGE, {"smarts": smarts.strip(), "bits": pattern_bits(pattern), "k": k}).all()
    return connection.execute(SCREEN, {"bits": pattern_bits(pattern)}).all()


def read_smarts(smarts: str) -> Mol:
    """The query of a SMARTS; raises DataError for what is none."""
    from rdkit import Chem

    quiet()
    written = smarts.strip()
    if not written or len(written) > LONGEST_SMARTS:
        raise DataError(f"a SMARTS has 1 to {LONGEST_SMARTS} letters", hint="e.g. C(=O)N for an amide")
    pattern = Chem.MolFromSmarts(written)
    if pattern is None or not pattern.GetNumAtoms():
        raise DataError(f"RDKit cannot read this SMARTS: {written[:60]}", hint="e.g. C(=O)N for an amide")
    pattern.UpdatePropertyCache(strict=False)
    return pattern


def has_cartridge(connection: Connection) -> bool:
    """Whether the database has RDKit's extension."""
    return bool(connection.scalar(text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'rdkit')")))


def bring_up_to_date(engine: Engine) -> int:
    """How many structures got bits that no ingest has computed; 0 for a role that may not write."""
    made = 0
    while True:
        with engine.begin() as connection:
            if not connection.scalar(MAY_WRITE):
                return made
            done = renew(connection)
        made += done
        if done < AT_ONCE // 2:  # what RDKit cannot read stays due
            return made
        say(f"computed the bits of {made:,} structures")


def _check(k: int) -> None:
    if not 1 <= k <= MOST:
        raise UsageError(f"{k} answers cannot be given", hint=f"1 to {MOST:,}")
