"""The structure tower: geometric vector perceptrons (Jing et al. 2021) on the conformer's radius graph.

Atoms carry scalars (invariant) and vectors (equivariant); edges within 4.5 Angstrom carry 16 radial basis values and a
unit displacement. Only displacements and centred positions enter, so the result does not change when the conformer is
moved, turned, mirrored (norms and linear maps of vectors are blind to handedness), or its atoms are listed in another
order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embed.encoders import segments
from embed.encoders.base import Inputs

NODE_SIZES = (44, 7, 7, 7, 1)
"""One-hot widths: element, degree, hydrogens, implicit valence; and one aromatic flag: 66 scalars in all."""


def radial_basis(distance: Tensor, cutoff: float, count: int = 16) -> Tensor:
    """Gaussians on a grid over [0, cutoff]: (E,) to (E, count)."""
    centres = torch.linspace(0.0, cutoff, count, device=distance.device, dtype=distance.dtype)
    return torch.exp(-(((distance[:, None] - centres) * count / cutoff) ** 2) / 2)


def vector_norm(v: Tensor) -> Tensor:
    """The lengths (n, V) of vectors (n, 3, V); a small constant keeps the gradient finite where one is exactly zero."""
    return torch.sqrt((v * v).sum(1) + 1e-8)


class Gvp(nn.Module):
    """One geometric vector perceptron: (n, S), (n, 3, V) to (n, S'), (n, 3, V').

    Vectors are mixed linearly over their channels, scalars see the vectors' norms, and vectors are gated by scalars.
    """

    def __init__(self, scalars: tuple[int, int], vectors: tuple[int, int], activate: bool = True) -> None:
        super().__init__()
        hidden = max(vectors)
        self.activate = activate
        self.down = nn.Linear(vectors[0], hidden, bias=False)
        self.up = nn.Linear(hidden, vectors[1], bias=False)
        self.scalar = nn.Linear(scalars[0] + hidden, scalars[1])
        self.gate = nn.Linear(scalars[1], vectors[1])

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The new scalars and vectors."""
        mixed = self.down(v)
        return self.finish(self.scalar(torch.cat([s, vector_norm(mixed)], -1)), mixed)

    def finish(self, out: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """The new scalars and vectors from the pre-activation scalars and the mixed vectors."""
        vectors = self.up(mixed) * torch.sigmoid(self.gate(out))[:, None, :]
        return (F.silu(out) if self.activate else out), vectors


class GvpMessage(Gvp):
    """A GVP of (sender, receiver, edge), computed without ever concatenating them on the edges.

    A linear map of a concatenation is the sum of linear maps of its parts, and those of sender and receiver need only
    be done once per atom: with a dozen edges an atom, that is most of the work. ``on_edges`` is the plain form.
    """

    def __init__(self, scalars: int, vectors: int, edge_scalars: int) -> None:
        super().__init__((2 * scalars + edge_scalars, scalars), (2 * vectors + 1, vectors))
        self.sizes = (scalars, vectors)

    def messages(self, s: Tensor, v: Tensor, edges: Tensor, edge_s: Tensor, edge_v: Tensor) -> tuple[Tensor, Tensor]:
        """The messages (E, S) and (E, 3, V)."""
        source, target = edges
        ns, nv = self.sizes
        down, scalar = self.down.weight, self.scalar.weight
        mixed = ((v @ down[:, :nv].T).index_select(0, source) + (v @ down[:, nv:2 * nv].T).index_select(0, target)
                 + edge_v[..., None] * down[:, -1])
        out = ((s @ scalar[:, :ns].T).index_select(0, source) + (s @ scalar[:, ns:2 * ns].T).index_select(0, target)
               + F.linear(torch.cat([edge_s, vector_norm(mixed)], -1), scalar[:, 2 * ns:], self.scalar.bias))
        return self.finish(out, mixed)

    def on_edges(self, s: Tensor, v: Tensor, edges: Tensor, edge_s: Tensor, edge_v: Tensor) -> tuple[Tensor, Tensor]:
        """The same messages by the definition, for tests."""
        source, target = edges
        return self(torch.cat([s[source], s[target], edge_s], -1),
                    torch.cat([v[source], v[target], edge_v[..., None]], -1))


class GvpLayer(nn.Module):
    """Messages over the edges, averaged at their receiver, then an update of each atom; both residual."""

    def __init__(self, scalars: int, vectors: int, edge_scalars: int) -> None:
        super().__init__()
        self.message = GvpMessage(scalars, vectors, edge_scalars)
        self.update = Gvp((scalars, scalars), (vectors, vectors))
        self.norm = nn.ModuleList(nn.LayerNorm(scalars) for _ in range(2))

    def forward(self, s: Tensor, v: Tensor, edges: Tensor, edge_s: Tensor, edge_v: Tensor) -> tuple[Tensor, Tensor]:
        """The atoms' scalars and vectors after one round."""
        target = edges[1]
        ms, mv = self.message.messages(s, v, edges, edge_s, edge_v)
        s = self.norm[0](s + segments.mean(ms, target, len(s)))
        v = v + segments.mean(mv, target, len(v))
        ds, dv = self.update(s, v)
        return self.norm[1](s + ds), v + dv


class StructureEncoder(nn.Module):
    """A GVP network over 3D conformers to one unit vector each.

    Reads ``node`` (V, 5) integers, ``position`` (V, 3) in Angstrom, ``edges`` (2, E), ``molecule`` (V,), ``count``.
    """

    def __init__(self, width: int = 64, scalars: int = 64, vectors: int = 8, depth: int = 3,
                 cutoff: float = 4.5) -> None:
        super().__init__()
        self.kwargs = {"width": width, "scalars": scalars, "vectors": vectors, "depth": depth, "cutoff": cutoff}
        self.cutoff = cutoff
        self.embed = Gvp((sum(NODE_SIZES), scalars), (1, vectors))
        self.layers = nn.ModuleList(GvpLayer(scalars, vectors, 16) for _ in range(depth))
        self.read = Gvp((scalars, scalars), (vectors, vectors))
        self.head = nn.Linear(2 * scalars, width)

    @staticmethod
    def _one_hot(node: Tensor) -> Tensor:
        parts = [F.one_hot(node[:, k].long().clamp(max=size - 1), size) for k, size in enumerate(NODE_SIZES[:4])]
        return torch.cat([*parts, node[:, 4:5].long()], -1).float()

    def fingerprint(self, inputs: Inputs) -> Tensor:
        """The pooled scalars (mean and maximum), (B, 2S)."""
        edges, molecule, n = inputs["edges"], inputs["molecule"], int(inputs["count"])
        position = inputs["position"]
        centre = segments.mean(position, molecule, n)
        shift = position.index_select(0, edges[0]) - position.index_select(0, edges[1])
        distance = torch.sqrt((shift * shift).sum(-1) + 1e-8)
        edge_s, edge_v = radial_basis(distance, self.cutoff), shift / distance[:, None]
        s, v = self.embed(self._one_hot(inputs["node"]), (position - centre.index_select(0, molecule))[..., None])
        for layer in self.layers:
            s, v = layer(s, v, edges, edge_s, edge_v)
        s, _ = self.read(s, v)
        return torch.cat([segments.mean(s, molecule, n), segments.largest(s, molecule, n)], -1)

    def forward(self, inputs: Inputs) -> Tensor:
        """The unit vectors, (B, D)."""
        return F.normalize(self.head(self.fingerprint(inputs)), dim=-1)
