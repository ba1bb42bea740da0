"""The mean of a player's gradients over ranks, in buckets that travel while backward goes on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .dist import gather, together, world
from .errors import UserError

BUCKET = 25 * 2**20  # bytes, as in DistributedDataParallel


class Buckets(NamedTuple):
    """Parameters in the order in which their gradients are sent, and the number of each one's bucket."""

    parameters: list[list[nn.Parameter]]
    number: dict[nn.Parameter, int]


class Message(NamedTuple):
    """A bucket on its way: its gradients, and their sum over ranks once the work is done."""

    gradients: list[Tensor]
    flat: Tensor
    work: torch.distributed.Work


class GradientMean:
    """Replaces the gradients of one player's parameters by their means over ranks.

    Gradients go in buckets of about the same size, each one message, as Li et al. ("PyTorch Distributed", VLDB 2020,
    section 3.2) have it: a bucket leaves as soon as backward has finished its gradients. The first turn of a program
    finds the order in which it finishes them, and sends all after backward; so a run that is resumed has the same
    buckets. Every rank sends the same ones in the same order. Another player may train the same parameters: each turn
    is by itself.

    Args:
        parameters: by name, a tied one once.
        bucket: bytes; a larger gradient has a bucket of its own.
        overlapped: whether gradients are whole when backward has added them up; else all are sent after it.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], bucket: int = BUCKET, *, overlapped: bool = True
    ) -> None:
        self.parameters, self.bucket, self.overlapped = dict(parameters), bucket, overlapped
        self.known: dict[Hashable, Buckets] = {}
        self.program: Hashable = None
        self.hooks: list[RemovableHandle] = []
        self.finished: list[nn.Parameter] = []  # in this turn, in order
        self.lacking: list[int] = []  # gradients that are not yet finished, by bucket
        self.sent: list[Message] = []

    def begin(self, program: Hashable) -> None:
        """Say that the next backward is the last of the turn, and of what: the gradients it reaches are whole."""
        if world() == 1:
            return
        buckets = self.known[program].parameters if program in self.known else []
        self.program, self.finished, self.sent = program, [], []
        self.lacking = [len(bucket) for bucket in buckets]
        self._unhook()  # of a backward that failed
        self.hooks = [
            p.register_post_accumulate_grad_hook(self._finish_one)  # type: ignore[no-untyped-call]
            for p in (self.parameters.values() if self.overlapped else ())
        ]

    def finish(self) -> None:
        """Wait for the means; from here on every rank has the same gradients.

        Raises:
            UserError: ranks, or turns of the same program, whose gradients are of different parameters.
            TrainingError: another rank has ended.
        """
        if world() == 1:
            return
        self._unhook()
        if not self.overlapped:
            self.finished = [p for p in reversed(self.parameters.values()) if p.grad is not None]
        if self.program not in self.known:
            self.known[self.program] = self._arrange()
        buckets = self.known[self.program]
        have = {name for name, p in self.parameters.items() if p.grad is not None}
        if unlike := have ^ {name for name, p in self.parameters.items() if p in buckets.number}:
            raise UserError(
                f"the gradient of {min(unlike)} comes and goes; where several processes train together, a player's "
                "terms must depend on the same parameters in every step"
            )
        for bucket in buckets.parameters[len(self.sent) :]:
            self._send(bucket)
        for gradients, flat, work in self.sent:
            with together():
                work.wait()
            flat /= world()
            for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        self.sent = []

    def _unhook(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _finish_one(self, parameter: nn.Parameter) -> None:
        """Called by backward when a gradient is whole: sends the buckets whose turn it is, and that are whole."""
        self.finished.append(parameter)
        if self.program not in self.known:
            return
        buckets = self.known[self.program]
        if (number := buckets.number.get(parameter)) is not None:
            self.lacking[number] -= 1
        while len(self.sent) < len(self.lacking) and not self.lacking[len(self.sent)]:
            self._send(buckets.parameters[len(self.sent)])

    def _send(self, bucket: list[nn.Parameter]) -> None:
        gradients = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with together():
            work = torch.distributed.all_reduce(flat, async_op=True)
        assert work is not None  # it is asynchronous
        self.sent.append(Message(gradients, flat, work))

    def _arrange(self) -> Buckets:
        """The parameters whose gradients this turn has finished, in the order in which rank 0 has."""
        names = {p: name for name, p in self.parameters.items()}
        orders = gather([[names[p] for p in dict.fromkeys(self.finished)]])  # once, however often it was computed
        found = [set(order) for order in orders]
        if unlike := found[0].union(*found) - found[0].intersection(*found):
            raise UserError(
                f"only some of {world()} processes have a gradient of {min(unlike)}; a player's terms must depend on "
                "the same parameters whatever the images are"
            )
        buckets, size = Buckets([], {}), 0
        for name in orders[0]:
            parameter = self.parameters[name]
            length = parameter.numel() * parameter.element_size()
            if not buckets.parameters or size + length > self.bucket:
                buckets.parameters.append([])
                size = 0
            buckets.parameters[-1].append(parameter)
            buckets.number[parameter] = len(buckets.parameters) - 1
            size += length
        return buckets
