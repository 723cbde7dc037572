"""Patients and visits as tensors: packed once, time-major, without padding.

A ``Batch`` holds the visits of some patients in *packed* order: first every patient's first visit, then every second
visit, and so on, patients sorted by falling number of visits. A recurrent layer walks it in ``len(batch.steps)``
slices, nothing is ever padded, and row ``i`` of step ``t`` continues row ``i`` of step ``t - 1``.
Letters: P patients, N visits in all, T steps, K medications.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from recsys.cohorts.cohort import DOOR, KINDS, Encoded, Int64, Ragged
from recsys.cohorts.tasks import STAY, Task, previous_visit

if TYPE_CHECKING:
    import torch  # batches are for networks; histories, which closed forms read, must not wait for it

BLOCK = 20_000_000
"""Cells of a dense part of a [N, K] table that is worked through in parts."""


class Sizes(NamedTuple):
    """How many codes each input has; what is known at the door stands behind the diagnoses, in their vocabulary."""

    diagnosis: int
    procedure: int
    medication: int


class Bag(NamedTuple):
    """Code numbers of N visits, as EmbeddingBag takes them: ``values[offsets[i]:offsets[i + 1]]`` belong to visit i."""

    values: torch.Tensor
    offsets: torch.Tensor

    def to(self, device: torch.device) -> Bag:
        """The same on ``device``."""
        return Bag(self.values.to(device), self.offsets.to(device))


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

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``; ``rows`` stays, it says where the batch came from."""
        if self.target.device == device:
            return self
        names = ("diagnosis", "procedure", "recent", "share", "past", "target", "scored")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @cached_property
    def padded_rows(self) -> torch.Tensor:
        """int64[P, T]: the packed row of patient p's visit t, and -1 where there is none."""
        import torch

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
    import torch

    taken = codes.take(rows)
    return Bag(torch.from_numpy(taken.values.astype(np.int64)), torch.from_numpy(taken.indptr[:-1]))


@dataclass(frozen=True)
class Histories:
    """All visits of some patients, patient after patient, each patient's visits in time order.

    ``starts`` is int64[P + 1]: the visits of patient p are rows ``starts[p]:starts[p + 1]``. ``diagnosis`` and
    ``procedure`` hold what becomes known at each visit by the task. ``medication`` holds what was given at each visit:
    the target there, and an input only to later visits. Everything is sparse; what is dense is made part by part.
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
    available: np.ndarray | None = None
    """bool[N, K]: whether the medication could be ordered at the visit at all; None where all could."""

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
    def earlier(self) -> Ragged:
        """The medications of the visit before, none at a first visit."""
        return self.medication.take(previous_visit(self.starts))

    @cached_property
    def given(self) -> sparse.csr_matrix:
        """Sparse float32[N, K]: the medications of each visit."""
        return self.medication.sparse(self.sizes.medication)

    @cached_property
    def recent(self) -> sparse.csr_matrix:
        """Sparse float32[N, K]: the previous visit's medications."""
        return self.earlier.sparse(self.sizes.medication)

    @cached_property
    def share(self) -> sparse.csr_matrix:
        """Sparse float32[N, K]: the share of the previous visits that had each medication."""
        parts = []
        for rows in self.blocks():
            part = self.medication.take(np.arange(rows.start, rows.stop)).dense(self.sizes.medication)
            before = np.cumsum(part, axis=0) - part
            first = np.arange(rows.start, rows.stop) - self.past[rows] - rows.start
            before -= before[first]
            parts.append(sparse.csr_matrix(before / np.maximum(self.past[rows], 1)[:, None].astype(np.float32)))
        return sparse.vstack(parts, format="csr", dtype=np.float32)

    @cached_property
    def frequency(self) -> np.ndarray:
        """int64[K]: how many scored visits had each medication."""
        values = self.medication.values[np.repeat(self.scored, self.medication.lengths)]
        return np.bincount(values, minlength=self.sizes.medication)

    def target(self, rows: np.ndarray | None = None) -> np.ndarray:
        """bool[len(rows), K]: the medications of these visits, of all by default."""
        chosen = self.medication if rows is None else self.medication.take(rows)
        return chosen.dense(self.sizes.medication, bool)

    def blocks(self) -> Iterator[slice]:
        """Slices of whole patients' visits, of about BLOCK cells of a [N, K] table each."""
        height = max(BLOCK // max(self.sizes.medication, 1), 1)
        last = 0
        while last < self.visits:
            patient = max(int(np.searchsorted(self.starts, last + height, side="right")) - 1,
                          int(np.searchsorted(self.starts, last)) + 1)
            first, last = last, int(self.starts[patient])
            yield slice(first, last)

    def batch(self, patients: np.ndarray) -> Batch:
        """The visits of these patients as one packed batch."""
        import torch

        chosen = np.asarray(patients)[np.argsort(-self.lengths[patients], kind="stable")]
        lengths = self.lengths[chosen]
        step = np.arange(lengths[0])[:, None]
        alive = step < lengths[None, :]
        rows = (self.starts[:-1][chosen][None, :] + step)[alive]
        steps = tuple(int(n) for n in alive.sum(1))
        target = self.medication.take(rows).dense(self.sizes.medication)
        return Batch(
            rows=rows,
            steps=steps,
            diagnosis=_bag(self.diagnosis, rows),
            procedure=_bag(self.procedure, rows),
            recent=torch.from_numpy(self.earlier.take(rows).dense(self.sizes.medication)),
            share=torch.from_numpy(_shares(target, steps)),
            past=torch.from_numpy(self.past[rows].astype(np.float32)[:, None]),
            target=torch.from_numpy(target),
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


def _shares(target: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """float32[N, K]: the share of the previous visits that had each medication, all in packed order."""
    out = np.empty_like(target)
    total = np.zeros((steps[0], target.shape[1]), np.float32)
    start = 0
    for step, count in enumerate(steps):
        out[start:start + count] = total[:count] / max(step, 1)
        total[:count] += target[start:start + count]
        start += count
    return out


def make_histories(codes: Mapping[str, Ragged], starts: Int64, task: Task, sizes: Sizes,
                   unseen: np.ndarray | None = None) -> Histories:
    """The inputs of some patients: the only way from codes to a recommender, in training, evaluation and answers.

    ``codes`` by kind, one row a visit, numbered by the vocabularies; patient p has rows ``starts[p]:starts[p + 1]``.
    Numbers of what is known at the door follow those of the diagnoses.
    """
    inputs = task.inputs(codes, starts)
    diagnosis = inputs["diagnosis"].joined(inputs[DOOR]) if task.door else inputs["diagnosis"]
    return Histories(
        starts=starts, diagnosis=diagnosis, procedure=inputs["procedure"], medication=codes["medication"],
        sizes=sizes, scored=task.scored(starts),
        unseen=np.zeros(int(starts[-1]), np.int64) if unseen is None else unseen)


def input_vocabularies(encoded: Encoded, task: Task) -> dict[str, tuple[str, ...]]:
    """The codes of each input, in the order of their numbers."""
    codes = {kind: encoded.vocabularies[kind].codes for kind in KINDS}
    return codes | {"diagnosis": codes["diagnosis"] + encoded.vocabularies[DOOR].codes} if task.door else codes


def histories(encoded: Encoded, side: str, task: Task = STAY) -> Histories:
    """The histories of one side of the split: the inputs that the task allows, and the visits that it scores."""
    rows = encoded.visits_of(side)
    starts = np.flatnonzero(np.diff(encoded.cohort.visit_patient[rows], prepend=-1))
    codes = {kind: table.take(rows) for kind, table in encoded.codes.items()}
    if task.door:
        codes[DOOR] = codes[DOOR].shifted(len(encoded.vocabularies["diagnosis"]))
    sizes = Sizes(*(len(names) for names in input_vocabularies(encoded, task).values()))
    return make_histories(codes, np.append(starts, len(rows)).astype(np.int64), task, sizes,
                          encoded.unknown["medication"][rows].astype(np.int64))
