"""What both generators share: the shape of a cohort, visit counts and times, Zipf frequencies, and the assembly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kb.errors import UsageError
from recsys.cohorts.cohort import KINDS, Cohort, Loss, Ragged, Vocabulary
from recsys.generators.classes import frequent_classes

BLOCK = 4096  # patients drawn together: bounds the memory whatever the size

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
Draw = Callable[[np.random.Generator, NDArray[np.int64]], dict[str, Pairs]]


@dataclass(frozen=True)
class Shape:
    """The size of a cohort; the defaults are the literature's MIMIC-III cohort."""

    patients: int = 6350
    visits: int = 15032
    max_visits: int = 29
    diagnoses: int = 1958
    procedures: int = 1430
    medications: int = 131

    def __post_init__(self) -> None:
        if not self.patients <= self.visits <= self.patients * self.max_visits:
            raise UsageError(f"{self.patients} patients cannot have {self.visits} visits of at most {self.max_visits}")
        if min(self.diagnoses, self.procedures) < 64 or self.patients < 8:
            raise UsageError("a synthetic cohort has at least 8 patients and 64 codes of a kind")

    def scaled(self, patients: int) -> Shape:
        """The same shape with another number of patients."""
        visits = max(round(self.visits * patients / self.patients), patients)
        return Shape(patients, visits, self.max_visits, self.diagnoses, self.procedures, self.medications)


def zipf(count: int, exponent: float = 1.0, shift: float = 2.0) -> NDArray[np.float64]:
    """Zipf–Mandelbrot probabilities, most frequent first."""
    weights = 1.0 / (np.arange(count) + shift) ** exponent
    return weights / weights.sum()


def visit_counts(rng: np.random.Generator, shape: Shape) -> NDArray[np.int64]:
    """Visits of each patient: at least two where the mean allows, a power-law tail, the exact total and maximum."""
    mean, floor = shape.visits / shape.patients, 2 if shape.visits >= 2 * shape.patients else 1
    k = np.arange(floor, shape.max_visits + 1)
    low, high = -2.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        weights = k ** -middle
        low, high = (middle, high) if (k * weights).sum() / weights.sum() > mean else (low, middle)
    counts = rng.choice(k, shape.patients, p=weights / weights.sum())
    counts[rng.integers(shape.patients)] = min(shape.max_visits, shape.visits - floor * (shape.patients - 1))
    while (surplus := int(counts.sum()) - shape.visits) != 0:
        movable = np.flatnonzero((counts > floor) if surplus > 0 else (counts < shape.max_visits - 1))
        movable = movable[counts[movable] < shape.max_visits]
        chosen = rng.choice(movable, min(abs(surplus), len(movable)), replace=False)
        counts[chosen] -= np.sign(surplus)
    return counts.astype(np.int64)


def visit_times(rng: np.random.Generator, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Admission times in seconds since 1970: a start between 2001 and 2012, gaps exponential with mean 200 days."""
    total = int(counts.sum())
    gaps = rng.exponential(200 * 86400.0, total) + 86400.0
    first = np.cumsum(counts) - counts
    gaps[first] = 978307200 + rng.uniform(0, 11 * 365.25 * 86400, len(counts))
    running = np.cumsum(gaps)
    before = np.concatenate(([0.0], running[:-1]))[first]
    return (running - np.repeat(before, counts)).astype(np.int64)


def draw_choices(
    rng: np.random.Generator, cumulative: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One draw from each of the given rows of a table of cumulative probabilities [rows, choices]."""
    drawn = rng.random(len(rows))
    result = np.empty(len(rows), dtype=np.int64)
    for row in np.unique(rows):
        here = rows == row
        result[here] = np.searchsorted(cumulative[row], drawn[here], side="right")
    return np.minimum(result, cumulative.shape[1] - 1)


def assemble(name: str, shape: Shape, seed: int, draw: Draw, design: str,
             real: Mapping[str, tuple[str, ...]] | None = None) -> Cohort:
    """The cohort that ``draw`` makes block by block: visit-wise (row, code) pairs, rows numbered within the block.

    ``real`` are the codes of the kinds that are not made up.
    """
    root = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    counts = visit_counts(root, shape)
    sizes = {"diagnosis": shape.diagnoses, "procedure": shape.procedures, "medication": shape.medications}
    pieces: dict[str, list[Pairs]] = {kind: [] for kind in KINDS}
    first = 0
    for block, start in enumerate(range(0, shape.patients, BLOCK)):
        part = counts[start : start + BLOCK]
        rng = np.random.default_rng(np.random.SeedSequence([seed, 2, block]))
        for kind, (rows, values) in draw(rng, part).items():
            pieces[kind].append((rows + first, values))
        first += int(part.sum())
    real = real or {"medication": tuple(f"ATC:{code}" for code in frequent_classes(shape.medications))}
    names = {
        "diagnosis": tuple(f"SYNDX:{i:04d}" for i in range(shape.diagnoses)),
        "procedure": tuple(f"SYNPX:{i:04d}" for i in range(shape.procedures)),
        **real,
    }
    codes = {kind: _complete(root, pieces[kind], shape.visits, sizes[kind]) for kind in KINDS}
    return Cohort(
        name=name,
        visit_patient=np.repeat(np.arange(shape.patients), counts).astype(np.int32),
        visit_time=visit_times(root, counts),
        codes=codes,
        vocabularies={kind: Vocabulary(names[kind]) for kind in KINDS},
        accounting=(Loss("visits", "kept", shape.visits), Loss("patients", "kept", shape.patients)),
        provenance={"format": "synthetic", "design": design, "seed": seed, "level": 3},
    )


def _complete(rng: np.random.Generator, pieces: list[Pairs], visits: int, size: int) -> Ragged:
    """The pieces as one table in which no visit is empty and, when there are visits enough, no code unused."""
    rows = np.concatenate([piece[0] for piece in pieces])
    values = np.concatenate([piece[1] for piece in pieces])
    empty = np.setdiff1d(np.arange(visits), rows)
    common = np.argsort(-np.bincount(values, minlength=size), kind="stable")[: max(size // 20, 1)]
    unused = np.setdiff1d(np.arange(size), values) if visits >= size else np.empty(0, dtype=np.int64)
    rows = np.concatenate((rows, empty, rng.integers(visits, size=len(unused))))
    values = np.concatenate((values, rng.choice(common, len(empty)), unused))
    return Ragged.from_pairs(rows, values, visits)


def batches_of_visits(counts: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """For each visit number: (number, the patients that have such a visit, those visits' rows in the block)."""
    first = np.cumsum(counts) - counts
    for number in range(int(counts.max(initial=0))):
        alive = np.flatnonzero(counts > number)
        yield number, alive, first[alive] + number
