"""Chooses the openly licensed SMILES of each drug, and writes the conformers that are known of it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from rdkit import Chem, RDLogger

from kb.errors import DataError
from kb.sources.rdkit.compute import embed
from mkmed.demo.build.obo import Term
from mkmed.demo.build.tables import read_tsv, sdf_blocks, sdf_tags, write_gz

METHODS = {
    "ccd": "wwPDB Chemical Component Dictionary ideal coordinates",
    "rdkit": "ETKDGv3 seed 42, MMFF94 200 steps (UFF where MMFF has no types)",
}


def structure_of(smiles: str) -> tuple[str, str] | None:
    """The canonical SMILES and its InChIKey, or None when RDKit cannot read it."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        return None
    key = Chem.MolToInchiKey(molecule)
    return (Chem.MolToSmiles(molecule), key) if key else None


def formula_of(smiles: str) -> str:
    """The molecular formula in Hill order, with the charge."""
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    return str(CalcMolFormula(Chem.MolFromSmiles(smiles)))


def heavy_atoms(smiles: str) -> int:
    """The number of atoms that are not hydrogen."""
    return int(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms())


def open_smiles(sources: Path, drugcentral: list[Term], pharmgkb: list[Term]) -> dict[str, tuple[str, str]]:
    """InChIKey → (canonical SMILES, provider), where the SMILES gives exactly that key; first provider wins."""
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    found: dict[str, tuple[str, str]] = {}
    for provider, smiles, stated in _candidates(sources, drugcentral, pharmgkb):
        if stated and stated in found:
            continue
        read = structure_of(smiles)
        if read is not None and (not stated or read[1] == stated):
            found.setdefault(read[1], (read[0], provider))
    return found


def _candidates(sources: Path, drugcentral: list[Term], pharmgkb: list[Term]) -> Iterator[tuple[str, str, str]]:
    for term in drugcentral:
        if term.smiles:
            yield "DrugCentral", term.smiles, (term.xref("inchikey") or [""])[0]
    for term in pharmgkb:
        if term.smiles:
            yield "PharmGKB", term.smiles, ""
    with gzip.open(sources / "chemicals_pubchem/chemicals_pubchem_ids.tsv.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            yield "chemicals", cells[4], cells[6]


def component_smiles(sources: Path, wanted: set[str]) -> dict[str, tuple[str, str]]:
    """InChIKey → (canonical SMILES, provider) of the CCD's components that RDKit gives exactly a wanted key."""
    found: dict[str, tuple[str, str]] = {}
    for block in sdf_blocks(sources / "ccd3d/ccd_ideal_all.sdf.gz"):
        stated = sdf_tags(block).get("INCHIKEY", "")
        if stated not in wanted or stated in found:
            continue
        molecule = Chem.MolFromMolBlock(block)
        if molecule is None:
            continue
        Chem.AssignStereochemistryFrom3D(molecule)
        read = structure_of(Chem.MolToSmiles(molecule))
        if read is not None and read[1] == stated:
            found[stated] = (read[0], "wwPDB CCD")
    return found


def ccd_ids(sources: Path) -> dict[str, str]:
    """InChIKey → component id of the Chemical Component Dictionary."""
    rows = read_tsv(sources / "ccd3d/ccd_index.tsv.gz")
    return {row["inchikey"]: row["ccd_id"] for row in rows if row["inchikey"]}


def write_ccd(sources: Path, out: Path, wanted: dict[str, str]) -> int:
    """The number of CCD conformers written for ``wanted`` (InChIKey → drug key), one a molecule."""
    blocks: dict[str, str] = {}
    for block in sdf_blocks(sources / "ccd3d/ccd_ideal_all.sdf.gz"):
        inchikey = sdf_tags(block).get("INCHIKEY", "")
        if inchikey in wanted and inchikey not in blocks:
            component = block.split("\n", 1)[0].strip()
            blocks[inchikey] = _record(block, wanted[inchikey], {"CCD": component, "METHOD": METHODS["ccd"]})
    write_gz(out, "".join(blocks[key] for key in sorted(blocks, key=lambda k: wanted[k])))
    return len(blocks)


def write_rdkit(sources: Path, out: Path, keys: set[str], lacking: dict[str, str]) -> int:
    """The number of computed conformers written: those recorded of ``keys``, and new ones of ``lacking``.

    ``lacking`` has SMILES by drug key. What RDKit finds no conformer for, or one atom alone, is left out.
    """
    blocks: dict[str, str] = {}
    for block in sdf_blocks(sources / "demo_corpus/conformers_rdkit.sdf.gz"):
        key = f"drugbank:{sdf_tags(block).get('DRUGBANK_ID', '')}"
        if key in keys:
            blocks[key] = _record(block, key, {"METHOD": METHODS["rdkit"]})
    for key, smiles in lacking.items():
        try:
            found = embed(smiles)
        except (DataError, RuntimeError):
            continue
        if found.heavy_atoms > 1:
            blocks[key] = _record(found.molblock, key, {"METHOD": found.method})
    write_gz(out, "".join(blocks[key] for key in sorted(blocks)))
    return len(blocks)


def _record(block: str, key: str, tags: dict[str, str]) -> str:
    """The mol block under the drug's key, with the given data items instead of its own."""
    mol = block[: block.index("M  END") + len("M  END\n")].split("\n", 1)[1]
    items = "".join(f">  <{name}>\n{value}\n\n" for name, value in tags.items())
    return f"{key}\n{mol}{items}$$$$\n"
