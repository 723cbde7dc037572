"""The forms of a substance: its salts, charges, stereo forms and tautomers are known by the parent that they share.

Computed with RDKit's MolStandardize. Tautomers are settled only where the formula is the same, since that takes long.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize
from sqlalchemy import Connection, text

from kb.chemistry import quiet

MOST_TRANSFORMS = 200
MOST_ATOMS = 100
"""Tautomers of larger molecules are not looked for."""
MOST_FORMS = 500
"""Drugs of one formula whose tautomers are settled for one question."""
IDENTICAL, PARENT = "identical", "parent"
"""What a known drug is to a molecule: it is that, or a form of the same parent."""
NEAR = text("""
    SELECT d.drug_id, d.name, d.smiles, d.inchikey, r.drug_id IS NOT NULL AS related,
           (SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = d.drug_id) AS atc_codes
    FROM mkmed.readable_drug d
    LEFT JOIN (SELECT DISTINCT s.drug_id FROM mkmed.substance_relations s
               WHERE s.relation <> 'mixture with' AND left(s.other_inchikey, 14) = :block) r ON r.drug_id = d.drug_id
    WHERE d.smiles IS NOT NULL
      AND (left(d.inchikey, 14) = ANY (:blocks) OR d.formula = ANY (:formulas) OR r.drug_id IS NOT NULL)
    ORDER BY d.inchikey IS DISTINCT FROM :inchikey, d.drug_id LIMIT :most""")


@dataclass(frozen=True)
class Forms:
    """A molecule's InChIKey, and of its parent the InChIKey first block, the formula and the canonical SMILES."""

    inchikey: str
    block: str
    formula: str
    smiles: str


def forms(mol: Chem.Mol) -> Forms:
    """The forms of a sanitised molecule."""
    quiet()
    parent = parent_of(mol)
    return Forms(Chem.MolToInchiKey(mol), Chem.MolToInchiKey(parent)[:14], rdMolDescriptors.CalcMolFormula(parent),
                 Chem.MolToSmiles(parent))


def parent_of(mol: Chem.Mol) -> Chem.Mol:
    """The largest organic fragment, with charges taken away where hydrogens can."""
    chooser = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
    return rdMolStandardize.Uncharger().uncharge(chooser.choose(mol))


@cache
def _enumerator() -> rdMolStandardize.TautomerEnumerator:
    quiet()
    made = rdMolStandardize.TautomerEnumerator()
    made.SetMaxTransforms(MOST_TRANSFORMS)
    return made


def tautomer(smiles: str) -> str:
    """The canonical tautomer of a parent, without stereo; the SMILES itself where it is too large to look."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() > MOST_ATOMS:
        return smiles
    found = _enumerator().Canonicalize(mol)
    Chem.RemoveStereochemistry(found)
    return str(Chem.MolToSmiles(found))


def known_forms(connection: Connection, mol: Chem.Mol) -> list[dict[str, Any]]:
    """The known drugs that a molecule is, then its salts, hydrates, charged and stereo forms and tautomers.

    Each row has ``drug_id``, ``name``, ``relation`` (IDENTICAL or PARENT), ``smiles`` and ``atc_codes``. A tautomer is
    found where the source said the drug's formula.
    """
    own, formula = forms(mol), rdMolDescriptors.CalcMolFormula(mol)
    asked = {"inchikey": own.inchikey, "block": own.block, "blocks": [own.block, own.inchikey[:14]],
             "formulas": [own.formula, formula], "most": MOST_FORMS}
    rows = connection.execute(NEAR, asked).mappings().all()
    settled = tautomer(own.smiles) if any(row["inchikey"] != own.inchikey for row in rows) else ""
    found = [{name: row[name] for name in ("drug_id", "name", "smiles", "atc_codes")} | {
        "relation": IDENTICAL if row["inchikey"] == own.inchikey else PARENT}
        for row in rows if row["inchikey"] == own.inchikey or _is_form(row, own, settled)]
    return sorted(found, key=lambda row: row["relation"] != IDENTICAL)


def _is_form(row: Any, own: Forms, settled: str) -> bool:
    """Whether a drug of the same block, formula or parent shares the molecule's parent or a tautomer of it."""
    if row["related"]:
        return True
    mol = Chem.MolFromSmiles(row["smiles"])
    if mol is None:
        return False
    other = forms(mol)
    return other.block == own.block or (other.formula == own.formula and tautomer(other.smiles) == settled)
