"""A trained model in use: images of any size along an image path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .data.files.decode import decode, pixels_of, probe
from .data.files.pipeline import batches
from .data.files.scale import resized, to_image
from .data.formats.npy import channels_first
from .data.formats.windows import windows_of, write_windows
from .data.tensors import at_once
from .data.values import Values, in_channels, supported
from .kernels.placement import best_precision, choose_device, placement
from .models import ImagePaths
from .models.inference import Inference
from .models.windowed import Converted
from .registry import Spec
from .runs import checkpoint, options
from .runs.kept import find_run
from .runs.stored import not_finite
from .system.errors import UserError, nearest

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray"
PRECISIONS = tuple(each for each in options.PRECISIONS if each != "tf32")  # which is of products in training


def load(run: str | Path, *, device: str = "auto", weights: str = "ema", precision: str = "fp32") -> Translator:
    """The trained model of a run folder (its newest checkpoint), of its folder `best`, of a checkpoint, of a
    `.safetensors` file that `export` made, which has one image path, or of the Hugging Face Hub, as
    `hf:OWNER/NAME[@REVISION]`; ready to use.

    Runs no code from the folder, or from the hub: a file that registers parts of the model must have been imported.

    Args:
        weights: "ema", their moving average where the training kept one, or "last", those of the last step.
        precision: "fp32", "bf16" (autocast), or "auto", bf16 where the device has instructions for it.

    Raises:
        UserError: no model, or one that this version cannot read; an unknown device, or precision.
        MachineError: no network, where the model has to be fetched.
        TrainingError: a device that computes wrongly what networks are made of.
    """
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision '{precision}'. {nearest(precision, PRECISIONS)}")
    given = Path(run)
    exported = given.suffix == ".safetensors" and given.is_file()
    found = given if exported else find_run(given)[1]
    model, description = checkpoint.load_model(found, weights)
    place = choose_device(device)
    precision = best_precision(place) if precision == "auto" else precision
    model = placement(place, precision).place(model, place)
    labels, values = description.labels, description.values
    return Translator(model, labels, precision, values, spec=description.spec, place=found, size=description.size)


class Translator:
    """Translates images along image paths. Raises `UserError` for a model whose weights are not finite.

    Attributes:
        model: the network, for `model(images, "ab")` on tensors (N, C, H, W) in [-1, 1].
        labels: what the domains are, by letter.
        values: what the values of their images are, by letter.
        size: (height, width) of the training's images, where it is known.
        inference: how images go through it: in which precision, with which limits of memory for large ones, and
            `notes` on what a user should know of the results.
        short: JPEG files that lacked their last bytes and were translated as viewers show them.
        spec: of the model, and `place`, the checkpoint or the file that it was read from, where `load` has read one.
    """

    def __init__(
        self,
        model: ImagePaths,
        labels: dict[str, str],
        precision: str = "fp32",
        values: Mapping[str, Values] | None = None,
        *,
        spec: Spec | None = None,
        place: Path | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if (bad := not_finite(model.state_dict())) is not None:
            raise UserError(f"the model's '{bad}' is not finite, so it translates nothing: use an earlier checkpoint")
        self.model, self.labels, self.size = model.eval(), labels, size
        self.values = {letter: (values or {}).get(letter, Values()) for letter in labels}
        self.styles: dict[str, int] = model.styles
        self.inference = Inference(self.model, precision)
        self.short: list[Path] = []
        self.spec, self.place = spec, place

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
    ) -> list[Image.Image | np.ndarray]: ...

    @overload
    def translate(
        self, image: Picture, path: str, *, style: Picture | Tensor | None = None, seed: int | None = None
    ) -> Image.Image | np.ndarray: ...

    def translate(
        self,
        image: Picture | list[Picture],
        path: str,
        *,
        style: Picture | Tensor | None = None,
        seed: int | None = None,
    ) -> Image.Image | np.ndarray | list[Image.Image | np.ndarray]:
        """An image of domain `path[0]`, or a list of them, translated along `path`: with its height and width.

        What comes out is a PIL image, or an array (H, W, C) where it has more than 8 bits or other channels than grey
        and RGB.

        Images whose sides the strides do not divide are padded by their edge and cropped back. Neighbours of one size
        in a list go through the network together. Images larger than 512x512 are translated in tiles, to what one pass
        makes of the whole (see `Inference`, also for models where that cannot be). Networks of one fixed size get the
        image at that size, and the result is brought back.

        Args:
            image: a file of one image, a PIL image, or an array (H, W) or (H, W, C). Values of the type that the
                domain's images had in training mean the same; those of another are told by `Values.of_type`.
            style: of models that have styles, an image of domain `path[-1]` whose style the result has, or what
                `style` makes of one. Without it that is the prior's mean, or the image's own where path[-1] is path[0].
            seed: of models that have styles: draw the style from N(0, I) by this seed.

        Raises:
            UserError: an unknown path, an image that cannot be read, a style for a model that has none, both a style
                and a seed.
        """
        found = list(self.translate_all(image if isinstance(image, list) else [image], path, style=style, seed=seed))
        return found if isinstance(image, list) else found[0]

    def translate_all(
        self,
        images: Iterable[Picture],
        path: str,
        *,
        style: Picture | Tensor | None = None,
        seed: int | None = None,
    ) -> Iterator[Image.Image | np.ndarray]:
        """As `translate`, of images that need not all be in memory: the results one by one, in their order.

        Neighbours of one size and type go through the network together, up to 128 of 32x32 and as many pixels of
        larger ones. Raises `UserError` at once for a path or a style, and at an image that cannot be read after the
        results of those before it.
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
        return map(picture, self.stream((self.pixels(each, path[0]) for each in images), path, repeat(style)))

    def stream(self, images: Iterable[np.ndarray], path: str, styles: Iterable[Tensor | None]) -> Iterator[np.ndarray]:
        """Translations (C, H, W) of many images, in their order: of the type of an image, or of that of the path's
        last domain where the image has that of its first.

        Args:
            images: what `pixels` makes of them. Where that raises, those before it are translated first.
            path: as `check` takes it.
            styles: one (1, C, 1, 1) for each, or None for each.
        """
        for batch in batches(zip(images, styles, strict=False), lambda item: self._together(item[0])):
            given = [style for _, style in batch if style is not None]
            like = {f"style:{path[-1]}": torch.cat(given)} if given else {}
            yield from self._translated([pixels for pixels, _ in batch], path, like)

    def pixels(self, image: Picture, letter: str, frame: int | None = None) -> np.ndarray:
        """An image as it is stored, with the channels of a domain (C, H, W).

        Args:
            frame: which image of the file it is.

        Raises:
            UserError: none that is understood; a file of several without `frame`; values that a domain has not.
        """
        name = str(image) if isinstance(image, str | Path) else "given"
        return self._meant(letter, name, _pixels(image, self.model.channels[letter], self.short, frame))

    def translate_file(self, source: Path, target: Path, path: str, style: Tensor | None = None) -> os.stat_result:
        """Translate a picture larger than memory, a `.tif` in tiles or an `.npy`, window by window. Returns the status
        of the file that it is.

        Raises `UserError` for other formats, and for models of which `Inference` knows no tiles.
        """
        self.check(path)
        picture = windows_of(source, self.model.channels[path[0]])
        before, after = self.meanings(path, picture.dtype)
        styles = {} if style is None else {f"style:{path[-1]}": style}
        shape = (self.model.channels[path[-1]], *picture.shape[1:])
        meant = Converted(picture, self.model.channels[path[0]], partial(self._meant, path[0], str(source)))
        work = partial(self.inference.translate_windows, meant, path, styles, before, after)
        return write_windows(target, shape, after.dtype, work, source)

    def meanings(self, path: str, dtype: str) -> tuple[Values, Values]:
        """What the values of images of a type mean, and those of their translations."""
        first, last = self.values[path[0]], self.values[path[-1]]
        return first.of_type(dtype), last if dtype == first.dtype else last.for_output(dtype)

    def style(self, image: Picture, letter: str) -> Tensor:
        """The style (1, C, 1, 1) of an image of a domain, for `translate`.

        Raises `UserError` for a model without styles, an unknown domain, an image that cannot be read.
        """
        self.check_styles()
        self.model.check(f"style:{letter}")
        pixels = self.pixels(image, letter)
        return self.inference.style(pixels[None], letter, self.values[letter].of_type(str(pixels.dtype)))

    def drawn_style(self, letter: str, seed: int) -> Tensor:
        """A style (1, C, 1, 1) of a domain, drawn from N(0, I) by a seed, for `translate`."""
        self.check_styles()
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1, self.styles[letter], 1, 1, generator=generator).to(self.inference.device)

    def _meant(self, letter: str, name: str, array: np.ndarray) -> np.ndarray:
        """An array (C, H, W) with the channels of a domain, and no values that its images have not."""
        values = self.values[letter]
        array = values.of_type(str(array.dtype)).stored(in_channels(array, self.model.channels[letter], name), name)
        if values.whole and array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
            raise UserError(
                f"the image '{name}' holds {array.dtype} values {array.min():.4g}..{array.max():.4g}, and this model "
                f"was trained on {values.dtype}: give that, or floats in [0, 1]"
            )
        return array

    def _together(self, pixels: np.ndarray) -> tuple[Any, int]:
        """What images of a batch have in common with this one, and how many of them go through at once."""
        height, width = self.model.size or pixels.shape[1:]
        return (self.model.size or pixels.shape, pixels.dtype), at_once((height, width))

    def _translated(self, batch: list[np.ndarray], path: str, styles: dict[str, Tensor]) -> list[np.ndarray]:
        source, target = self.meanings(path, str(batch[0].dtype))
        size = self.model.size
        images = [resized(image, size) for image in batch] if size else batch
        found = list(self.inference.translate(np.stack(images), path, styles, source, target))
        return [resized(one, image.shape[1:]) for one, image in zip(found, batch, strict=True)] if size else found


def picture(array: np.ndarray) -> Image.Image | np.ndarray:
    """A stored image (C, H, W) as a PIL image, or (H, W, C) where that holds it not."""
    if array.dtype == np.uint8 and len(array) in (1, 3):
        return to_image(array)
    return np.ascontiguousarray(array.transpose(1, 2, 0))


def _pixels(image: Picture, channels: int, short: list[Path], frame: int | None) -> np.ndarray:
    """An array (channels, H, W) from a file, a PIL image or an array."""
    if isinstance(image, str | Path):
        if frame is None and (count := probe(Path(image), channels).frames) > 1:
            raise UserError(f"'{image}' holds {count} images: translate it by `unitkit translate`, or give its arrays")
        return decode(Path(image), channels, None, short, frame or 0)
    if isinstance(image, Image.Image):
        return in_channels(pixels_of(image, min(channels, 3), "given"), channels, "given")
    if not image.size or image.ndim not in (2, 3) or image.dtype.kind not in "biuf":
        raise UserError(f"an array of {image.dtype} {list(image.shape)} is no image: give numbers, (H, W) or (H, W, C)")
    array = supported(image, "given").reshape(*image.shape[:2], -1)
    if array.dtype == np.uint8 and array.shape[2] == 4 and channels in (1, 3):
        return pixels_of(Image.fromarray(array), channels, "given")
    if array.shape[2] not in (channels, 1, 3) and array.shape[0] == channels and channels_first(array.shape):
        raise UserError(f"an array {list(image.shape)} has its channels first: give (H, W, C), by transpose(1, 2, 0)")
    return in_channels(np.ascontiguousarray(array.transpose(2, 0, 1)), channels, "given")
