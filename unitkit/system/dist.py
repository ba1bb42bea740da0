"""Several ranks under torchrun: who we are, and what all must know. One rank needs none of it."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import TrainingError, UserError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")
WAIT = 30 * 60  # seconds that the first rank waits for others to begin, as torch does


def rank() -> int:
    """This process's number, 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def start() -> None:
    """Join the processes that torchrun started; nothing to do without it.

    Raises:
        UserError: only part of what torchrun sets is set.
        TrainingError: the others do not answer.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1" or dist.is_initialized():
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise UserError(
            f"WORLD_SIZE={count} says that several processes train together, but there is no {', '.join(missing)}: "
            "start them with torchrun -m unitkit train ..., which sets them all, or unset WORLD_SIZE"
        )
    processes = variable("WORLD_SIZE", 1)
    variable("RANK", 0, processes - 1)
    variable("MASTER_PORT", 0, 65535)
    if (place := variable("LOCAL_RANK", 0)) < torch.cuda.device_count():
        torch.cuda.set_device(place)  # what "cuda" means in this process
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, ours, all_of_them = next(rendezvous("env://"))
        store = _of_this_start(store, ours, all_of_them)
        dist.init_process_group(backend, store=store, rank=ours, world_size=all_of_them)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"cannot join the {count} processes of this training ({_reason(error)})") from error


def variable(name: str, least: int, most: int = 10**6) -> int:
    """A number of the environment, 0 where it is not set. Raises `UserError` for what is none, or out of bounds."""
    text = os.environ.get(name) or "0"
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        raise UserError(
            f"{name}={text} in the environment is no whole number from {least} to {most}, as torchrun sets it: start "
            "the processes with torchrun -m unitkit train ..., or unset it"
        )
    return int(text)


def _of_this_start(store: Store, ours: int, count: int) -> Store:
    """The part of the store that belongs to these processes.

    torchrun keeps its store when it restarts them, with the addresses of those that died, and how often an agent has
    restarted its own processes is not known to all. So the first rank names the part; another takes the name from an
    answer to a greeting that nobody sent before.
    """
    from torch._C._distributed_c10d import PrefixStore

    greeting = uuid.uuid4().hex
    if ours > 0:
        store.set(f"unitkit/greeting/{ours}", greeting)
        name = store.get(f"unitkit/answer/{greeting}").decode()  # waits for it
        store.set(f"unitkit/{name}/{ours}", "here")
        return PrefixStore(name, store)
    name, missing = greeting, list(range(1, count))
    end = time.monotonic() + WAIT
    while missing := [other for other in missing if not store.check([f"unitkit/{name}/{other}"])]:
        for key in [f"unitkit/greeting/{other}" for other in missing]:
            if store.check([key]):  # of a process that died, perhaps: then its successor's will follow
                store.set(f"unitkit/answer/{store.get(key).decode()}", name)
        if time.monotonic() > end:
            raise TrainingError(f"rank {missing[0]} of {count} has not come")
        time.sleep(0.01)
    return PrefixStore(name, store)


def stop() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def of_first(text: str) -> str:
    """The text of rank 0, on every rank."""
    if world() == 1:
        return text
    length = torch.tensor(len(os.fsencode(text)))
    with together():
        dist.broadcast(length, src=0)
        letters = torch.zeros(int(length), dtype=torch.uint8)
        if rank() == 0:
            letters = torch.tensor(list(os.fsencode(text)), dtype=torch.uint8)
        dist.broadcast(letters, src=0)
    return os.fsdecode(bytes(letters.tolist()))


def gather(items: list[T]) -> list[T]:
    """The items of all ranks, in the ranks' order, for each of them."""
    if world() == 1:
        return items
    found: list[list[T]] = [[] for _ in range(world())]
    with together():
        dist.all_gather_object(found, items)
    return [item for each in found for item in each]


def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means over ranks of numbers that have the same names on each."""
    if world() == 1 or not values:
        return dict(values)
    found = torch.stack(list(values.values()))
    with together():
        dist.all_reduce(found)
    return dict(zip(values, (found / world()).unbind(), strict=True))


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank, so that all leave a loop at the same step."""
    if world() == 1:
        return flag
    value = torch.tensor(float(flag))
    with together():
        dist.all_reduce(value)
    return bool(value > 0)


@contextmanager
def together() -> Iterator[None]:
    """Within the block every process must take part; where one has ended, by a full disk say, `TrainingError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TrainingError(
            f"another process of this training has ended, and says why unless it was killed ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the place in torch's sources."""
    return re.sub(r"\[/\S*\] *", "", str(error).strip().partition("\n")[0]).partition(". ")[0]
