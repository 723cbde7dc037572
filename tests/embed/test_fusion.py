"""Fusion: what is missing has no say, and the forms agree with their definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from embed.alignment.fusion import drop_modalities
from embed.registry import FUSIONS


def drugs(n=6, m=4, d=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, m, d, generator=g), dim=-1), torch.rand(n, m, generator=g) > 0.4


@pytest.fixture(params=list(FUSIONS))
def fusion(request):
    torch.manual_seed(0)
    made = FUSIONS[request.param](4, 5)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return made


def test_a_missing_vector_is_never_read(fusion):
    z, present = drugs()
    present[:, 0] = True
    garbage = torch.where(present[..., None], z, torch.full_like(z, 1e3))
    assert torch.equal(fusion(z, present), fusion(garbage, present))


def test_one_modality_gives_its_own_vector():
    z, _ = drugs()
    for name in ("weighted", "gated"):
        for m in range(4):
            only = torch.zeros(6, 4, dtype=torch.bool)
            only[:, m] = True
            assert torch.allclose(FUSIONS[name](4, 5)(z, only), z[:, m], atol=1e-6)


def test_shares_sum_to_one_over_what_is_there(fusion):
    z, present = drugs()
    present[:, 1] = True
    weight = fusion.weights(z, present)
    assert torch.allclose(weight.sum(1), torch.ones(6))
    assert (weight[~present] == 0).all()


def test_result_is_unit_and_rebuilds_from_kwargs(fusion):
    z, present = drugs()
    present[:, 2] = True
    assert torch.allclose(fusion(z, present).norm(dim=1), torch.ones(6), atol=1e-5)
    again = type(fusion)(**fusion.kwargs)
    again.load_state_dict(fusion.state_dict())
    assert torch.equal(again(z, present), fusion(z, present))


def test_dropout_hides_but_never_everything():
    present = torch.rand(500, 4, generator=torch.Generator().manual_seed(1)) > 0.5
    kept = drop_modalities(present, 0.6, torch.Generator().manual_seed(2))
    assert not (kept & ~present).any()
    assert (kept.any(1) == present.any(1)).all()
    many = present.sum(1) >= 3
    # Two fifths are kept, and what is given back to the drugs that lost all (under a fifth of them).
    assert 0.4 < kept[many].sum() / present[many].sum() < 0.65
    assert torch.equal(drop_modalities(present, 0.0), present)
