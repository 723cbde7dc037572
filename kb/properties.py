"""The canonical names of numeric properties, with units; every source maps its own names onto these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PropertyKind:
    """A property's unit and meaning."""

    unit: str
    description: str


RANGES: dict[str, tuple[float, float]] = {
    "mol_weight": (1, 200_000), "exact_mass": (1, 200_000), "xlogp": (-200, 200), "tpsa": (0, 50_000),
    "hbond_donors": (0, 5000), "hbond_acceptors": (0, 5000), "rotatable_bonds": (0, 5000), "heavy_atoms": (0, 5000),
    "rings": (0, 5000), "aromatic_rings": (0, 5000), "charge": (-500, 500), "stereo_centers": (0, 5000), "fsp3": (0, 1),
    "qed": (0, 1), "complexity": (0, 1_000_000), "molar_refractivity": (0, 100_000),
}
"""The least and the most that a property can be."""
WHOLE = frozenset({"hbond_donors", "hbond_acceptors", "rotatable_bonds", "heavy_atoms", "rings", "aromatic_rings",
                   "charge", "stereo_centers"})
"""Properties that are counted."""


def out_of_range(name: str, value: float) -> str | None:
    """Why a property cannot have the value, or None."""
    low, high = RANGES[name]
    if not low <= value <= high:
        return f"{name} is {value:g}, which is not from {low:g} to {high:g}"
    return f"{name} is {value:g}, which is no whole number" if name in WHOLE and value % 1 else None


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
