"""The operators of a training step, counted as they are dispatched: arithmetic, memory traffic and time of each.

FLOP are those of convolutions and matrix products, a multiplication and an addition being two, as torch counts them
(padding included). Bytes are what an operator must read and write at least: every tensor that it reads once, every one
that it writes once, views and allocations nothing. Reordering inside a library is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from measuring import clock
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from unitkit import Trainer
from unitkit.losses.term import Term

FORWARD, BY_INPUT, BY_WEIGHT = "convolution, forward", "convolution, by input", "convolution, by weight"
PRODUCTS, NORMS, POINTWISE, COPIES = "matrix products", "norms", "activations and pointwise", "copies and casts"
LOSSES, OPTIMIZER, OTHER = "losses", "optimizer, gradient norm, average", "other"
CLASSES = (FORWARD, BY_INPUT, BY_WEIGHT, PRODUCTS, NORMS, POINTWISE, COPIES, LOSSES, OPTIMIZER, OTHER)

COPYING = {
    *("_to_copy", "copy_", "clone", "cat", "stack", "constant_pad_nd", "flip", "gather", "index", "index_select"),
    *("slice_backward", "select_backward", "slice_scatter", "as_strided_scatter", "repeat", "roll"),
}
ALLOCATING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh"}
BY_SHAPE = {"zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_full"}
OVERWRITING = {"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_"}


class Convolution(NamedTuple):
    """A convolution with all that decides its time: `part` is FORWARD, BY_INPUT or BY_WEIGHT."""

    part: str
    image: tuple[int, ...]
    weight: tuple[int, ...]
    bias: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    dtype: torch.dtype

    @property
    def settings(self) -> tuple[Any, ...]:
        """What `aten.convolution` and its backward take, from the stride on."""
        return tuple(list(each) if isinstance(each, tuple) else each for each in self[4:10])

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of its result."""
        image, weight = torch.empty(self.image, device="meta"), torch.empty(self.weight, device="meta")
        return tuple(torch.ops.aten.convolution(image, weight, None, *self.settings).shape)

    @property
    def flop(self) -> int:
        """2 N H W C_in/groups C_out k k, by the pixels (H, W) at which the kernel is put down: those of the result, or
        of the image where it is transposed. A backward part has as many."""
        pixels = (self.image if self.transposed else self.output)[2:]
        return 2 * self.image[0] * math.prod(pixels) * math.prod(self.weight)

    @property
    def moved(self) -> int:
        """The bytes of image, weight and result, or of their gradients: each part reads two and writes the third.
        A bias goes with forward, its gradient with the weight's."""
        bias = (self.weight[1] * self.groups if self.transposed else self.weight[0]) if self.bias else 0
        elements = math.prod(self.image) + math.prod(self.weight) + math.prod(self.output)
        return (elements + bias * (self.part != BY_INPUT)) * self.dtype.itemsize

    def describe(self) -> str:
        """In a line of a table."""
        kind = "transposed" if self.transposed else "plain"
        image, weight = ("x".join(map(str, shape)) for shape in (self.image, self.weight))
        groups = f", groups {self.groups}" if self.groups > 1 else ""
        return f"{self.part.partition(', ')[2]} {image} by {weight}, {kind}, stride {self.stride[0]}{groups}"


class Work(NamedTuple):
    """One operator of a step: its class, name, FLOP, bytes moved, the seconds that it took, a convolution's shape."""

    kind: str
    name: str
    flop: int
    moved: int
    seconds: float
    convolution: Convolution | None = None


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within the block every operator is counted in `work`, and waited for."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.work, self.inside = device, list[Work](), ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given, out = kwargs or {}, []
        seconds = clock(lambda: out.append(func(*args, **given)), self.device)
        self.work += works(func, args, given, out[0], seconds, self.inside)
        return out[0]

    @contextmanager
    def as_class(self, kind: str) -> Iterator[None]:
        """What is dispatched within the block is of this class, convolutions excepted."""
        before, self.inside = self.inside, kind
        yield
        self.inside = before


def works(
    func: Any, args: tuple[Any, ...], given: Mapping[str, Any], out: Any, seconds: float, inside: str
) -> Iterable[Work]:
    """What a dispatched operator did; the backward of a convolution by image and by weight is two."""
    name = func.overloadpacket.__name__
    if name in ("convolution", "convolution_backward"):
        parts = convolutions(name, args, given)
        total = sum(each.flop for each in parts)
        return [Work(each.part, name, each.flop, each.moved, seconds * each.flop / total, each) for each in parts]
    count = flop_registry.get(func.overloadpacket)
    flop = count(*args, **given, out_val=out) if count else 0
    return [Work(inside or kind_of(func), name, flop, moved(func, args, given, out), seconds)]


def kind_of(func: Any) -> str:
    """The class of an operator that is no convolution, from its name and what torch says of it."""
    name = func.overloadpacket.__name__
    if name.startswith(("_foreach_", "_fused_")):
        return OPTIMIZER
    if name in ("mm", "addmm", "bmm", "baddbmm"):  # as convolutions of few pixels are computed
        return PRODUCTS
    if "_norm" in name and "vector_norm" not in name:
        return NORMS
    if name in COPYING:
        return COPIES
    pointwise = torch.Tag.pointwise in func.tags or name.endswith("lu_backward")  # that of leaky ReLU has no tag
    return POINTWISE if pointwise else OTHER


def convolutions(name: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> list[Convolution]:
    """The convolutions of a call of `aten.convolution` or `aten.convolution_backward`."""
    assert not given, "the dispatcher passes them by place"
    if name == "convolution":
        image, weight, bias, *settings = args
        parts = [FORWARD]
    else:
        _, image, weight, bias, *settings, mask = args
        parts = [part for part, wanted in zip((BY_INPUT, BY_WEIGHT), mask, strict=False) if wanted]
    fixed: list[Any] = [tuple(each) if isinstance(each, list | tuple) else each for each in settings]
    about = [tuple(image.shape), tuple(weight.shape), bias is not None, *fixed, image.dtype]
    return [Convolution._make([part, *about]) for part in parts]


def moved(func: Any, args: tuple[Any, ...], given: Mapping[str, Any], out: Any) -> int:
    """The bytes that an operator reads and writes at least, from its schema."""
    name, schema = func.overloadpacket.__name__, func._schema
    # A fused optimizer writes gradients where they were scaled, which they are not here.
    written = [
        each.alias_info is not None and each.alias_info.is_write and each.name != "grads" for each in schema.arguments
    ]
    views = any(each.alias_info is not None and not each.alias_info.is_write for each in schema.returns)
    if name in ALLOCATING or (views and not any(written)):
        return 0
    values = {each.name: value for each, value in zip(schema.arguments, args, strict=False)} | dict(given)
    total = 0
    for argument, writes in zip(schema.arguments, written, strict=True):
        reads = not (writes and (argument.is_out or name in OVERWRITING)) and name not in BY_SHAPE
        total += (reads + writes) * size(values.get(argument.name))
    results = out if len(schema.returns) > 1 else [out]
    return total + sum(
        size(value) for each, value in zip(schema.returns, results, strict=False) if each.alias_info is None
    )


def size(value: Any) -> int:
    """The bytes of all tensors in a value, of an expanded one those that are there."""
    tensors = [each for each in tree_leaves(value) if isinstance(each, Tensor)]
    return sum(
        math.prod(edge for edge, stride in zip(each.shape, each.stride(), strict=True) if stride) * each.itemsize
        for each in tensors
    )


@contextmanager
def classes(trainer: Trainer, counter: Counter) -> Iterator[None]:
    """Within the block the counter is told what belongs to losses, backward too, and to optimizers."""
    value = Term.value

    def counted(term: Term, readings: Sequence[Any], progress: float = 0.0) -> Tensor:
        with counter.as_class(LOSSES):
            loss = value(term, readings, progress)
        _mark(loss, readings, counter)
        return loss

    with ExitStack() as stack:
        stack.enter_context(patch.object(Term, "value", counted))
        for optimizer in trainer.optimizers.values():
            outside = ExitStack()

            def enter(*_: Any, block: ExitStack = outside) -> None:
                block.enter_context(counter.as_class(OPTIMIZER))

            def leave(*_: Any, block: ExitStack = outside) -> None:
                block.close()

            for hook in optimizer.register_step_pre_hook(enter), optimizer.register_step_post_hook(leave):
                stack.callback(hook.remove)
        yield


def _mark(loss: Tensor, readings: Sequence[Any], counter: Counter) -> None:
    """Have the backward of a loss, as far as to what it reads, counted as of the losses."""
    read = {each.grad_fn for each in tree_leaves(list(readings)) if isinstance(each, Tensor)}
    waiting, seen = [loss.grad_fn], set[Any]()

    def enter(*_: Any) -> None:
        counter.inside = LOSSES

    def leave(*_: Any) -> None:
        counter.inside = ""

    while waiting:
        node = waiting.pop()
        if node is None or node in read or node in seen or "AccumulateGrad" in node.name():
            continue
        seen.add(node)
        node.register_prehook(enter)
        node.register_hook(leave)
        waiting += [each for each, _ in node.next_functions]


def count_step(trainer: Trainer, step: Callable[[int], object], number: int) -> list[Work]:
    """The operators of the trainer's step of a number, in their order."""
    counter = Counter(trainer.device)
    with classes(trainer, counter), counter:
        step(number)
    return counter.work
