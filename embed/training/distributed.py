"""One job on several processes (``torchrun``): the contrastive batch is gathered from all of them.

Every process computes the whole loss on the gathered vectors and sends gradients back only through its own rows; the
processes' gradients are then summed. The result is the single-process gradient of the same batch, up to rounding.

Processes wait for each other at the group's store, not in a collective: one that featurises for hours, or writes the
finished run, lets no collective of the others run out of time.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(days=14)
"""How long a process waits for the others before it gives up."""
_meetings = count()
_joined = False


class _Gather(torch.autograd.Function):
    """All processes' rows, in rank order; backward keeps the gradient of the own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        ctx.rows = len(own)
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.rows
        return grads[0][start:start + ctx.rows]


def world() -> int:
    """How many processes share the job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def join_processes(device: torch.device) -> None:
    """Join the process group that ``torchrun`` announced in the environment, if it did.

    A card becomes the process's current one first: otherwise every process would put its collectives on card 0. A group
    that somebody else made (Ray Train) is used as it is.
    """
    global _joined
    if dist.is_initialized() and device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        _joined = True


def leave() -> None:
    """Leave the process group, if ``join_processes`` joined it."""
    global _joined
    if _joined:
        _joined = False
        dist.destroy_process_group()


def gather(own: Tensor) -> Tensor:
    """All processes' rows of a tensor with as many rows everywhere, differentiable in the own ones."""
    if world() == 1:
        return own
    if own.dtype == torch.bool:
        return gather(own.to(torch.uint8)).bool()
    if not own.requires_grad:
        parts = [torch.empty_like(own) for _ in range(world())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)
    gathered: Tensor = _Gather.apply(own)
    return gathered


def sum_gradients(sharded: Iterable[nn.Parameter], shared: Iterable[nn.Parameter]) -> None:
    """Make every process's gradients those of the whole batch.

    ``sharded`` parameters saw only the own rows: their gradients are summed. ``shared`` ones (temperatures, fusion)
    saw the gathered batch and already have the whole gradient: they are averaged, which only removes rounding.
    """
    if world() == 1:
        return
    for parameters, share in ((list(sharded), 1.0), (list(shared), 1.0 / world())):
        if not parameters:
            continue
        flat = torch.cat([
            (p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters
        ])
        dist.all_reduce(flat)
        start = 0
        for p in parameters:
            p.grad = (flat[start:start + p.numel()] * share).view_as(p).clone()
            start += p.numel()


def agree(own: uuid.UUID) -> uuid.UUID:
    """The first process's id, in all of them."""
    if world() == 1:
        return own
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor(list(own.bytes), dtype=torch.uint8, device=device)
    dist.broadcast(value, 0)
    return uuid.UUID(bytes=bytes(value.tolist()))


def wait() -> None:
    """Wait until every process is here, e.g. before one reads what another wrote."""
    if world() == 1:
        return
    store = dist.distributed_c10d._get_default_store()
    meeting = f"mkmed/{next(_meetings)}"
    if store.add(meeting, 1) == world():
        store.set(f"{meeting}/all", "here")
    store.wait([f"{meeting}/all"], PATIENCE)


@contextmanager
def first_alone() -> Iterator[bool]:
    """Let the first process go before the others, which read what it wrote; whether this is the first."""
    if rank() > 0:
        wait()
    yield rank() == 0
    if rank() == 0:
        wait()


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Give these tensors in every process the first's values."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)
