"""Features of all drugs as tensors on one device, and batches cut from them with no Python object per drug.

What a batch holds is known on the host: its row numbers, who has what, and how many atoms that makes. So a batch is cut
on a card without waiting for it: sizes come from the host, index arithmetic runs on the card, and the row numbers go up
in one asynchronous copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embed.encoders.base import Inputs
from embed.features.packed import Packed, ranges

ITEMS = 16_384
"""Molecular graphs that are made ready at once."""
CARD_SHARE = 0.5
"""The share of a card's free memory that one modality's features may take; larger ones stay in main memory."""
Collate = Callable[["PackedTensors", "Rows"], dict[str, Tensor]]


class Rows(NamedTuple):
    """Row numbers (n,) on the host, where sizes are known at once, and on the device, where rows are taken."""

    host: Tensor
    here: Tensor

    def __len__(self) -> int:
        return len(self.host)


def send(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host, of one type, on ``device``: to a card as one pinned copy that nobody waits for."""
    if device.type == "cpu":
        return list(tensors)
    shapes = [tensor.shape for tensor in tensors]
    whole = torch.cat([tensor.flatten() for tensor in tensors])
    there = whole.pin_memory().to(device, non_blocking=True)
    return [part.view(shape) for part, shape in zip(there.split([s.numel() for s in shapes]), shapes, strict=True)]


def upload(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Inputs of the host on ``device``, one copy for each type of number; sizes (``count``) stay on the host."""
    if device.type == "cpu":
        return inputs
    kinds: dict[torch.dtype, list[str]] = {}
    for name, tensor in inputs.items():
        if tensor.dim():
            kinds.setdefault(tensor.dtype, []).append(name)
    there = {name: tensor for names in kinds.values()
             for name, tensor in zip(names, send([inputs[name] for name in names], device), strict=True)}
    return {name: there.get(name, tensor) for name, tensor in inputs.items()}


class PackedTensors:
    """A ``Packed`` as tensors on one device; ``take`` cuts items out by index arithmetic there."""

    def __init__(self, n: int, columns: dict[str, Tensor], indptr: dict[str, Tensor]) -> None:
        self.n, self.columns, self.indptr = n, columns, indptr
        self.lengths = {axis: pointer.diff().cpu() for axis, pointer in indptr.items()}

    @classmethod
    def of(cls, packed: Packed) -> PackedTensors:
        """The items on the host, in their own memory."""
        columns = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in packed.columns.items()}
        return cls(packed.n, columns, {k: torch.from_numpy(v) for k, v in packed.indptr.items()})

    @property
    def device(self) -> torch.device:
        """Where the items lie."""
        return next(iter(self.columns.values())).device

    @property
    def nbytes(self) -> int:
        """Bytes of all columns and pointers."""
        return sum(t.nbytes for t in (*self.columns.values(), *self.indptr.values()))

    def to(self, device: torch.device) -> PackedTensors:
        """The items on ``device``."""
        return PackedTensors(self.n, {k: v.to(device) for k, v in self.columns.items()},
                             {k: v.to(device) for k, v in self.indptr.items()})

    def take(self, rows: Rows) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``(columns, counts)`` of the items at ``rows``: flat columns, and per axis how many rows each item has."""
        picked: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        here = rows.here
        for axis, pointer in self.indptr.items():
            start, count = pointer[here], pointer[here + 1] - pointer[here]
            shift = start - (count.cumsum(0) - count)
            total = int(self.lengths[axis][rows.host].sum())
            picked[axis] = torch.arange(total, device=here.device) + shift.repeat_interleave(count, output_size=total)
            counts[axis] = count
        out = {}
        for name, column in self.columns.items():
            axis, dot, _ = name.rpartition(".")
            out[name] = column[picked[axis] if dot else here]
        return out, counts


def _spread(per_item: Tensor, count: Tensor, like: Tensor) -> Tensor:
    return per_item.repeat_interleave(count, output_size=len(like))


def collate_vectors(items: PackedTensors, rows: Rows) -> dict[str, Tensor]:
    """``vector`` (B, F)."""
    return {"vector": items.columns["vector"][rows.here].float()}


def collate_molecules(items: PackedTensors, rows: Rows) -> dict[str, Tensor]:
    """The inputs of ``MoleculeEncoder``: atoms, both directions of every bond, fragments and their pairs."""
    columns, counts = items.take(rows)
    atoms, edges, pieces = counts["atom"], counts["edge"], counts["fragment"]
    item = torch.arange(len(rows), device=rows.here.device)
    atom_shift, edge_shift, piece_shift = (count.cumsum(0) - count for count in (atoms, edges, pieces))
    ends, pairs = columns["edge.ends"].long(), columns["pair.ends"].long()
    out = {
        "atom": columns["atom.x"],
        "molecule": _spread(item, atoms, columns["atom.x"]),
        "edges": (ends + _spread(atom_shift, edges, ends)[:, None]).T.contiguous(),
        "kinds": columns["edge.x"],
        "kept": columns["kept.edge"].long() + _spread(edge_shift, counts["kept"], columns["kept.edge"]),
        "fragment": columns["atom.fragment"].long() + _spread(piece_shift, atoms, columns["atom.x"]),
        "fragment_molecule": _spread(item, pieces, columns["fragment.size"]),
        "fragment_pairs": (pairs + _spread(piece_shift, counts["pair"], pairs)[:, None]).T.contiguous(),
        "count": torch.tensor(len(rows)),
    }
    if "vector" in columns:
        out["vector"] = columns["vector"].float()
    return out


def collate_conformers(items: PackedTensors, rows: Rows) -> dict[str, Tensor]:
    """The inputs of ``StructureEncoder``."""
    columns, counts = items.take(rows)
    atoms = counts["atom"]
    shift = atoms.cumsum(0) - atoms
    ends = columns["edge.ends"].long()
    return {
        "node": columns["atom.x"],
        "position": columns["atom.position"].float(),
        "edges": (ends + _spread(shift, counts["edge"], ends)[:, None]).T.contiguous(),
        "molecule": _spread(torch.arange(len(rows), device=rows.here.device), atoms, columns["atom.x"]),
        "count": torch.tensor(len(rows)),
    }


COLLATE: Mapping[str, Collate] = {"molecule": collate_molecules, "structure": collate_conformers}


def both_directions(items: Packed) -> Packed:
    """Molecular graphs ready to batch: each bond in both directions, sorted by receiver, and all pairs of fragments."""
    if items.n <= ITEMS:
        return _both_directions(items)
    # What each item has one of is passed on as it is; the rest is made part by part, in arrays of the final size.
    ragged = Packed(items.n, {name: column for name, column in items.columns.items() if "." in name}, items.indptr)
    columns = {name: column for name, column in items.columns.items() if "." not in name}
    pieces = np.maximum.reduceat(items.columns["atom.fragment"].astype(np.int64), items.indptr["atom"][:-1]) + 1
    counts = {"atom": np.diff(items.indptr["atom"]), "edge": 2 * np.diff(items.indptr["bond"]),
              "kept": 2 * _kept_bonds(items), "fragment": pieces, "pair": pieces * pieces}
    indptr = {axis: np.concatenate([[0], np.cumsum(count)]).astype(np.int64) for axis, count in counts.items()}
    for at in range(0, items.n, ITEMS):
        part = _both_directions(ragged.take(np.arange(at, min(at + ITEMS, items.n))))
        for name, column in part.columns.items():
            pointer = indptr[name.partition(".")[0]]
            if name not in columns:
                columns[name] = np.empty((int(pointer[-1]), *column.shape[1:]), column.dtype)
            columns[name][pointer[at]:pointer[at + part.n]] = column
    return Packed(items.n, columns, indptr)


def _kept_bonds(items: Packed) -> NDArray[np.int64]:
    """How many bonds of each item lie within a fragment (n,)."""
    before = np.concatenate([[0], np.cumsum(~items.columns["bond.cut"].astype(bool))]).astype(np.int64)
    bonds = items.indptr["bond"]
    out: NDArray[np.int64] = before[bonds[1:]] - before[bonds[:-1]]
    return out


def _both_directions(items: Packed) -> Packed:
    atoms, bonds = items.indptr["atom"], items.indptr["bond"]
    ends = items.columns["bond.ends"].astype(np.int64)
    item = np.repeat(np.arange(items.n), np.diff(bonds))
    both = np.concatenate([ends, ends[:, ::-1]])
    owner = np.concatenate([item, item])
    order = np.lexsort((both[:, 0], both[:, 1], owner))
    edge, kept = 2 * bonds, ~np.concatenate([items.columns["bond.cut"]] * 2)[order]
    within_fragments = np.flatnonzero(kept)
    fragment = items.columns["atom.fragment"].astype(np.int64)
    pieces = np.maximum.reduceat(fragment, atoms[:-1]) + 1 if items.n else np.empty(0, np.int64)
    start = np.concatenate([[0], np.cumsum(pieces)])
    label = fragment + np.repeat(start[:-1], np.diff(atoms))
    # Pair q of an item with p fragments is (q // p, q % p).
    squares = pieces * pieces
    within = ranges(np.zeros(items.n, np.int64), squares)
    side = np.repeat(pieces, squares)
    columns = {
        **{name: items.columns[name] for name in ("atom.x", "atom.fragment")},
        "edge.ends": both[order].astype(np.int16),
        "edge.x": np.concatenate([items.columns["bond.x"]] * 2)[order],
        "kept.edge": (within_fragments - edge[owner[order][within_fragments]]).astype(np.int32),
        "fragment.size": np.bincount(label, minlength=int(start[-1])).astype(np.int16),
        "pair.ends": np.stack([within // np.maximum(side, 1), within % np.maximum(side, 1)], 1).astype(np.int16),
    }
    columns |= {name: column for name, column in items.columns.items() if "." not in name}
    pair = np.concatenate([[0], np.cumsum(squares)]).astype(np.int64)
    held = np.concatenate([[0], np.cumsum(2 * _kept_bonds(items))]).astype(np.int64)
    return Packed(items.n, columns, {"atom": atoms, "edge": edge, "kept": held, "fragment": start.astype(np.int64),
                                     "pair": pair})


@dataclass
class Table:
    """One modality: ``position[drug]``, on the host, is its row in ``items``, or -1; batches lie on ``device``.

    Items that a card has no room for lie (or are mapped from a file) on the host: then only what a process needs for
    its share of a batch is read and goes up.
    """

    items: PackedTensors
    position: Tensor
    collate: Collate
    device: torch.device

    def inputs(self, drugs: Tensor) -> tuple[Tensor, Inputs]:
        """``(where, inputs)``: which of ``drugs`` (their places in the batch) have the modality, and their inputs."""
        where, rows = self.rows(drugs)
        at, here = send([where, rows], self.device)
        return at, self.cut(Rows(rows, here))

    def cut(self, rows: Rows) -> Inputs:
        """The inputs of the items at ``rows``."""
        if self.items.device == rows.here.device:
            return self.collate(self.items, rows)
        return upload(self.collate(self.items, Rows(rows.host, rows.host)), rows.here.device)

    def rows(self, drugs: Tensor) -> tuple[Tensor, Tensor]:
        """``(where, rows)`` on the host: the places of ``drugs`` that have the modality, and their rows in items."""
        position = self.position[drugs]
        where = (position >= 0).nonzero()[:, 0]
        return where, position[where]


@dataclass
class Batch:
    """``drugs`` (B,), ``group`` (B,) substance numbers, ``present`` (B, 1 + M), and each table's (where, inputs)."""

    drugs: Tensor
    group: Tensor
    present: Tensor
    inputs: dict[str, tuple[Tensor, Inputs]]


@dataclass
class Dataset:
    """All drugs: tables by name (the anchor first), the availability mask (N, 1 + M), and substance numbers (N,)."""

    drug_ids: NDArray[np.int64]
    tables: dict[str, Table]
    group: Tensor

    @property
    def present(self) -> Tensor:
        """The availability mask (N, 1 + M) in the order of ``tables``, on the host."""
        return self.known(torch.arange(len(self.drug_ids)))

    def known(self, drugs: Tensor) -> Tensor:
        """The availability mask (B, 1 + M) of the drugs at these row numbers, on the host."""
        return torch.stack([table.position[drugs] >= 0 for table in self.tables.values()], 1)

    def batch(self, drugs: Tensor) -> Batch:
        """The batch of the drugs at these row numbers, which lie on the host."""
        device = self.group.device
        found = [table.rows(drugs) for table in self.tables.values()]
        here, *sent = send([drugs, *(part for pair in found for part in pair)], device)
        present, = send([self.known(drugs)], device)
        inputs: dict[str, tuple[Tensor, Inputs]] = {
            name: (sent[2 * k], table.cut(Rows(found[k][1], sent[2 * k + 1])))
            for k, (name, table) in enumerate(self.tables.items())}
        return Batch(here, self.group[here], present, inputs)


def make_table(name: str, items: Packed, position: NDArray[np.int64], device: torch.device) -> Table:
    """The table of one modality, whose batches lie on ``device``."""
    ready = both_directions(items) if name == "molecule" else items
    return place_table(name, PackedTensors.of(ready), torch.from_numpy(position), device)


def no_table(drugs: int, device: torch.device) -> Table:
    """The table of a modality that none of the drugs has."""
    nothing = PackedTensors.of(Packed(0, {"vector": np.zeros((0, 1), np.float32)}))
    return Table(nothing.to(device), torch.full((drugs,), -1), collate_vectors, device)


def place_table(name: str, items: PackedTensors, position: Tensor, device: torch.device) -> Table:
    """The table of items that lie on the host: on a card go those that it has room for."""
    there = items.to(device) if _has_room(device, items.nbytes) else items
    return Table(there, position, COLLATE.get(name, collate_vectors), device)


def _has_room(device: torch.device, size: int) -> bool:
    return device.type == "cpu" or size <= CARD_SHARE * torch.cuda.mem_get_info(device)[0]
