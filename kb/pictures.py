"""Figures as files: the suffix says the format, and the same data give the same bytes; and a molecule as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import UsageError
from kb.files import replace_file, require_place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf")


def require_format(path: Path) -> None:
    """Return when a figure can be written to ``path``; raises UsageError for a suffix that names no picture format."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path.name} does not say a picture format", hint=f"end its name in {', '.join(FORMATS)}")
    require_place(path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, in the format of its suffix (svg, png, pdf)."""
    import matplotlib as mpl

    require_format(path)
    kind, drawn = path.suffix[1:].lower(), BytesIO()
    when = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
    with mpl.rc_context({"svg.hashsalt": "mkmed", "svg.fonttype": "none"}):
        figure.savefig(drawn, metadata={when: None} if when else None, dpi=150, format=kind)
    replace_file(path, drawn.getvalue(), mode=None)


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
