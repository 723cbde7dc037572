"""Sums over graphs' rows are those of torch_geometric."""

from __future__ import annotations

import torch
from torch import nn
from torch_geometric.nn import GINEConv
from torch_geometric.utils import scatter, softmax

from embed.encoders import segments


def test_segments_are_those_of_torch_geometric():
    torch.manual_seed(0)
    owner, n = torch.randint(0, 9, (40,)), 11  # some own nothing
    for shape in ((40, 6), (40, 3, 2)):
        x = torch.randn(shape)
        torch.testing.assert_close(segments.total(x, owner, n), scatter(x, owner, 0, n, reduce="sum"))
        torch.testing.assert_close(segments.mean(x, owner, n), scatter(x, owner, 0, n, reduce="mean"))
    x = torch.randn(40, 6) - 5
    torch.testing.assert_close(segments.largest(x, owner, n), scatter(x, owner, 0, n, reduce="max"))
    torch.testing.assert_close(segments.softmax(x, owner, n), softmax(x, owner, num_nodes=n))


def test_a_gin_layer_and_its_gradient_are_those_of_torch_geometric():
    torch.manual_seed(0)
    ours = segments.Gine(nn.Linear(5, 4))
    theirs = GINEConv(nn.Linear(5, 4), train_eps=True)
    theirs.load_state_dict(ours.state_dict())  # the same names, too: weights of earlier runs are read
    edges, h, edge = torch.randint(0, 7, (2, 20)), torch.randn(7, 5, requires_grad=True), torch.randn(20, 5)
    found = [layer(h, edges, edge) for layer in (ours, theirs)]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), h)[0] for out in found))
