"""What makes translated videos flicker less, and what it costs: figures of docs/video.md.

    python benchmarks/flicker.py RUN FOLDER_OF_PHOTOGRAPHS

Makes clips of 75 frames (3 s at 25 frames/s) of 4 photographs, in three kinds: one that stands still, a slow pan with
zoom, and a still one with a part of another photograph moving across. Each frame is drawn without noise first, then
with that of a sensor (sigma 3 of 255). Frames are translated by the run's model, and steadied in several ways:

- blend: S of what was shown before, everywhere;
- gated: where the input differs little from that of the frame before;
- patch means, patch sizes: where it differs little from the input blended by the same weights, by the mean difference
  of a patch, or by the mean absolute difference beyond that of noise;
- steady: `Steady`, by the larger of both;
- norms: means and variances of all instance norms, blended over time by S, within the network.

`flicker` is `Flicker` of the output; `noise` and `lag` are the mean absolute difference of the output from the
translation of the frame without noise, where the frame without noise stands still, and where it moves (by more than 8
of 255); `sharp` is the mean absolute difference of neighbouring pixels, in per cent of that without steadying.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import unitkit
from unitkit.kernels.norms import EPS, InstanceNorm
from unitkit.translate import Translator
from unitkit.video import flicker
from unitkit.video.flicker import Flicker, Steady

FRAMES, CLIPS, NOISE, MOVED = 75, 4, 3.0, 8
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


def drawn(photo: Image.Image, other: Image.Image, kind: str) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) of a clip without noise, as floats."""
    width, height = photo.size
    for number in range(FRAMES):
        part = number / (FRAMES - 1)
        box = (0.0, 0.0, float(width), float(height))
        if kind == "pan":
            size = 0.9 - 0.15 * part
            left, top = (0.02 + 0.06 * part) * width, (0.05 + 0.05 * part) * height
            box = (left, top, left + size * width, top + size * height)
        frame = photo.resize((width, height), Image.Resampling.BICUBIC, box=box)
        if kind == "object":
            side = width // 4
            left = round((width + side) * part) - side
            frame.paste(other.resize((side, height // 3)), (left, height // 3))
        yield np.asarray(frame, np.float32)


class Gated:
    """As `Steady`, by the input of the frame before."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.before: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        new, made = before.astype(np.float32), after.astype(np.float32)
        if self.before is not None:
            keep = self.strength * np.exp(-((flicker.changed(new - self.before[0]) / flicker.CHANGE) ** 2))
            made += keep * (self.before[1] - made)
        self.before = new, made
        return np.rint(made).astype(np.uint8)


def blended(strength: float) -> Step:
    """Of everything, wherever."""
    shown: list[np.ndarray] = []

    def step(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        shown[:] = [after + strength * (shown[0] - after) if shown else after.astype(np.float32)]
        return np.asarray(np.rint(shown[0]).astype(np.uint8))

    return step


@contextmanager
def shared_norms(model: torch.nn.Module, strength: float) -> Iterator[None]:
    """Instance norms of frames that come one by one, by means and variances blended over time."""
    known: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        (x,) = inputs
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        if module in known:
            mean, variance = (
                new + strength * (old - new) for new, old in zip((mean, variance), known[module], strict=True)
            )
        known[module] = mean, variance
        return torch.as_tensor((x - mean) * (variance + EPS).rsqrt())

    hooks = [each.register_forward_hook(hook) for each in model.modules() if isinstance(each, InstanceNorm)]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def pixels(translator: Translator, frames: list[np.ndarray], path: str) -> list[np.ndarray]:
    """Frames as the network is given them."""
    return [translator.pixels(np.rint(frame).clip(0, 255).astype(np.uint8), path[0]) for frame in frames]


def translated(translator: Translator, images: list[np.ndarray], path: str, norms: float | None) -> list[np.ndarray]:
    """The translations of frames; one by one where norms are shared."""
    if norms is None:
        return list(translator.stream(images, path, [None] * len(images)))
    with shared_norms(translator.model, norms):
        return [next(translator.stream([image], path, [None])) for image in images]


def figures(shown: list[np.ndarray], right: list[np.ndarray], clean: list[np.ndarray]) -> list[float]:
    """Flicker, noise, lag, and sharpness of a sequence."""
    measured, off, sharp = Flicker(), ([], []), []  # type: tuple[Flicker, tuple[list[float], list[float]], list[float]]
    for number, image in enumerate(shown):
        measured.add(image)
        sharp.append(float(np.abs(np.diff(image.astype(float), axis=2)).mean()))
        if number:
            moved = np.abs(clean[number].astype(int) - clean[number - 1]).max(0) > MOVED
            error = np.abs(image.astype(int) - right[number]).mean(0)
            for where, values in ((~moved, off[0]), (moved, off[1])):
                values += [float(error[where].mean())] if where.any() else []
    return [measured.value, *(float(np.mean(each)) if each else np.nan for each in off), float(np.mean(sharp))]


def main() -> None:
    """Draw, translate, steady, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--path", default="ab")
    given = parser.parse_args()
    translator = unitkit.load(given.run, device="cpu")
    files = sorted(each for each in given.photographs.iterdir() if each.is_file())[: CLIPS + 1]
    photos = [Image.open(file).convert("RGB") for file in files]
    own, random = flicker.changed, np.random.default_rng(0)
    ways: list[tuple[str, Callable[[float], Step], Any, bool]] = [
        ("blend", blended, own, False),
        ("gated", Gated, own, False),
        ("patch means", Steady, flicker.patch_means, False),
        ("patch sizes", Steady, flicker.patch_sizes, False),
        ("steady", Steady, own, False),
        ("norms", lambda _: Steady(0.0), own, True),
    ]
    print("| clip | way | S | flicker in | flicker out | noise | lag | sharp |\n|---|---|---|---|---|---|---|---|")
    for kind in ("still", "pan", "object"):
        found: dict[tuple[str, float], list[list[float]]] = {}
        inputs = []
        for photo, other in pairwise(photos):
            frames = list(drawn(photo, other, kind))
            clean = pixels(translator, frames, given.path)
            noisy = pixels(translator, [each + random.normal(0, NOISE, each.shape) for each in frames], given.path)
            right = translated(translator, clean, given.path, None)
            plain = translated(translator, noisy, given.path, None)
            inputs.append(figures(noisy, clean, clean)[0])
            found.setdefault(("none", 0.0), []).append(figures(plain, right, clean))
            for name, make, changed, norms in ways:
                for strength in (0.5, 0.8, 0.9):
                    flicker.changed, steady = changed, make(strength)
                    made = translated(translator, noisy, given.path, strength) if norms else plain
                    shown = [steady(before, after) for before, after in zip(noisy, made, strict=True)]
                    found.setdefault((name, strength), []).append(figures(shown, right, clean))
        sharpness = np.mean([each[3] for each in found["none", 0.0]])
        for (name, strength), rows in found.items():
            out, noise, lag, sharp = np.nanmean(rows, axis=0) if kind != "still" else [*np.mean(rows, axis=0)]
            cells = [f"{np.mean(inputs):.2f}", *(f"{each:.2f}" for each in (out, noise, lag))]
            print(f"| {kind} | {name} | {strength} | {' | '.join(cells)} | {100 * sharp / sharpness:.0f} |", flush=True)


if __name__ == "__main__":
    main()
