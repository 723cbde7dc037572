"""ARMR's parts against their equations written out, and what its histories may and may not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_cohort import make_encoded, make_knowledge, sides
from torch.nn import functional as F

from recsys.cohorts.batches import Histories
from recsys.experiments.config import from_json
from recsys.recommenders.armr import RECENT, STATES, ArmrNetwork, PiecewiseHistory, SelectiveStates, likeness, slots


def made() -> tuple[ArmrNetwork, Histories]:
    encoded = make_encoded()
    train = sides(encoded)[0]
    torch.manual_seed(0)
    network = ArmrNetwork(train.sizes, make_knowledge(encoded), from_json({"recommender": "armr", "dim": 8}))
    network.observe(train)
    return network.eval(), train


def test_the_likeness_is_the_cosine_of_the_whole_vectors() -> None:
    torch.manual_seed(1)
    key = torch.nn.Linear(5, 7)
    query, scale, own, base = torch.randn(3, 7), torch.randn(3, 4), torch.randn(4, 5), torch.randn(4, 5)
    whole = key(scale[:, :, None] * own + base)
    expected = F.cosine_similarity(query[:, None].expand_as(whole), whole, dim=2)
    torch.testing.assert_close(likeness(query, key, scale, own, base), expected, atol=1e-5, rtol=1e-4)


def test_the_states_follow_their_recurrence_visit_by_visit() -> None:
    torch.manual_seed(2)
    block, x = SelectiveStates(8), torch.randn(1, 6, 8)
    inner, gate = block.into(x)[0].chunk(2, -1)
    weights, bias = block.taps.weight[:, 0], block.taps.bias
    state, found = torch.zeros(block.wide, STATES), []
    for t in range(6):
        seen = sum(weights[:, -1 - lag] * inner[t - lag] for lag in range(weights.shape[1]) if t >= lag)
        u = F.silu(seen + bias)
        delta, into, outof = block.select(u).split([block.rank, STATES, STATES])
        delta = F.softplus(block.step(delta))
        state = torch.exp(-delta[:, None] * torch.exp(block.decay)) * state + (delta * u)[:, None] * into[None]
        found.append(block.out((state @ outof + block.skip * u) * F.silu(gate[t])))
    torch.testing.assert_close(block(x)[0], torch.stack(found), atol=1e-5, rtol=1e-4)


def test_a_slot_holds_the_visit_that_many_before() -> None:
    now, past = torch.arange(5.0)[None, :, None], 10 + torch.arange(5.0)[None, :, None]
    assert slots(now, past, 3)[0, :, :, 0].tolist() == [[0, 0, 0], [1, 10, 0], [2, 11, 10], [3, 12, 11], [4, 13, 12]]


def test_old_visits_reach_a_later_one_by_attention_and_later_ones_reach_none() -> None:
    torch.manual_seed(3)
    history, seen = PiecewiseHistory(8), torch.randn(1, 7, 8)
    before = history(seen, seen)
    width = RECENT * 8
    assert not before[0, :RECENT, width:].any() and before[0, RECENT:, width:].any(1).all()  # nothing is old before k
    changed = seen.clone()
    changed[0, 1] += 1
    after = history(changed, changed)
    moved = (after != before)[0].any(1)
    assert not moved[0] and moved[1:].all()
    assert torch.equal(after[0, 4:, :width], before[0, 4:, :width])  # the second visit is recent no more


@pytest.mark.parametrize(("earlier", "part"), [(True, "again"), (False, "anew")])
def test_a_medication_is_weighed_by_the_history_of_its_kind(earlier: bool, part: str) -> None:
    network, train = made()
    batch = train.batch(np.arange(train.patients))
    scored = network(batch)
    with torch.no_grad():
        getattr(network, part).mix.bias.normal_()
    moved = network(batch) != scored
    had = (batch.share > 0)
    assert not moved[had != earlier].any() and moved[had == earlier].float().mean() > 0.9
    assert had.any() and not had.all()


def test_the_graph_of_what_is_given_together_is_of_the_training_visits() -> None:
    network, train = made()
    given = train.target(np.flatnonzero(train.scored)).astype(float)
    together = (given.T @ given > 0) | np.eye(given.shape[1], dtype=bool)
    assert np.array_equal(network.co_prescribed.numpy() > 0, together)
