"""What a player's turn computes: images, its terms, and its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ..losses import non_finite_gradient
from ..networks.bf16 import Bf16Weights
from ..networks.nested import detached
from .plan import Phase, Turn


class Images(NamedTuple):
    """The images of a phase, and what they were made of.

    Attributes:
        values: the slots of the plan that hold them.
        batch: real images by domain letter.
        state: of the random generator before they were made.
    """

    values: list[Any]
    phase: Phase
    batch: Mapping[str, Tensor]
    state: Tensor | None

    def cut(self) -> Self:
        """The same, without the graph that made them."""
        return self._replace(values=[detached(value) for value in self.values])


class Computation:
    """The images of a phase and the turns of its players, as torch runs them.

    Args:
        model: on its device.
        parameters: what each player trains, by the player's name.
        precision: "fp32", or "bf16" for networks within bfloat16 autocast.
        device: where the batches are.
        steps: of the training.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Sequence[nn.Parameter]],
        precision: str,
        device: torch.device,
        steps: int,
    ) -> None:
        self.model, self.parameters, self.precision = model, parameters, precision
        self.device, self.steps = device, steps
        self.weights = Bf16Weights(model) if precision == "bf16" else None

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Around all that computes with the weights as they are now."""
        if self.weights is None:
            yield
            return
        with self.weights.in_place():
            yield

    def images(self, phase: Phase, batch: Mapping[str, Tensor]) -> Images:
        """All images that the players of a phase read."""
        with self._autocast():
            return Images(phase.values(batch), phase, batch, None)

    def losses(self, turn: Turn, images: Images, step: int) -> dict[str, Tensor]:
        """Each term's value, unweighted, by its name."""
        return self._losses(turn, turn.start(images.values), step / self.steps)

    def backward(self, turn: Turn, images: Images, step: int, share: float = 1.0) -> dict[str, Tensor]:
        """Add `share` of the player's gradient to what its parameters have; returns its terms."""
        values = self.losses(turn, images, step)
        total = torch.stack([term.weight_at(step / self.steps) * values[term.name] for term, _ in turn.terms]).sum()
        if total.requires_grad:  # `inputs`: no gradient of another player's weights is computed on the way
            total = total if share == 1 else share * total
            torch.autograd.backward(total, inputs=self._read(turn))
            if self.weights is not None:
                self.weights.collect(self.parameters[turn.player.name])
        return values

    def moved(self, turn: Turn) -> None:
        """A player's optimizer has moved its parameters."""
        if self.weights is not None:
            self.weights.moved(self.parameters[turn.player.name])

    def culprit(self, turn: Turn, phase: Phase, batch: Mapping[str, Tensor], step: int) -> str | None:
        """The first term of a player, computed anew, whose gradient by what it trains is not finite."""
        with self.plain(), self.ready():
            values = self.losses(turn, self.images(phase, batch), step)
            return non_finite_gradient(values, self._read(turn))

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Within the block nothing is compiled, if it ever is."""
        yield

    def tell(self) -> None:
        """Say what has been compiled, if anything is."""

    def _losses(self, turn: Turn, start: list[Any], progress: float) -> dict[str, Tensor]:
        with self._autocast():
            values = turn.program.run(start)
        with self.weights.set_aside() if turn.on_weights and self.weights else nullcontext():
            return turn.losses(values, progress)

    def _read(self, turn: Turn) -> list[nn.Parameter]:
        """What a player trains, in the precisions in which the networks read it."""
        parameters = list(self.parameters[turn.player.name])
        return parameters if self.weights is None else [*parameters, *self.weights.of(parameters)]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
