"""How to compute on a device so that all is right, from checks of the operators that training is made of.

The first training on a new pair of torch build and device runs the checks of `operators`, and keeps the outcome in the
user's cache folder (~/.cache/unitkit/doctor, or below XDG_CACHE_HOME).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..networks import convolutions
from ..networks.layers import Residual
from ..system import dist
from ..system.devices import device_name, emulates_bf16, survive_forks
from ..system.errors import TrainingError, UserError, nearest
from ..system.files import replacing
from . import norms, operators
from .norms import BatchNorm, InstanceNorm, LayerNorm
from .operators import ADAM, LAYOUTS, OPERATORS, Fault, Layout

NORMS = {each.name for each in OPERATORS if "norm" in each.name}  # which have a reference to fall back on

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Placement:
    """How to compute on a device so that all is right.

    Attributes:
        layout: of images and weights in memory.
        reference: compute norms by their formulas.
        fused: whether Adam takes its fused step.
        notes: a sentence for each operator that had to be avoided.
        kernels: compute residual blocks with the Triton kernel of `fused`, on a GPU. Not measured on one yet: off.
    """

    layout: Layout
    reference: bool = False
    fused: bool = True
    notes: tuple[str, ...] = ()
    kernels: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return LAYOUTS[self.layout]

    def place(self, model: M, device: torch.device) -> M:
        """The model on the device, in this layout, its norms as this says."""
        return self.with_norms(model).to(device).to(memory_format=self.memory_format)

    def with_norms(self, model: M) -> M:
        """The model where it is, its norms as this says."""
        for module in model.modules():
            if isinstance(module, InstanceNorm | LayerNorm | BatchNorm):
                module.reference = self.reference
            elif isinstance(module, Residual):
                module.fused = self.kernels
        return model


def choose_device(name: str) -> torch.device:
    """The device of a name. "auto" is CUDA; else MPS, where its checks say that it computes rightly; else the CPU.

    Raises `UserError` for one that torch does not know or that is not here.
    """
    survive_forks()
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() and _computes_rightly("mps") else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError, OverflowError):
        raise UserError(f"unknown device '{name}'. {nearest(name, ['auto', 'cpu', 'cuda', 'mps'])}") from None
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if (device.index or 0) >= count.get(device.type, 0):
        raise UserError(f"there is no device '{name}' here (CUDA devices: {count['cuda']}); use --device cpu")
    return device


def _computes_rightly(device: str) -> bool:
    """Whether a training of one process can be on a device, which nobody has asked for, in fp32."""
    try:
        return dist.world() == 1 and bool(placement(torch.device(device), "fp32"))
    except (TrainingError, RuntimeError):  # wrong, or out of memory: "auto" finds another
        return False


def best_precision(device: torch.device) -> str:
    """What "auto" means on a device: bf16 where it has instructions for it and all is right in it, else fp32."""
    if device.type not in ("cpu", "cuda") or emulates_bf16(device):
        return "fp32"
    try:
        placement(device, "bf16")
    except TrainingError:
        return "fp32"
    return "bf16"


def usual_layout(device: torch.device, precision: str) -> Layout:
    """What is fastest as measured (docs/results/speed.md): on a CPU NCHW in fp32, channels-last in bf16."""
    if device.type == "cpu":
        return "channels-last" if precision == "bf16" else "NCHW"
    return "channels-last" if device.type == "cuda" else "NCHW"


def placement(device: torch.device, precision: str, layout: Layout | None = None) -> Placement:
    """How to train on a device, from its checks, which run where they have not yet.

    Args:
        precision: "fp32", "tf32" or "bf16".
        layout: that of the run to resume, which stays unless it is wrong here.

    Raises:
        TrainingError: an operator that is wrong and that nothing stands in for.
    """
    return placement_around(outcome(device), device, precision, layout)


def placement_around(
    found: Sequence[Fault], device: torch.device, precision: str, layout: Layout | None = None
) -> Placement:
    """`placement`, from faults that are known."""
    wanted = layout or usual_layout(device, precision)
    checked = "bf16" if precision == "bf16" else "fp32"
    faults = [each for each in found if each.precision == checked or each.operator == ADAM]
    other: Layout = "NCHW" if wanted == "channels-last" else "channels-last"
    wrong = {where: {each.operator for each in faults if each.layout == where} for where in LAYOUTS}
    build = f"torch {torch.__version__} on {device}"
    fewest = min((wanted, other), key=lambda where: len(wrong[where] - NORMS - {ADAM}))
    if left := wrong[fewest] - NORMS - {ADAM}:
        elsewhere = {(each.operator, each.layout) for each in found if each.precision == "fp32"}
        able = any(not {name for name, at in elsewhere if at == where} - NORMS - {ADAM} for where in LAYOUTS)
        way_out = "train with --precision fp32" if precision == "bf16" and able else "train on another device or torch"
        raise TrainingError(
            f"{build} computes {', '.join(sorted(left))} wrongly in {precision}, and so would what it trains be wrong: "
            f"{way_out} (see `unitkit doctor`)"
        )
    notes = []
    if fewest != wanted:
        named = ", ".join(sorted(wrong[wanted] - wrong[fewest]))
        notes.append(f"{build} computes {named} wrongly in {wanted}: training in {fewest}")
    if norms := wrong[fewest] & NORMS:
        notes.append(f"{build} computes {', '.join(sorted(norms))} wrongly: norms are computed by their formulas")
    if ADAM in wrong[fewest]:
        notes.append(f"{build} computes {ADAM} wrongly or not at all: taking its plain step")
    return Placement(fewest, bool(norms), ADAM not in wrong[fewest], tuple(notes))


def outcome(device: torch.device, anew: bool = False) -> list[Fault]:
    """The operators that are wrong on a device: as remembered for this build of torch, or checked now."""
    if not anew:
        with suppress(Exception):  # none yet, a damaged one, or no home: checked again
            return [_fault(each) for each in json.loads(_cache(device).read_text("utf-8"))["faults"]]
    found = list(operators.faults(device))
    with suppress(Exception), replacing(_cache(device)) as file:  # a home that cannot be written: checked each time
        record = {"torch": torch.__version__, "device": device_name(device), "faults": [asdict(each) for each in found]}
        file.write_text(json.dumps(record, indent=1), "utf-8")
    return found


def _fault(kept: dict[str, Any]) -> Fault:
    """A fault as it was kept. Raises nearly anything for what is none."""
    fault = Fault(kept["operator"], kept["precision"], kept["layout"], float(kept["error"]))
    if fault.operator not in {*(each.name for each in OPERATORS), ADAM}:
        raise ValueError(f"no operator is called {fault.operator}")
    if fault.precision not in operators.TOLERANCE or fault.layout not in LAYOUTS:
        raise ValueError(f"there is no {fault.precision} in {fault.layout}")
    return fault


def _cache(device: torch.device) -> Path:
    """Where the outcome is kept: a name for each build of torch, processor, and text of the checks."""
    text = "".join(Path(str(module.__file__)).read_text("utf-8") for module in (operators, norms, convolutions))
    key = (torch.__version__, torch.version.git_version, torch.__config__.show(), device_name(device), text)
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "unitkit" / "doctor" / f"{name}.json"
