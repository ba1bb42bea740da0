"""A trained model in use: images of any size along an image path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .data.files.decode import decode, probe, to_array, to_image, upright
from .data.tensors import at_once
from .kernels.operators import LAYOUTS
from .kernels.placement import best_precision, usual_layout
from .models import ImagePaths
from .models.inference import Inference
from .runs import checkpoint
from .runs.folder import RunFolder
from .runs.stored import not_finite
from .system.devices import choose_device
from .system.errors import UserError, nearest

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray"
PRECISIONS = ("fp32", "bf16", "auto")


def load(run: str | Path, *, device: str = "auto", weights: str = "ema", precision: str = "fp32") -> Translator:
    """The trained model of a run folder (its newest checkpoint) or of a checkpoint folder, ready to use.

    Runs no code from the folder: a file that registers parts of the model must have been imported.

    Args:
        weights: "ema", their moving average where the training kept one, or "last", those of the last step.
        precision: "fp32", "bf16" (autocast), or "auto", bf16 where the device has instructions for it.

    Raises:
        UserError: no model, or one that this version cannot read; an unknown device, or precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision '{precision}'. {nearest(precision, PRECISIONS)}")
    folder = Path(run)
    if not (folder / "model.json").is_file():
        folder = RunFolder(folder).latest()
    model, description = checkpoint.load_model(folder, weights)
    place = choose_device(device)
    precision = best_precision(place) if precision == "auto" else precision
    layout = usual_layout(place, precision)
    return Translator(model.to(place).to(memory_format=LAYOUTS[layout]), description.labels, precision)


class Translator:
    """Translates images along image paths. Raises `UserError` for a model whose weights are not finite.

    Attributes:
        model: the network, for `model(images, "ab")` on tensors (N, C, H, W) in [-1, 1].
        labels: what the domains are, by letter.
        inference: how images go through it: in which precision, with which limits of memory for large ones, and
            `notes` on what a user should know of the results.
        short: JPEG files that lacked their last bytes and were translated as viewers show them.
    """

    def __init__(self, model: ImagePaths, labels: dict[str, str], precision: str = "fp32") -> None:
        if (bad := not_finite(model.state_dict())) is not None:
            raise UserError(f"the model's '{bad}' is not finite, so it translates nothing: use an earlier checkpoint")
        self.model, self.labels = model.eval(), labels
        self.styles: dict[str, int] = model.styles
        self.inference = Inference(self.model, precision)
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

    @overload
    def translate(
        self, image: list[Picture], path: str, *, style: Picture | Tensor | None = None, seed: int | None = None
    ) -> list[Image.Image]: ...

    @overload
    def translate(
        self, image: Picture, path: str, *, style: Picture | Tensor | None = None, seed: int | None = None
    ) -> Image.Image: ...

    def translate(
        self,
        image: Picture | list[Picture],
        path: str,
        *,
        style: Picture | Tensor | None = None,
        seed: int | None = None,
    ) -> Image.Image | list[Image.Image]:
        """An image of domain `path[0]`, or a list of them, translated along `path`: with its height and width.

        Images whose sides the strides do not divide are padded by their edge and cropped back. Neighbours of one size
        in a list go through the network together. Images larger than 512x512 are translated in tiles, to what one pass
        makes of the whole (see `Inference`, also for models where that cannot be). Networks of one fixed size get the
        image at that size, and the result is brought back.

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
        if style is not None or seed is not None:
            self.check_styles()
        if style is not None and seed is not None:
            raise UserError("give the translation a style, or the seed of one, not both")
        if seed is not None:
            style = self.drawn_style(path[-1], seed)
        elif style is not None and not isinstance(style, Tensor):
            style = self.style(style, path[-1])
        images = image if isinstance(image, list) else [image]
        found = list(self.stream((self.pixels(each, path[0]) for each in images), path, repeat(style)))
        return found if isinstance(image, list) else found[0]

    def stream(self, images: Iterable[np.ndarray], path: str, styles: Iterable[Tensor | None]) -> Iterator[Image.Image]:
        """Translations of many images, in their order.

        Args:
            images: what `pixels` makes of them. Where that raises, those before it are translated first.
            path: as `check` takes it.
            styles: one (1, C, 1, 1) for each, or None for each.
        """
        for batch in _batches(zip(images, styles, strict=False), self._together):
            given = [style for _, style in batch if style is not None]
            like = {f"style:{path[-1]}": torch.cat(given)} if given else {}
            yield from self._translated([pixels for pixels, _ in batch], path, like)

    def pixels(self, image: Picture, letter: str) -> np.ndarray:
        """An image as networks of a domain take it, uint8 (C, H, W). Raises `UserError` for one that is none."""
        return _pixels(image, self.model.channels[letter], self.short)

    def style(self, image: Picture, letter: str) -> Tensor:
        """The style (1, C, 1, 1) of an image of a domain, for `translate`.

        Raises `UserError` for a model without styles, an unknown domain, an image that cannot be read.
        """
        self.check_styles()
        self.model.check(f"style:{letter}")
        return self.inference.style(self.pixels(image, letter)[None], letter)

    def drawn_style(self, letter: str, seed: int) -> Tensor:
        """A style (1, C, 1, 1) of a domain, drawn from N(0, I) by a seed, for `translate`."""
        self.check_styles()
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1, self.styles[letter], 1, 1, generator=generator).to(self.inference.device)

    def _together(self, pixels: np.ndarray) -> tuple[Any, int]:
        """What images of a batch have in common with this one, and how many of them go through at once."""
        height, width = self.model.size or pixels.shape[1:]
        return self.model.size or pixels.shape, at_once((height, width))

    def _translated(self, batch: list[np.ndarray], path: str, styles: dict[str, Tensor]) -> list[Image.Image]:
        if self.model.size:
            return self._at_fixed_size(batch, path, styles)
        return [to_image(each) for each in self.inference.translate(np.stack(batch), path, styles)]

    def _at_fixed_size(self, batch: list[np.ndarray], path: str, styles: dict[str, Tensor]) -> list[Image.Image]:
        images = [to_image(each) for each in batch]
        assert self.model.size, "asked for such a model alone"
        height, width = self.model.size
        small = [to_array(image.resize((width, height), Image.Resampling.BICUBIC)) for image in images]
        found = self.inference.translate(np.stack(small), path, styles)
        return [
            to_image(each).resize(image.size, Image.Resampling.BICUBIC)
            for each, image in zip(found, images, strict=True)
        ]


def _batches(
    items: Iterable[tuple[np.ndarray, Tensor | None]], together: Callable[[np.ndarray], tuple[Any, int]]
) -> Iterator[list[tuple[np.ndarray, Tensor | None]]]:
    """Neighbours that go through together. Where the next item raises, those before it come first."""
    batch: list[tuple[np.ndarray, Tensor | None]] = []
    try:
        for item in items:
            common, most = together(item[0])
            if batch and (len(batch) >= most or together(batch[0][0])[0] != common):
                yield batch
                batch = []
            batch.append(item)
    except UserError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


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
