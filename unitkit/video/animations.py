"""Animated GIF, WebP and PNG: read through Pillow, written through PyAV frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.files.bounds import open_ordinary, refuse_unusable
from ..data.files.decode import pixels_of
from ..data.files.walk import TooMuch, check_parts
from ..data.formats.header import suffix_of
from ..system.errors import UserError, pass_on_failure
from .clip import EXPECTED, Clip, Frame, check_size

MILLISECOND = Fraction(1, 1000)
UNSTATED = 100  # milliseconds that browsers show a frame of an animation that states none
TICKS = {".gif": Fraction(1, 100), ".webp": MILLISECOND}  # the finest time that a file tells, where it has one
FORMATS = {".gif": "GIF", ".webp": "WEBP", ".apng": "PNG", ".png": "PNG"}


def open_animation(path: Path) -> Clip:
    """The header of an animation. Raises `UserError` as `reading.open_clip` does."""
    with _opened(path) as image:
        frames = getattr(image, "n_frames", 1) - _hidden(image)
        # A GIF without a word of loops, and the others with 1, are shown once.
        loop = int(image.info.get("loop", 1))
        repeats = loop + 1 if suffix_of(path) == ".gif" and loop and "loop" in image.info else loop
        return Clip(path, *_seen(image), MILLISECOND, None, frames, announced=True, loop=repeats)


def read_frames(clip: Clip, skip: int, notes: list[str]) -> Iterator[Frame]:
    """The frames of an animation, over white where they are transparent. See `reading.read_frames`."""
    done, time = 0, 0
    with _opened(clip.path) as image:
        for number in count(_hidden(image)):
            try:
                image.seek(number)
                image.load()
            except EOFError:
                break
            except Exception as error:
                pass_on_failure(f"cannot read the video '{clip.path}'", error)
                if not done:
                    raise
                break
            duration = round(image.info.get("duration") or 0) or UNSTATED
            done += 1
            if done > skip:
                pixels = pixels_of(image, 3, str(clip.path)).transpose(1, 2, 0)
                yield Frame(np.ascontiguousarray(pixels), time, duration)
            time += duration
    if clip.frames and done < clip.frames:
        notes.append(f"the video announces {clip.frames} frames, and {done} can be read: those are translated")


def write_animation(
    place: Path, frames: Iterable[tuple[np.ndarray, int]], last: int, clip: Clip, lossless: bool
) -> int:
    """Write frames (H, W) or (H, W, 3) of bytes, each with its time in the clip's time base, as a file of its suffix.

    A frame whose time the file cannot tell from that of the one before is left out. Returns how many these are.

    Args:
        last: how long the last frame is shown.
    """
    import av

    suffix, end = suffix_of(place), last * clip.time_base
    loop = clip.loop or 0
    tick = TICKS.get(suffix, clip.time_base)
    before: int | None = None
    left_out = 0
    if suffix == ".gif":
        # Players show a GIF once and then so many times more; -1 says nothing of loops.
        again = -1 if loop == 1 else max(0, loop - 1)
        options, codec = {"loop": str(again), "final_delay": str(round(end * 100))}, "gif"
    elif suffix == ".webp":
        options, codec = {"loop": str(loop)}, "libwebp_anim"
    else:
        delay = end.limit_denominator(65535)
        options, codec = {"plays": str(loop), "final_delay": f"{delay.numerator}/{delay.denominator}"}, "apng"
    with av.open(str(place), "w", format=suffix[1:], options=options) as container:
        quality = {"lossless": "1"} if lossless else {"quality": "90"}
        stream: Any = container.add_stream(codec, options=quality if suffix == ".webp" else {})
        stream.width, stream.height = clip.width, clip.height
        stream.time_base = stream.codec_context.time_base = tick
        for pixels, time in frames:
            ticks = floor(time * clip.time_base / tick + Fraction(1, 2))
            if before is not None and ticks <= before:
                left_out += 1
                continue
            before = ticks
            frame = _frame(pixels, suffix)
            if not stream.codec_context.is_open:
                stream.pix_fmt = frame.format.name
            frame.pts, frame.time_base, frame.duration = ticks, tick, max(1, round(end / tick))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return left_out


def _frame(pixels: np.ndarray, suffix: str) -> Any:
    import av

    kind = "gray" if pixels.ndim == 2 else "rgb24"
    if suffix == ".gif":  # 256 colours of each frame's own, not dithered, which would flicker
        image = Image.fromarray(pixels)
        image = image.quantize(256, dither=Image.Dither.NONE) if pixels.ndim == 3 else image
        palette = np.full((256, 4), 255, np.uint8)
        colours = np.asarray(image.getpalette() if image.mode == "P" else np.arange(256).repeat(3), np.uint8)
        palette[: colours.size // 3, 1:] = colours.reshape(-1, 3)
        return av.VideoFrame.from_ndarray((np.ascontiguousarray(image), palette), format="pal8")  # type: ignore[arg-type]
    frame = av.VideoFrame.from_ndarray(pixels, format=kind)
    return frame.reformat(format="bgra") if suffix == ".webp" else frame


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, its header checked. Whatever goes wrong with the file becomes a `UserError` that names it."""
    kind = FORMATS[suffix_of(path)]
    refuse_unusable(path, EXPECTED, "video")
    try:
        with open_ordinary(path, EXPECTED) as file:
            size = file.seek(0, 2)
            file.seek(0)
            check_parts(file, size, True)
            with Image.open(file, formats=(kind,)) as image:
                check_size(path, *image.size)
                yield image
    except UserError:
        raise
    except TooMuch as error:
        raise UserError(f"the video '{path}' {error}") from None
    except Image.DecompressionBombError:
        raise UserError(f"the video '{path}' announces frames of more pixels than are read: scale it down") from None
    except Exception as error:
        pass_on_failure(f"cannot read the video '{path}'", error)
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"'{path}' is not an animated {kind} that can be read, or is damaged ({reason})") from None


def _hidden(image: Image.Image) -> int:
    """Frames before the first that is shown: a PNG may have an image for viewers that know no animations."""
    return int(bool(image.info.get("default_image")))


def _seen(image: Image.Image) -> tuple[int, int]:
    from ..data.formats.turns import orientation_of, seen

    return seen(*image.size, orientation_of(image))
