"""Patients and visits as tensors: packed once, time-major, without padding.

A ``Batch`` holds the visits of some patients in *packed* order: first every patient's first visit, then every second
visit, and so on, patients sorted by falling number of visits. A recurrent layer walks it in ``len(batch.steps)``
slices, nothing is ever padded, and row ``i`` of step ``t`` continues row ``i`` of step ``t - 1``.
Letters: P patients, N visits in all, T steps, K medications.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from recsys.cohorts.cohort import KINDS, Encoded, Ragged
from recsys.cohorts.tasks import STAY, Task


class Sizes(NamedTuple):
    """How many codes each vocabulary has."""

    diagnosis: int
    procedure: int
    medication: int


class Bag(NamedTuple):
    """Code numbers of N visits, as EmbeddingBag takes them: ``values[offsets[i]:offsets[i + 1]]`` belong to visit i."""

    values: torch.Tensor
    offsets: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Visits of P patients in packed order; every tensor's first axis is N."""

    rows: np.ndarray
    """int64[N]: each visit's row in the ``Histories`` that it came from."""
    steps: tuple[int, ...]
    """How many patients still have a visit at step t; their sum is N."""
    diagnosis: Bag
    procedure: Bag
    recent: torch.Tensor
    """float32[N, K]: the previous visit's medications, all zero at a first visit."""
    share: torch.Tensor
    """float32[N, K]: the share of all previous visits that had each medication."""
    past: torch.Tensor
    """float32[N, 1]: how many visits came before."""
    target: torch.Tensor
    """float32[N, K]: the medications of this visit; never an input to a recommender."""
    scored: torch.Tensor
    """bool[N]: the visits that count in the loss."""

    @cached_property
    def padded_rows(self) -> torch.Tensor:
        """int64[P, T]: the packed row of patient p's visit t, and -1 where there is none."""
        grid = torch.full((self.steps[0], len(self.steps)), -1, dtype=torch.int64)
        start = 0
        for step, count in enumerate(self.steps):
            grid[:count, step] = torch.arange(start, start + count)
            start += count
        return grid

    def pad(self, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The packed rows as [P, T, ...] with zeros where there is no visit, and the mask bool[P, T]."""
        grid = self.padded_rows
        mask = grid >= 0
        shape = mask.shape + (1,) * (packed.dim() - 1)
        return packed[grid.clamp(min=0)] * mask.reshape(shape), mask

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """[P, T, ...] brought back to packed order, [N, ...]."""
        grid = self.padded_rows.t()
        return padded.transpose(0, 1)[grid >= 0]


def _bag(codes: Ragged, rows: np.ndarray) -> Bag:
    taken = codes.take(rows)
    return Bag(torch.from_numpy(taken.values.astype(np.int64)), torch.from_numpy(taken.indptr[:-1]))


@dataclass(frozen=True)
class Histories:
    """All visits of some patients, patient after patient, each patient's visits in time order.

    ``starts`` is int64[P + 1]: the visits of patient p are rows ``starts[p]:starts[p + 1]``. ``medication`` holds what
    was given at each visit: the target there, and an input only to later visits.
    """

    starts: np.ndarray
    diagnosis: Ragged
    procedure: Ragged
    medication: Ragged
    sizes: Sizes
    scored: np.ndarray
    """bool[N]: the visits for which a recommendation is asked; the others are only history."""
    unseen: np.ndarray
    """int64[N]: medications of the visit outside the vocabulary: every recall misses them."""

    @property
    def patients(self) -> int:
        """P, the number of patients."""
        return len(self.starts) - 1

    @property
    def visits(self) -> int:
        """N, the number of visits."""
        return int(self.starts[-1])

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64[P]: visits of each patient."""
        return np.diff(self.starts)

    @cached_property
    def patient_of(self) -> np.ndarray:
        """int64[N]: the patient of each visit."""
        return np.repeat(np.arange(self.patients), self.lengths)

    @cached_property
    def past(self) -> np.ndarray:
        """int64[N]: how many visits of the same patient came before."""
        return np.arange(self.visits) - np.repeat(self.starts[:-1], self.lengths)

    @cached_property
    def target(self) -> np.ndarray:
        """float32[N, K]: the medications of each visit."""
        return self.medication.dense(self.sizes.medication)

    @cached_property
    def recent(self) -> np.ndarray:
        """float32[N, K]: the previous visit's medications."""
        shifted = np.zeros_like(self.target)
        shifted[1:] = self.target[:-1]
        shifted[self.past == 0] = 0.0
        return shifted

    @cached_property
    def share(self) -> np.ndarray:
        """float32[N, K]: the share of the previous visits that had each medication."""
        total = np.cumsum(self.target, axis=0, dtype=np.float32)
        before = total - self.target
        first = np.repeat(self.starts[:-1], self.lengths)
        return (before - before[first]) / np.maximum(self.past, 1)[:, None].astype(np.float32)

    def batch(self, patients: np.ndarray) -> Batch:
        """The visits of these patients as one packed batch."""
        chosen = np.asarray(patients)[np.argsort(-self.lengths[patients], kind="stable")]
        lengths = self.lengths[chosen]
        step = np.arange(lengths[0])[:, None]
        alive = step < lengths[None, :]
        rows = (self.starts[:-1][chosen][None, :] + step)[alive]
        return Batch(
            rows=rows,
            steps=tuple(int(n) for n in alive.sum(1)),
            diagnosis=_bag(self.diagnosis, rows),
            procedure=_bag(self.procedure, rows),
            recent=torch.from_numpy(self.recent[rows]),
            share=torch.from_numpy(self.share[rows]),
            past=torch.from_numpy(self.past[rows].astype(np.float32)[:, None]),
            target=torch.from_numpy(self.target[rows]),
            scored=torch.from_numpy(self.scored[rows]),
        )

    def batches(self, size: int, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """Batches of ``size`` patients with similar numbers of visits; in random order when a generator is given.

        Patients are shuffled, then sorted by number of visits (stable), cut, and the batches shuffled, so that a batch
        of two-visit patients takes two recurrent steps instead of the longest history's.
        """
        order = np.arange(self.patients)
        if generator is not None:
            order = generator.permutation(order)
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        parts = [order[i:i + size] for i in range(0, len(order), size)]
        turns: Sequence[int] = range(len(parts))
        if generator is not None:
            turns = generator.permutation(len(parts)).tolist()
        for turn in turns:
            yield self.batch(parts[turn])


def histories(encoded: Encoded, side: str, task: Task = STAY) -> Histories:
    """The histories of one side of the split: the inputs that the task allows, and the visits that it scores."""
    rows = encoded.visits_of(side)
    inputs = task.inputs(encoded)
    scored = np.zeros(encoded.cohort.visits, bool)
    scored[task.scored(encoded.cohort)] = True
    patient = encoded.cohort.visit_patient[rows]
    starts = np.flatnonzero(np.diff(patient, prepend=-1))
    return Histories(
        starts=np.append(starts, len(rows)).astype(np.int64),
        diagnosis=inputs["diagnosis"].take(rows),
        procedure=inputs["procedure"].take(rows),
        medication=encoded.codes["medication"].take(rows),
        sizes=Sizes(*(len(encoded.vocabularies[kind]) for kind in KINDS)),
        scored=scored[rows],
        unseen=encoded.unknown["medication"][rows].astype(np.int64),
    )
