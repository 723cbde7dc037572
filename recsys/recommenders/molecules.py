"""The medications' molecules as one graph, their BRICS fragments, and a small message-passing encoder for both.

Parsed once when a recommender is built; encoded once a step, never once a visit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

MOLECULES_PER_MEDICATION = 4
"""An ATC level-3 class may hold dozens of drugs; the first few stand for it."""
_ATOM_KINDS = 119 * 2


class Graphs(NamedTuple):
    """Several molecules as one graph."""

    atom: torch.Tensor
    """int64[V]: atomic number, plus 119 when aromatic."""
    source: torch.Tensor
    """int64[2E]: each bond in both directions."""
    target: torch.Tensor
    molecule: torch.Tensor
    """int64[V]: the molecule of each atom."""
    size: int
    """How many molecules."""


class MedicationMolecules(NamedTuple):
    """The molecules and fragments of K medications."""

    molecules: Graphs
    owner: torch.Tensor
    """int64[molecules]: the medication of each."""
    fragments: Graphs
    mask: torch.Tensor
    """bool[K, S]: which fragments occur in a medication's molecules."""
    names: tuple[str, ...]
    """The fragments' SMILES, with BRICS attachment points as [n*]."""


def _graphs(molecules: Sequence[object]) -> Graphs:
    atom: list[int] = []
    source: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    for number, molecule in enumerate(molecules):
        first = len(atom)
        for a in molecule.GetAtoms():  # type: ignore[attr-defined]
            atom.append(a.GetAtomicNum() + 119 * a.GetIsAromatic())
            owner.append(number)
        for bond in molecule.GetBonds():  # type: ignore[attr-defined]
            ends = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
            source += ends
            target += ends[::-1]
    as_tensor = [torch.tensor(values, dtype=torch.int64) for values in (atom, source, target, owner)]
    return Graphs(as_tensor[0], as_tensor[1], as_tensor[2], as_tensor[3], len(molecules))


@lru_cache(maxsize=4)
def medication_molecules(smiles: tuple[tuple[str, ...], ...]) -> MedicationMolecules:
    """The graphs of K medications' molecules; SMILES that RDKit cannot read were refused when the drug was stored."""
    from rdkit import Chem
    from rdkit.Chem import BRICS

    molecules, owner = [], []
    found: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    for medication, texts in enumerate(smiles):
        for text in texts[:MOLECULES_PER_MEDICATION]:
            molecule = Chem.MolFromSmiles(text)
            if molecule is None or not molecule.GetNumAtoms():
                continue
            molecules.append(molecule)
            owner.append(medication)
            pieces = Chem.GetMolFrags(BRICS.BreakBRICSBonds(molecule), asMols=True)
            pairs += [(medication, found.setdefault(Chem.MolToSmiles(piece), len(found))) for piece in pieces]
    names = tuple(found)
    mask = torch.zeros(len(smiles), max(len(names), 1), dtype=torch.bool)
    for medication, fragment in pairs:
        mask[medication, fragment] = True
    fragments = [Chem.MolFromSmiles(name, sanitize=True) for name in names]
    return MedicationMolecules(_graphs(molecules), torch.tensor(owner, dtype=torch.int64), _graphs(fragments), mask,
                               names)


class MessagePassing(nn.Module):
    """Molecule vectors [molecules, D]: sum-aggregated messages over bonds, then the mean over atoms (GIN-like)."""

    def __init__(self, graphs: Graphs, dim: int, depth: int = 2) -> None:
        super().__init__()
        self.atom = nn.Embedding(_ATOM_KINDS, dim)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
                                    for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.graphs = graphs

    def forward(self) -> torch.Tensor:
        """[molecules, D]."""
        g = self.graphs
        state = self.atom(g.atom)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            around = torch.zeros_like(state).index_add_(0, g.target, state[g.source])
            state = norm(state + torch.relu(layer(state + around)))
        total = state.new_zeros(g.size, state.shape[1]).index_add_(0, g.molecule, state)
        atoms = torch.bincount(g.molecule, minlength=g.size).clamp(min=1).to(state.dtype)
        return total / atoms[:, None]


class MedicationEncoder(nn.Module):
    """Medication vectors [K, D]: the mean over a medication's encoded molecules; learned where it has none."""

    def __init__(self, molecules: MedicationMolecules, dim: int) -> None:
        super().__init__()
        size = len(molecules.mask)
        self.encode = MessagePassing(molecules.molecules, dim)
        self.owner = molecules.owner
        self.counts = torch.bincount(molecules.owner, minlength=size).to(torch.float32)[:, None]
        self.learned = nn.Parameter(torch.randn(size, dim) * 0.1)

    def forward(self) -> torch.Tensor:
        """[K, D]; call it once a step."""
        total = torch.zeros_like(self.learned).index_add(0, self.owner, self.encode())
        return torch.where(self.counts > 0, total / self.counts.clamp(min=1), self.learned)
