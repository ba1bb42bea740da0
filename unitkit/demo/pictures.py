"""What the page shows of pictures: their translations, and what lies between two of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.bands import Bands
from ..data.files.decode import Encoded, decode, probe
from ..data.files.scale import to_image
from ..data.formats.header import Header
from ..data.values import BYTES, Values
from ..runs.samples import name_of
from ..system.errors import UserError
from ..system.output import printable
from ..translate import Translator
from .runs import LONGEST, Size

PIXELS = 50_000_000  # of a picture that is taken
NAME = "given"  # in messages
FRAMES = 9  # from one picture to another
WALKED = 256  # pixels a side at most of these


def translated(translator: Translator, data: bytes, path: str, size: Size, seed: int | None = None) -> dict[str, Any]:
    """A picture along a path, beside its reconstruction and its cycle where the model has these.

    Args:
        data: the picture's file.
        seed: of a style, in models that have styles.

    Raises:
        UserError: no picture that can be read, or a model that cannot take it.
    """
    pixels, values, header = _opened(translator, data, path[0], size.cut)
    model, first = translator.model, path[0]
    beside = [path[:2], first * 2, *([path + first] if len(path) == 2 else [])]
    paths = dict.fromkeys(each for each in [path, *beside] if model.has(each))
    styles = {} if seed is None else {f"style:{path[-1]}": translator.drawn_style(path[-1], seed)}
    names = {first: f"the picture, read as {translator.labels[first]}"}
    images = {first: _seen(pixels, values)}
    for each in paths:
        names[each] = name_of(each, translator.labels)
        found = translator.inference.translate(pixels[None], each, styles, values, BYTES)[0]
        images[each] = _seen(found, BYTES)
    return {
        "images": [{"path": each, "name": printable(names[each]), "uri": uri} for each, uri in images.items()],
        "size": list(pixels.shape[1:]),
        "given": [header.height, header.width],
    }


def between(
    translator: Translator,
    first: bytes,
    second: bytes,
    *,
    letters: tuple[str, str],
    decoders: Sequence[str],
    size: Size,
) -> dict[str, Any]:
    """What lies between two pictures: decoded from codes on the line between theirs, by the generator of each domain of
    `decoders`.

    Args:
        letters: the domains that the pictures are read as.

    Raises:
        UserError: as `translated`.
    """
    cut = _walked(translator, first, size)
    start, end = (
        (letter, *_opened(translator, data, letter, cut)[:2])
        for letter, data in zip(letters, (first, second), strict=True)
    )
    rows = {letter: translator.inference.between((start, end), letter, FRAMES) for letter in decoders}
    return _rows(translator, rows, cut)


def restyled(translator: Translator, data: bytes, like: bytes, *, path: str, size: Size, seed: int) -> dict[str, Any]:
    """A picture along a path in styles on the line from one that is drawn by a seed to that of a picture of domain
    `path[-1]`, or where that is empty to one that the next seed draws.

    Raises:
        UserError: as `translated`, and a path back to where it began, whose style is the picture's own.
    """
    letter = path[-1]
    if letter == path[0]:
        raise UserError(f"images of '{path}' have the picture's own style: choose a path that ends in another domain")
    cut = _walked(translator, data, size)
    pixels, values, _ = _opened(translator, data, path[0], cut)
    if like:
        other, meant, _ = _opened(translator, like, letter, cut)
        last = translator.inference.style(other[None], letter, meant)
    else:
        last = translator.drawn_style(letter, seed + 1)
    shares = torch.linspace(0, 1, FRAMES, device=last.device).view(-1, 1, 1, 1)
    styles = {f"style:{letter}": torch.lerp(translator.drawn_style(letter, seed), last.float(), shares)}
    found = translator.inference.translate(np.repeat(pixels[None], FRAMES, 0), path, styles, values, BYTES)
    return _rows(translator, {path: found}, cut)


def _walked(translator: Translator, data: bytes, size: Size) -> tuple[int, int]:
    """The one size of all images of a walk: of whole pictures that of the first."""
    if translator.model.size:
        return translator.model.size
    header = _probed(data)
    return _within(size.cut or (header.height, header.width), WALKED)


def _rows(translator: Translator, rows: Mapping[str, np.ndarray], size: tuple[int, int]) -> dict[str, Any]:
    found = []
    for path, frames in rows.items():
        name = f"decoded as {translator.labels[path]}" if len(path) == 1 else name_of(path, translator.labels)
        found.append({"path": path, "name": printable(name), "frames": [_seen(each, BYTES) for each in frames]})
    return {"rows": found, "size": list(size)}


def _probed(data: bytes) -> Header:
    """The header of a picture's file. Raises `UserError` for another file, and for more pixels than `PIXELS`."""
    header = probe(Encoded(NAME, data))
    if header.height * header.width > PIXELS:
        most = PIXELS // 1_000_000
        raise UserError(
            f"the picture has {header.width}x{header.height} pixels, more than {most} million: scale it down"
        )
    return header


def _opened(
    translator: Translator, data: bytes, letter: str, cut: tuple[int, int] | None
) -> tuple[np.ndarray, Values, Header]:
    """A picture (C, H, W) with the channels of a domain, and what its values mean: of 8 bits from the lowest to the
    highest that there are in the domain, as images of it are shown, and of 16 bits what `unitkit translate` says."""
    header = _probed(data)
    size = cut or _within((header.height, header.width), LONGEST)
    pixels = np.array(decode(Encoded(NAME, data), translator.model.channels[letter], size))  # which torch may write to
    meant = BYTES if pixels.dtype == np.uint8 else translator.values[letter].of_type(str(pixels.dtype))
    return pixels, meant, header


def _within(size: tuple[int, int], most: int) -> tuple[int, int]:
    """A size (H, W) in its proportions, whose longer side is `most` at most."""
    height, width = (max(1, round(side * min(1.0, most / max(size)))) for side in size)
    return height, width


def _seen(image: np.ndarray, values: Values) -> str:
    """An image as a data URI of what people see of it."""
    file = io.BytesIO()
    to_image(Bands().shown(image, values)).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
