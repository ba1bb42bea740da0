"""What fusing is worth: instance norm with what follows it, a residual block, and losses; plain, compiled, by kernel.

    python benchmarks/kernels.py --rounds 20 --threads 2 --csv kernels.csv
    python benchmarks/kernels.py --rounds 100 --device cuda --csv kernels.csv

"plain" is PyTorch operator by operator, "compiled" the same through torch.compile, "kernel" the Triton kernel of
`unitkit.kernels.fused`, which runs on a GPU only; "kernel, compiled" the residual block around it through
torch.compile. A kernel that is not 10 % faster than "compiled" in the whole block is not worth having. Losses, and the
draw of a code with its KL, have no kernel: torch.compile is what may fuse them.

Before anything is timed, results and gradients of each variant are compared with plain PyTorch's in float64 on the
CPU: "error" is the largest difference of one, as a share of its norm. Rounds are interleaved; times are medians, and
in brackets the 20 and 80 % quantiles, in microseconds. "backward" goes through a graph that stands.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from measuring import add_machine_options, clock, introduce, spread, write_csv
from torch import Tensor

from unitkit import losses
from unitkit.kernels.fused import fusible, norm_act
from unitkit.losses import Posterior
from unitkit.models.paths import ImagePaths
from unitkit.networks.layers import Residual

SHAPES = ("1x256x32x32", "8x256x32x32", "1x256x64x64", "8x256x64x64", "1x64x256x256", "8x64x256x256")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
DRAWING = "sampling + KL"
PASSES = ("forward", "backward", "both")
Run = Callable[..., Tensor]


class Case(NamedTuple):
    """Something to compute from maps of a shape: how many, how, by the kernel too, or not."""

    name: str
    inputs: int
    plain: Run
    kernel: Run | None = None
    module: torch.nn.Module | None = None


def cases(channels: int) -> Iterator[Case]:
    """All that is timed, for maps of so many channels."""
    yield Case("norm + ReLU", 1, *_both(activation="relu"))
    yield Case("norm + residual", 2, *_both())
    yield Case("norm + ReLU + reflection", 1, *_both(activation="relu", padding=1))
    for padding in ("zero", "reflect"):
        block, by_kernel = Residual(channels, padding=padding), Residual(channels, padding=padding)
        by_kernel.body, by_kernel.fused = block.body, True
        yield Case(f"residual block, {padding}", 1, block, by_kernel, block)
    drawing: Any = SimpleNamespace(training=True, sampling=False, noise=1.0)
    yield Case(DRAWING, 1, lambda mean: _drawn_and_kl(drawing, mean))
    yield Case("L1", 2, losses.l1.function)
    yield Case("GAN loss, discriminator", 2, lambda real, fake: losses.gan_d.function([real], [fake]))
    yield Case("GAN loss, generator", 1, lambda scores: losses.gan_g.function([scores]))


def _both(**options: Any) -> tuple[Run, Run]:
    def run(fused: bool) -> Run:
        return lambda x, residual=None: norm_act(x, residual=residual, fused=fused, **options)

    return run(False), run(True)


def _drawn_and_kl(drawing: Any, mean: Tensor) -> Tensor:
    """What the model and the loss make of an encoder's output; the sample goes on, as into a generator."""
    code: Posterior = ImagePaths._posterior(drawing, mean)
    divergence: Tensor = losses.kl.function(code)
    return code.sample + divergence


class Variant(NamedTuple):
    """One way to compute a case."""

    name: str
    run: Run


def variants(case: Case, sample: Tensor) -> Iterator[Variant]:
    """All ways that there are on the device of a map."""
    yield Variant("plain", case.plain)
    yield Variant("compiled", torch.compile(case.plain, dynamic=False))
    if case.kernel and fusible(sample):
        yield Variant("kernel", case.kernel)
        if case.module:
            yield Variant("kernel, compiled", torch.compile(case.kernel, dynamic=False))


def results(run: Run, inputs: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """What comes out for a fixed draw, and its gradients, in float64 on the CPU."""
    inputs = [each.detach().requires_grad_() for each in inputs]
    torch.manual_seed(seed)
    y = run(*inputs)
    found = [y, *torch.autograd.grad(y, inputs, torch.ones_like(y) + y.detach())]
    return [each.detach().double().cpu() for each in found]


def error(run: Run, case: Case, inputs: Sequence[Tensor]) -> float:
    """The largest of a variant's results', as a share of its norm, against plain PyTorch in float64 on the CPU."""
    if case.name == DRAWING and (run is not case.plain or inputs[0].is_cuda):
        return float("nan")  # compiled or on a GPU, a seed means another noise
    plain = copy.deepcopy(case.module).to("cpu", torch.float64) if case.module else case.plain
    wanted = results(plain, [each.double().cpu() for each in inputs])
    found = results(run, inputs)
    return max(float((x - y).norm() / y.norm().clamp_min(1e-12)) for x, y in zip(found, wanted, strict=True))


def microseconds(run: Run, inputs: Sequence[Tensor], what: str) -> float:
    """The time of one pass."""
    y = run(*inputs) if what == "backward" else None
    grad = torch.ones_like(y) if y is not None else None

    def work() -> None:
        if what == "forward":
            run(*inputs)
            return
        result = run(*inputs) if y is None else y
        torch.autograd.grad(result, inputs, torch.ones_like(result) if grad is None else grad)

    return 1e6 * clock(work, inputs[0].device)


def measure(case: Case, inputs: Sequence[Tensor], precision: str, rounds: int) -> Iterator[dict[str, object]]:
    """A row for each variant and pass."""
    ways = list(variants(case, inputs[0]))
    errors = {way.name: error(way.run, case, inputs) for way in ways}
    if wrong := {name: value for name, value in errors.items() if value > TOLERANCE[precision]}:
        sys.exit(f"{case.name}, {tuple(inputs[0].shape)} in {precision} is not what plain PyTorch computes: {wrong}")
    times: dict[tuple[str, str], list[float]] = {(way.name, what): [] for way in ways for what in PASSES}
    for number in range(rounds + 2):
        for way, what in itertools.product(ways[:: 1 if number % 2 else -1], PASSES):
            taken = microseconds(way.run, inputs, what)
            if number >= 2:  # the first two warm up
                times[way.name, what].append(taken)
    for (name, what), taken_all in times.items():
        yield {"variant": name, "pass": what, "us": spread(taken_all), "error": errors[name]}


def main(words: Sequence[str] | None = None) -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="NxCxHxW")
    parser.add_argument("--precisions", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=LAYOUTS)
    parser.add_argument("--cases", nargs="+", metavar="WORD", help="only those whose names begin with one of these")
    parser.add_argument("--rounds", type=int, default=20)
    add_machine_options(parser)
    o = parser.parse_args(words)
    torch.set_num_threads(o.threads)
    torch.backends.cudnn.allow_tf32 = False  # of both, or neither
    device = torch.device(o.device)
    introduce(f"medians of {o.rounds} rounds with 20 and 80 % quantiles, microseconds", device)
    if not fusible(torch.empty(0, device=device)):
        print("The kernel is left out: it needs a GPU and Triton.")
    rows: list[dict[str, object]] = []
    for shape, precision, layout in itertools.product(o.shapes, o.precisions, o.layouts):
        sizes = tuple(map(int, shape.split("x")))
        for case in cases(sizes[1]):
            if o.cases and not case.name.startswith(tuple(o.cases)):
                continue
            torch.compiler.reset()
            torch.manual_seed(0)
            place: dict[str, Any] = {"device": device, "dtype": DTYPES[precision]}
            if case.module:
                case.module.to(**place, memory_format=LAYOUTS[layout])
            inputs = [torch.randn(sizes).to(**place, memory_format=LAYOUTS[layout]) for _ in range(case.inputs)]
            inputs = [each.requires_grad_() for each in inputs]
            found = list(measure(case, inputs, precision, o.rounds))
            rows += [{"case": case.name, "shape": shape, "precision": precision, "layout": layout} | r for r in found]
            print(f"\n{case.name}, {shape}, {precision}, {layout}")
            print(f"{'variant':18}" + "".join(f"{what:>28}" for what in PASSES) + f"{'error':>10}")
            for name in dict.fromkeys(row["variant"] for row in found):
                mine = [row for row in found if row["variant"] == name]
                cells = "".join(f"{row['us'].text(0):>28}" for row in mine)  # type: ignore[attr-defined]
                print(f"{name!s:18}{cells}{mine[0]['error']:10.1e}", flush=True)
    if o.csv and rows:
        write_csv(o.csv, rows, device)


if __name__ == "__main__":
    main()
