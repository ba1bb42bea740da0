"""The functions of a step through torch.compile: when it can, that it computes the same, and what it costs to start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from ..models.kinds import is_gradient
from ..networks.state import fill
from ..schedules import Schedule
from ..system.errors import UserError
from .computation import Computation, Images
from .difference import apart_from, difference, tensors_in
from .plan import Phase, Turn

# How far losses and gradients may be from the plain ones, as `difference` has it. Two ways to round a GAN's gradient in
# float32 are 1e-2 apart, at the kinks of L1 and ReLU; that of a bias before a norm, which is 0, is but rounding. One
# that is wrong is off by about 1. In lower precision what counts is how far both are from float32: the compiled step
# may be twice as far as the plain one.
TOLERANCE = 0.05


def check_compiler(device: torch.device) -> None:
    """Raise `UserError` where torch.compile has nothing to compile with."""
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--compile is for the CPU and CUDA devices, not {device}: train with --no-compile")
    # Which says on the way that there is no CUDA.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device.type == "cuda" and not has_triton():
        raise UserError("--compile on a GPU needs triton, and finds none: install it, or train with --no-compile")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        line = "--compile needs a C++ compiler, g++ or clang++, and finds none: install one, or train with --no-compile"
        raise UserError(line) from None


class Compiled(Computation):
    """A `Computation` whose image pass and turns are compiled, each when it is first computed.

    The first time, each is computed plainly too, and must agree. What differentiates twice (R1), and terms with an
    argument that changes as training goes on or that read weights, are computed plainly always.

    Args:
        say: is told, in a line, what came of compiling.

    Attributes:
        on: whether functions are compiled; no longer where one was wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Sequence[nn.Parameter]],
        precision: str,
        device: torch.device,
        steps: int,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(model, parameters, precision, device, steps)
        check_compiler(self.device)
        self.say, self.on = say, True
        self.functions: dict[Hashable, Callable[..., Any]] = {}
        self.agreed: dict[Hashable, list[nn.Parameter]] = {}  # by turn what it trains and none of its terms reaches
        self.count, self.seconds = 0, 0.0  # of what was compiled since it was last told

    def images(self, phase: Phase, batch: Mapping[str, Tensor]) -> Images:
        state = random_state(self.device)

        def values(batch: Mapping[str, Tensor]) -> list[Any]:
            with self._autocast():
                return phase.values(batch)

        new = self.on and phase.alike not in self.functions
        images = Images(self._run(phase.alike, "the image pass", values, batch), phase, batch, state)
        if not new or phase.through:  # else compared with the gradient that goes through them
            return images
        plain = exact = self._plain_images(phase, batch, state)
        allowed = TOLERANCE
        if self.precision != "fp32":
            with self._in_fp32():
                exact = self._plain_images(phase, batch, state)
            allowed = max(TOLERANCE, 2 * difference(tensors_in(plain.values), tensors_in(exact.values)))
        apart = difference(tensors_in(images.values), tensors_in(exact.values))
        return images if self._agrees("the image pass", apart, allowed) else plain

    def _plain_images(self, phase: Phase, batch: Mapping[str, Tensor], state: Tensor) -> Images:
        """The images as they are without compiling, with the same random numbers."""
        with self.plain(), _rehearsal(self.model, self.device):
            _set_random_state(self.device, state)
            return super().images(phase, batch)

    def losses(self, turn: Turn, images: Images, step: int) -> dict[str, Tensor]:
        if not _compiles(turn):
            return super().losses(turn, images, step)

        def losses(start: list[Any]) -> dict[str, Tensor]:
            return self._losses(turn, start, 0.0)

        # A compiled backward cannot be limited by `inputs`: it computes a gradient for everything that asks for one.
        with _frozen(self.model, self._read(turn)):
            found: dict[str, Tensor] = self._run(
                turn.alike, f"the turn of '{turn.player.name}'", losses, turn.start(images.values)
            )
        return found

    def backward(self, turn: Turn, images: Images, step: int, share: float = 1.0) -> dict[str, Tensor]:
        parameters = self.parameters[turn.player.name]
        further = any(p.grad is not None for p in parameters)  # of a micro-batch before this one
        if not self.on or turn.alike in self.agreed or further or not _compiles(turn):
            values = super().backward(turn, images, step, share)
            _drop_zeros(self.agreed.get(turn.alike, ()))
            return values
        plain, gradients = self._plainly(turn, images, step, share)
        exact: Any
        exact, allowed = (plain, gradients), TOLERANCE
        if self.precision != "fp32":
            with self._in_fp32():
                exact = self._plainly(turn, images, step, share)
            allowed = max(TOLERANCE, 2 * apart_from(plain, gradients, *exact))
        values = super().backward(turn, images, step, share)
        unreached = [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is None]
        _drop_zeros(unreached)
        apart = apart_from(values, [p.grad for p in parameters], *exact)
        if self.on and not self._agrees(f"the turn of '{turn.player.name}'", apart, allowed):
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
            values = plain
        self.agreed[turn.alike] = unreached
        return values

    def _plainly(
        self, turn: Turn, images: Images, step: int, share: float
    ) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        """The losses and gradients of a turn as they are without compiling, with the same random numbers."""
        parameters = self.parameters[turn.player.name]
        now = random_state(self.device)
        with self.plain(), _rehearsal(self.model, self.device):
            if turn.through:
                assert images.state is not None, "they are of this step"
                _set_random_state(self.device, images.state)
                images = super().images(images.phase, images.batch)
                _set_random_state(self.device, now)
            values = super().backward(turn, images, step, share)
        gradients = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        return values, gradients

    @contextmanager
    def _in_fp32(self) -> Iterator[None]:
        """Within the block, which lies in one of `ready`, networks compute in float32."""
        precision, weights = self.precision, self.weights
        self.precision, self.weights = "fp32", None
        try:
            with weights.set_aside() if weights else nullcontext():
                yield
        finally:
            self.precision, self.weights = precision, weights

    def _agrees(self, name: str, apart: float, allowed: float) -> bool:
        """Whether what is so far from the right one is the same; if not, nothing is compiled from now on."""
        if not apart <= allowed:
            self.on = False
            self.say(f"compiled, {name} differs by {apart:.1g}: training goes on as without --compile")
        return self.on

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Within the block nothing is compiled."""
        on, self.on = self.on, False
        try:
            yield
        finally:
            self.on = on

    def tell(self) -> None:
        """Say what has been compiled since the last time."""
        if self.count:
            functions = "one function" if self.count == 1 else f"{self.count} functions"
            self.say(f"compiled {functions} of the step in {self.seconds:.0f} s")
        self.count, self.seconds = 0, 0.0

    def _run(self, key: Hashable, name: str, function: Callable[..., Any], given: Any) -> Any:
        """`function(given)`, compiled under this key; `name` says what it is."""
        if not self.on:
            return function(given)
        if key in self.functions:
            return self.functions[key](given)
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        started = time.perf_counter()
        # Of a plain step's random numbers, so that a seed means the same noise.
        compiled = torch.compile(_copy(function), fullgraph=True, dynamic=False, options={"fallback_random": True})
        try:
            result = compiled(given)
        except (TorchDynamoException, InductorError) as error:
            self.functions[key] = function
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            self.say(f"{name} cannot be compiled and is computed as without --compile ({reason})")
            return function(given)
        self.functions[key] = compiled
        self.count, self.seconds = self.count + 1, self.seconds + time.perf_counter() - started
        return result


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with a code of its own: what was compiled is kept by code, and closures of one share it."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def _drop_zeros(unreached: Sequence[nn.Parameter]) -> None:
    """A compiled image pass gives weights that no term reaches a gradient of zeros, with which an optimizer would still
    decay them."""
    for p in unreached:
        if p.grad is not None and not p.grad.any():
            p.grad = None


def _compiles(turn: Turn) -> bool:
    terms = [term for term, _ in turn.terms]
    changing = any(isinstance(value, Schedule) for term in terms for value in term.arguments.values())
    return not changing and not turn.on_weights and not any(is_gradient(kind) for t in terms for kind in t.loss.kinds)


@contextmanager
def _rehearsal(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block things are tried: random states and the model's buffers are as before behind it."""
    buffers = dict(model.named_buffers())
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        fill(buffers, kept)


def random_state(device: torch.device) -> Tensor:
    """The state of the device's random generator."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    """Let the device draw what it drew after this state."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextmanager
def _frozen(model: nn.Module, but: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block a model's parameters ask for no gradient, but for some."""
    stay = set(but)
    changed = [p for p in model.parameters() if p.requires_grad and p not in stay]
    for p in changed:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in changed:
            p.requires_grad_(True)
