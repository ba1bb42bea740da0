"""How long one training step takes, beside a plain textbook step of the same model.

    python benchmarks/step.py --preset paper --steps 20 --threads 2
    python benchmarks/step.py --preset faces --steps 100 --device cuda

Both train UNIT on rendered portraits, from the same weights and on the same batches, which both draw with the package's
loader. "package" is `Trainer.step` with nothing left out, in either memory format. "textbook" is the step as public
implementations write it, on the schedule of the code released in 2017: the generators, reconstructions included, run
again for the discriminators' turn, whose gradient flows back into them; the discriminators are not frozen in the
generators' turn; one domain after the other, NCHW, fp32, `torch.optim.Adam` as it comes. "textbook, detached" computes
only translations for the discriminators' turn, and the gradient stops there.

Before anything is timed, a step of each (noise off) must give the same losses, term by term. The steps then run
interleaved in one process, the order turned round every time; a ratio compares two steps of one round. Memory is that
of a fresh process that takes two steps of one variant: its peak resident size, on CUDA the allocator's peak. On CUDA,
fp32 means torch's default, in which convolutions may use TF32; the comparison of losses goes without it.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import l1_loss
from torch.utils.flop_counter import FlopCounterMode

import unitkit
from unitkit.data.batches import Batches

PRESETS = {
    "faces": {"size": 64, "width": 16, "batch": 4, "blocks": 4, "layers": 4},
    "paper": {"size": 128, "width": 64, "batch": 1, "blocks": 4, "layers": 6},
}
KL, LIKELIHOOD, ADVERSARIAL = 0.1, 100.0, 10.0
LR, BETAS, WEIGHT_DECAY = 1e-4, (0.5, 0.999), 1e-4  # the defaults of unitkit's Adam
VARIANTS = (
    "textbook",
    "textbook, detached",
    "package, NCHW",
    "package, channels-last",
    "package, bf16, NCHW",
    "package, bf16, channels-last",
)
PACKAGE = "package, NCHW"  # whose losses the others must have
TOLERANCE = 1e-4
Losses = Mapping[str, Tensor]


class ResidualBlock(nn.Module):
    """x + f(x), f of two convs with instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        norms = [nn.InstanceNorm2d(channels) for _ in range(2)]
        self.block = nn.Sequential(first, norms[0], nn.ReLU(inplace=True), second, norms[1])

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.block(x)
        return x + change


class TextbookUnit(nn.Module):
    """The 2017 networks for two domains: private fronts and backs, one residual block shared on each side of z."""

    def __init__(self, width: int, blocks: int, layers: int) -> None:
        super().__init__()
        self.noise = 1.0
        self.front = nn.ModuleDict({d: _front(width, blocks - 1) for d in "ab"})
        self.shared_encoder, self.shared_generator = ResidualBlock(4 * width), ResidualBlock(4 * width)
        self.back = nn.ModuleDict({d: _back(width, blocks - 1) for d in "ab"})
        self.discriminator = nn.ModuleDict({d: _discriminator(width, layers) for d in "ab"})

    def encode(self, x: Tensor, domain: str) -> tuple[Tensor, Tensor]:
        """The posterior's mean and a sample of it."""
        mean: Tensor = self.shared_encoder(self.front[domain](x))
        return mean, mean + self.noise * torch.randn_like(mean)

    def decode(self, z: Tensor, domain: str) -> Tensor:
        """The image of a code."""
        image: Tensor = self.back[domain](self.shared_generator(z))
        return image

    @torch.no_grad()
    def copy_weights(self, model: Any) -> None:
        """Take the weights of unitkit's model of the same settings."""
        for d in "ab":
            ours = (self.front[d], self.shared_encoder, self.shared_generator, self.back[d], self.discriminator[d])
            theirs = (model.encoders[d], model.generators[d], model.discriminators[d])
            copied, given = (itertools.chain.from_iterable(m.parameters() for m in part) for part in (ours, theirs))
            for p, q in zip(copied, given, strict=True):
                p.copy_(q)


def _leaky(*convs: nn.Module) -> list[nn.Module]:
    return [module for conv in convs for module in (conv, nn.LeakyReLU(0.01, inplace=True))]


def _front(width: int, blocks: int) -> nn.Sequential:
    first = nn.Conv2d(3, width, 7, padding=3)
    downs = (nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (width, 2 * width))
    return nn.Sequential(*_leaky(first, *downs), *(ResidualBlock(4 * width) for _ in range(blocks)))


def _back(width: int, blocks: int) -> nn.Sequential:
    ups = (nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1) for c in (2 * width, width))
    last = nn.ConvTranspose2d(width, 3, 1)
    return nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)), *_leaky(*ups), last, nn.Tanh())


def _discriminator(width: int, layers: int) -> nn.Sequential:
    widths = [3, *(width * 2**layer for layer in range(layers))]
    downs = (nn.Conv2d(before, after, 3, 2, 1) for before, after in itertools.pairwise(widths))
    return nn.Sequential(*_leaky(*downs), nn.Conv2d(widths[-1], 1, 1))


class TextbookStep:
    """One step: the discriminators' turn, then that of encoders and generators, each with a forward of its own."""

    def __init__(self, model: TextbookUnit, *, detach: bool) -> None:
        self.model, self.detach = model, detach
        groups = (model.front, model.shared_encoder, model.shared_generator, model.back)
        self.d_optimizer, self.g_optimizer = (
            torch.optim.Adam(parameters, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
            for parameters in (model.discriminator.parameters(), [p for group in groups for p in group.parameters()])
        )

    def __call__(self, batch: Mapping[str, Tensor]) -> Losses:
        """Move every weight once. Returns each term, unweighted, under the name that unitkit logs it by."""
        return {**self._discriminators(batch), **self._generators(batch)}

    def _discriminators(self, batch: Mapping[str, Tensor]) -> Losses:
        model, losses = self.model, {}
        self.d_optimizer.zero_grad()
        total = torch.zeros((), device=batch["a"].device)
        for x, y in ("a", "b"), ("b", "a"):
            _, z = model.encode(batch[y], y)
            fake = model.decode(z, x)
            if self.detach:
                fake = fake.detach()
            else:
                model.decode(z, y)  # a reconstruction that nobody reads, as in the released code
            real_score, fake_score = model.discriminator[x](batch[x]), model.discriminator[x](fake)
            loss = cross_entropy(real_score, torch.ones_like(real_score))
            loss = loss + cross_entropy(fake_score, torch.zeros_like(fake_score))
            total = total + ADVERSARIAL * loss
            losses[f"discriminator/gan_d({x}, {y}{x})"] = loss.detach()
        torch.autograd.backward(total)
        self.d_optimizer.step()
        return losses

    def _generators(self, batch: Mapping[str, Tensor]) -> Losses:
        model, losses = self.model, {}
        self.g_optimizer.zero_grad()
        total = torch.zeros((), device=batch["a"].device)
        for x, y in ("a", "b"), ("b", "a"):
            real = batch[x]
            mean, z = model.encode(real, x)
            translation = model.decode(z, y)
            mean_there, z_there = model.encode(translation, y)
            score = model.discriminator[y](translation)
            terms = {
                f"kl({x})": (2 * KL, mean.square().mean()),  # once in L_VAE, once in L_CC
                f"l1({x}{x}, {x})": (LIKELIHOOD, l1_loss(model.decode(z, x), real)),
                f"gan_g({x}{y})": (ADVERSARIAL, cross_entropy(score, torch.ones_like(score))),
                f"kl({x}{y})": (KL, mean_there.square().mean()),
                f"l1({x}{y}{x}, {x})": (LIKELIHOOD, l1_loss(model.decode(z_there, x), real)),
            }
            for name, (weight, loss) in terms.items():
                total = total + weight * loss
                losses[f"generator/{name}"] = loss.detach()
        torch.autograd.backward(total)
        self.g_optimizer.step()
        return losses


class Variant(NamedTuple):
    """A model, and the training step of that number."""

    model: Any
    step: Callable[[int], Losses]


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


def build(name: str, o: argparse.Namespace, folder: Path) -> Variant:
    """The variant of that name, its run folder (where it has one) in `folder`."""
    data = unitkit.data.spec("portraits", size=o.size, n=max(64, o.batch), n_test=1).build()
    memory = torch.channels_last if "channels-last" in name else torch.contiguous_format
    batches = Batches(data, o.batch, 0, o.device, memory_format=memory)
    for decoded in batches.train.values():  # now, and not in the background of a step that is timed
        decoded.fetch(range(len(decoded.images)))
    if name.startswith("textbook"):
        model = TextbookUnit(o.width, o.blocks, o.layers).to(o.device)
        textbook = TextbookStep(model, detach="detached" in name)
        return Variant(model, lambda step: textbook(batches.batch(step)))
    precision = "bf16" if "bf16" in name else "fp32"
    trainer = unitkit.Trainer(
        make_recipe(data, o), unitkit.RunOptions(folder / name, device=o.device, precision=precision)
    )
    trainer.batches = batches
    trainer.model.to(memory_format=memory)
    return Variant(trainer.model, trainer.step)


def verify(variants: Mapping[str, Variant]) -> None:
    """Take step 0 of each fp32 variant from the same weights, without noise. Exits where a term's value differs."""
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    start = copy.deepcopy(variants[PACKAGE].model)
    expected: Losses = {}
    for name in (PACKAGE, *(name for name in variants if name != PACKAGE and "bf16" not in name)):
        model, step = variants[name]
        if isinstance(model, TextbookUnit):
            model.copy_weights(start)
        noise, model.noise = model.noise, 0.0
        losses = step(0)
        model.noise = noise
        expected = expected or losses
        if losses.keys() != expected.keys():
            sys.exit(f"'{name}' has other terms than the package: {sorted(losses)} and {sorted(expected)}")
        worst = max(float((losses[term] - value).abs() / value.abs()) for term, value in expected.items())
        if not worst <= TOLERANCE:
            sys.exit(f"'{name}' is another step than the package's: a loss differs by {worst:.1e} of itself")
        print(f"{name}: {len(losses)} losses equal to the package's, largest relative difference {worst:.1e}")
    torch.backends.cudnn.allow_tf32 = tf32


def seconds(variants: Mapping[str, Variant], rounds: int, device: str) -> dict[str, Tensor]:
    """The time of each variant's step in every round, (rounds,); one round before them warms up."""
    sync: Callable[[], Any] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = {name: torch.zeros(rounds + 1) for name in variants}
    for number in range(rounds + 1):
        for name in list(variants)[:: 1 if number % 2 else -1]:
            sync()
            started = time.perf_counter()
            variants[name].step(number + 1)
            sync()
            times[name][number] = time.perf_counter() - started
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
        variant = build(name, o, Path(folder))
        for number in range(2):
            variant.step(number)
    if o.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def obstacle_to_bf16(device: str) -> str | None:
    """Why bf16 would say nothing on this device: on a CPU without such instructions it is emulated, and slow."""
    if device.startswith("cuda"):
        return None if torch.cuda.is_bf16_supported(including_emulation=False) else "this GPU has no bf16"
    able = [name for name, here in torch.cpu.get_capabilities().items() if name.endswith("bf16") and here]
    return None if able else "this CPU has no bf16 instructions"


def quartiles(values: Tensor, digits: int) -> str:
    """The median and, in brackets, the quartiles."""
    low, middle, high = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75])).tolist()
    return f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


def main(words: Sequence[str] | None = None) -> None:
    """Verify, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="faces", help="the settings that are not given")
    for name in ("size", "width", "batch", "blocks", "layers"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--steps", type=int, default=20, help="rounds that are timed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.set_defaults(**PRESETS[parser.parse_known_args(words)[0].preset])
    o = parser.parse_args(words)
    torch.set_num_threads(o.threads)
    obstacle = obstacle_to_bf16(o.device)
    names = [name for name in VARIANTS if not (obstacle and "bf16" in name)]
    memory = dict.fromkeys(names, float("nan"))
    if o.memory:  # before this process grows: a child's peak starts at its parent's size
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            memory = {name: pool.submit(peak_mib, name, o).result() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        variants = {name: build(name, o, Path(folder)) for name in names}
        verify(variants)
        counted = {name: gflop(variant) for name, variant in variants.items()}
        times = seconds(variants, o.steps, o.device)
    where = f"{o.device}, {o.threads} threads, {o.steps} rounds"
    print(f"\nUNIT, width {o.width}, {o.size}x{o.size}, batch {o.batch}, blocks {o.blocks}, layers {o.layers}; {where}")
    print(f"{'median (quartiles)':28}{'ms a step':>28}{'time / textbook':>24}{'GFLOP':>10}{'peak MiB':>10}")
    for name in names:
        ratio = quartiles(times[name] / times["textbook"], 3)
        print(f"{name:28}{quartiles(1e3 * times[name], 1):>28}{ratio:>24}{counted[name]:>10.1f}{memory[name]:>10.0f}")
    if obstacle:
        print(f"{'package, bf16':28}  left out: {obstacle}")


if __name__ == "__main__":
    main()
