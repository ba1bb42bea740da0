"""What an exact saving of a layer is worth in a whole training step: the same step with and without it, interleaved.

    python benchmarks/savings.py --steps 30 --threads 2
    python benchmarks/savings.py --steps 100 --device cuda

"doubling": `convolutions.Doubling` beside the nearest pixel and a convolution 5x5, in a step of recipes/munit.py.
Before anything is timed, losses and gradients of the first step must agree; a ratio compares two steps of one round,
and figures are medians with the 20 and 80 % quantiles.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from measuring import Row, add_machine_options, clock, introduce, print_table, spread, write_csv
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from unitkit import Trainer, load_recipe
from unitkit.networks.convolutions import Doubling
from unitkit.runs.options import RunOptions

TOLERANCE = 1e-3  # of a gradient's norm: float32, through two generators and norms
Forward = Callable[[Doubling, Tensor], Tensor]


def plain(layer: Doubling, x: Tensor) -> Tensor:
    """The same layer, each pixel doubled first."""
    return conv2d(interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=2)


def stepped(trainer: Trainer, forward: Forward, step: int) -> tuple[float, dict[str, Tensor]]:
    """The seconds of a step that doubles by `forward`, and its losses and gradients."""
    Doubling.forward = forward  # type: ignore[method-assign, assignment]
    losses: dict[str, Tensor] = {}
    seconds = clock(lambda: losses.update(trainer.step(step)), trainer.device)
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return seconds, {**losses, **gradients}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=12)
    add_machine_options(parser)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    saved: Forward = Doubling.forward
    variants: dict[str, Forward] = {"plain": plain, "saved": saved}
    times: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe("munit", size=given.size, width=given.width, steps=given.steps + 1)
        trainers = {name: Trainer(recipe, RunOptions(Path(folder, name), device=given.device)) for name in variants}
        try:
            first = {name: stepped(trainers[name], forward, 0)[1] for name, forward in variants.items()}
            scale = {name: value.norm() for name, value in first["plain"].items()}
            largest = max(scale.values())
            off = max(
                ((first["saved"][name] - value).norm() / (scale[name] + 1e-3 * largest)).item()
                for name, value in first["plain"].items()
            )
            if off > TOLERANCE:
                raise SystemExit(f"the steps differ: {off:.1g} of a loss or gradient")
            for step in range(1, given.steps + 1):
                for name in sorted(variants, reverse=step % 2 == 0):
                    times[name].append(stepped(trainers[name], variants[name], step)[0])
        finally:
            Doubling.forward = saved  # type: ignore[method-assign, assignment]
    what = f"munit, {given.size}x{given.size}, width {given.width}, {given.steps} rounds"
    introduce(f"{what}: losses and gradients equal to {off:.1g}", given.device)
    rows: list[Row] = [
        {
            "doubling": name,
            "ms": spread([1e3 * each for each in seconds]),
            "time / plain": spread([each / other for each, other in zip(seconds, times["plain"], strict=True)]),
        }
        for name, seconds in times.items()
    ]
    print_table(rows)
    if given.csv:
        about: Row = {"recipe": "munit", "size": given.size, "width": given.width, "rounds": given.steps}
        write_csv(given.csv, [{**about, **row} for row in rows], given.device)


if __name__ == "__main__":
    main()
