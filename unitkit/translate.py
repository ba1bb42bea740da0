"""A trained model in use: images of any size along an image path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from .data.files.decode import decode, probe, to_array, to_image, upright
from .data.tensors import to_tensor, to_uint8
from .kernels.operators import LAYOUTS
from .kernels.placement import usual_layout
from .models import ImagePaths
from .runs import checkpoint
from .runs.folder import RunFolder
from .runs.stored import not_finite
from .system.devices import choose_device
from .system.errors import UserError

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray"
Styles: TypeAlias = dict[str, Tensor]  # of a model's batch: `style:b`
TILE = 512
OVERLAP = 64


def load(run: str | Path, *, device: str = "auto", weights: str = "ema") -> Translator:
    """The trained model of a run folder (its newest checkpoint) or of a checkpoint folder, ready to use.

    Runs no code from the folder: a file that registers parts of the model must have been imported.

    Args:
        weights: "ema", their moving average where the training kept one, or "last", those of the last step.

    Raises:
        UserError: no model, or one that this version cannot read.
    """
    folder = Path(run)
    if not (folder / "model.json").is_file():
        folder = RunFolder(folder).latest()
    model, description = checkpoint.load_model(folder, weights)
    place = choose_device(device)
    layout = usual_layout(place, "fp32")
    return Translator(model.to(place).to(memory_format=LAYOUTS[layout]), description["labels"])


class Translator:
    """Translates images along image paths. Raises `UserError` for a model whose weights are not finite.

    Attributes:
        model: the network, for `model(images, "ab")` on tensors (N, C, H, W) in [-1, 1].
        labels: what the domains are, by letter.
        short: JPEG files that lacked their last bytes and were translated as viewers show them.
    """

    def __init__(self, model: ImagePaths, labels: dict[str, str]) -> None:
        if (bad := not_finite(model.state_dict())) is not None:
            raise UserError(f"the model's '{bad}' is not finite, so it translates nothing: use an earlier checkpoint")
        self.model, self.labels = model.eval(), labels
        self.styles: dict[str, int] = model.styles
        self.short: list[Path] = []

    def check(self, path: str) -> None:
        """Raise `UserError` for a path that is not a word over this model's domains."""
        if ":" in path or len(path) < 2:
            raise UserError(f"'{path}' is not a translation: give an image path such as 'ab'")
        self.model.check(path)
        if path[0] not in self.labels:
            raise UserError(f"'{path}' begins with noise: there is no image to translate along it")

    def check_styles(self) -> None:
        """Raise `UserError` for a model whose translation of an image is one alone."""
        if not self.styles:
            raise UserError(
                "this model has no styles: it makes one translation of an image. Leave style, samples and seed out, or "
                "train a model of many, such as recipes/munit.py"
            )

    def route(self, path: str) -> str:
        """The labels on the way: "neutral -> smiling"."""
        return " -> ".join(self.labels[letter] for letter in path)

    def translate(
        self, image: Picture, path: str, *, style: Picture | Tensor | None = None, seed: int | None = None
    ) -> Image.Image:
        """One image of domain `path[0]` translated along `path`; the result has its height and width.

        Images whose sides the strides do not divide are padded by their edge and cropped back. Images larger
        than 512x512 are translated in overlapping tiles of that size, blended linearly: the network's memory does
        not grow with the image, which itself takes about 32 bytes a pixel. (Instance norm then sees each tile by
        itself.) Networks of one fixed size get the image at that size, and the result is brought back.

        Args:
            image: a file, a PIL image, or uint8 (H, W) or (H, W, C), C being 1, 3 or 4.
            style: of models that have styles, an image of domain `path[-1]` whose style the result has, or what
                `style` makes of one. Without it that is the prior's mean, or the image's own where path[-1] is path[0].
            seed: of models that have styles: draw the style from N(0, I) by this seed.

        Raises:
            UserError: an unknown path, an image that cannot be read, a style for a model that has none, both a style
                and a seed.
        """
        self.check(path)
        pixels = _pixels(image, self.model.channels[path[0]], self.short)
        styles = self._styles(pixels, path, style, seed)
        if self.model.size:
            return self._at_fixed_size(pixels, path, styles)
        height, width = pixels.shape[1:]
        total = np.zeros((self.model.channels[path[-1]], height, width), np.float32)
        weight = np.zeros((height, width), np.float32)
        for top, left in _corners(height, width, self.model.stride):
            tile = pixels[:, top : top + TILE, left : left + TILE]
            ramp = _ramp(tile.shape[1])[:, None] * _ramp(tile.shape[2])
            total[:, top : top + TILE, left : left + TILE] += self._network(tile, path, styles) * ramp
            weight[top : top + TILE, left : left + TILE] += ramp
        total /= weight
        return to_image(np.rint(total, out=total).astype(np.uint8))

    def style(self, image: Picture, letter: str) -> Tensor:
        """The style (1, C, 1, 1) of an image of a domain, for `translate`.

        Of an image larger than a tile it is the mean of those of its tiles, as each is a mean over pixels itself.
        Raises `UserError` for a model without styles, an unknown domain, an image that cannot be read.
        """
        self.check_styles()
        self.model.check(f"style:{letter}")
        return self._style(_pixels(image, self.model.channels[letter], self.short), letter)

    @torch.no_grad()
    def _style(self, pixels: np.ndarray, letter: str) -> Tensor:
        height, width = pixels.shape[1:]
        tiles = (pixels[:, y : y + TILE, x : x + TILE] for y, x in _corners(height, width, self.model.stride))
        reading = f"style:{letter}"
        found = [self.model.read({letter: self._padded(tile)}, [reading])[reading] for tile in tiles]
        return torch.stack(found).mean(0)

    def _styles(self, pixels: np.ndarray, path: str, style: Picture | Tensor | None, seed: int | None) -> Styles:
        """What the network is given besides an image: the style of the domain where the path ends."""
        found = {}
        if self.styles and path[0] in path[1:]:  # its own: that of the whole image, in all of its tiles
            found[f"style:{path[0]}"] = self._style(pixels, path[0])
        if style is None and seed is None:
            return found
        self.check_styles()
        if style is not None and seed is not None:
            raise UserError("give the translation a style, or the seed of one, not both")
        letter = path[-1]
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            style = torch.randn(1, self.styles[letter], 1, 1, generator=generator).to(self._device)
        elif not isinstance(style, Tensor):
            assert style is not None
            style = self.style(style, letter)
        return {**found, f"style:{letter}": style}

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def _padded(self, pixels: np.ndarray) -> Tensor:
        """uint8 (C, H, W) as an image (1, C, H, W) of a size that the network takes, its edges repeated."""
        stride = self.model.stride
        height, width = pixels.shape[1:]
        # At least two code pixels a side: instance norm of one alone is undefined. Networks of one size need none.
        least = 0 if self.model.size else max(2 * stride, self.model.least)
        right, below = (max(-edge % stride, least - edge) for edge in (width, height))
        return pad(to_tensor(pixels[None], self._device), (0, right, 0, below), mode="replicate")

    @torch.no_grad()
    def _network(self, pixels: np.ndarray, path: str, styles: Styles) -> np.ndarray:
        """uint8 (C, H, W) of any size through the network, to uint8 values of the same height and width."""
        height, width = pixels.shape[1:]
        image = self._padded(pixels)
        found = self.model.read({path[0]: image, **styles}, [path])[path] if styles else self.model(image, path)
        return to_uint8(found)[0, :, :height, :width]

    def _at_fixed_size(self, pixels: np.ndarray, path: str, styles: Styles) -> Image.Image:
        image = to_image(pixels)
        assert self.model.size, "asked for such a model alone"
        height, width = self.model.size
        small = to_array(image.resize((width, height), Image.Resampling.BICUBIC))
        return to_image(self._network(small, path, styles)).resize(image.size, Image.Resampling.BICUBIC)


def _pixels(image: Picture, channels: int, short: list[Path]) -> np.ndarray:
    """uint8 (channels, H, W) from a file, a PIL image or an array."""
    if isinstance(image, str | Path):
        probe(Path(image))
        return decode(Path(image), channels, None, short)
    if isinstance(image, np.ndarray):
        shape = image.shape if image.ndim == 3 else (*image.shape, 1)
        if image.dtype != np.uint8 or not image.size or len(shape) != 3 or shape[2] not in (1, 3, 4):
            raise UserError(
                f"an array of {image.dtype} {list(image.shape)} is no image: give uint8 (H, W) or (H, W, C), "
                f"C being 1, 3 or 4"
            )
        image = Image.fromarray(image.reshape(shape[:2]) if shape[2] == 1 else image)
    return to_array(upright(image, channels, "given"))


def _corners(height: int, width: int, stride: int) -> Iterator[tuple[int, int]]:
    """The corners of overlapping tiles that cover the image, as few as can be, about evenly spread."""
    for top in _starts(height, stride):
        for left in _starts(width, stride):
            yield top, left


def _starts(length: int, stride: int) -> list[int]:
    """Multiples of the stride, so that strided layers see the pixels of a tile as they see those of the whole."""
    count = max(1, math.ceil((length - OVERLAP) / (TILE - OVERLAP)))
    return [math.ceil(i * (length - TILE) / (max(count - 1, 1) * stride)) * stride for i in range(count)]


def _ramp(length: int) -> np.ndarray:
    """Weights of a tile along one side: 1 inside, falling linearly towards its edges, never 0."""
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1.0
    return np.minimum(from_edge / OVERLAP, 1.0).astype(np.float32)
