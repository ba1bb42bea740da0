"""How much memory a training is predicted to take, beside what it takes.

    python benchmarks/memory.py --csv memory.csv
    python benchmarks/memory.py "fp32 unit_faces batch=8 recompute=generators" "bf16 munit"

Each case runs in processes of its own: in one torch's profiler counts what the allocator gave away, to the byte, and in
another three steps show by how much the process grows over its size before the model was built (VmHWM of Linux; on CUDA
the allocator's peak serves for both). Batches are random images, so that no decoded ones count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import write_csv
from torch.profiler import ProfilerActivity, profile

from unitkit.check import Checked, check
from unitkit.kernels.placement import Placement, usual_layout
from unitkit.memory.predict import predict
from unitkit.networks.average import Average
from unitkit.recipe import Recipe
from unitkit.recipe_file import parse_knobs, read_recipe_file
from unitkit.runs.options import RunOptions
from unitkit.training.step import TrainingStep

CASES = (
    "fp32 unit_faces",
    "bf16 unit_faces",
    "fp32 unit_faces batch=16",
    "fp32 unit_faces batch=16 recompute=encoders,generators,discriminators",
    "fp32 unit_faces batch=4 accumulate=4",
    "fp32 unit_faces @paper data=portraits batch=1",
    "bf16 unit_faces @paper data=portraits batch=1",
    "fp32 cyclegan",
    "fp32 cut",
    "fp32 munit",
    "fp32 unit_v2",
)
COLUMNS = (
    "case",
    "predicted tensors",
    "counted",
    "ratio",
    "predicted process",
    "measured",
    "ratio, process",
    "seconds",
)


def checked_recipe(case: str) -> tuple[str, Checked]:
    """The precision and the recipe of a case."""
    precision, name, *words = case.split()
    parts = [word.partition("=")[2].split(",") for word in words if word.startswith("recompute=")]
    file = read_recipe_file(name)
    recipe = file.build(file.values(*parse_knobs([word for word in words if not word.startswith("recompute=")])))
    return precision, check(replace(recipe, recompute=parts[0]) if parts else recipe)


def train(checked: Checked, precision: str, device: torch.device, steps: int) -> None:
    """Build all that a training keeps, and take steps on random images."""
    recipe, placement = checked.recipe, Placement(usual_layout(device, precision))
    model = placement.place(recipe.model.build(), device).train()
    options = RunOptions("", precision=precision).resolved({}, precision)
    step = TrainingStep(recipe, checked, model, options, device, placement, lambda _: {})
    average = Average(model, recipe.ema) if recipe.ema else None
    for number in range(steps):
        step(images(recipe, placement, device), number)
        if average:
            average.update(number)


def images(recipe: Recipe, placement: Placement, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch; classes, of domains that have some, are all 0."""
    count, batch = recipe.batch * recipe.accumulate, {}
    for letter, domain in recipe.data.domains.items():
        made = torch.rand(count, domain.train.channels, *recipe.data.window, device=device) * 2 - 1
        batch[letter] = made.contiguous(memory_format=placement.memory_format)
        if domain.train_classes is not None:
            batch[f"label:{letter}"] = torch.zeros(count, dtype=torch.long, device=device)
    return batch


def counted(case: str, device: torch.device) -> int:
    """The peak of what torch's allocator gave away while a case trains."""
    precision, checked = checked_recipe(case)
    return allocated(checked, precision, device)


def allocated(checked: Checked, precision: str, device: torch.device) -> int:
    """The peak of what torch's allocator gave to two steps and all that they need."""
    if device.type == "cuda":
        train(checked, precision, device, 2)
        return torch.cuda.max_memory_allocated(device)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        train(checked, precision, device, 2)
    assert seen.profiler is not None
    events: list[Any] = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def grown(case: str, device: torch.device) -> int:
    """By how much this process grows while it trains."""
    precision, checked = checked_recipe(case)
    if device.type == "cuda":
        return counted(case, device)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    train(checked, precision, device, 3)
    return status("VmHWM") - before


def status(name: str) -> int:
    """A figure that Linux gives of this process, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, name
    return int(found[1]) * 1024


def alone(function: Any, *given: Any) -> Any:
    """A function's result, from a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def row(case: str, device: torch.device) -> list[str]:
    """A line of the table; MiB."""
    precision, checked = checked_recipe(case)
    started = time.process_time()
    found = predict(checked, checked.recipe, Placement(usual_layout(device, precision)), precision, device)
    seconds = time.process_time() - started
    tensors, process = alone(counted, case, device), alone(grown, case, device)
    mib = [f"{size / 2**20:.1f}" for size in (found.peak, tensors, found.total, process)]
    ratios = f"{found.peak / tensors:.2f}", f"{found.total / process:.2f}"
    return [case, *mib[:2], ratios[0], *mib[2:], ratios[1], f"{seconds:.2f}"]


def main(words: Sequence[str] | None = None) -> None:
    """Predict, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, help="precision, recipe, knobs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path)
    o = parser.parse_args(words)
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    rows = []
    for case in o.cases:
        rows.append(row(case, torch.device(o.device)))
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
        if o.csv:
            write_csv(o.csv, [dict(zip(COLUMNS, each, strict=True)) for each in rows], o.device)


if __name__ == "__main__":
    main()
