"""Devices: what one can do, and memory that runs out on it. Which one a name means, `kernels.placement` says."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import torch

from .errors import OF_THE_MACHINE, MachineError, TrainingError, UserError


@cache
def survive_forks() -> None:
    """A process that is forked from one that computes has none of its OpenMP threads, and would wait for them for ever
    in its first large operation; alone it computes all the same."""
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def emulates_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is slower than float32 here: a CPU for whose instructions oneDNN has no bfloat16 kernels, or a
    GPU without such instructions."""
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    # No public query says this: torch.cpu.get_capabilities names instructions, not those that oneDNN can use for it.
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def set_precision(precision: str, device: torch.device) -> None:
    """Let this process multiply float32 on CUDA devices as a precision says: rounded to 10 bits in "tf32" alone.

    Raises `UserError` for "tf32" on another device.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"--precision tf32 is for CUDA devices, not {device}: choose fp32, bf16 or auto")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


@contextmanager
def enough_memory(
    device: torch.device,
    what: str,
    way_out: str = "lower batch=, size= or width= (see `unitkit show`)",
    kind: type[TrainingError | MachineError] = TrainingError,
) -> Iterator[None]:
    """Within the block, memory that runs out raises an error of this kind, which begins with `what`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise kind(f"{what}: the memory of {device} ran out; {way_out}") from None


def out_of_memory(error: BaseException) -> bool:
    """Whether this says that memory ran out, of Python or of torch."""
    # On the CPU torch raises a plain RuntimeError: of Linux and macOS, or of Windows.
    words = ("DefaultCPUAllocator", "not enough memory")
    plain = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return plain or isinstance(error, torch.OutOfMemoryError | MemoryError)


def of_machine(error: BaseException) -> bool:
    """Whether the machine is what failed: memory, a disk, rights."""
    system = isinstance(error, OSError) and error.errno in OF_THE_MACHINE
    return system or isinstance(error, MachineError) or out_of_memory(error)


def device_name(device: torch.device) -> str:
    """The device's model, with what of its instructions torch uses."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    if device.type != "cpu":
        return f"{device.type} of {platform.machine()}"
    model = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def peak_memory(device: torch.device) -> int:
    """The most memory in bytes so far: of tensors on a CUDA device, else what this process had in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
