"""How long one training step takes, beside a plain textbook step of the same model.

    python benchmarks/step.py --preset paper --steps 20 --threads 2 --csv step.csv
    python benchmarks/step.py --preset faces --steps 100 --device cuda --variants textbook "package, bf16*"

Both train UNIT on rendered portraits, from the same weights and on the same batches, which both draw with the package's
loader. "package" is `Trainer.step` with nothing left out, in either memory format. "textbook" is the step of
`textbook.py`; "textbook, detached" computes only translations for the discriminators' turn.

Before anything is timed, a step of each (noise off) must give the package's losses and gradients (`agreement.py`), in
float64 and in its own precision.
The steps then run interleaved in one process, the order turned round every time; a ratio compares two steps of one
round, and figures are medians with the 20 and 80 % quantiles. Memory is that of a fresh process that takes two steps of
one variant: its peak resident size, on CUDA the allocator's peak. No variant rounds to TF32.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch
from agreement import Variant, in_float64, verify
from measuring import add_machine_options, clock, introduce, print_table, spread, write_csv
from textbook import ADVERSARIAL, KL, LIKELIHOOD, TextbookStep, TextbookUnit
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import unitkit
from unitkit.data.batches import Batches
from unitkit.kernels.operators import LAYOUTS, Layout
from unitkit.networks.bf16 import Bf16Weights
from unitkit.system.devices import emulates_bf16

SETTINGS = ("size", "width", "batch", "blocks", "layers")
PRESETS = {
    "faces": dict(zip(SETTINGS, (64, 16, 4, 4, 4), strict=True)),
    "paper": dict(zip(SETTINGS, (128, 64, 1, 4, 6), strict=True)),
}
PACKAGE = "package, NCHW"  # whose losses and gradients the others must have


def textbook(o: argparse.Namespace, folder: Path, *, detach: bool) -> Variant:
    """The textbook's step."""
    model = TextbookUnit(o.width, o.blocks, o.layers).to(o.device)
    step, batches = TextbookStep(model, detach=detach), batches_of(portraits(o), o, "NCHW")
    return Variant(model, (step.d_optimizer, step.g_optimizer), batches, lambda number: step(batches.batch(number)))


def package(o: argparse.Namespace, folder: Path, *, layout: Layout, **options: Any) -> Variant:
    """The package's step, with its images and weights in this layout; `options` are those of `RunOptions`."""
    data = portraits(o)
    trainer = unitkit.Trainer(make_recipe(data, o), unitkit.RunOptions(folder, device=o.device, **options))
    trainer.batches = batches_of(data, o, layout)
    trainer.model.to(memory_format=LAYOUTS[layout])
    if trainer.training_step.computation.weights:  # copies of which lie as the weights do
        trainer.training_step.computation.weights = Bf16Weights(trainer.model)
    return Variant(trainer.model, list(trainer.optimizers.values()), trainer.batches, trainer.step)


# One more is one line: "package, NAME": partial(package, layout=..., and any of RunOptions). What has "bf16" in its
# name is compared loosely, and left out where the device has none.
VARIANTS: dict[str, Callable[[argparse.Namespace, Path], Variant]] = {
    "textbook": partial(textbook, detach=False),
    "textbook, detached": partial(textbook, detach=True),
    PACKAGE: partial(package, layout="NCHW"),
    "package, channels-last": partial(package, layout="channels-last"),
    "package, bf16, NCHW": partial(package, layout="NCHW", precision="bf16"),
    "package, bf16, channels-last": partial(package, layout="channels-last", precision="bf16"),
    "package, compiled, NCHW": partial(package, layout="NCHW", compile=True),
    "package, compiled, channels-last": partial(package, layout="channels-last", compile=True),
    "package, compiled, bf16, channels-last": partial(package, layout="channels-last", precision="bf16", compile=True),
}


def portraits(o: argparse.Namespace) -> unitkit.Data:
    """Two domains of rendered portraits."""
    data: unitkit.Data = unitkit.data.spec("portraits", size=o.size, n=max(64, o.batch), n_test=1).build()
    return data


def batches_of(data: unitkit.Data, o: argparse.Namespace, layout: Layout) -> Batches:
    """The package's loader, with all images decoded: not in the background of a step that is timed."""
    batches = Batches(data, o.batch, 0, o.device, memory_format=LAYOUTS[layout])
    for decoded in batches.train.values():
        decoded.fetch(range(len(decoded.images)))
    return batches


def make_recipe(data: unitkit.Data, o: argparse.Namespace) -> unitkit.Recipe:
    """UNIT with the 2017 objective and optimizer."""
    l_vae = unitkit.vae("a", "b", kl=KL, likelihood=LIKELIHOOD)
    l_gan = unitkit.gan("ab", "ba", weight=ADVERSARIAL)
    l_cc = unitkit.cycle("aba", "bab", kl=KL, likelihood=LIKELIHOOD)
    model = unitkit.models.spec(
        "unit",
        channels=data.channels,
        encoder=unitkit.encoders.spec("residual", width=o.width, blocks=o.blocks),
        generator=unitkit.generators.spec("residual", width=o.width, blocks=o.blocks),
        discriminator=unitkit.discriminators.spec("strided", width=o.width, layers=o.layers),
        sharing=unitkit.sharing.spec("tie", encoder=1, generator=1),
    )
    players = [
        unitkit.Player("discriminator", ["discriminators"], l_gan.d),
        unitkit.Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc),
    ]
    return unitkit.Recipe(model=model, players=players, data=data, steps=1_000_000, batch=o.batch)


def seconds(variants: Mapping[str, Variant], rounds: int, device: str) -> dict[str, Tensor]:
    """The time of each variant's step in every round, (rounds,); one round before them warms up."""
    times = {name: torch.zeros(rounds + 1) for name in variants}
    for number in range(rounds + 1):
        for name in list(variants)[:: 1 if number % 2 else -1]:
            times[name][number] = clock(partial(variants[name].step, number + 1), device)
    return {name: found[1:] for name, found in times.items()}


def gflop(variant: Variant) -> float:
    """The arithmetic of one step as torch counts it: convolutions, a multiplication and an addition being two."""
    with FlopCounterMode(display=False) as counter:
        variant.step(1)
    return float(counter.get_total_flops()) / 1e9


def peak_mib(name: str, o: argparse.Namespace) -> float:
    """The memory of this process after two steps of a variant."""
    torch.set_num_threads(o.threads)
    with tempfile.TemporaryDirectory() as folder:
        variant = VARIANTS[name](o, Path(folder))
        for number in range(2):
            variant.step(number)
    if o.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def options(words: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="faces", help="the settings that are not given")
    for name in SETTINGS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--steps", type=int, default=20, help="rounds that are timed")
    parser.add_argument("--variants", nargs="+", default=["*"], help=f"names or patterns: {'; '.join(VARIANTS)}")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    add_machine_options(parser)
    parser.set_defaults(**PRESETS[parser.parse_known_args(words)[0].preset])
    o = parser.parse_args(words)
    for pattern in o.variants:
        if not any(fnmatch(name, pattern) for name in VARIANTS):
            parser.error(f"no variant is called '{pattern}': {'; '.join(VARIANTS)}")
    return o


def main(words: Sequence[str] | None = None) -> None:
    """Verify, time and print."""
    o = options(words)
    torch.set_num_threads(o.threads)
    chosen = [name for name in VARIANTS if any(fnmatch(name, pattern) for pattern in o.variants)]
    emulated = emulates_bf16(torch.device(o.device))  # such figures would say nothing
    names = [name for name in chosen if not (emulated and "bf16" in name)]
    if not names:
        sys.exit("this device only emulates bf16: there is no other variant to time")
    memory = dict.fromkeys(names, float("nan"))
    if o.memory:  # before this process grows: a child's peak starts at its parent's size
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            memory = {name: pool.submit(peak_mib, name, o).result() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        built = list(dict.fromkeys((*names, PACKAGE)))
        exact = [name for name in built if "bf16" not in name]
        verify({name: in_float64(VARIANTS[name](o, Path(folder, "fp64", name))) for name in exact}, PACKAGE, "fp64")
        variants = {name: VARIANTS[name](o, Path(folder, name)) for name in built}
        worst = verify(variants, PACKAGE, "fp32")
        timed = {name: variants[name] for name in names}
        counted = {name: float("nan") if "compiled" in name else gflop(variant) for name, variant in timed.items()}
        times = seconds(timed, o.steps, o.device)
    settings = {name: getattr(o, name) for name in SETTINGS}
    described = ", ".join(f"{name} {value}" for name, value in settings.items())
    introduce(f"UNIT, {described}; {o.steps} rounds, medians with 20 and 80 % quantiles", o.device)
    rows = [
        {
            "step": name,
            "ms": spread(1e3 * times[name]),
            f"time / {names[0]}": spread(times[name] / times[names[0]]),
            "GFLOP": counted[name],
            "peak MiB": memory[name],
        }
        for name in names
    ]
    print_table(rows)
    for name in chosen:
        if name not in names:
            print(f"{name}: left out, this device only emulates bf16")
    if o.csv:
        off = {name: {f"difference of a {what}": each for what, each in found.items()} for name, found in worst.items()}
        whole = [{**each, **off.get(name, {})} for name, each in zip(names, rows, strict=True)]
        write_csv(o.csv, [{**each, **settings, "rounds": o.steps} for each in whole], o.device)


if __name__ == "__main__":
    main()
