"""Short videos that tests make and read, and pictures that tell of wrong colours and orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unitkit.translate import Translator
from unitkit.video.reading import open_clip, read_frames

av = pytest.importorskip("av")

TIMES = [0, 10, 40, 50, 90, 100, 130, 170, 190, 200, 290, 300]  # of 600 a second: no constant rate
QUIET = {"qp": "0", "bf": "2"}


def pictures(count: int = 12, height: int = 16, width: int = 24) -> list[np.ndarray]:
    """Smooth frames (H, W, 3) of which each differs, with a white corner at the top left."""
    y, x = np.mgrid[:height, :width]
    found = []
    for number in range(count):
        frame = np.stack([8 * x, 12 * y, np.full_like(x, 16 * (number % 16))], 2).astype(np.uint8)
        frame[: height // 4, : width // 4] = 255
        found.append(frame)
    return found


def film(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    times: Iterable[int] = TIMES,
    *,
    sound: str = "",
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A video of frames, with half a second of a sine."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, options=options if options is not None else QUIET if "264" in codec else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"libx264": "yuv420p", "ffv1": "bgr0"}.get(codec, "rgb24")
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
        stream.codec_context.framerate = Fraction(25)
        if rotation:
            stream.set_display_rotation(rotation)
        heard: Any = out.add_stream(sound, rate=16000) if sound else None
        for pixels, time in zip(frames, times, strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 600)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if heard:
            wave = (np.sin(np.arange(8192) / 6) * 9000).astype(np.int16)[None]
            for start in range(0, 8192, 1024):
                part = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="s16", layout="mono")
                part.rate, part.pts, part.time_base = 16000, start, Fraction(1, 16000)
                out.mux(heard.encode(part))
            out.mux(heard.encode(None))
    return path


def watched(path: Path) -> tuple[list[np.ndarray], list[Fraction], list[str]]:
    """The frames of a video, their times in seconds, and what was noted."""
    notes: list[str] = []
    clip = open_clip(path)
    frames = list(read_frames(clip, 0, notes))
    ends = [frames[-1].pts + frames[-1].duration]
    return [each.pixels for each in frames], [n * clip.time_base for n in [each.pts for each in frames] + ends], notes


def heard(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(audio=0) if p.pts is not None]


def by_hand(translator: Translator, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(translator.translate(frame, "ab")) for frame in frames]


def luma(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).convert("L")).astype(float)


def halved(frame: np.ndarray) -> np.ndarray:
    """With chroma of half the resolution."""
    return np.asarray(av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv420p").to_ndarray(format="rgb24"))


def differ(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> int:
    assert len(ours) == len(theirs)
    return max(int(np.abs(one.astype(int) - other).max()) for one, other in zip(ours, theirs, strict=True))


def differences(frames: Sequence[np.ndarray]) -> float:
    """The formula of docs/metrics.md."""
    values = np.stack(frames).astype(float)
    return float(np.abs(values[1:] - values[:-1]).mean())
