"""Sums, means, maxima and softmax over the rows of one graph among many, as torch_geometric.utils has them.

Importing that package takes longer than answering a question does; ``tests/embed/test_segments.py`` compares the two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def total(x: Tensor, owner: Tensor, n: int) -> Tensor:
    """The sum (n, ...) of the rows of ``x`` (r, ...) by ``owner`` (r,); zero for an owner of none."""
    return x.new_zeros(n, *x.shape[1:]).index_add(0, owner, x)


def mean(x: Tensor, owner: Tensor, n: int) -> Tensor:
    """The mean (n, ...) of the rows of ``x`` by ``owner``; zero for an owner of none."""
    count = total(x.new_ones(len(x)), owner, n).clamp(min=1)
    return total(x, owner, n) / count.view(-1, *[1] * (x.dim() - 1))


def largest(x: Tensor, owner: Tensor, n: int) -> Tensor:
    """The largest of each column (n, F) of the rows of ``x`` (r, F) by ``owner``; zero for an owner of none."""
    return x.new_zeros(n, x.shape[1]).scatter_reduce(0, owner[:, None].expand_as(x), x, "amax", include_self=False)


def softmax(score: Tensor, owner: Tensor, n: int) -> Tensor:
    """The softmax (r, H) of ``score`` (r, H) over the rows of each owner."""
    raised = (score - largest(score.detach(), owner, n).index_select(0, owner)).exp()
    return raised / (total(raised, owner, n) + 1e-16).index_select(0, owner)


class Gine(nn.Module):
    """A GIN layer with edge features (Hu et al. 2020): MLP((1 + eps) h_v + sum_u ReLU(h_u + e_uv))."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.nn = mlp
        self.eps = nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor, edges: Tensor, edge: Tensor) -> Tensor:
        """The new states (V, H') of ``h`` (V, H) over ``edges`` (2, E) with features ``edge`` (E, H)."""
        message = F.relu(h.index_select(0, edges[0]) + edge)
        out: Tensor = self.nn(total(message, edges[1], len(h)) + (1 + self.eps) * h)
        return out
