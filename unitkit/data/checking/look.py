"""What a check keeps of one image: its size and mode, its values, hashes of it, and a small grey copy."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ..bands import Bands
from ..files.decode import FORMATS, Encoded, decode, probe
from ..files.scale import fit, to_image
from ..folders.hub import HubImages
from ..folders.listing import Frame
from ..formats import format_of
from ..formats.windows import read_window
from ..sources import ImageArray, ImageFiles, Images
from ..values import Values, values_of

SMALL = 32  # side of the grey copy by which near duplicates are told
SAMPLE = 128  # rows and columns of an image, at most, whose values its histogram counts
SAME = {"MPO": "JPEG"}  # a JPEG with a second image behind it, as cameras write


@dataclass(frozen=True)
class Look:
    """What is kept of image `i` of a set.

    Attributes:
        size: (H, W) as it is stored, turned upright.
        mode: as PIL calls it, "RGB", "P", ...; of what is no file, the channels and their type.
        misnamed: the format that it has, where its name says another.
        short: whether it is a JPEG without its last bytes.
        low, high: the range of its values.
        sample: values, (C, n), evenly spread over the image.
        small: grey, uint8 (32, 32), its brightest possible value 255.
        pixels: a hash of the decoded values; a grey image stored as RGB has that of the grey one.
        file: a hash of the file's bytes, where there is a file.
        thumbnail: of the side that was asked for.
    """

    i: int
    size: tuple[int, int]
    mode: str
    misnamed: str
    short: bool
    low: float
    high: float
    sample: np.ndarray
    small: np.ndarray
    pixels: bytes
    file: bytes
    thumbnail: Image.Image | None


def look(images: Images, i: int, thumbnail: int = 0) -> Look:
    """Decode an image at its own size. Raises `UserError` where it cannot be."""
    array, mode, misnamed, short, file = _decoded(images, i)
    grey = array[:1] if len(array) == 3 and (array[0] == array[1]).all() and (array[0] == array[2]).all() else array
    values = values_of(images)
    if len(grey) < len(array):  # one range is enough
        values = replace(values, low=values.low[:1], high=values.high[:1])
    steps = [max(1, side // SAMPLE) for side in array.shape[1:]]
    return Look(
        i=i,
        size=(array.shape[1], array.shape[2]),
        mode=mode,
        misnamed=misnamed,
        short=short,
        low=float(array.min()),
        high=float(array.max()),
        sample=array[:, :: steps[0], :: steps[1]].reshape(len(array), -1),
        small=np.asarray(shown(grey, values).convert("L").resize((SMALL, SMALL), Image.Resampling.BOX)),
        pixels=hashlib.blake2b(np.ascontiguousarray(grey).data, digest_size=16, key=repr(grey.shape).encode()).digest(),
        file=file,
        thumbnail=picture(array, values, thumbnail) if thumbnail else None,
    )


def picture(array: np.ndarray, values: Values, side: int) -> Image.Image:
    """A square of the image for people to see, in RGB."""
    return fit(shown(array, values), (side, side)).convert("RGB")


def load(images: Images, i: int) -> np.ndarray:
    """The image at its own size."""
    return _decoded(images, i)[0]


def shown(array: np.ndarray, values: Values) -> Image.Image:
    """An image as people see it: its first three channels, or its first, in 8 bits."""
    return to_image(Bands().shown(array, values.of_type(str(array.dtype))))


def _decoded(images: Images, i: int) -> tuple[np.ndarray, str, str, bool, bytes]:
    """The image as stored, its mode, the format its name hides, whether its end is missing, a hash of its file."""
    if isinstance(images, ImageFiles):
        source: Path | Encoded = images.paths[i]
        frame = images.frames[i] if images.frames else 0
        if isinstance(frame, tuple) or format_of(images.paths[i]) is not None:
            return _deep(images, i, frame)
    elif isinstance(images, HubImages):
        source = images.source(i)
    else:
        array = (images.at(images.array.shape[2:]) if isinstance(images, ImageArray) else images).load(i)
        return array, f"{len(array)} x {array.dtype}", "", False, b""
    channels = probe(source).channels  # refuses what is no file of an image before its bytes are read
    data = source.data if isinstance(source, Encoded) else source.read_bytes()
    name = source.name if isinstance(source, Encoded) else str(source)
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        mode, form = image.mode, SAME.get(image.format or "", image.format or "")
    named = Image.registered_extensions().get(os.path.splitext(name)[1].lower(), form)
    short: list[Path] = []
    array = decode(source, channels, short=short)
    hashed = hashlib.blake2b(data, digest_size=16).digest()
    return array, mode, form if named in FORMATS and named != form else "", bool(short), hashed


def _deep(images: ImageFiles, i: int, frame: Frame) -> tuple[np.ndarray, str, str, bool, bytes]:
    """The same, of a file that Pillow does not read, or not whole."""
    if isinstance(frame, tuple):
        array = read_window(images.paths[i], frame, images.window)
    else:
        array = decode(images.paths[i], probe(images.paths[i]).channels, frame=frame)
    return images.values.filled(array, images.name(i)), f"{len(array)} x {array.dtype}", "", False, b""
