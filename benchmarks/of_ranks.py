"""A training step on several ranks of this machine, each a process of its own: its time, and what it exchanges."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from measuring import Spread, clock, spread, trainer_of, whole_step
from torch import Tensor
from torch.utils._pytree import tree_leaves

from unitkit import Trainer
from unitkit.system import dist

COLLECTIVES = ("all_reduce", "reduce_scatter_tensor", "all_gather_into_tensor", "broadcast")


class Measured(NamedTuple):
    """A step on one rank of several.

    Attributes:
        ms: its length.
        images: of a step on this rank, over all domains.
        exchanged: bytes of the tensors that it gave to collectives.
        gradients: bytes of each player's gradients.
        backward: the share of the step that each player's backward pass took.
    """

    ms: Spread
    images: int
    exchanged: float
    gradients: dict[str, int]
    backward: dict[str, float]


def measure(world: int, words: Sequence[str], device: str, precision: str, threads: int, steps: int) -> Measured:
    """The step of the first of so many ranks, which all train the recipe."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        futures = []
        for variables in torchrun(world, threads):
            with patch.dict(os.environ, variables):  # as the process has them when it loads torch
                pool = stack.enter_context(ProcessPoolExecutor(1, context))
                futures.append(pool.submit(work, words, folder, device, precision, threads, steps))
        first, *_ = [each.result() for each in futures]
        return first


def torchrun(world: int, threads: int) -> list[dict[str, str]]:
    """The variables that torchrun gives the processes of one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "OMP_NUM_THREADS": str(threads)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_WAIT_POLICY": "passive"}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def work(words: Sequence[str], folder: str, device: str, precision: str, threads: int, steps: int) -> Measured:
    """What one rank measures; two steps go before, to warm up."""
    torch.set_num_threads(threads)
    dist.start()
    trainer = trainer_of(words, Path(folder, "run"), device, precision)
    step = whole_step(trainer)
    for number in (1, 2):
        step(number)
    times = [clock(partial(step, 3 + number), trainer.device) for number in range(steps)]
    with watched(trainer) as found:
        whole = sum(clock(partial(step, 3 + steps + number), trainer.device) for number in range(steps))
    dist.stop()
    return Measured(
        ms=spread([1e3 * each for each in times]),
        images=trainer.batches.batch_size * len(trainer.recipe.data.domains),
        exchanged=sum(found.sent) / steps,
        gradients=found.gradients,
        backward={player: seconds / whole for player, seconds in found.backward.items()},
    )


class Found(NamedTuple):
    """What `watched` fills: bytes by collective, bytes of gradients and seconds of backward passes by player."""

    sent: list[int]
    gradients: dict[str, int]
    backward: dict[str, float]


@contextmanager
def watched(trainer: Trainer) -> Iterator[Found]:
    """Within the block backward passes are timed by player and collectives are counted. Players of the same parameters
    are one, by the name of the first."""
    found = Found([], {}, {})
    backward, names = torch.autograd.backward, trainer.training_step.parameters

    def timed(total: Tensor, *args: Any, **given: Any) -> None:
        moved = given["inputs"]
        player = next(name for name, own in names.items() if own[0] is moved[0])
        seconds = clock(partial(backward, total, *args, **given), trainer.device)
        found.gradients[player] = sum(p.grad.nbytes for p in moved if p.grad is not None)
        found.backward[player] = found.backward.get(player, 0.0) + seconds

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.autograd, "backward", timed))
        for name in COLLECTIVES:
            noted = _noted(getattr(torch.distributed, name), found.sent)
            stack.enter_context(patch.object(torch.distributed, name, noted))
        yield found


def _noted(collective: Any, sent: list[int]) -> Any:
    """The collective, which notes the bytes of the largest tensor that it is given."""

    def run(*args: Any, **given: Any) -> Any:
        sent.append(max(each.nbytes for each in tree_leaves((args, given)) if isinstance(each, Tensor)))
        return collective(*args, **given)

    return run
