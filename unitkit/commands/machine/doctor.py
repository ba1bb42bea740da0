"""Whether this build of torch computes rightly on a device, what to do where it does not, and `unitkit doctor`.

The first training on a new pair of torch build and device runs the checks of `operators`, and keeps the outcome in the
user's cache folder (~/.cache/unitkit/doctor, or below XDG_CACHE_HOME).
"""

from __future__ import annotations

import os

import torch
from rich.table import Table

from ...kernels import operators
from ...kernels.operators import ADAM, LAYOUTS, OPERATORS
from ...kernels.placement import choose_device, outcome, placement_around
from ...system import threads
from ...system.devices import device_name, emulates_bf16
from ...system.environment import versions
from ...system.errors import TrainingError
from ...system.output import screen


def doctor(device: str = "auto") -> bool:
    """Check the device anew and print versions, device, threads, what is wrong and what to do; whether training can."""
    place = choose_device(device)
    console = screen()
    packages = ("unitkit", "torch", "torchvision", "numpy", "pillow", "timm", "torchmetrics", "lpips")
    console.print("  ".join(f"{name} {version}" for name, version in versions(*packages).items()), markup=False)
    bf16 = "emulated, several times slower than fp32" if emulates_bf16(place) else "in hardware"
    console.print(f"device   {place}: {device_name(place)}; bf16 {bf16}", markup=False)
    console.print(
        f"threads  {torch.get_num_threads()} of {os.cpu_count()} processors; {threads.describe()}", markup=False
    )
    found = outcome(place, anew=True)
    wrong = {(each.operator, each.precision, each.layout): each.error for each in found}
    table = Table(title=f"operators beside references in float64, forward and backward ({len(OPERATORS) + 1})")
    columns = [(precision, layout) for precision in operators.TOLERANCE for layout in LAYOUTS]
    table.add_column("operator")
    for precision, layout in columns:
        table.add_column(f"{precision} {layout}")
    for name in [*(each.name for each in OPERATORS), ADAM]:
        marks = [f"wrong by {wrong[name, *at]:.1g}" if (name, *at) in wrong else "right" for at in columns]
        if found and any(mark != "right" for mark in marks):
            table.add_row(name, *marks)
    if found:
        console.print(table)
    else:
        console.print(f"{len(OPERATORS) + 1} operators are right, in fp32 and bf16, NCHW and channels-last")
    able = True
    for precision in operators.TOLERANCE:
        try:
            chosen = placement_around(found, place, precision)
        except TrainingError as error:
            able = able and precision != "fp32"
            console.print(f"{precision}: {error}", markup=False)
            continue
        console.print(f"{precision}: trains in {chosen.layout}", markup=False)
        for note in chosen.notes:
            console.print(f"      {note}", markup=False)
    return able
