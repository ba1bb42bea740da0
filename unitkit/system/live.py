"""The bytes of tensors that are alive, counted as operators make them and as they are freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.ops.prim.device.default
IN_PLACE = {torch.ops.aten.leaky_relu_.default, torch.ops.aten.relu_.default}  # they make nothing
LAYER_NORM = torch.ops.aten.native_layer_norm.default
LARGE = 32 * 2**20  # bytes from which glibc asks the system for a block of its own, and gives it back


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, every storage that operators make counts once, until it is freed; on the meta device too.

    Args:
        workspace: the bytes that an operator needs besides its results while it runs, of the operator, its arguments
            and its result.

    Attributes:
        made: bytes of all that was made.
        bytes: alive now.
        large: alive now, in storages of at least `LARGE`.
        peak: the most that were alive.
        large_at_peak: `large` at that moment.
    """

    def __init__(self, workspace: Callable[[Any, Sequence[Any], Any], int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.workspace = workspace
        self.made = self.bytes = self.large = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.measure_anew()

    def measure_anew(self) -> None:
        """Forget the peak until now."""
        self.peak, self.large_at_peak = self.bytes, self.large

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled within it, and torch's guard against that takes as long as a small operator."""
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if args and hasattr(args[0], "fake_device"):
            if func is DEVICE:  # two of three calls, as what torch itself does asks it
                return args[0].fake_device
            if func in IN_PLACE:
                return args[0]
        elif func in IN_PLACE and args[0].is_meta:  # which torch would compute in a dozen Python calls
            return args[0]
        before = self.bytes
        norm = func is LAYER_NORM and args[0].is_meta and args[0].dtype == torch.float32  # in a hundred
        result = _normed(*args) if norm else func(*args, **(kwargs or {}))
        if self.workspace is not None:
            self._reach(before + self.workspace(func, args, result))
        for value in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        self._reach(self.bytes)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        large = size if size >= LARGE else 0

        def freed(_: object) -> None:
            del self._known[key]
            self.bytes -= size
            self.large -= large

        self._known[key] = weakref.ref(storage, freed)
        self.made += size
        self.bytes += size
        self.large += large

    def _reach(self, size: int) -> None:
        if size > self.peak:
            self.peak, self.large_at_peak = size, self.large


def _normed(x: Tensor, shape: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer norm gives: its result, and the mean and the deviation of each row."""
    rows = (*x.shape[: x.dim() - len(shape)], *(1 for _ in shape))
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(rows), x.new_empty(rows)
