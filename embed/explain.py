"""Why two drugs are alike: the share of each modality, and of each fragment of their molecules.

A modality's share is the fused similarity minus the one without it (in both drugs). A fragment's share is the
similarity of the two molecules minus the one after the fragment's atoms were deleted. Shares need not add up.
Of a molecule that nobody described, ``explain_structure`` tells which known drugs carry what is foretold of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import BRICS
from sqlalchemy import Engine

from embed.runs import store
from embed.runs.embedder import Embedder
from embed.runs.found import open_embedder
from embed.runs.schema import FUSED
from embed.transfer.carriers import Carrier, carriers, kept
from kb.chemistry import read_smiles
from kb.errors import DataError, NotFound
from kb.query import read as query
from kb.query.drug import find_drug
from kb.settings import Settings


@dataclass(frozen=True)
class Fragment:
    """A BRICS fragment: its atoms in the molecule of ``drug``, its SMILES, and its share of the similarity."""

    drug: str
    smiles: str
    atoms: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class Likeness:
    """How alike two drugs are and why; ``modalities`` has (similarity in it alone, share of the fused similarity).

    Alone is None where one of the drugs lacks the modality; a share is None where nothing is left without it.
    """

    first: str
    second: str
    fused: float
    modalities: dict[str, tuple[float | None, float | None]]
    fragments: list[Fragment]
    smiles: tuple[str | None, str | None]


def explain_likeness(engine: Engine, settings: Settings, first: str, second: str) -> Likeness:
    """The likeness of two drugs under the published run; raises NotFound for a drug without a vector."""
    run = open_embedder(engine, settings)
    run_id = store.published_run(engine)
    with engine.connect() as connection:
        ids = [find_drug(connection, name) for name in (first, second)]
        drugs = query.drugs(connection)
    rows = [int(np.searchsorted(drugs.ids, i)) for i in ids]
    names = run.names
    z = np.zeros((2, len(names), run.width), np.float32)
    present = np.zeros((2, len(names)), bool)
    for column, name in enumerate(names):
        vectors = store.read(engine, run_id, name)
        for side, drug_id in enumerate(ids):
            at = int(np.searchsorted(vectors.drug_ids, drug_id))
            if at < len(vectors.drug_ids) and vectors.drug_ids[at] == drug_id:
                z[side, column], present[side, column] = vectors.matrix[at], True
    for side, shown in enumerate((first, second)):
        if not present[side].any():
            raise NotFound(
                f"{shown} has no vector in the published run", hint="mkmed embed pretrain after ingesting it"
            )
    smiles = (drugs.smiles[rows[0]], drugs.smiles[rows[1]])
    titles = (drugs.names[rows[0]], drugs.names[rows[1]])
    fused = fused_similarity(run, z, present)
    modalities = {
        name: _share(run, z, present, column, fused) for column, name in enumerate(names) if present[:, column].any()
    }
    return Likeness(*titles, fused, modalities, _fragments(run, titles, smiles), smiles)


@dataclass(frozen=True)
class Foretelling:
    """Why a structure is foretold what it is: its nearest known drugs, their shares, and those of its fragments.

    ``sure`` has the cosine to expect between each kind's prediction and the truth; ``carriers`` maps a kind to the
    training drugs that carry it. A fragment's share is the part of the prediction's move from the mean that is lost
    without it; shares of fragments need not add up.
    """

    smiles: str
    sure: dict[str, float]
    carriers: dict[str, list[Carrier]]
    fragments: list[Fragment]


def explain_structure(engine: Engine, settings: Settings, smiles: str) -> Foretelling:
    """What carries the predictions for a molecule under the published run; raises DataError for what is no molecule."""
    run = open_embedder(engine, settings)
    molecule = read_smiles(smiles)
    settled = str(Chem.MolToSmiles(molecule))
    molecule = Chem.MolFromSmiles(settled)
    read, whole = run.foretell([settled])
    head = run.transfer
    if head is None or not len(read):
        raise DataError("nothing is foretold of this molecule")
    parts = fragment_atoms(molecule)
    rests = [(atoms, rest) for atoms in parts if (rest := without_atoms(molecule, atoms)) is not None]
    found, left = run.foretell([rest for _, rest in rests])
    kinds = [name for name in head.targets if name != FUSED] or list(head.targets)
    shares = np.mean([1 - kept(head, whole, left, kind) for kind in kinds], axis=0) if len(found) else ()
    fragments = [Fragment("", Chem.MolFragmentToSmiles(molecule, list(rests[k][0])), rests[k][0], float(share))
                 for k, share in zip(found, shares, strict=True)]
    return Foretelling(settled, {kind: float(whole.agreement[kind][0]) for kind in kinds},
                       {kind: carriers(head, whole, kind) for kind in kinds},
                       sorted(fragments, key=lambda fragment: -fragment.share))


def fused_similarity(run: Embedder, z: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """The cosine of the two fused vectors."""
    fused = run.fuse(z, present)
    return float(fused[0] @ fused[1])


def _share(
    run: Embedder, z: NDArray[np.float32], present: NDArray[np.bool_], column: int, fused: float
) -> tuple[float | None, float | None]:
    alone = float(z[0, column] @ z[1, column]) if present[:, column].all() else None
    without = present.copy()
    without[:, column] = False
    if not without.any(axis=1).all():
        return alone, None
    return alone, fused - fused_similarity(run, z, without)


def _fragments(run: Embedder, names: tuple[str, str], smiles: tuple[str | None, str | None]) -> list[Fragment]:
    if smiles[0] is None or smiles[1] is None:
        return []
    whole = [run.smiles([text])[0] for text in (smiles[0], smiles[1])]
    found = []
    for side, text in enumerate((smiles[0], smiles[1])):
        molecule = Chem.MolFromSmiles(text)
        for atoms in fragment_atoms(molecule):
            rest = without_atoms(molecule, atoms)
            if rest is None:
                continue
            left = run.smiles([rest])[0]
            share = float(whole[0] @ whole[1]) - float(left @ whole[1 - side])
            found.append(Fragment(names[side], Chem.MolFragmentToSmiles(molecule, list(atoms)), atoms, share))
    return sorted(found, key=lambda fragment: -fragment.share)


def fragment_atoms(molecule: Chem.Mol) -> list[tuple[int, ...]]:
    """The atoms of every BRICS fragment (Degen et al. 2008); the whole molecule when nothing is to be cut."""
    bonds = [molecule.GetBondBetweenAtoms(*ends).GetIdx() for ends, _ in BRICS.FindBRICSBonds(molecule)]
    if not bonds:
        return [tuple(range(molecule.GetNumAtoms()))]
    return [tuple(part) for part in Chem.GetMolFrags(Chem.FragmentOnBonds(molecule, bonds, addDummies=False))]


def without_atoms(molecule: Chem.Mol, atoms: tuple[int, ...]) -> str | None:
    """The SMILES of the molecule after the atoms were deleted; None when nothing or nothing valid is left."""
    editable = Chem.RWMol(molecule)
    editable.BeginBatchEdit()
    for atom in atoms:
        editable.RemoveAtom(atom)
    editable.CommitBatchEdit()
    if editable.GetNumAtoms() == 0 or Chem.SanitizeMol(editable, catchErrors=True):
        return None
    return str(Chem.MolToSmiles(editable))


def draw_likeness(likeness: Likeness, strongest: int = 3) -> str:
    """An SVG of both molecules with the fragments that make them alike highlighted; raises NotFound without both."""
    from rdkit.Chem.Draw import rdMolDraw2D

    if likeness.smiles[0] is None or likeness.smiles[1] is None:
        raise NotFound("one of the drugs has no structure to draw")
    molecules = [Chem.MolFromSmiles(text) for text in likeness.smiles if text]
    marked: list[list[int]] = []
    for name in (likeness.first, likeness.second):
        own = [f for f in likeness.fragments if f.drug == name and f.share > 0][:strongest]
        marked.append(sorted({atom for fragment in own for atom in fragment.atoms}))
    drawing = rdMolDraw2D.MolDraw2DSVG(760, 340, 380, 340)
    drawing.DrawMolecules(molecules, legends=[likeness.first, likeness.second], highlightAtoms=marked)
    drawing.FinishDrawing()
    return str(drawing.GetDrawingText())
