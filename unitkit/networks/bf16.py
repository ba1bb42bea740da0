"""Weights in bfloat16 beside those in float32 that an optimizer moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn

from .convolutions import Conv2d, PixelwiseTransposed
from .nested import full_precision

P = ParamSpec("P")


def for_losses(network: Callable[P, Any], device: torch.device) -> Callable[P, Any]:
    """A network, or a part of one, that losses call: in the autocast of now, which has ended by then.

    Its weights may be those that autocast would make of them (`Bf16Weights`). What it gives is in full precision, as
    all that losses read.
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return network
    dtype = torch.get_autocast_dtype(kind)

    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        with torch.autocast(kind, dtype):
            return full_precision(network(*args, **kwargs))

    return call


# Layers that read their weights for nothing but one operator, which autocast runs in bfloat16.
LAYERS = (nn.Conv2d, Conv2d, nn.ConvTranspose2d, PixelwiseTransposed, nn.Linear)


class Bf16Weights:
    """Copies in bfloat16 of the weights of a model's convolutions and linear layers.

    Autocast casts every weight anew in every region in which it is read. These are cast once after they have moved.
    What else has weights is cast by autocast as before.

    Args:
        model: whose parameters are float32, on their device and in their layout.
    """

    def __init__(self, model: nn.Module) -> None:
        self.copies: dict[nn.Parameter, nn.Parameter] = {}
        self.places: list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]] = []
        for module in model.modules():
            if type(module) not in LAYERS:  # one that changes its weights first is a class of its own
                continue
            for name, master in module.named_parameters(recurse=False):
                if master not in self.copies:
                    self.copies[master] = nn.Parameter(master.detach().bfloat16(), master.requires_grad)
                self.places.append((module, name, master, self.copies[master]))
        self.versions = {master: master._version for master in self.copies}

    def of(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """The copies of those that have one."""
        return [self.copies[p] for p in parameters if p in self.copies]

    def moved(self, parameters: Iterable[nn.Parameter]) -> None:
        """Cast these before they are used again: a fused optimizer leaves their versions as they were."""
        self.versions |= dict.fromkeys((p for p in parameters if p in self.copies), -1)

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the weights that have changed since, as their versions or `moved` say."""
        stale = [master for master, seen in self.versions.items() if master._version != seen]
        if stale:
            torch._foreach_copy_(list[Tensor](self.copies[master] for master in stale), list[Tensor](stale))
            self.versions |= {master: master._version for master in stale}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model computes with the copies, as they were when it began."""
        self.refresh()
        try:
            self._place(copies=True)
            yield
        finally:
            self._place(copies=False)

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Within the block, which lies in one of `in_place`, the model computes with its own weights."""
        self._place(copies=False)
        try:
            yield
        finally:
            self._place(copies=True)

    def _place(self, *, copies: bool) -> None:
        for module, name, master, copy in self.places:
            module._parameters[name] = copy if copies else master

    @torch.no_grad()
    def collect(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of the copies to those of the weights, in float32, and forget them."""
        found = [p for p in parameters if p in self.copies and self.copies[p].grad is not None]
        for master in found:
            gradient = self.copies[master].grad
            assert gradient is not None
            if master.grad is None:
                master.grad = torch.empty_like(master).copy_(gradient)
            else:
                master.grad.add_(gradient)
            self.copies[master].grad = None
