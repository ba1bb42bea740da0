"""What is known of a video before its frames are read, and which files are videos."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.files.bounds import refuse_sizes
from ..data.formats.header import MAX_PIXELS, suffix_of
from ..system.errors import UserError

ANIMATIONS = (".gif", ".webp", ".apng")  # and .png, where one holds several frames
READ = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp"),
    *(".wmv", ".flv", ".ogv", ".gif", ".apng"),
)
EXPECTED = "a video"
IN_MEMORY = 24  # frames in RGB that are under way at once: decoded ahead, in the network, in the encoder


class Frame(NamedTuple):
    """A frame as it is seen, RGB (H, W, 3) of bytes; when it is shown, and for how long as far as the file says, in
    the clip's time base."""

    pixels: np.ndarray
    pts: int
    duration: int


@dataclass(frozen=True)
class Clip:
    """A video's header.

    Attributes:
        width: as it is seen, turned by what the file says of its orientation.
        height: likewise.
        time_base: seconds of a unit of `Frame.pts`.
        rate: frames a second on average, where that is known.
        frames: how many the file announces, or its length tells; None where it is not known.
        announced: whether `frames` is the file's own word.
        aspect: a pixel's width over its height.
        space: the matrix between its YUV and RGB, "itu601" or "itu709".
        loop: how often an animation is shown, 0 for ever; None of other videos.
        notes: what of the file the translation does not keep.
    """

    path: Path
    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None = None
    frames: int | None = None
    announced: bool = False
    aspect: Fraction = Fraction(1)
    space: str = "itu601"
    loop: int | None = None
    notes: tuple[str, ...] = ()


def is_animation(path: Path) -> bool:
    """Whether a `.webp` or `.png` holds several frames. Files that cannot be read hold none."""
    if suffix_of(path) not in (".webp", ".png") or not path.is_file():
        return False
    from PIL import Image

    try:
        with Image.open(path, formats=("WEBP", "PNG")) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # a decoder raises nearly anything; who reads the image says it in words
        return False


def is_video(path: Path) -> bool:
    """Whether a file is read as a video, by its suffix, and of `.webp` and `.png` by its frames."""
    return suffix_of(path) in READ or is_animation(path)


def require_av() -> None:
    """Raise `UserError` where PyAV is not installed."""
    if find_spec("av") is None:
        raise UserError("videos are read and written with PyAV, which is not installed: pip install 'unitkit[video]'")


def check_size(path: Path, width: int, height: int) -> None:
    """Raise `UserError` for frames that no memory should be given to."""
    if width <= 0 or height <= 0:
        raise UserError(f"the video '{path}' tells no size of its frames that can be ({width}x{height})")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"the video '{path}' announces frames of {width}x{height}, more than {MAX_PIXELS // 1_000_000} million "
            f"pixels: scale it down first"
        )
    refuse_sizes(f"the video '{path}' of {width}x{height}", width * height * 3, None, IN_MEMORY)
