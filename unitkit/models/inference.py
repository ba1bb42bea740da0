"""A trained model on stored images of any size: padding, precision, and tiles for large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..data.tensors import to_tensor
from ..data.values import BYTES, Values
from ..networks import tiling
from ..networks.blending import TILE, blended, corners
from ..networks.graph import Program
from ..networks.maps import Layered, Limits, Map, Stored
from ..system.errors import UserError
from .paths import ImagePaths
from .windowed import Picture, Windowed

Styles: TypeAlias = Mapping[str, Tensor]  # of a model's batch: `style:b`
IN_MEMORY = 2**27  # bytes of a map of a picture that is itself too large for that
TRIED = 1e-3  # how far a small image in tiles may be from itself in one pass, of its norm


class Inference:
    """How images go through a model in evaluation.

    Images whose sides the strides do not divide are padded by their edge and cropped back. Those larger than 512x512
    are computed in tiles, to what one pass makes of the whole. Where the model has layers that `tiling` does not know,
    overlapping tiles of that size are blended instead, each of which the model sees by itself, and a note says so.

    Args:
        precision: "fp32", or "bf16" for autocast.

    Attributes:
        limits: how much memory a large image takes.
        notes: sentences on what a user should know of the results so far.
        device: where the model is.
    """

    def __init__(self, model: ImagePaths, precision: str = "fp32") -> None:
        self.model, self.precision = model, precision
        self.limits = Limits()
        self.notes: list[str] = []
        self.device: torch.device = next(model.parameters()).device
        # At least two code pixels a side: instance norm of one alone is undefined. Networks of one size need none.
        self.least = 0 if model.size else max(2 * model.stride, model.least)
        self._whole_by_tiles: dict[str, bool] = {}  # by reading

    def translate(
        self, pixels: np.ndarray, path: str, styles: Styles, source: Values = BYTES, target: Values = BYTES
    ) -> np.ndarray:
        """Stored images (N, C, H, W), translated along a path, of the same height and width.

        Args:
            source: what the values of the images mean.
            target: those of the translations.
            styles: what the model is given besides, `style:b` (N, C, 1, 1); `style:a` stands for the images' own.
        """
        if not _large(pixels):
            return self._at_once(pixels, path, styles, source, target)
        if self._tiles_are_whole(path):
            return self._in_tiles(pixels, path, styles, source, target)
        if self.model.styles and path[0] in path[1:]:  # that of the whole image, in all of its tiles
            styles = {f"style:{path[0]}": self.style(pixels, path[0], source), **styles}
        return blended(pixels, lambda tile: self._at_once(tile, path, styles, source, target), self.model.stride)

    def style(self, pixels: np.ndarray, letter: str, values: Values = BYTES) -> Tensor:
        """The styles (N, C, 1, 1) of stored images (N, C, H, W) of a domain."""
        reading = f"style:{letter}"
        with self._computing():
            if not _large(pixels):
                found = self._read(letter, self._padded(pixels, values), reading)
            elif self._tiles_are_whole(reading):
                found = self._read(letter, self._map(pixels, self.limits, values), reading, run=tiling.run)
            else:  # a mean over pixels is about the mean of those of its tiles
                places = corners(pixels.shape[2], pixels.shape[3], self.model.stride)
                tiles = (self._padded(pixels[:, :, y : y + TILE, x : x + TILE], values) for y, x in places)
                found = torch.stack([self._read(letter, tile, reading) for tile in tiles]).mean(0)
        assert isinstance(found, Tensor)
        return found

    def between(
        self, ends: tuple[tuple[str, np.ndarray, Values], tuple[str, np.ndarray, Values]], letter: str, count: int
    ) -> np.ndarray:
        """Images on the straight line between the codes of two, in equal steps, as bytes (count, C, H, W).

        Args:
            ends: each the domain whose encoder reads it, a stored image (C, H, W) and what its values mean; both of one
                size, up to 512x512.
            letter: of the generator that decodes them, in models without styles.
        """
        height, width = ends[0][1].shape[1:]
        with self._computing():
            first, last = (
                self._read(domain, self._padded(pixels[None], values), f"code:{domain}").mean
                for domain, pixels, values in ends
            )
            shares = torch.linspace(0, 1, count, device=self.device).view(-1, 1, 1, 1)
            found = self.model.generators[letter](torch.lerp(first.float(), last.float(), shares))
        return BYTES.restored(found)[:, :, :height, :width]

    def _at_once(self, pixels: np.ndarray, path: str, styles: Styles, source: Values, target: Values) -> np.ndarray:
        height, width = pixels.shape[2:]
        with self._computing():
            images = self._padded(pixels, source)
            found = self._read(path[0], images, path, styles) if styles else self.model(images, path)
            return target.restored(found)[:, :, :height, :width]

    def takes_windows(self, path: str) -> bool:
        """Whether `translate_windows` can be: `tiling` knows all layers on the path."""
        return not self.model.size and self._tiles_are_whole(path)

    def refuse_windows(self, path: str) -> None:
        """Raise `UserError` where it cannot."""
        if not self.takes_windows(path):
            why = self.notes[0] if self.notes else "its networks take images of one size"
            raise UserError(f"this model translates no picture that is larger than memory: {why}")

    def translate_windows(
        self,
        picture: Picture,
        path: str,
        styles: Styles,
        source: Values,
        target: Values,
        write: Callable[[range, range, np.ndarray], None],
    ) -> None:
        """As `translate`, of one picture larger than memory: windows of it are read, and those of its translation given
        to `write`, which takes rows, columns and the window (C, h, w).

        Raises:
            UserError: as `refuse_windows`.
        """
        self.refuse_windows(path)
        below, right = self._margins(picture.shape[1:])
        limits = replace(self.limits, stored=min(self.limits.stored, IN_MEMORY))
        with self._computing():
            images = Layered(source.normalised, Windowed(picture, below, right, self.device, limits))
            self._write(self._read(path[0], images, path, styles, tiling.run), target, picture.shape[1:], write)

    def _in_tiles(self, pixels: np.ndarray, path: str, styles: Styles, source: Values, target: Values) -> np.ndarray:
        whole = np.empty((len(pixels), self.model.channels[path[-1]], *pixels.shape[2:]), target.dtype)

        def write(rows: range, columns: range, window: np.ndarray) -> None:
            whole[..., rows.start : rows.stop, columns.start : columns.stop] = window

        with self._computing():
            found = self._read(path[0], self._map(pixels, self.limits, source), path, styles, tiling.run)
            self._write(found, target, pixels.shape[2:], write)
        return whole

    def _write(
        self, found: Map, values: Values, size: tuple[int, ...], write: Callable[[range, range, np.ndarray], None]
    ) -> None:
        """Give the windows of a map, as far as they are within a size (H, W), one after another."""
        height, width = size
        for rows, columns in found.tiles():
            rows, columns = range(rows.start, min(rows.stop, height)), range(columns.start, min(columns.stop, width))
            if rows and columns:
                window = values.restored(found.read(rows, columns))
                write(rows, columns, window if len(found) > 1 else window[0])

    def _tiles_are_whole(self, reading: str) -> bool:
        """Whether a reading of an image in tiles is that of the whole. A small image is tried in both ways, once."""
        if reading not in self._whole_by_tiles:
            letter = reading.removeprefix("style:")[0]
            side = 4 * self.least
            shape = (1, self.model.channels[letter], side, side + self.model.stride)
            pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            try:
                with torch.no_grad():
                    whole = self._read(letter, self._padded(pixels), reading)
                    found = self._read(letter, self._map(pixels, Limits(tile=2**14)), reading, run=tiling.run)
                    tiled = found.stored().tensor if isinstance(found, Map) else found
                why = "" if (tiled - whole).norm() <= TRIED * whole.norm() else "they differ from a whole image"
            except tiling.Untiled as error:
                why = str(error)
            except (TypeError, AttributeError):  # of a function that meets a map where it expects a tensor
                why = "a function stands between its layers, of which a module with a tiling.rule would be known"
            self._whole_by_tiles[reading] = not why
            if why and not self.notes:
                self.notes = [f"images above {TILE}x{TILE} went through in blended tiles, unlike one whole: {why}"]
        return self._whole_by_tiles[reading]

    def _read(
        self,
        letter: str,
        images: Tensor | Map,
        reading: str,
        styles: Styles | None = None,
        run: Callable[[Program, list[Any]], list[Any]] = Program.run,
    ) -> Any:
        return self.model.read({letter: images, **(styles or {})}, [reading], run)[reading]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def _margins(self, size: tuple[int, ...]) -> tuple[int, int]:
        """By how much images (H, W) are padded below and on their right, to a size that the network takes."""
        below, right = (max(-edge % self.model.stride, self.least - edge) for edge in size)
        return below, right

    def _padded(self, pixels: np.ndarray, values: Values = BYTES) -> Tensor:
        """Stored images (N, C, H, W) as those of a size that the network takes, their edges repeated."""
        below, right = self._margins(pixels.shape[2:])
        return pad(to_tensor(pixels, self.device, values=values), (0, right, 0, below), mode="replicate")

    def _map(self, pixels: np.ndarray, limits: Limits, values: Values = BYTES) -> Map:
        """The same, as a map."""
        below, right = self._margins(pixels.shape[2:])
        padded = np.pad(pixels, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")
        return Layered(values.normalised, Stored(torch.from_numpy(padded), self.device, limits))


def _large(pixels: np.ndarray) -> bool:
    return bool(max(pixels.shape[2:]) > TILE)
