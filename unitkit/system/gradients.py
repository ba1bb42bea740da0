"""The mean of a player's gradients over ranks, in buckets that may travel while backward goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .dist import gather, together, world
from .errors import UserError

BUCKET = 25 * 2**20  # bytes, as in DistributedDataParallel


class GradientMean:
    """Replaces the gradients of one player's parameters by their means over ranks.

    Gradients go in buckets of about the same size, each one message. Overlapped, as Li et al. ("PyTorch Distributed",
    VLDB 2020, section 3.2) have it, a bucket leaves as soon as backward has finished its gradients, in the order in
    which it finished them in the first turn; else all leave after backward, the last parameters first. Every rank sends
    the same buckets in the same order. Another player may train the same parameters: each turn is by itself.

    Args:
        parameters: by name, a tied one once.
        overlapped: whether buckets leave while backward goes on.
        bucket: its bytes; a larger gradient has one of its own.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, overlapped: bool, bucket: int = BUCKET) -> None:
        self.parameters, self.overlapped, self.bucket = dict(parameters), overlapped, bucket
        self.buckets: list[list[nn.Parameter]] = []
        self.place: dict[nn.Parameter, int] = {}  # the number of a parameter's bucket
        self.hooks: list[RemovableHandle] = []
        self.finished: list[nn.Parameter] = []  # in this turn, in order
        self.lacking: list[int] = []  # gradients that are not yet finished, by bucket
        self.sent: list[tuple[list[Tensor], Tensor, torch.distributed.Work]] = []

    def begin(self) -> None:
        """Say that the next backward is the last of the turn: the gradients it reaches are whole."""
        if world() == 1 or not self.overlapped:
            return
        self.finished, self.lacking = [], [len(bucket) for bucket in self.buckets]
        self.hooks = [
            p.register_post_accumulate_grad_hook(self._finish_one)  # type: ignore[no-untyped-call]
            for p in self.parameters.values()
        ]

    def finish(self) -> None:
        """Wait for the means; from here on every rank has the same gradients.

        Raises:
            UserError: ranks, or turns, whose gradients are of different parameters.
            TrainingError: another rank has ended.
        """
        if world() == 1:
            return
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
        have = [name for name, p in self.parameters.items() if p.grad is not None]
        if not self.buckets:
            names = {p: name for name, p in self.parameters.items()}
            self._arrange([names[p] for p in self.finished] if self.overlapped else have[::-1])
        if unlike := set(have) ^ {name for name, p in self.parameters.items() if p in self.place}:
            raise UserError(
                f"the gradient of {min(unlike)} comes and goes; where several processes train together, a player's "
                "terms must depend on the same parameters in every step"
            )
        for bucket in self.buckets[len(self.sent) :]:
            self._send(bucket)
        for gradients, flat, work in self.sent:
            with together():
                work.wait()
            flat /= world()
            for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        self.sent = []

    def _finish_one(self, parameter: nn.Parameter) -> None:
        """Called by backward when a gradient is whole."""
        self.finished.append(parameter)
        if (place := self.place.get(parameter)) is not None:
            self.lacking[place] -= 1
        while len(self.sent) < len(self.buckets) and not self.lacking[len(self.sent)]:
            self._send(self.buckets[len(self.sent)])

    def _send(self, bucket: list[nn.Parameter]) -> None:
        gradients = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with together():
            work = torch.distributed.all_reduce(flat, async_op=True)
        assert work is not None  # it is asynchronous
        self.sent.append((gradients, flat, work))

    def _arrange(self, order: list[str]) -> None:
        """Put the parameters that have gradients into buckets, alike on all ranks: in rank 0's order."""
        orders = gather([order])
        found = [set(each) for each in orders]
        if unlike := found[0].union(*found) - found[0].intersection(*found):
            raise UserError(
                f"only some of {world()} processes have a gradient of {min(unlike)}; a player's terms must depend on "
                "the same parameters whatever the images are"
            )
        size = 0
        for name in orders[0]:
            parameter = self.parameters[name]
            length = parameter.numel() * parameter.element_size()
            if not self.buckets or size + length > self.bucket:
                self.buckets.append([])
                size = 0
            self.buckets[-1].append(parameter)
            self.place[parameter] = len(self.buckets) - 1
            size += length
