"""ARMR (Wu, Wu & Jing, IJCAI 2025): recent and distant visits apart, and medications given before apart from new ones.

A visit's state has k slots for the visit and the k − 1 before it, and k for what these attend to among older visits,
which a selective state space (Mamba; Gu & Dao 2023) has walked through. Diagnoses, procedures, medications given again
and medications given for the first time have each a history of this form. Where the paper and its code differ, or
nothing is said: procedures are read, which its code sets to zero; *given again* is reckoned forwards in time; a
medication is compared with one history, that of medications given before if it was given, else of new ones; adjacencies
are normalised symmetrically; the optimiser and its settings are those of all networks here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recsys.cohorts.batches import Batch, Histories, Sizes
from recsys.experiments.config import Config
from recsys.knowledge.table import Knowledge
from recsys.recommenders.gamenet import GraphConvolution, normalised_adjacency
from recsys.recommenders.layers import CodeBag, Dropout
from recsys.recommenders.network import Network, NeuralRecommender

RECENT = 3
"""k: visits that count as recent, this one among them."""
STATES = 16
TAPS = 4
"""Visits that the state space's convolution sees."""
VISITS_SHARE = 0.7
"""The weight of the scores from the visits alone; the rest is that of the medications' likeness to the state."""
AGAINST = 0.5
"""The weight of the interaction graph beside the graph of what is given together."""
SMALL = 1e-8


class SelectiveStates(nn.Module):
    """s_t = exp(Δ_t A) s_{t−1} + Δ_t B_t x_t, out_t = W((C_t s_t + D x_t) · silu(z_t)); Δ, B and C hang on x_t."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.wide, self.rank = 2 * dim, math.ceil(dim / 16)
        self.into = nn.Linear(dim, 2 * self.wide, bias=False)
        self.taps = nn.Conv1d(self.wide, self.wide, TAPS, groups=self.wide, padding=TAPS - 1)
        self.select = nn.Linear(self.wide, self.rank + 2 * STATES, bias=False)
        self.step = nn.Linear(self.rank, self.wide)
        self.decay = nn.Parameter(torch.log(torch.arange(1, STATES + 1, dtype=torch.float32)).repeat(self.wide, 1))
        self.skip = nn.Parameter(torch.ones(self.wide))
        self.out = nn.Linear(self.wide, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[P, T, D] of [P, T, D]; what comes out at a visit hangs on it and earlier ones only."""
        inner, gate = self.into(x).chunk(2, -1)
        inner = F.silu(self.taps(inner.transpose(1, 2))[..., :x.shape[1]].transpose(1, 2))
        delta, into, outof = self.select(inner).split([self.rank, STATES, STATES], -1)
        delta = F.softplus(self.step(delta))
        kept = torch.exp(delta[..., None] * -torch.exp(self.decay))
        added = (delta * inner)[..., None] * into[:, :, None, :]
        state, found = torch.zeros_like(added[:, 0]), []
        for now in range(x.shape[1]):
            state = kept[:, now] * state + added[:, now]
            found.append((state * outof[:, now, None, :]).sum(-1))
        told: torch.Tensor = self.out((torch.stack(found, 1) + self.skip * inner) * F.silu(gate))
        return told


def slots(now: torch.Tensor, earlier: torch.Tensor, count: int) -> torch.Tensor:
    """[P, T, count, D]: ``now`` at each visit, then ``earlier`` of the visits before it, the latest first, else 0."""
    before = F.pad(earlier, (0, 0, count - 1, 0))
    steps = now.shape[1]
    back = [before[:, count - 1 - lag:count - 1 - lag + steps] for lag in range(1, count)]
    return torch.stack([now, *back], 2)


class PiecewiseHistory(nn.Module):
    """Recent visits through one layer, older ones through a state space to which the recent ones attend."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.states = SelectiveStates(dim)
        self.norm = nn.LayerNorm(RECENT * dim)
        self.mix = nn.Linear(RECENT * dim, RECENT * dim)

    def forward(self, now: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
        """[P, T, 2k·D] of what each visit, and each visit once it is past, has: [P, T, D] each."""
        near = slots(now, earlier, RECENT)
        near = near + self.mix(self.norm(near.flatten(2))).reshape(near.shape)
        far, steps = torch.zeros_like(near), now.shape[1]
        if steps > RECENT:
            old = torch.ones(steps, steps, dtype=torch.bool, device=now.device).tril(-RECENT)
            told = self.states(earlier)
            match = torch.einsum("ptkd,psd->ptks", near, told).masked_fill(~old[None, :, None, :], -torch.inf)
            match = torch.where(old.any(1)[None, :, None, None], match, torch.zeros_like(match))
            far = torch.einsum("ptks,psd->ptkd", torch.softmax(match, -1) * old[None, :, None, :], told)
        return torch.cat([near.flatten(2), far.flatten(2)], 2)


def likeness(query: torch.Tensor, key: nn.Linear, scale: torch.Tensor, own: torch.Tensor,
             base: torch.Tensor) -> torch.Tensor:
    """float[N, K]: cos(query_n, key(scale_nk · own_k + base_k)), without an array of N × K × width.

    ``query`` [N, W], ``key`` a layer from D to W, ``scale`` [N, K], ``own`` and ``base`` [K, D].
    """
    moving, fixed = own @ key.weight.t(), key(base)
    above = scale * (query @ moving.t()) + query @ fixed.t()
    square = (scale.square() * moving.square().sum(1) + 2 * scale * (moving * fixed).sum(1) + fixed.square().sum(1))
    return above / ((square + SMALL).sqrt() * (query.square().sum(1, keepdim=True) + SMALL).sqrt())


class ArmrNetwork(Network):
    """.7 · a layer over the last 2k visits + .3 · how like each medication, weighed by its history, is to the state."""

    interacting: torch.Tensor
    co_prescribed: torch.Tensor

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__()
        dim, width, wide = config.dim, sizes.medication, 2 * RECENT * config.dim
        self.diagnosis = CodeBag(sizes.diagnosis, dim, config.code_dropout)
        self.procedure = CodeBag(sizes.procedure, dim, config.code_dropout)
        self.medication = nn.Linear(width, dim, bias=False)
        self.diagnosed, self.treated, self.again, self.anew = (PiecewiseHistory(dim) for _ in range(4))
        self.drugs_own = nn.Parameter(torch.randn(width, dim) * 0.1)
        self.weigh, self.key = nn.Linear(dim, wide), nn.Linear(dim, wide)
        self.together, self.against = (GraphConvolution(width, dim, config.dropout) for _ in range(2))
        self.against.first = self.together.first  # the paper's two graphs share their first layer
        self.norm, self.query = nn.LayerNorm(wide), nn.Linear(wide, wide)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(wide, width)
        self.register_buffer("interacting",
                             normalised_adjacency(torch.from_numpy(knowledge.interactions.matrix).to(torch.float32)))
        self.register_buffer("co_prescribed", torch.eye(width))

    def observe(self, train: Histories) -> None:
        """Take the graph of what is given together from the training visits."""
        target = train.given[np.flatnonzero(train.scored)]
        pairs = torch.from_numpy(((target.T @ target).toarray() > 0).astype(np.float32))
        self.co_prescribed.copy_(normalised_adjacency(pairs.fill_diagonal_(0)))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        diagnosis, _ = batch.pad(self.dropout(self.diagnosis(batch.diagnosis)))
        procedure, _ = batch.pad(self.dropout(self.procedure(batch.procedure)))
        recent, _ = batch.pad(batch.recent)
        had, _ = batch.pad((batch.share > 0).to(batch.share.dtype))
        given = F.pad(recent[:, 1:], (0, 0, 0, 1))  # [P, T, K]: of each visit once it is past; of the last one nothing
        nothing = torch.zeros_like(diagnosis)
        state = self.diagnosed(diagnosis, diagnosis) + self.treated(procedure, procedure)
        codes = diagnosis + procedure
        visits = slots(codes, codes + self.medication(given), 2 * RECENT).flatten(2)
        again = batch.pack(self.again(nothing, (given * had) @ self.drugs_own))
        anew = batch.pack(self.anew(nothing, (given * (1 - had)) @ self.drugs_own))
        weighed = self.weigh(self.drugs_own)
        like = [F.normalize(part, dim=1) @ F.normalize(weighed, dim=1).t() for part in (again, anew)]
        scale = torch.where(batch.share > 0, like[0], like[1])
        graph = self.together(self.co_prescribed) + AGAINST * self.against(self.interacting)
        packed = batch.pack(state)
        query = packed + self.query(self.norm(packed))
        alike = likeness(query, self.key, scale, self.drugs_own, graph)
        return VISITS_SHARE * self.head(batch.pack(visits)) + (1 - VISITS_SHARE) * alike


class Armr(NeuralRecommender):
    """ARMR with the interaction graph of the knowledge base."""

    name = "armr"

    @classmethod
    def defaults(cls, mode: str) -> dict[str, Any]:
        """The settings that the plain Transformer has; the published loss is cross-entropy alone."""
        return {"learning_rate": 2e-3, "code_dropout": 0.3, "weight_decay": 0.1, "ddi_loss": False, "bce": 1.0,
                "margin": 0.0}

    def build(self) -> Network:
        """A fresh network."""
        return ArmrNetwork(self.sizes, self.knowledge, self.config)
