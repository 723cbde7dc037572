"""Every tower: unit vectors, no matter what else is in the batch; and what each one promises for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem
from small_corpus import SMILES, molecules

from embed.encoders.molecule import FragmentAttention, MoleculeEncoder
from embed.encoders.property import PropertyEncoder
from embed.encoders.structure import GvpMessage
from embed.features.packed import Packed, vectors
from embed.features.radius import conformer_graphs, near_pairs
from embed.registry import ANCHOR, ENCODERS
from embed.training.data import make_table
from kb.modalities import MODALITIES

CPU = torch.device("cpu")
RINGS = [s for s in SMILES if "1" in s and "." not in s][:6]
EIGHT = [s for s in SMILES if "1" in s and "." not in s][:8]


def blocks(texts=tuple(RINGS)) -> list[str]:
    out = []
    for text in texts:
        mol = Chem.AddHs(Chem.MolFromSmiles(text))
        assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
        out.append(Chem.MolToMolBlock(mol))
    return out


@pytest.fixture(scope="module")
def shapes() -> Packed:
    done, items = conformer_graphs(blocks(), 4.5, 8, False)
    assert len(done) == len(RINGS)
    return items


def items_of(name: str, shapes: Packed) -> Packed:
    if name == ANCHOR:
        return molecules(8)
    if name == "structure":
        return shapes
    return vectors(np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32))


def tower_of(name: str):
    torch.manual_seed(0)
    kwargs = {} if name in (ANCHOR, "structure") else {"in_width": 12}
    return ENCODERS[name](width=16, **kwargs).eval()


STEPS = {"structure": 300}


@pytest.mark.parametrize("name", [ANCHOR, *MODALITIES])
def test_every_tower_overfits_eight_drugs(name):
    """Eight drugs are told apart by vectors drawn for them; a tower that ignores what it reads tells one at most."""
    items = conformer_graphs(blocks(tuple(EIGHT)), 4.5, 8, False)[1] if name == "structure" else items_of(name, Packed(0, {}))
    table, rows, tower = make_table(name, items, np.arange(8), CPU), torch.arange(8), tower_of(name)
    target = torch.nn.functional.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(1)), dim=1)

    def found() -> torch.Tensor:
        return tower(table.inputs(rows)[1]) @ target.T

    before = int((found().argmax(1) == rows).sum())
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-2)
    for _ in range(STEPS.get(name, 80)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(found() / 0.1, rows).backward()
        optimizer.step()
    assert before < 6
    assert (found().argmax(1) == rows).all()


def test_the_registry_has_the_anchor_and_the_five():
    assert set(ENCODERS) == {ANCHOR, *MODALITIES}


@pytest.mark.parametrize("name", [ANCHOR, *MODALITIES])
def test_batching_changes_nothing(name, shapes):
    items, tower = items_of(name, shapes), tower_of(name)
    table = make_table(name, items, np.arange(items.n), CPU)
    with torch.no_grad():
        together = tower(table.inputs(torch.arange(items.n))[1])
        alone = torch.cat([tower(table.inputs(torch.tensor([k]))[1]) for k in range(items.n)])
        reverse = tower(table.inputs(torch.arange(items.n).flip(0))[1]).flip(0)
    assert together.shape == (items.n, 16)
    assert torch.allclose(together.norm(dim=1), torch.ones(items.n), atol=1e-5)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, reverse, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [ANCHOR, *MODALITIES])
def test_rebuilds_from_kwargs_and_weights(name, shapes):
    tower = tower_of(name)
    again = ENCODERS[name](**tower.kwargs).eval()
    again.load_state_dict(tower.state_dict())
    items = items_of(name, shapes)
    inputs = make_table(name, items, np.arange(items.n), CPU).inputs(torch.arange(items.n))[1]
    with torch.no_grad():
        assert torch.equal(tower(inputs), again(inputs))


def moved(items: Packed, turn: np.ndarray, shift: np.ndarray) -> Packed:
    position = (items.columns["atom.position"].astype(np.float64) @ turn.T + shift).astype(np.float32)
    return Packed(items.n, {**items.columns, "atom.position": position}, items.indptr)


def shuffled(items: Packed, seed: int) -> Packed:
    """Each conformer with its atoms in another order."""
    rng, columns = np.random.default_rng(seed), {k: v.copy() for k, v in items.columns.items()}
    for a, b, c, d in zip(items.indptr["atom"], items.indptr["atom"][1:], items.indptr["edge"],
                          items.indptr["edge"][1:], strict=False):
        order = rng.permutation(b - a)
        for name in ("atom.x", "atom.position"):
            columns[name][a:b] = items.columns[name][a:b][order]
        columns["edge.ends"][c:d] = np.argsort(order)[items.columns["edge.ends"][c:d]]
    return Packed(items.n, columns, items.indptr)


@pytest.mark.parametrize("case", ["rotate", "mirror", "translate", "permute"])
def test_structure_is_invariant(shapes, case):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    other = {"rotate": lambda: moved(shapes, turn, np.zeros(3)), "mirror": lambda: moved(shapes, -turn, np.zeros(3)),
             "translate": lambda: moved(shapes, np.eye(3), np.array([40.0, -7.0, 3.0])),
             "permute": lambda: shuffled(shapes, 2)}[case]()
    tower = tower_of("structure")
    with torch.no_grad():
        here, there = (tower(make_table("structure", i, np.arange(i.n), CPU).inputs(torch.arange(i.n))[1])
                       for i in (shapes, other))
    assert torch.allclose(here, there, atol=2e-4)


def test_structure_sees_the_shape(shapes):
    stretched = moved(shapes, np.diag([1.3, 1.0, 1.0]), np.zeros(3))
    tower = tower_of("structure")
    with torch.no_grad():
        here, there = (tower(make_table("structure", i, np.arange(i.n), CPU).inputs(torch.arange(i.n))[1])
                       for i in (shapes, stretched))
    assert (here - there).abs().max() > 1e-3


def test_factored_messages_are_the_plain_ones():
    torch.manual_seed(0)
    gvp = GvpMessage(6, 3, 4).double()
    s, v = torch.randn(5, 6).double(), torch.randn(5, 3, 3).double()
    edges = torch.tensor([[0, 1, 4, 2], [1, 0, 3, 2]])
    edge_s, edge_v = torch.randn(4, 4).double(), torch.randn(4, 3).double()
    for fast, plain in zip(gvp.messages(s, v, edges, edge_s, edge_v), gvp.on_edges(s, v, edges, edge_s, edge_v),
                           strict=True):
        assert torch.allclose(fast, plain, atol=1e-12)


def test_fragment_attention_is_the_padded_one():
    torch.manual_seed(0)
    attention = FragmentAttention(8, 2).double()
    counts = [3, 1, 0, 2]
    g, s = torch.randn(4, 8).double(), torch.randn(6, 8).double()
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    pairs = (owner[:, None] == owner[None, :]).nonzero().T
    message, weight = attention(g, s, owner, pairs)
    for m in range(4):
        own = s[owner == m]
        if not len(own):
            assert torch.equal(message[m], torch.zeros(8).double())  # a molecule without fragments keeps g
            continue
        q, k, v = attention.mix(own).chunk(3, -1)
        heads = [torch.softmax(a @ b.T / 2.0, -1) @ c
                 for a, b, c in zip(q.split(4, -1), k.split(4, -1), v.split(4, -1), strict=True)]
        own = attention.norm(own + torch.cat(heads, -1))
        k, v = attention.offer(own).chunk(2, -1)
        shares = [torch.softmax(a @ b.T / 2.0, -1)
                  for a, b in zip(attention.ask(g[m]).split(4, -1), k.split(4, -1), strict=True)]
        expected = torch.cat([w @ c for w, c in zip(shares, v.split(4, -1), strict=True)], -1)
        assert torch.allclose(message[m], expected, atol=1e-10)
        assert torch.allclose(weight[owner == m], torch.stack(shares).mean(0), atol=1e-10)


def test_fragments_and_fingerprints_can_be_left_out():
    items = molecules(4)
    inputs = make_table(ANCHOR, items, np.arange(4), CPU).inputs(torch.arange(4))[1]
    assert MoleculeEncoder(fragments=False)(inputs).shape == (4, 64)
    assert MoleculeEncoder(fragments=False).attend(inputs)[1] is None


def test_a_missing_number_is_not_a_zero():
    tower = PropertyEncoder(3, 8, dropout=0.0).eval()
    values = torch.tensor([[0.0, 1.0, 2.0], [float("nan"), 1.0, 2.0]])
    z = tower({"vector": values})
    assert torch.isfinite(z).all()
    assert (z[0] - z[1]).abs().max() > 1e-3


def test_neighbours_by_brute_force():
    position = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32) * 3
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    expected = {(int(j), i) for i in range(30) for j in np.argsort(distance[i])[:5] if distance[i, j] <= 4.5}
    assert {(int(a), int(b)) for a, b in near_pairs(position, 4.5, 5)} == expected


def test_bad_conformers_are_left_out():
    flat = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))  # a drawing
    done, items = conformer_graphs(["nonsense", flat, blocks(("CCO",))[0]], 4.5, 8, False)
    assert done == [2]
    assert items.columns["atom.position"].shape == (3, 3)
    assert conformer_graphs(["x"], 4.5, 8, False)[1].n == 0
