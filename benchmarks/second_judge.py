"""A second opinion on translations: a judge that is no network, as discriminators are.

    python benchmarks/second_judge.py RUN ... [--data FOLDER]

Histograms of oriented gradients (Dalal and Triggs 2005: 8x8 pixels, 9 orientations, blocks of 2x2 cells) and a linear
logistic regression, fitted to the training split and its mirror images. Prints the share of real held-out images that
it places rightly, and of each run's translations that it puts in the domain where they should be. Data are the first
run's own, or as its own, opened elsewhere.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import unitkit
from unitkit.data.sources import Images
from unitkit.data.tensors import to_tensor
from unitkit.data.values import values_of
from unitkit.runs.folder import RunFolder
from unitkit.runs.kept import kept_run

CELL, BINS = 8, 9
RIDGE = 2e-3  # on features of variance 1


def gradients(images: Tensor) -> Tensor:
    """Histograms of oriented gradients (N, features) of images (N, C, H, W), of which the mean over channels counts."""
    x = functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = x[:, 1:-1, 2:] - x[:, 1:-1, :-2], x[:, 2:, 1:-1] - x[:, :-2, 1:-1]
    strength = (across.square() + down.square()).sqrt()
    angle = torch.atan2(down, across) % math.pi / math.pi * BINS
    lower, part = angle.floor().long() % BINS, angle - angle.floor()
    votes = torch.zeros(len(x), BINS, *strength.shape[1:])
    votes.scatter_add_(1, lower[:, None], (strength * (1 - part))[:, None])
    votes.scatter_add_(1, (lower[:, None] + 1) % BINS, (strength * part)[:, None])
    blocks = functional.unfold(functional.avg_pool2d(votes, CELL), 2)
    normal: Tensor = blocks / (blocks.norm(dim=1, keepdim=True) + 0.01)
    return normal.flatten(1)


class Judge:
    """Tells two sets of images apart by their gradients.

    Args:
        sets: training images of both domains.
    """

    def __init__(self, sets: list[Tensor]) -> None:
        features = [torch.cat([gradients(images), gradients(images.flip(3))]) for images in sets]
        every = torch.cat(features)
        self.mean, self.scale = every.mean(0), every.std(0) + 1e-6
        every = (every - self.mean) / self.scale
        target = torch.cat([torch.full((len(each),), float(b)) for b, each in enumerate(features)])
        equal = torch.cat([torch.full((len(each),), len(target) / 2 / len(each)) for each in features])
        self.weights = torch.zeros(every.shape[1] + 1, requires_grad=True)
        optimizer = torch.optim.LBFGS([self.weights], max_iter=60, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            logits = every @ self.weights[:-1] + self.weights[-1]
            found = functional.binary_cross_entropy_with_logits(logits, target, weight=equal)
            found = found + RIDGE * self.weights[:-1].square().sum()
            torch.autograd.backward(found)
            return found

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def share(self, images: Tensor, domain: int) -> float:
        """Per cent of images that it puts in the domain with this number."""
        logits = (gradients(images) - self.mean) / self.scale @ self.weights[:-1] + self.weights[-1]
        return 100 * float(((logits > 0) == bool(domain)).float().mean())


def tensor(images: Images) -> Tensor:
    """All images of a split, in [-1, 1]."""
    return to_tensor(np.stack([images.load(i) for i in range(len(images))]), values=values_of(images))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data")
    options = parser.parse_args()
    try:
        judge_runs(options.runs, options.data)
    except unitkit.UserError as error:
        parser.error(str(error))


@torch.no_grad()
def judge_runs(runs: list[Path], where: str | None) -> None:
    """Print the verdict on each. Raises `UserError` for runs and data that cannot be."""
    data = kept_run(RunFolder(runs[0]), where)[1].data
    if len(data.domains) != 2 or min(data.size) < 2 * CELL:
        raise unitkit.UserError(
            f"two domains of at least {2 * CELL} pixels are needed, not {data.labels} of {data.size}"
        )
    with torch.enable_grad():
        judge = Judge([tensor(domain.train) for domain in data.domains.values()])
    held_out = [tensor(domain.test) for domain in data.domains.values()]
    print("real, rightly placed:", *(f"{judge.share(images, n):.1f} %" for n, images in enumerate(held_out)))
    for run in runs:
        translator = unitkit.load(run, device="cpu")
        if translator.labels != data.labels:
            raise unitkit.UserError(f"{run} translates between {translator.labels}, and the data are {data.labels}")
        model = translator.model
        translated = [
            torch.cat([model(part, path) for part in torch.split(images, 64)])
            for path, images in zip(("ab", "ba"), held_out, strict=True)
        ]
        shares = [judge.share(images, 1 - n) for n, images in enumerate(translated)]
        print(f"{run}: ab {shares[0]:.1f} %, ba {shares[1]:.1f} %", flush=True)


if __name__ == "__main__":
    main()
