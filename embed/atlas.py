"""A map of the published vectors in two dimensions: drugs that are alike lie close together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.runs import store
from kb.errors import UsageError
from kb.files import replace_file
from kb.pictures import require_format, save_figure
from kb.query import read as query

ATC_NAMES = {
    "A": "alimentary, metabolism",
    "B": "blood",
    "C": "cardiovascular",
    "D": "dermatological",
    "G": "genito-urinary",
    "H": "hormones",
    "J": "anti-infectives",
    "L": "antineoplastic, immune",
    "M": "musculo-skeletal",
    "N": "nervous system",
    "P": "antiparasitic",
    "R": "respiratory",
    "S": "sensory organs",
    "V": "various",
}
"""The anatomical main groups of the ATC classification, shortened."""


def project(matrix: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Two coordinates [N, 2] for each unit vector [N, D] by t-SNE (van der Maaten and Hinton 2008) on cosines."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(2.0, (len(matrix) - 1) / 3))
    placed: NDArray[np.float32] = TSNE(
        metric="cosine", perplexity=perplexity, init="pca", random_state=seed, max_iter=500
    ).fit_transform(matrix.astype(np.float32))
    return placed


def colours(engine: Engine, drug_ids: NDArray[np.int64], by: str) -> list[str]:
    """A group name for each drug: the main ATC group, or how many modalities it has; "" where there is none."""
    with engine.connect() as connection:
        if by == "atc":
            first: dict[int, str] = {}
            for drug_id, code in query.atc(connection):
                first.setdefault(drug_id, ATC_NAMES.get(code[0], code[0]))
            return [first.get(int(i), "") for i in drug_ids]
        if by == "bucket":
            known = query.availability(connection)
            count = dict(zip(known.drug_ids.tolist(), known.mask.sum(axis=1).tolist(), strict=True))
            return [f"{count.get(int(i), 0)} modalities" for i in drug_ids]
    raise UsageError(f"colours by {by!r}", hint="atc or bucket")


def draw_map(engine: Engine, path: Path, *, by: str = "atc", coded_only: bool = False, seed: int = 0,
             places: Path | None = None) -> int:
    """The number of drugs on the map of the published run that was written to ``path`` (svg, png or pdf).

    ``places`` is a file for where each drug lies: JSON with a list ``places`` of ``name``, ``group``, ``x`` and ``y``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    require_format(path)
    vectors = store.read_published(engine)
    groups = colours(engine, vectors.drug_ids, by)
    keep = np.array([bool(g) or not coded_only for g in groups])
    matrix, groups = vectors.matrix[keep], [g for g, k in zip(groups, keep, strict=True) if k]
    ids = vectors.drug_ids[keep]
    if len(matrix) < 5:
        raise UsageError(f"only {len(matrix)} drugs to draw", hint="ingest more drugs and pretrain again")
    flat = project(matrix, seed)
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes: Any = figure.subplots()
    names = sorted(set(groups) - {""})
    palette = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
    for name in ["", *names]:
        chosen = np.array([g == name for g in groups])
        if chosen.any():
            axes.scatter(
                *flat[chosen].T,
                s=5 if name else 3,
                linewidths=0,
                label=name or "no code",
                rasterized=True,
                color=palette[names.index(name) % 20] if name else "#d9d9d9",
                zorder=2 if name else 1,
            )
    axes.legend(fontsize=7, markerscale=3, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_axis_off()
    save_figure(figure, path)
    if places is not None:
        with engine.connect() as connection:
            known = query.drugs(connection, drug_ids=ids)
        called = dict(zip(known.ids.tolist(), known.names, strict=True))
        rows = [{"name": called.get(int(drug_id), ""), "group": group or "no code", "x": round(float(x), 2),
                 "y": round(float(y), 2)} for drug_id, group, (x, y) in zip(ids, groups, flat, strict=True)]
        replace_file(places, json.dumps({"places": rows}, ensure_ascii=False), mode=None)
    return len(matrix)
