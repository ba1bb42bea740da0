"""Frames as packets of a codec, one independent segment after another, and the file that is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import merge
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.formats.header import suffix_of
from ..system.errors import UserError, nearest, pass_on_failure
from .clip import ANIMATIONS, Clip
from .reading import opened

BRAND = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # of the file that was read, not of ours


@dataclass(frozen=True)
class Codec:
    """How frames are encoded.

    Attributes:
        name: as libavcodec has it.
        colour: its pixel format of frames in colour.
        grey: likewise of grey ones.
        options: those of libavcodec's encoder. No frame refers to a later one, so that segments can be joined.
        even: whether its sides are even.
    """

    name: str
    colour: str
    grey: str
    options: dict[str, str] = field(default_factory=dict)
    even: bool = False


H264 = Codec("libx264", "yuv420p", "yuv420p", {"crf": "18", "preset": "medium", "bf": "0"}, even=True)
VP9 = Codec(
    "libvpx-vp9",
    "yuv420p",
    "yuv420p",
    {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0", "lag-in-frames": "0"},
    even=True,
)
FFV1 = Codec("ffv1", "bgr0", "gray", {"level": "3"})
PNG = Codec("png", "rgb24", "gray")
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
LOSSLESS = {".mkv": FFV1, ".mov": PNG}
REPEATABLE = {"fflags": "+bitexact"}  # no random numbers and no times of writing in a file
WRITTEN = (*CONTAINERS, *ANIMATIONS)


class Packet(NamedTuple):
    """A frame as it is encoded; when it is shown, in the clip's time base; whether it stands alone."""

    data: bytes
    pts: int
    key: bool


def codec_for(target: Path, lossless: bool) -> Codec:
    """The codec of a video's file, or of the frames that wait for an animation to be written.

    Raises `UserError` for a suffix that is no video's, or not of one without loss.
    """
    suffix = suffix_of(target)
    if suffix in ANIMATIONS:
        if lossless and suffix == ".gif":
            raise UserError(f"cannot write {target} without loss: a GIF has 256 colours; name a .apng, .webp or .mkv")
        return FFV1
    if suffix not in CONTAINERS:
        raise UserError(f"{target} is no video that can be written. {nearest(suffix, WRITTEN)}")
    if lossless and suffix not in LOSSLESS:
        raise UserError(f"cannot write {target} without loss: name a .mkv (FFV1), a .mov (PNG), a .apng or a .webp")
    return LOSSLESS[suffix] if lossless else VP9 if suffix == ".webm" else H264


class Encoder:
    """One segment of a video: frames in, packets out, each frame a packet and the first one standing alone."""

    def __init__(self, codec: Codec, clip: Clip, grey: bool) -> None:
        import av

        self.clip, self.codec, self.grey = clip, codec, grey
        self.context: Any = av.CodecContext.create(codec.name, "w")
        _configure(self.context, codec, clip, grey)
        self.context.flags |= av.codec.context.Flags.global_header

    def encode(self, image: np.ndarray, pts: int) -> list[Packet]:
        """Of a frame (C, H, W) of bytes."""
        return self._packets(_frame(image, self.codec, self.clip, pts))

    def finish(self) -> list[Packet]:
        """What the encoder has kept back."""
        return self._packets(None)

    def _packets(self, frame: Any) -> list[Packet]:
        return [Packet(bytes(each), each.pts, each.is_keyframe) for each in self.context.encode(frame)]


def decoded(packets: Iterable[Packet], codec: Codec, clip: Clip, grey: bool) -> Iterator[tuple[np.ndarray, int]]:
    """The frames (H, W) or (H, W, 3) of packets of a codec without loss, each with its time."""
    import av

    known: Any = Encoder(codec, clip, grey).context
    known.open()
    context: Any = av.CodecContext.create(codec.name, "r")
    context.width, context.height, context.extradata = clip.width, clip.height, known.extradata
    for packet in packets:
        given = av.Packet(packet.data)
        given.pts = given.dts = packet.pts
        for frame in context.decode(given):
            yield frame.to_ndarray(format="gray" if grey else "rgb24"), packet.pts


def held_sound(clip: Clip, target: Path, codec: Codec) -> tuple[list[int], list[str]]:
    """Which of a video's streams of sound the output's container holds as they are, and a note on the others."""
    if clip.loop is not None:
        return [], []
    with opened(clip.path) as source:
        streams = list(source.streams.audio)
        if suffix_of(target) in ANIMATIONS:
            return [], [f"{target.name} holds no sound: that of the input is left out"] if streams else []
        kept = [each.index for each in streams if _holds(each, target, codec, clip)]
        lost = sorted({each.codec_context.name for each in streams if each.index not in kept})
    way_out = "" if suffix_of(target) == ".mkv" else "; a .mkv does" if lost else ""
    return kept, [f"{target.name} does not hold sound in {', '.join(lost)}, which is left out{way_out}"] if lost else []


def _holds(sound: Any, target: Path, codec: Codec, clip: Clip) -> bool:
    """Whether a container takes a stream of sound: by its own word, when its head is written."""
    import av

    try:
        with av.open(BytesIO(), "w", format=CONTAINERS[suffix_of(target)]) as container:
            _video_stream(container, codec, clip, grey=False)
            container.add_stream_from_template(sound)
            container.start_encoding()
    except (av.FFmpegError, ValueError, RuntimeError):
        return False
    return True


def write_video(
    place: Path, packets: Iterable[Packet], last: int, clip: Clip, codec: Codec, grey: bool, sound: list[int]
) -> None:
    """A file of its suffix from the packets of a video, with streams of sound of the clip as they are.

    Args:
        last: how long the last frame is shown.
    """
    import av

    with (
        av.open(str(place), "w", format=CONTAINERS[suffix_of(place)], options=REPEATABLE) as container,
        _sound(clip, sound) as (head, heard),
    ):
        stream = _video_stream(container, codec, clip, grey)
        container.metadata.update({name: text for name, text in head.items() if name not in BRAND})
        outputs = {each.index: container.add_stream_from_template(each) for each in heard}

        def video() -> Iterator[tuple[float, Any]]:
            for packet in packets:
                given: Any = av.Packet(packet.data)
                given.pts = given.dts = packet.pts
                given.time_base, given.stream, given.is_keyframe = clip.time_base, stream, packet.key
                given.duration = last
                yield float(packet.pts * clip.time_base), given

        def audio() -> Iterator[tuple[float, Any]]:
            if not heard:
                return
            try:
                for packet in heard[0].container.demux(heard):
                    if packet.dts is not None:
                        time = float(packet.dts * packet.time_base)
                        packet.stream = outputs[packet.stream.index]
                        yield time, packet
            except av.FFmpegError as error:  # of a truncated file: what there is has been written
                pass_on_failure(f"cannot read the video '{clip.path}'", error)

        for _, packet in merge(video(), audio(), key=lambda each: each[0]):
            container.mux(packet)


@contextmanager
def _sound(clip: Clip, indices: list[int]) -> Iterator[tuple[dict[str, str], list[Any]]]:
    """The metadata and some streams of a video's file."""
    if clip.loop is not None:
        yield {}, []
        return
    with opened(clip.path) as source:
        yield source.metadata, [source.streams[index] for index in indices]


def _video_stream(container: Any, codec: Codec, clip: Clip, grey: bool) -> Any:
    stream = container.add_stream(codec.name)
    _configure(stream.codec_context, codec, clip, grey)
    stream.time_base = clip.time_base
    return stream


def _configure(context: Any, codec: Codec, clip: Clip, grey: bool) -> None:
    context.width, context.height = _sides(codec, clip)
    context.pix_fmt = codec.grey if grey else codec.colour
    context.time_base = clip.time_base
    if clip.rate:
        context.framerate = clip.rate
    context.sample_aspect_ratio = clip.aspect
    context.options = dict(codec.options)
    if context.pix_fmt.startswith("yuv"):
        matrix = 1 if clip.space == "itu709" else 6  # BT.709, or SMPTE 170M, which is BT.601
        context.colorspace = context.color_primaries = context.color_trc = matrix
        context.color_range = 1  # limited, as players expect


def _sides(codec: Codec, clip: Clip) -> tuple[int, int]:
    return (clip.width + clip.width % 2, clip.height + clip.height % 2) if codec.even else (clip.width, clip.height)


def _frame(image: np.ndarray, codec: Codec, clip: Clip, pts: int) -> Any:
    """An image (C, H, W) of bytes as a frame of a codec, its last column and row repeated where sides are even."""
    import av
    from av.video.reformatter import Interpolation

    width, height = _sides(codec, clip)
    image = np.pad(image, ((0, 0), (0, height - image.shape[1]), (0, width - image.shape[2])), mode="edge")
    grey = len(image) == 1
    pixels = np.ascontiguousarray(image[0] if grey else image.transpose(1, 2, 0))
    frame: Any = av.VideoFrame.from_ndarray(pixels, format="gray" if grey else "rgb24")
    wanted = codec.grey if grey else codec.colour
    if wanted.startswith("yuv"):
        smooth = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
        frame = frame.reformat(format=wanted, dst_colorspace=clip.space, dst_color_range=1, interpolation=smooth)
    elif frame.format.name != wanted:
        frame = frame.reformat(format=wanted)
    frame.pts, frame.time_base = pts, clip.time_base
    return frame
