"""The closed forms equal the plain ones, and the DDI control does what its paper says."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recsys.experiments.losses import DdiControl, expected_ddi_rate, multilabel_margin, pair_penalty
from recsys.experiments.train import clip_gradients
from recsys.recommenders.layers import Dropout, GroupedGRU, dropout_mask


def test_margin_in_closed_form_equals_torch_and_its_gradient() -> None:
    torch.manual_seed(0)
    target = (torch.rand(20, 13) < 0.4).float()
    target[0], target[1] = 0, 1
    labels = torch.full((20, 13), -1, dtype=torch.int64)
    for row, truth in enumerate(target):
        held = truth.nonzero().flatten()
        labels[row, :len(held)] = held
    score = torch.randn(20, 13, requires_grad=True)
    plain = F.multilabel_margin_loss(torch.sigmoid(score), labels)
    closed = multilabel_margin(torch.sigmoid(score), target)
    assert closed.item() == pytest.approx(plain.item(), rel=1e-5)
    first, = torch.autograd.grad(plain, score)
    second, = torch.autograd.grad(closed, score)
    torch.testing.assert_close(first, second)


def test_pair_terms_equal_their_loops() -> None:
    rng = np.random.default_rng(1)
    p = rng.random((4, 6)).astype(np.float32)
    a = np.triu(rng.random((6, 6)) < 0.4, 1)
    a = (a | a.T).astype(np.float32)
    loop = np.mean([sum(p[n, i] * p[n, j] * a[i, j] for i in range(6) for j in range(6)) for n in range(4)])
    assert pair_penalty(torch.from_numpy(p), torch.from_numpy(a)).item() == pytest.approx(loop, rel=1e-5)
    some = sum(p[n, i] * p[n, j] * a[i, j] for n in range(4) for i in range(6) for j in range(6) if i != j)
    whole = sum(p[n, i] * p[n, j] for n in range(4) for i in range(6) for j in range(6) if i != j)
    assert expected_ddi_rate(torch.from_numpy(p), torch.from_numpy(a)).item() == pytest.approx(some / whole, rel=1e-5)


def test_beta_is_one_at_the_target_and_falls_above_it() -> None:
    matrix = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    interacting = torch.tensor([[0.9, 0.9, 0.1]])
    harmless = torch.tensor([[0.9, 0.1, 0.9]])
    assert DdiControl(0.06, 2.5, 0.0).beta(harmless, matrix, 0.5) == 1.0
    control = DdiControl(0.5, 2.5, 0.0)
    assert control.beta(interacting, matrix, 0.5) == pytest.approx(np.exp(2.5 * (1 - 1 / 0.5)), rel=1e-5)
    assert DdiControl(0.0, 2.5).beta(interacting, matrix, 0.5) == 1.0
    moving = DdiControl(0.5, 2.5, 0.9)
    moving.beta(harmless, matrix, 0.5)
    moving.beta(interacting, matrix, 0.5)
    assert moving.rate == pytest.approx(0.1)


def test_grouped_gru_equals_separate_torch_grus_and_gradients_flow() -> None:
    torch.manual_seed(2)
    ours = GroupedGRU(2, 5)
    steps, lengths = (4, 3, 1), (3, 2, 2, 1)
    x = torch.randn(2, sum(steps), 5)
    states = ours(x, steps)
    for group in range(2):
        theirs = torch.nn.GRU(5, 5)
        theirs.weight_ih_l0.data = ours.input_weight[group].t().contiguous()
        theirs.weight_hh_l0.data = ours.hidden_weight[group].t().contiguous()
        theirs.bias_ih_l0.data = ours.input_bias[group, 0]
        theirs.bias_hh_l0.data = ours.hidden_bias[group, 0]
        packed = torch.nn.utils.rnn.PackedSequence(x[group], torch.tensor(steps))
        torch.testing.assert_close(states[group], theirs(packed)[0].data)
    assert sum(lengths) == sum(steps)
    states.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ours.parameters())


def test_dropout_keeps_its_share_and_its_mean_and_is_seeded() -> None:
    torch.manual_seed(0)
    mask = dropout_mask((1000, 77), 0.3)
    assert (mask > 0).double().mean().item() == pytest.approx(0.7, abs=0.01)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.01)
    columns = (mask.reshape(-1)[: 8 * 9000].reshape(-1, 8) > 0).double().mean(0)
    assert (columns - 0.7).abs().max() < 0.02
    torch.manual_seed(0)
    assert torch.equal(dropout_mask((1000, 77), 0.3), mask)
    layer = Dropout(0.5).eval()
    assert layer(mask) is mask


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_gradients_are_clipped_as_torch_does(largest: float) -> None:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5)),
                  torch.nn.Parameter(torch.randn(2))]
    copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    for mine, theirs in zip(parameters[:2], copies[:2], strict=True):  # the third never took part
        mine.grad = torch.randn_like(mine)
        theirs.grad = mine.grad.clone()
    norm = clip_gradients(parameters, largest)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(copies, largest)))
    for mine, theirs in zip(parameters[:2], copies[:2], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
