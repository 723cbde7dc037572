"""Pictures of a run: its learning curves, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kb.pictures import save_figure


def draw_epochs(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write loss, validation Jaccard and training DDI rate over epochs to ``path``; nothing without epochs."""
    rows = [row for row in rows if "epoch" in row]
    if not rows:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axis, (name, title) in zip(figure.subplots(1, 3), (("loss", "training loss"),
                                                           ("jaccard", "validation Jaccard"),
                                                           ("ddi_rate", "DDI rate while training")), strict=True):
        values = [row.get(name) for row in rows]
        shown = [(e, v) for e, v in zip(epochs, values, strict=True) if v is not None]
        if shown:
            axis.plot(*zip(*shown, strict=True), marker=".", color="#1f5fa8")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
