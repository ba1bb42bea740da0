"""A video translated along an image path, frame by frame and segment by segment."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.files.pipeline import made_ahead
from ..data.formats.header import suffix_of
from ..system.errors import UserError, refusal
from ..system.files import refuse_unwritable, replacing
from ..translate import Translator
from .animations import write_animation
from .clip import ANIMATIONS, Clip, Frame, require_av
from .encoding import Codec, Encoder, codec_for, decoded, held_sound, write_video
from .flicker import Flicker, Steady
from .parts import Parts
from .reading import open_clip, read_frames

SEGMENT = 64  # frames, of which a stopped translation loses less than one segment


@dataclass(frozen=True)
class Translated:
    """What a translation of a video was.

    Attributes:
        frames: how many.
        flicker: of the input, as the network saw it, and of the output, before it was encoded: see `Flicker`.
        resumed: frames that were there from an earlier call.
        notes: what a user should know.
    """

    frames: int
    flicker: tuple[float, float]
    resumed: int
    notes: tuple[str, ...]


def translate_video(
    translator: Translator,
    path: str,
    source: str | Path,
    target: str | Path,
    *,
    style: Tensor | None = None,
    steady: float = 0.0,
    lossless: bool = False,
    segment: int = SEGMENT,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Translated:
    """Translate a video, or an animated GIF, WebP or PNG, along an image path: with its frames' times and its sound.

    What is done of it is kept in segments beside the output, in `OUT.parts`; the same call goes on from there after a
    stop, to the same frames. Nothing is at `target` until it is whole.

    Args:
        translator: of a model whose images are bytes in grey or RGB, as `unitkit.load` gives it.
        path: an image path, such as "ab".
        target: `.mp4`, `.m4v`, `.mov`, `.mkv`, `.webm`, `.gif`, `.webp` or `.apng`.
        style: of models that have styles, as in `Translator.translate`.
        steady: 0..1, how much of the frame before stays where the input has not changed: see `Steady`.
        lossless: frames as they are translated, in a `.mkv` (FFV1), `.mov` (PNG), `.apng` or `.webp`.
        segment: frames of one.
        progress: told of the frames that are done and, where that is known, of how many there are.

    Raises:
        UserError: no video, or one that is damaged from its first frame; an output that cannot be written; a model of
            other images.
    """
    source, target = Path(source), Path(target)
    require_av()
    codec, steadied = codec_for(target, lossless), Steady(steady)
    _check_model(translator, path)
    clip = open_clip(source)
    if target.exists() and target.samefile(source):
        raise UserError(f"the output {target} is the input; choose another place for it")
    refuse_unwritable(target)
    grey = translator.model.channels[path[-1]] == 1
    sound, notes = held_sound(clip, target, codec)
    notes += clip.notes
    if codec.even and (clip.width % 2 or clip.height % 2):
        wide, high = clip.width + clip.width % 2, clip.height + clip.height % 2
        notes.append(
            f"{target.suffix} takes even sides alone: {clip.width}x{clip.height} becomes {wide}x{high}, the last "
            f"column or row repeated"
        )
    status = source.stat()
    job = {
        "source": [str(source.resolve()), status.st_size, status.st_mtime_ns],
        "model": _fingerprint(translator, path, style),
        "settings": [path, steady, segment, repr(codec), suffix_of(target) in ANIMATIONS],
        "clip": repr(clip),
    }
    with Parts(target, job) as parts:
        resumed, last = parts.frames, 1
        if parts.anew:
            notes.append("the segments that were kept are of other frames, another model or other options: begun anew")
        flickers = Flicker(), Flicker()
        if parts.frames:
            _restore(parts.state, flickers, steadied)
            last = int(parts.state["last"])
        total = max(clip.frames, parts.frames) if clip.frames else None
        frames = made_ahead(read_frames(clip, parts.frames, notes), clip.width * clip.height)
        for first in frames:
            packets = []
            encoder = Encoder(codec, clip, grey)
            done = parts.frames
            progress(done, total)
            part = islice(chain([first], frames), segment)
            for frame, before, after in _translations(translator, path, part, style):
                shown = steadied(before, after)
                flickers[0].add(before)
                flickers[1].add(shown)
                packets += encoder.encode(shown, frame.pts)
                last, done = frame.duration, done + 1
                progress(done, total)
            packets += encoder.finish()
            assert len(packets) == done - parts.frames, "a packet for each frame"
            parts.add(packets, _state(flickers, steadied) | {"last": np.array(last)})
        if left_out := _write(target, parts, clip, codec, grey, sound, lossless, last):
            notes.append(
                f"frames whose times {target.name} cannot tell from those before them are left out: {left_out}"
            )
        done = parts.frames
        parts.remove()
    values = flickers[0].value, flickers[1].value
    return Translated(done, values, resumed, (*notes, *translator.inference.notes))


def _translations(
    translator: Translator, path: str, frames: Iterator[Frame], style: Tensor | None
) -> Iterator[tuple[Frame, np.ndarray, np.ndarray]]:
    """Frames, each with what the network is given and what it makes of that (C, H, W)."""
    waiting: deque[tuple[Frame, np.ndarray]] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append((frame, translator.pixels(frame.pixels, path[0])))
            yield waiting[-1][1]

    for after in translator.stream(images(), path, repeat(style)):
        yield *waiting.popleft(), after


def _check_model(translator: Translator, path: str) -> None:
    """Raise `UserError` for a model whose images no video holds."""
    translator.check(path)
    for letter in (path[0], path[-1]):
        if (channels := translator.model.channels[letter]) not in (1, 3):
            raise UserError(
                f"the images of '{translator.labels[letter]}' have {channels} channels, and a video is in grey or RGB: "
                f"translate images"
            )
    if (values := translator.meanings(path, "uint8")[1]).dtype != "uint8":
        raise UserError(f"the translations along {path} are {values.dtype}, and a video is of bytes: translate images")


def _fingerprint(translator: Translator, path: str, style: Tensor | None) -> str:
    """What of a model the translations depend on, in short."""
    digest = hashlib.sha256()
    tensors = translator.model.state_dict() | ({} if style is None else {"style": style})
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    how, values = translator.inference, [str(translator.values[letter]) for letter in (path[0], path[-1])]
    return " ".join([digest.hexdigest(), *values, how.precision, how.device.type])


def _state(flickers: tuple[Flicker, Flicker], steadied: Steady) -> dict[str, np.ndarray]:
    parts = {"input": flickers[0].state(), "output": flickers[1].state(), "steady": steadied.state()}
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def _restore(state: dict[str, np.ndarray], flickers: tuple[Flicker, Flicker], steadied: Steady) -> None:
    for part, kept in (("input", flickers[0]), ("output", flickers[1]), ("steady", steadied)):
        start = f"{part}."
        kept.restore({name.removeprefix(start): value for name, value in state.items() if name.startswith(start)})


def _write(
    target: Path, parts: Parts, clip: Clip, codec: Codec, grey: bool, sound: list[int], lossless: bool, last: int
) -> int:
    """The output, whole or not at all; returns how many frames it cannot hold. `last` is how long the last frame is
    shown, 0 where the file does not say."""
    import av

    if not last:
        *_, before, end = 0, *(packet.pts for packet in parts.packets())
        last = max(1, end - before) if parts.frames > 1 else 1
    try:
        with replacing(target) as place:
            if suffix_of(target) in ANIMATIONS:
                return write_animation(place, decoded(parts.packets(), codec, clip, grey), last, clip, lossless)
            write_video(place, parts.packets(), last, clip, codec, grey, sound)
            return 0
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):
            raise refusal(f"cannot write {target}", error) from error
        raise UserError(f"cannot write {target}: {error}") from error
