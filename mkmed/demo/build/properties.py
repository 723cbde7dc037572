"""Takes over the properties that PubChem computed, as recorded in its own SDF files."""

from __future__ import annotations

from pathlib import Path

from mkmed.demo.build.drugs import Drug
from mkmed.demo.build.tables import read_tsv

NAMES = {
    "mol_weight": "molecular_weight",
    "exact_mass": "exact_mass",
    "xlogp": "xlogp3",
    "tpsa": "tpsa",
    "complexity": "complexity",
    "hbond_donors": "hbond_donor",
    "hbond_acceptors": "hbond_acceptor",
    "rotatable_bonds": "rotatable_bond",
    "heavy_atoms": "heavy_atom_count",
    "charge": "total_charge",
}
"""Our name → PubChem's tag; stereo counts are left out, since PubChem splits them by kind."""


def pubchem_rows(sources: Path, drugs: list[Drug]) -> list[dict[str, str]]:
    """One row a drug whose structure has exactly the InChIKey of a recorded compound."""
    owners: dict[str, list[Drug]] = {}
    for drug in drugs:
        if drug.smiles:
            owners.setdefault(drug.inchikey, []).append(drug)
    rows = []
    for row in read_tsv(sources / "chebi20_pubchem/pubchem_properties.tsv.gz"):
        for drug in owners.get(row["iupac_inchikey"], []):
            values = {ours: row[theirs] for ours, theirs in NAMES.items()}
            values["xlogp"] = row["xlogp3"] or row["xlogp3_aa"]
            rows.append({"key": drug.key, "cid": row["compound_cid"], **values})
    return sorted(rows, key=lambda r: (r["key"], int(r["cid"])))
