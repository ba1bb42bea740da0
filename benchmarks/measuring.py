"""What the benchmarks have in common: a clock, quantiles, a trainer of a recipe, the machine, a table, a CSV."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unitkit import Trainer
from unitkit.recipe_file import parse_knobs, read_recipe_file
from unitkit.runs.options import RunOptions
from unitkit.system.devices import device_name

Row = Mapping[str, object]


class Spread(NamedTuple):
    """The 20 %, 50 % and 80 % quantiles of a measurement, between values linearly."""

    low: float
    middle: float
    high: float

    def text(self, digits: int) -> str:
        """The median and, in brackets, the two others."""
        return f"{self.middle:.{digits}f} ({self.low:.{digits}f} - {self.high:.{digits}f})"


def spread(values: Tensor | Sequence[float]) -> Spread:
    """The quantiles of at least one value."""
    points = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    return Spread(*torch.quantile(torch.as_tensor(values, dtype=torch.float64), points).tolist())


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has done what it was told; a CPU has by the time it returns."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def clock(work: Callable[[], object], device: torch.device | str) -> float:
    """The seconds that some work takes, to its last operation on the device."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def trainer_of(words: Sequence[str], folder: Path, device: str, precision: str) -> Trainer:
    """A trainer of a recipe as the command line names it: its name, at most one @preset, and knob=value."""
    name, *knobs = words
    file = read_recipe_file(name)
    return Trainer(file.build(file.values(*parse_knobs(knobs))), RunOptions(folder, device=device, precision=precision))


def whole_step(trainer: Trainer) -> Callable[[int], object]:
    """The trainer's step of a number on one batch, without the loader: players, optimizers, the moving average."""
    batch = trainer.batches.batch(0)

    def step(number: int) -> None:
        trainer.training_step(batch, number)
        if trainer.average:
            trainer.average.update(number)

    return step


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Where a benchmark runs, and where its figures go."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--csv", type=Path, metavar="FILE", help="all figures, with the machine")


def machine(device: torch.device | str) -> dict[str, object]:
    """What the figures were measured on, and when."""
    return {
        "device": device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def introduce(what: str, device: torch.device | str) -> None:
    """Print what is measured, and the machine below it."""
    print(f"\n{what}\n" + ", ".join(f"{name} {value}" for name, value in machine(device).items()))


def print_table(rows: Sequence[Row]) -> None:
    """Rows of the same columns, headed by their names; the first column to the left, the others to the right."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        print("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, Spread):
        return value.text(3 if value.middle < 10 else 1)
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else _whole(value)


def _whole(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: Sequence[Row], device: torch.device | str) -> None:
    """All rows, with the machine in each; a `Spread` becomes three columns, and a column that a row lacks is empty."""
    flat = [{**_flat(row), **machine(device)} for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(flat)
    print(f"all figures: {path}")


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Spread):
            flat |= {name: value.middle, f"{name}, 20 %": value.low, f"{name}, 80 %": value.high}
        else:
            flat[name] = value
    return flat
