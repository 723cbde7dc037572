"""The losses and scores against plain loops, and the mask of one substance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from embed.alignment.loss import LogitScale, info_nce, late_fusion, relation, same_substance


def unit(n, d=5, seed=0):
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def plain_info_nce(a, b, scale, group):
    """The definition, pair by pair."""
    total = 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(len(x)):
            score = [math.exp(scale * float(x[i] @ y[j])) for j in range(len(y)) if j == i or group[j] != group[i]]
            own = math.exp(scale * float(x[i] @ y[i]))
            total += -math.log(own / sum(score)) / len(x)
    return total / 2


@given(st.lists(st.integers(0, 4), min_size=2, max_size=9), st.floats(1.0, 30.0))
@settings(max_examples=40, deadline=None)
def test_info_nce_is_the_definition(groups, scale):
    group = torch.tensor(groups)
    a, b = unit(len(groups), seed=1), unit(len(groups), seed=2)
    fast = info_nce(a, b, torch.tensor(scale, dtype=torch.float64), same_substance(group))
    assert float(fast) == pytest.approx(plain_info_nce(a, b, scale, groups), rel=1e-9)


def test_duplicates_are_not_negatives():
    a = unit(4)
    twice = torch.cat([a, a])
    scale, group = torch.tensor(10.0, dtype=torch.float64), torch.arange(4).repeat(2)
    masked = info_nce(twice, twice, scale, same_substance(group))
    naive = info_nce(twice, twice, scale, same_substance(torch.arange(8)))
    assert masked < naive - 0.5


def test_temperature_is_clamped_and_learned():
    scale = LogitScale(0.07)
    assert scale().item() == pytest.approx(1 / 0.07, rel=1e-5)
    scale().backward()
    assert scale.log.grad.item() == pytest.approx(1 / 0.07, rel=1e-5)
    scale.log.data.fill_(20.0)
    assert scale().item() == 100.0


def test_late_fusion_by_hand():
    first = torch.tensor([[9.0, 1.0, 2.0], [1.0, 9.0, 0.0], [2.0, 0.0, 9.0]])
    second = torch.tensor([[9.0, 3.0, -1.0], [3.0, 9.0, 0.0], [-1.0, 0.0, 9.0]])
    known = [torch.tensor([True, True, True]), torch.tensor([True, True, False])]
    same = torch.eye(3, dtype=torch.bool)
    both = [has[:, None] & has[None, :] for has in known]
    score = late_fusion([first, second], both, [0.5, 1.0], shrink=1.0)
    got = torch.softmax((score / 0.5).masked_fill(same, -1e4), dim=1)
    # Drugs 0 and 1 share both: (0.5 * 1 + 1 * 3) / (1.5 + 1); 0 and 2 only the first: 0.5 * 2 / (0.5 + 1).
    scores = np.array([3.5 / 2.5, 1.0 / 1.5]) / 0.5
    expected = np.exp(scores) / np.exp(scores).sum()
    assert got[0].tolist() == pytest.approx([0.0, *expected], abs=1e-6)
    assert torch.allclose(got.sum(1), torch.ones(3))


def test_relation_is_least_where_the_space_agrees():
    z = unit(6, seed=3)
    same = torch.eye(6, dtype=torch.bool)
    scale = torch.tensor(5.0, dtype=torch.float64)
    own = torch.softmax((z @ z.T * scale).masked_fill(same, -1e4), 1)
    other = own[torch.randperm(6, generator=torch.Generator().manual_seed(0))]
    entropy = -(own * own.clamp(min=1e-30).log()).sum(1).mean()
    assert float(relation(z, own, scale, same)) == pytest.approx(float(entropy), rel=1e-9)
    assert relation(z, other, scale, same) > entropy
