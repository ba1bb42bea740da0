"""Models that a file describes, built without memory first, and stopped where they grow beyond what can be meant."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..system.errors import UserError

# What may be made to build a model, for each tensor, or byte, that it keeps: towers of many domains are built before
# they are tied into one, a backbone is built whole before its end is cut off, and a pool of images is no weight.
EACH, MORE = 100, 10_000
EACH_BYTE, MORE_BYTES = 64, 2**28
DRAWS = ("aten::normal_", "aten::uniform_", "aten::random_", "aten::bernoulli_")

# The same as modules call them, with those of torch.nn.init that a mode sees whole.
FILLS = {
    *(getattr(nn.init, name) for name in ("kaiming_uniform_", "uniform_", "normal_", "constant_")),
    *(getattr(Tensor, name) for name in ("normal_", "uniform_", "fill_", "zero_")),
}


class Meta(DeviceContext):
    """Within it everything is made on the meta device, and no weights are drawn: there are none, and drawing them there
    takes as long as all else."""

    def __init__(self) -> None:
        super().__init__("meta")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FILLS:
            tensor = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations and bytes, and draws no weights: there are none, and the first draw imports for a second."""

    def __init__(self, tensors: int, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left, self.bytes_left = EACH * tensors + MORE, EACH_BYTE * size + MORE_BYTES

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and torch would import its compiler for a second

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count()
        if func._schema.name in DRAWS and args[0].is_meta:
            return args[0]
        result = func(*args, **(kwargs or {}))
        if not any(each.alias_info for each in func._schema.returns):  # neither a view nor in place
            self.bytes_left -= sum(each.nbytes for each in tree_leaves(result) if isinstance(each, Tensor))
        if self.bytes_left < 0:
            raise UserError("it takes far more memory than the weights beside it")
        return result

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise UserError("it has far more layers than there are weights beside it")


@contextmanager
def _modules_counted(bounded: _Bounded) -> Iterator[None]:
    ours = threading.get_ident()

    def count(*_: Any) -> None:
        if threading.get_ident() == ours:  # the hook is called for every thread
            bounded.count()

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def rehearsed(build: Callable[[], nn.Module], stored: Mapping[str, Tensor], besides: int = 0) -> nn.Module:
    """A model built on the meta device, by code that may be anyone's.

    Raises `UserError` for one that is larger than a model with the weights `stored`, and `besides` so many bytes that
    are no weights, such as a pool of images, can be, as soon as it is.
    """
    bounded = _Bounded(len(stored), besides + sum(tensor.nbytes for tensor in stored.values()))
    with _modules_counted(bounded), bounded, Meta():
        return build()
