"""Several ranks under torchrun: who we are, and the mean of gradients over ranks. One rank needs none of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from .errors import TrainingError

T = TypeVar("T")


def rank() -> int:
    """This process's number, 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def start() -> None:
    """Join the processes that torchrun started; nothing to do without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    if (place := int(os.environ.get("LOCAL_RANK", "0"))) < torch.cuda.device_count():
        torch.cuda.set_device(place)  # what "cuda" means in this process
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def of_first(text: str) -> str:
    """The text of rank 0, on every rank."""
    if world() == 1:
        return text
    length = torch.tensor(len(os.fsencode(text)))
    with _together():
        dist.broadcast(length, src=0)
        letters = torch.zeros(int(length), dtype=torch.uint8)
        if rank() == 0:
            letters = torch.tensor(list(os.fsencode(text)), dtype=torch.uint8)
        dist.broadcast(letters, src=0)
    return os.fsdecode(bytes(letters.tolist()))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over ranks, in one message."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    with _together():
        dist.all_reduce(flat)
    flat /= world()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def gather(items: list[T]) -> list[T]:
    """The items of all ranks, in the ranks' order, for each of them."""
    if world() == 1:
        return items
    found: list[list[T]] = [[] for _ in range(world())]
    with _together():
        dist.all_gather_object(found, items)
    return [item for each in found for item in each]


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank, so that all leave a loop at the same step."""
    if world() == 1:
        return flag
    value = torch.tensor(float(flag))
    with _together():
        dist.all_reduce(value)
    return bool(value > 0)


@contextmanager
def _together() -> Iterator[None]:
    """Within the block every process must take part; where one has ended, by a full disk say, `TrainingError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(f"another process of this training has ended, and says why ({reason})") from error
