"""Pictures: which files a figure can be written to, and a molecule as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kb.errors import UsageError

FORMATS = (".svg", ".png", ".pdf")


def require_format(path: Path) -> None:
    """Return when a figure can be written to ``path``; raises UsageError for a suffix that names no picture format."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path.name} does not say a picture format", hint=f"end its name in {', '.join(FORMATS)}")


def molecule_svg(smiles: str, atoms: Sequence[int] = (), *, width: int = 180, height: int = 120) -> str:
    """A drawing of a molecule as an ``<svg>`` element, these atoms marked; empty for what RDKit cannot read."""
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    from kb.chemistry import quiet

    quiet()
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        return ""
    drawing: Any = rdMolDraw2D.MolDraw2DSVG(width, height)
    drawing.drawOptions().clearBackground = False
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, molecule, highlightAtoms=list(atoms))
    drawing.FinishDrawing()
    text = str(drawing.GetDrawingText())
    return text[text.index("<svg"):]
