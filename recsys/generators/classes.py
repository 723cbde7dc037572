"""Real ATC level-3 classes and the real interactions between them, as bundled: 183 classes, 1,372 pairs.

``classes.tsv`` counts the drugs of each class in the bundled corpus (ATC codes by way of PharmGKB, CC-BY-SA-4.0);
``interactions.tsv`` counts, for two classes, the drug pairs that the NDF-RT and ONC lists name (US government works).
"""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from kb.errors import UsageError


def _rows(name: str) -> list[list[str]]:
    text = files("recsys.generators").joinpath(name).read_text(encoding="utf-8")
    return list(csv.reader((line for line in text.splitlines() if not line.startswith("#")), delimiter="\t"))[1:]


def frequent_classes(count: int) -> list[str]:
    """The ATC level-3 classes with the most drugs, ``count`` of them, sorted by code."""
    rows = [(code, int(drugs)) for code, drugs in _rows("classes.tsv")]
    if not 2 <= count <= len(rows):
        raise UsageError(f"{count} medication classes were asked for", hint=f"between 2 and {len(rows)} are bundled")
    return sorted(code for code, _ in sorted(rows, key=lambda row: (-row[1], row[0]))[:count])


def class_interactions(classes: list[str], density: float = 0.0526) -> NDArray[np.bool_]:
    """Which classes interact, bool [K, K], symmetric: the pairs with the most interacting drug pairs.

    ``density`` is the share of all pairs of classes; the literature's matrix has 448 of 8,515 (5.26 %).
    """
    position = {code: index for index, code in enumerate(classes)}
    pairs = [(-int(drug_pairs), a, b) for a, b, drug_pairs in _rows("interactions.tsv")
             if a in position and b in position]
    wanted = round(density * len(classes) * (len(classes) - 1) / 2)
    matrix = np.zeros((len(classes), len(classes)), dtype=bool)
    for _, a, b in sorted(pairs)[:wanted]:
        matrix[position[a], position[b]] = matrix[position[b], position[a]] = True
    return matrix


def relatedness(classes: list[str]) -> NDArray[np.float64]:
    """How near two classes are in the ATC tree, float [K, K]: 0, 1 (same main group) or 2 (same level-2 group)."""
    first = np.array([code[:1] for code in classes])
    second = np.array([code[:3] for code in classes])
    return (first[:, None] == first).astype(float) + (second[:, None] == second)
