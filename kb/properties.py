"""The canonical names of numeric properties, with units; every source maps its own names onto these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PropertyKind:
    """A property's unit and meaning."""

    unit: str
    description: str


PROPERTIES: dict[str, PropertyKind] = {
    "mol_weight": PropertyKind("g/mol", "average molecular weight"),
    "exact_mass": PropertyKind("Da", "monoisotopic mass"),
    "xlogp": PropertyKind("1", "octanol–water partition coefficient, log10 (XLogP3 or Crippen: the source says)"),
    "tpsa": PropertyKind("Å²", "topological polar surface area"),
    "hbond_donors": PropertyKind("1", "hydrogen-bond donors"),
    "hbond_acceptors": PropertyKind("1", "hydrogen-bond acceptors"),
    "rotatable_bonds": PropertyKind("1", "rotatable bonds"),
    "heavy_atoms": PropertyKind("1", "atoms other than hydrogen"),
    "rings": PropertyKind("1", "rings (SSSR)"),
    "aromatic_rings": PropertyKind("1", "aromatic rings"),
    "charge": PropertyKind("e", "formal charge"),
    "stereo_centers": PropertyKind("1", "tetrahedral stereocentres"),
    "fsp3": PropertyKind("1", "fraction of sp3 carbons"),
    "qed": PropertyKind("1", "quantitative estimate of drug-likeness (Bickerton 2012)"),
    "complexity": PropertyKind("1", "Bertz/Hendrickson complexity as PubChem computes it"),
    "molar_refractivity": PropertyKind("cm³/mol", "Crippen molar refractivity"),
}
