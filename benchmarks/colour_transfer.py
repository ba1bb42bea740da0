"""What no network reaches: images left as they are, and with the colours of the other domain.

    python benchmarks/colour_transfer.py ../shared/data/day_night --size 240x320 --labels day,night

The second gives each channel of an image the mean and the standard deviation that this channel has over the other
domain's training images (after Reinhard et al., Color Transfer between Images, 2001, in RGB). Where light is all that
differs, a classifier may be content with that: what a translation adds is what it has beyond these rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

import torch

from unitkit import Data, metrics, open_data
from unitkit.data.sources import Images
from unitkit.data.tensors import to_tensor
from unitkit.metrics.spell import parse_metrics

METRICS = "attribute_success(ab), attribute_success(ba), structure(ab, a), structure(ba, b), "
METRICS += "kernel(ab, b, model=classifier), kernel(ba, a, model=classifier), colour(ab, b), colour(ba, a)"


class Untranslated:
    """Translates nothing."""

    training = False

    def train(self, mode: bool = True) -> None:
        """It has nothing that learns."""

    def draw(self, count: int, size: tuple[int, int], device: torch.device | str) -> torch.Tensor:
        """It has no noise to draw."""
        raise NotImplementedError

    def read(self, batch: Mapping[str, torch.Tensor], readings: Iterable[str]) -> dict[str, torch.Tensor]:
        """Images (N, C, H, W) in [-1, 1] by reading, `a` itself or a path `ab`."""
        return {each: self.translated(batch[each[0]], each) for each in readings}

    def translated(self, images: torch.Tensor, path: str) -> torch.Tensor:
        """Images along a path."""
        return images


class Recoloured(Untranslated):
    """Gives images the mean and the standard deviation, by channel, of the training images where a path ends."""

    def __init__(self, data: Data) -> None:
        self.moments = {letter: _moments(domain.train) for letter, domain in data.domains.items()}

    def translated(self, images: torch.Tensor, path: str) -> torch.Tensor:
        if len(path) == 1:
            return images
        mean, deviation = (images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True).clamp_min(1e-3))
        wanted, spread = self.moments[path[-1]]
        return ((images - mean) / deviation * spread + wanted).clamp(-1, 1)


def _moments(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over images of their means (1, C, 1, 1), and of their standard deviations."""
    each = [torch.std_mean(to_tensor(images.load(i)[None]), (2, 3), keepdim=True) for i in range(len(images))]
    deviations, means = (torch.cat(part) for part in zip(*each, strict=True))
    return means.mean(0, keepdim=True), deviations.mean(0, keepdim=True)


def main() -> None:
    """Print the figures of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--labels", required=True, help="of domains a and b, such as day,night")
    parser.add_argument("--size", required=True, help="HEIGHTxWIDTH")
    given = parser.parse_args()
    height, width = map(int, given.size.split("x"))
    data = open_data(given.data, size=(height, width), labels=given.labels)
    for name, model in (("untranslated", Untranslated()), ("recoloured", Recoloured(data))):
        print(f"\n{name}")
        for title, result in metrics.evaluate(model, data, parse_metrics(METRICS, data.domains)).items():
            print(f"  {title}:", *(f"{figure} {value:.4f}" for figure, value in result["figures"].items()))


if __name__ == "__main__":
    main()
