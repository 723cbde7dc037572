"""What the API answers with: data frames that draw their molecules in a notebook, and vectors with names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SHOWN = 20
"""Rows that a notebook shows; a longer frame shows its first."""
LONGEST = 200
"""Letters of a cell that a notebook shows."""


class Frame(pd.DataFrame):
    """A pandas data frame; in a notebook, rows with a column ``smiles`` have their structure drawn beside them.

    A column ``atoms`` (numbers of atoms in the order of the SMILES, from 0) marks these in the drawing.
    """

    @property
    def _constructor(self) -> Callable[..., Frame]:
        return Frame

    def _repr_html_(self) -> str:
        """The first rows as an HTML table; whatever is in a cell is text, never markup."""
        names = [str(name) for name in self.columns]
        pictured = "smiles" in names
        head = "".join(f"<th>{escape(name)}</th>" for name in ([*names, "structure"] if pictured else names))
        lines = []
        for row in pd.DataFrame(self).head(SHOWN).to_dict("records"):
            cells = [f"<td>{escape(_text(value))}</td>" for value in row.values()]
            if pictured:
                cells.append(f"<td>{_picture(row['smiles'], row.get('atoms'))}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        more = f"<p>{len(self):,} rows, the first {SHOWN} shown</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Frame:
    """The rows as a frame with these columns in this order, also where there is no row."""
    return Frame([dict(row) for row in rows], columns=list(columns))


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 1]}…"


def _picture(smiles: Any, atoms: Any) -> str:
    """An SVG of a molecule; empty for what is none."""
    if not isinstance(smiles, str):
        return ""
    from kb.pictures import molecule_svg

    return molecule_svg(smiles, atoms if isinstance(atoms, list | tuple) else ())


@dataclass(frozen=True)
class Vectors:
    """Unit vectors by drug or by question: ``matrix`` is float32 [N, D], ``ids`` int64 [N], ``names`` N texts.

    Of a question that is no drug of the knowledge base, the id is -1.
    """

    ids: NDArray[np.int64]
    names: list[str]
    matrix: NDArray[np.float32]
    run: str
    """The embedding run's id."""
    modality: str

    def __len__(self) -> int:
        return len(self.ids)

    def frame(self) -> Frame:
        """One row a vector: ``drug_id``, ``name``, and the components ``0`` … ``D-1``."""
        table = Frame(self.matrix, columns=[str(i) for i in range(self.matrix.shape[1])])
        table.insert(0, "name", self.names)
        table.insert(0, "drug_id", self.ids)
        return table
