"""Molecules from outside: what is refused and why, and that the canonical SMILES is a fixed point."""

from __future__ import annotations

import csv
import gzip
import io
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.bundle import Bundle
from kb.chemistry import MAX_HEAVY_ATOMS, read_molblock, read_smiles, standardise
from kb.errors import DataError


@cache
def bundled_smiles() -> list[str]:
    return [row["smiles"] for row in Bundle.open().rows("drugs.tsv.gz") if row["smiles"]]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_canonical_smiles_is_a_fixed_point(data: st.DataObject) -> None:
    from rdkit import Chem

    smiles = data.draw(st.sampled_from(bundled_smiles()))
    molecule = Chem.MolFromSmiles(smiles)
    order = data.draw(st.permutations(range(min(molecule.GetNumAtoms(), 12))))
    order += list(range(len(order), molecule.GetNumAtoms()))
    written = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)
    first = standardise(written)
    again = standardise(first.smiles)
    assert again == first
    assert first.inchikey == Chem.MolToInchiKey(Chem.MolFromSmiles(first.smiles))


def test_spellings_of_one_molecule_agree() -> None:
    spellings = ["CC(=O)Oc1ccccc1C(=O)O", "OC(=O)C1=CC=CC=C1OC(C)=O", " c1cccc(C(O)=O)c1OC(=O)C "]
    found = {standardise(s) for s in spellings}
    assert {m.inchikey for m in found} == {"BSYNRYMUTXBXSQ-UHFFFAOYSA-N"}
    assert len(found) == 1 and found.pop().formula == "C9H8O4"


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("CCO evil name", "followed by something else"),
        ("C" * 100_000, "100000 bytes"),
        ("C" * (MAX_HEAVY_ATOMS + 1), "heavy atoms"),
        ("[C+999999999]", "charge 999999999"),
        ("[C-101]", "charge 101"),
        ("C1CC", "cannot read"),
        ("c1ccccc", "cannot read"),
        ("C(C)(C)(C)(C)C", "cannot read"),
        ("CCÖ", "not ASCII"),
        ("CC\0O", "cannot read|not ASCII|followed"),
    ],
)
def test_refused_with_a_reason(smiles: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        standardise(smiles)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = standardise(text)
    except DataError as error:
        assert error.message
    else:
        assert standardise(found.smiles) == found


def test_molblock_without_atoms_is_refused() -> None:
    empty = "\n     RDKit          2D\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"
    with pytest.raises(DataError, match="without atoms"):
        read_molblock(empty)
    with pytest.raises(DataError, match="limit"):
        read_molblock("x" * 300_000)


def test_bundled_structures_are_in_standard_form() -> None:
    rows = [r for r in Bundle.open().rows("drugs.tsv.gz") if r["smiles"]][::25]
    assert len(rows) > 100
    for row in rows:
        molecule = read_smiles(row["smiles"])
        found = standardise(row["smiles"])
        assert found.inchikey == row["inchikey"], row["key"]
        assert found.formula == row["formula"]
        assert molecule.GetNumHeavyAtoms() == found.heavy_atoms


def test_bundled_tables_have_no_stray_cells() -> None:
    bundle = Bundle.open()
    for name in (n for n in bundle.manifest if n.endswith(".tsv.gz")):
        text = gzip.decompress((bundle.folder / name).read_bytes()).decode()
        widths = {len(row) for row in csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)}
        assert len(widths) == 1, name
        assert text.count("\n") == int(bundle.manifest[name]["rows"]) + 1, name
