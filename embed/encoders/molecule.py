"""The anchor: a GIN over the atoms and bonds, and a second GIN over the BRICS fragments, which the whole attends to.

h_v <- MLP((1 + eps) h_v + sum_u ReLU(h_u + e_uv)) (Xu et al. 2019, Hu et al. 2020), mean pool to g. Fragments run
through their own GIN and are pooled to S; two-head self-attention mixes the fragments of one molecule, and g attends
over them. The result is added to g, so a molecule without fragments keeps g, and nothing crosses molecules: every
normalisation is per atom or per fragment.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embed.encoders import segments
from embed.encoders.base import Inputs, OffsetEmbedding
from embed.features.molecule import ATOM_SIZES, BOND_SIZES


class Gin(nn.Module):
    """``depth`` GIN layers with edge features, residual and layer-normalised: (V, H) to (V, H)."""

    def __init__(self, hidden: int, depth: int) -> None:
        super().__init__()
        self.bonds = nn.ModuleList(OffsetEmbedding(BOND_SIZES, hidden) for _ in range(depth))
        self.layers = nn.ModuleList(
            segments.Gine(nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden)))
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(depth))

    def forward(self, h: Tensor, edges: Tensor, kinds: Tensor) -> Tensor:
        """The atoms' states after all layers; ``edges`` (2, 2E) holds both directions, ``kinds`` (2E, 3) the bonds."""
        for bond, layer, norm in zip(self.bonds, self.layers, self.norms, strict=True):
            h = h + F.relu(norm(layer(h, edges, bond(kinds))))
        return h


class FragmentAttention(nn.Module):
    """Self-attention among the fragments of each molecule, then attention of the molecule over them.

    Works on a flat list of fragments through the pairs that lie in the same molecule, so its cost is the sum of the
    squared fragment counts and no padding is made.
    """

    def __init__(self, hidden: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.mix = nn.Linear(hidden, 3 * hidden)
        self.ask = nn.Linear(hidden, hidden)
        self.offer = nn.Linear(hidden, 2 * hidden)
        self.norm = nn.LayerNorm(hidden)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.heads, -1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, into: Tensor, n: int) -> tuple[Tensor, Tensor]:
        score = (q * k).sum(-1) / q.shape[-1] ** 0.5
        weight = segments.softmax(score, into, n)
        return segments.total(weight[..., None] * v, into, n).flatten(1), weight.mean(-1)

    def forward(self, g: Tensor, s: Tensor, molecule: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """``(message, weight)``: what each molecule takes from its fragments (B, H), and how much from each (F,).

        ``molecule`` (F,) names each fragment's molecule; ``pairs`` (2, Q) lists (fragment, fragment of the same one).
        """
        q, k, v = (self._split(part) for part in self.mix(s).chunk(3, -1))
        asked, offered = pairs
        mixed, _ = self._attend(q.index_select(0, asked), k.index_select(0, offered), v.index_select(0, offered), asked,
                                len(s))
        s = self.norm(s + mixed)
        k, v = (self._split(part) for part in self.offer(s).chunk(2, -1))
        return self._attend(self._split(self.ask(g)).index_select(0, molecule), k, v, molecule, len(g))


class MoleculeEncoder(nn.Module):
    """GIN and BRICS attention to one unit vector per molecule; ``fingerprint_width`` > 0 adds a frozen-feature path."""

    def __init__(self, width: int = 64, hidden: int = 64, depth: int = 3, fragment_depth: int = 2, heads: int = 2,
                 fragments: bool = True, fingerprint_width: int = 0, fingerprint_hidden: int = 256,
                 dropout: float = 0.2) -> None:
        super().__init__()
        self.kwargs = {
            "width": width, "hidden": hidden, "depth": depth, "fragment_depth": fragment_depth, "heads": heads,
            "fragments": fragments, "fingerprint_width": fingerprint_width, "fingerprint_hidden": fingerprint_hidden,
            "dropout": dropout,
        }
        self.atoms = OffsetEmbedding(ATOM_SIZES, hidden)
        self.gin = Gin(hidden, depth)
        self.fragment_gin = Gin(hidden, fragment_depth) if fragments else None
        self.attention = FragmentAttention(hidden, heads) if fragments else None
        joined = hidden
        if fingerprint_width:
            self.frozen = nn.Sequential(
                nn.Dropout(dropout / 2), nn.Linear(fingerprint_width, fingerprint_hidden),
                nn.LayerNorm(fingerprint_hidden), nn.GELU(), nn.Dropout(dropout),
            )
            self.skip = nn.Linear(fingerprint_width, width)
            joined += fingerprint_hidden
        self.head = nn.Linear(joined, width)

    def attend(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """``(g, weight)``: the molecules' states (B, H), and the fragments' shares of their molecule (F,) or None."""
        atom, edges, kinds = inputs["atom"], inputs["edges"], inputs["kinds"]
        molecule, n = inputs["molecule"], int(inputs["count"])
        h0 = self.atoms(atom)
        g = segments.mean(self.gin(h0, edges, kinds), molecule, n)
        if self.attention is None or self.fragment_gin is None:
            return g, None
        kept = inputs["kept"]
        h = self.fragment_gin(h0, edges[:, kept], kinds[kept])
        s = segments.mean(h, inputs["fragment"], len(inputs["fragment_molecule"]))
        message, weight = self.attention(g, s, inputs["fragment_molecule"], inputs["fragment_pairs"])
        return g + message, weight

    def fingerprint(self, inputs: Inputs) -> Tensor:
        """The state before the head: the graph's (B, H), beside the frozen features' hidden layer if there is one."""
        g, _ = self.attend(inputs)
        return torch.cat([g, self.frozen(inputs["vector"])], -1) if hasattr(self, "frozen") else g

    def forward(self, inputs: Inputs) -> Tensor:
        """The unit vectors, (B, D)."""
        z = self.head(self.fingerprint(inputs))
        return F.normalize(z + self.skip(inputs["vector"]) if hasattr(self, "skip") else z, dim=-1)
