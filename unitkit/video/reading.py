"""Videos read frame by frame through PyAV: upright, in RGB, with the times at which they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..data.files.bounds import refuse_unusable
from ..data.formats.header import MAX_PIXELS, suffix_of
from ..data.formats.turns import STEPS, seen, turned
from ..system.errors import UserError, pass_on_failure
from . import animations
from .clip import ANIMATIONS, EXPECTED, Clip, Frame, check_size, require_av

# Demuxers of files that hold their own data: no playlist, which names other files and addresses.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,nut"
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
BT709 = 1
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics
HIGH = 720  # lines from which players take a video that says nothing for BT.709


def open_clip(path: Path) -> Clip:
    """What the header and the first frame of a video tell.

    Raises `UserError` for what is no video, holds no frame, or is larger than it should be.
    """
    require_av()
    if suffix_of(path) in (*ANIMATIONS, ".png"):
        return animations.open_animation(path)
    with opened(path) as container:
        stream = _stream(container, path)
        first = next(_decoded(container, stream, []), None)
        if first is None:
            raise UserError(f"no frame of the video '{path}' can be read: it is damaged, truncated or empty")
        orientation, notes = _orientation(first)
        rate = stream.average_rate or None
        frames = stream.frames or None
        if frames is None and rate and stream.duration:
            frames = max(1, round(stream.duration * stream.time_base * rate))
        bits = first.format.components[0].bits
        if bits > 8:
            notes += [f"the video has {bits} bits a channel, of which 8 are read and written"]
        if first.color_trc in HDR:
            notes += [f"the video is HDR ({HDR[first.color_trc]}): its values are taken for those of an SDR video"]
        if any(each.type == "subtitle" for each in container.streams):
            notes += ["its subtitles are left out"]
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = seen(first.width, first.height, orientation)
        return Clip(
            path,
            width,
            height,
            stream.time_base,
            rate,
            frames,
            announced=bool(stream.frames),
            aspect=1 / aspect if orientation >= 5 else aspect,
            space=_space(first),
            notes=tuple(notes),
        )


def read_frames(clip: Clip, skip: int, notes: list[str]) -> Iterator[Frame]:
    """The frames of a clip after the first `skip`, one at a time. What is damaged ends up in `notes`, in words.

    The times grow from frame to frame, whatever the file says.
    """
    if clip.loop is not None:
        yield from animations.read_frames(clip, skip, notes)
        return
    with opened(clip.path) as container:
        stream = _stream(container, clip.path)
        step = max(1, round(1 / (clip.rate * clip.time_base))) if clip.rate else 1
        last, count, mended = None, 0, 0
        for frame in _decoded(container, stream, notes):
            pts = frame.pts
            if pts is None or (last is not None and pts <= last):
                mended += last is not None
                pts = 0 if last is None else last + (step if pts is None else 1)
            last = pts
            orientation = _orientation(frame)[0]
            if seen(frame.width, frame.height, orientation) != (clip.width, clip.height):
                notes.append(
                    f"from frame {count + 1} on they have another size ({frame.width}x{frame.height}): left out"
                )
                break
            count += 1
            if count > skip:
                yield Frame(_rgb(frame, orientation), pts, frame.duration or 0)
        if mended:
            notes.append(f"{mended} frames stated no time, or one before that of the frame before: they follow it")
        if clip.announced and clip.frames and count < clip.frames:
            notes.append(f"the video announces {clip.frames} frames, and {count} can be read: those are translated")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A container of PyAV's. Whatever goes wrong with the file becomes a `UserError` that names it."""
    import av

    refuse_unusable(path, EXPECTED, "video")
    try:
        options = {
            "format_whitelist": FORMATS,
            "protocol_whitelist": "file",
            "max_pixels": str(MAX_PIXELS),  # before a decoder takes memory, also for what comes later in the file
        }
        with av.open(f"file:{path}", "r", options=options, metadata_errors="replace") as container:
            yield container
    except UserError:
        raise
    except Exception as error:  # libraries raise nearly anything on a damaged file
        pass_on_failure(f"cannot read the video '{path}'", error)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise UserError(f"'{path}' is not a video that can be read, or is damaged ({reason})") from None


def _stream(container: Any, path: Path) -> Any:
    """The video stream that is translated, within bounds."""
    import av.stream

    pictures = av.stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & pictures]
    if not streams:
        kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise UserError(f"'{path}' holds no video: there is {kinds} in it")
    stream = streams[0]
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    if not stream.time_base or stream.time_base <= 0:
        raise UserError(f"the video '{path}' has no time base: its frames have no times")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "AUTO"
    return stream


def _decoded(container: Any, stream: Any, notes: list[str]) -> Iterator[Any]:
    """Frames as PyAV decodes them, past what cannot be decoded."""
    import av

    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            pass_on_failure(f"cannot read the video '{container.name}'", error)
            damaged += 1
            with suppress(av.FFmpegError):
                yield from stream.decode(None)
            break
        if packet is None:
            break
        try:
            yield from stream.decode(packet)
        except av.error.EOFError:
            break
        except av.FFmpegError as error:
            pass_on_failure(f"cannot read the video '{container.name}'", error)
            damaged += 1
    if damaged:
        notes.append(f"{damaged} parts of the video are damaged and were passed over")


def _space(frame: Any) -> str:
    if frame.colorspace == UNSPECIFIED:
        return "itu709" if frame.height >= HIGH else "itu601"
    return "itu709" if frame.colorspace == BT709 else "itu601"


def _rgb(frame: Any, orientation: int) -> np.ndarray:
    """A decoded frame (H, W, 3), by the matrix and the range that it states, upright."""
    from av.video.reformatter import Interpolation

    smooth = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
    # A matrix that the frame states is taken as it is; the word is for one that states none.
    space = _space(frame) if frame.colorspace == UNSPECIFIED else None
    pixels = frame.to_ndarray(format="rgb24", src_colorspace=space, interpolation=smooth)
    if orientation == 1:
        return np.asarray(pixels)
    return np.ascontiguousarray(turned(pixels.transpose(2, 0, 1), orientation).transpose(1, 2, 0))


def _orientation(frame: Any) -> tuple[int, list[str]]:
    """That of a frame, 1 to 8 as in EXIF, from its display matrix; and a note where that is no right angle."""
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return 1, []
    a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5].tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    steps = (c < 0, b < 0, True) if transposed else (d < 0, a < 0, False)
    notes = []
    if min(abs(a) + abs(d), abs(b) + abs(c)) > 0:
        notes.append("the video is to be shown at an angle, of which whole quarter turns are kept")
    return next(number for number, each in STEPS.items() if each == steps), notes
