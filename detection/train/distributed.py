"""torchrun: which process this is, and the few sums that all processes share. Works the same alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detection.errors import MobileSSDError

LOST = re.compile(r"closed by peer|reset by peer|[Cc]onnection refused|Broken pipe|remote process|[Tt]imed out|NCCL")


@dataclass(frozen=True)
class World:
    """rank of size processes; local_rank: on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """The process that writes and prints."""
        return self.rank == 0


@contextmanager
def world(device: str, timeout_s: float = 600) -> Iterator[World]:
    """The processes that torchrun started (NCCL on GPUs, gloo on CPUs); a world of one without torchrun.

    A process that dies leaves the others waiting at most `timeout_s`; then they end, with one line (MobileSSDError), as
    torchrun does, which also says which one was the first.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        here = World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
        if backend == "nccl":
            torch.cuda.set_device(here.local_rank)
        yield here
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        raise MobileSSDError(
            "another process of this run has ended or cannot be reached, so this one ends too; what went wrong "
            "stands in the messages of that one; --resume goes on from the last checkpoint"
        ) from None
    finally:
        dist.destroy_process_group()


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if not dist.is_initialized():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value


def global_positives(count: Tensor) -> Tensor:
    """The sum of a count over all processes (alone: the count itself), at least 1: what losses are divided by.

    DDP averages gradients over processes, while a loss divided by this number has to be summed: multiply it by the
    number of processes before `backward`. With accumulation, count the positives of all parts first.
    """
    return total(count.detach().float()).clamp(min=1)


def any_of(flag: bool, device: str) -> bool:
    """Whether it is so on any process."""
    return bool(total(torch.tensor(float(flag), device=device))) if dist.is_initialized() else flag


@torch.no_grad()
def same_weights(module: nn.Module) -> None:
    """The first process's parameters and buffers, on every process: their batch norms have seen different images."""
    if dist.is_initialized():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def gather(value: Any) -> list[Any]:
    """The objects of all processes, in the order of their ranks, on every one of them."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def same_on_all(value: Any) -> Any:
    """The first process's value, on every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]
