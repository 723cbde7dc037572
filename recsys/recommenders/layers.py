"""Layers that several recommenders share: code bags, a medication table, grouped GRUs over packed visits, a query."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recsys.cohorts.batches import Bag, Batch, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge


def dropout_mask(shape: Sequence[int], rate: float) -> torch.Tensor:
    """float32 of ``shape``: 0 with probability ``rate``, else 1/(1 − rate), the rate taken to the nearest 1/256.

    One random byte an element, drawn eight at a time, from torch's generator: five times faster on a CPU than
    ``torch.nn.functional.dropout``, which was a seventh of the training time.
    """
    size = math.prod(shape)
    share = min(max(round(256 * (1 - rate)), 1), 255)
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)
    mask = words.view(torch.uint8)[:size].reshape(tuple(shape)) < share
    return mask.to(torch.float32).mul_(256 / share)


class Dropout(nn.Module):
    """Dropout by ``kept``; the identity in evaluation."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of any shape."""
        return x * dropout_mask(x.shape, self.rate) if self.training and self.rate else x


class CodeBag(nn.Module):
    """The sum of the embeddings of each visit's codes, [N, D]; while training, codes are left out at random."""

    def __init__(self, codes: int, dim: int, dropout: float = 0.0, *, scale: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max(codes, 1), dim) * scale)
        self.dropout = dropout

    def forward(self, bag: Bag) -> torch.Tensor:
        """[N, D]; a visit without codes is zero."""
        weights = None
        if self.training and self.dropout and len(bag.values):
            weights = dropout_mask(bag.values.shape, self.dropout)
        return F.embedding_bag(bag.values, self.weight, bag.offsets, mode="sum", per_sample_weights=weights)


class DrugTable(nn.Module):
    """The medications' vectors [K, D]: the store's where known, learned where not, projected to the model's width.

    Frozen, the store's vectors are a buffer; otherwise they are parameters that start there.
    """

    vectors: torch.Tensor
    unknown: torch.Tensor

    def __init__(self, knowledge: Knowledge, dim: int, *, frozen: bool = True) -> None:
        super().__init__()
        vectors = torch.from_numpy(np.array(knowledge.vectors, np.float32))  # a copy: the table may move
        known = torch.from_numpy(knowledge.known.copy())
        if frozen:
            self.register_buffer("vectors", vectors)
        else:
            self.vectors = nn.Parameter(vectors.clone())
        self.register_buffer("unknown", (~known).nonzero().flatten())
        self.learned = nn.Parameter(torch.randn(int((~known).sum()), vectors.shape[1]) / math.sqrt(vectors.shape[1]))
        self.project = nn.Linear(vectors.shape[1], dim, bias=False)

    def rows(self) -> torch.Tensor:
        """[K, D of the store]: published vectors, with the learned rows in place of the unknown."""
        if not len(self.unknown):
            return self.vectors
        return self.vectors.index_copy(0, self.unknown, self.learned)

    def learned_knowledge(self, knowledge: Knowledge) -> Knowledge:
        """The knowledge with what the published vectors are made of as it is now; here nothing of that learns."""
        return knowledge

    def forward(self) -> torch.Tensor:
        """[K, dim]; call it once a step."""
        return self.project(self.rows())


class GroupedGRU(nn.Module):
    """G separate GRUs of equal width as one batched product a step, over packed visits (Cho et al., EMNLP 2014).

    Same equations and gate order (reset, update, new) as ``torch.nn.GRU``; a test holds them equal.
    """

    def __init__(self, groups: int, dim: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(dim)
        self.dim = dim
        self.input_weight = nn.Parameter(torch.empty(groups, dim, 3 * dim).uniform_(-bound, bound))
        self.input_bias = nn.Parameter(torch.empty(groups, 1, 3 * dim).uniform_(-bound, bound))
        self.hidden_weight = nn.Parameter(torch.empty(groups, dim, 3 * dim).uniform_(-bound, bound))
        self.hidden_bias = nn.Parameter(torch.empty(groups, 1, 3 * dim).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """States after every visit, [G, N, D], of inputs [G, N, D]; ``steps[t]`` patients are left at step t."""
        dim = self.dim
        inputs = torch.baddbmm(self.input_bias, x, self.input_weight)
        state: torch.Tensor | None = None
        states = []
        # split, not slices: its gradient is one concatenation instead of a zero-filled copy a step
        for now in inputs.split(list(steps), 1):
            now_gates, now_new = now.split([2 * dim, dim], -1)
            if state is None:  # the first state is zero
                hidden_gates, hidden_new = self.hidden_bias.split([2 * dim, dim], -1)
            else:
                state = state if state.shape[1] == now.shape[1] else state[:, :now.shape[1]]
                hidden = torch.baddbmm(self.hidden_bias, state, self.hidden_weight)
                hidden_gates, hidden_new = hidden.split([2 * dim, dim], -1)
            reset, update = torch.sigmoid(now_gates + hidden_gates).chunk(2, -1)
            new = torch.tanh(torch.addcmul(now_new, reset, hidden_new))
            state = torch.lerp(new, state, update) if state is not None else new - update * new
            states.append(state)
        return torch.cat(states, 1) if len(states) > 1 else states[0]


class PatientQuery(nn.Module):
    """The patient at every visit, [N, D]: diagnoses and procedures, each through a GRU, and one layer over both.

    GAMENet (Shang et al., AAAI 2019) asks in this way, and SafeDrug and MoleRec took it over.
    """

    def __init__(self, sizes: Sizes, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.recurrent = GroupedGRU(2, dim)
        self.dropout = Dropout(config.dropout)
        self.join = nn.Sequential(nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, batch: Batch) -> torch.Tensor:
        """[N, D]."""
        inputs = torch.stack([self.diagnosis(batch.diagnosis), self.procedure(batch.procedure)])
        states = self.recurrent(self.dropout(inputs), batch.steps)
        query: torch.Tensor = self.join(states.transpose(0, 1).flatten(1))
        return query
