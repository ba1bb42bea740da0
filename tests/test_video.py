"""Videos translated: frames, times, sound and orientation kept, stops gone on from, and files that lie."""

from __future__ import annotations

import io
import resource
import shutil
import signal
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Moment, one_line, run, unitkit
from PIL import Image
from test_translate import untrained

import unitkit as kit
from unitkit import UserError
from unitkit.commands import progress
from unitkit.data.files.pipeline import made_ahead
from unitkit.data.values import Values
from unitkit.translate import Translator
from unitkit.video import clip as clips
from unitkit.video import encoding
from unitkit.video.encoding import Packet
from unitkit.video.flicker import CHANGE, Flicker, Steady
from unitkit.video.parts import Parts
from unitkit.video.reading import open_clip, read_frames
from unitkit.video.translating import Translated, translate_video

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


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return kit.load(trained, device="cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "in.mp4", pictures(), sound="aac")


# What is kept


def test_times_and_sound_are_those_of_the_input(
    translator: Translator, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = replace(encoding.H264, options={**encoding.H264.options, "crf": "0"})
    monkeypatch.setattr(encoding, "H264", fine)
    done = kit.translate_video(translator, "ab", source, tmp_path / "out.mp4", segment=5)
    assert done.frames == 12 and done.notes == () and done.resumed == 0
    frames, times, _ = watched(source)
    ours, our_times, notes = watched(tmp_path / "out.mp4")
    assert our_times == times and len(set(np.diff([float(each) for each in times]).round(4))) > 3 and not notes
    assert heard(tmp_path / "out.mp4") == heard(source) and len(heard(source)) > 5
    expected = [halved(each) for each in by_hand(translator, frames)]
    assert max(np.abs(luma(a) - luma(b)).mean() for a, b in zip(ours, expected, strict=True)) < 1
    with av.open(str(tmp_path / "out.mp4")) as container:
        video = container.streams.video[0].codec_context
        assert (video.name, video.pix_fmt, video.color_range, video.colorspace) == ("h264", "yuv420p", 1, 6)
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".apng", ".webp"])
def test_without_loss_frames_are_their_translations(
    translator: Translator, source: Path, tmp_path: Path, suffix: str
) -> None:
    done = translate_video(translator, "ab", source, tmp_path / f"out{suffix}", lossless=True, segment=5)
    frames, times, _ = watched(source)
    ours, our_times, _ = watched(tmp_path / f"out{suffix}")
    assert differ(ours, by_hand(translator, frames)) <= 1
    moved = {float(ours - theirs) for ours, theirs in zip(our_times[:-1], times, strict=False)}
    assert (
        max(moved) - min(moved) < 2.1e-3
    )  # containers of milliseconds; AAC begins before 0, which Matroska moves to it
    silent = [note for note in done.notes if "holds no sound" in note]
    assert bool(silent) == (suffix in (".apng", ".webp"))
    assert done.flicker == (pytest.approx(differences(frames)), pytest.approx(differences(ours), abs=0.1))


def differences(frames: Sequence[np.ndarray]) -> float:
    """The formula of docs/metrics.md."""
    values = np.stack(frames).astype(float)
    return float(np.abs(values[1:] - values[:-1]).mean())


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_turned_video_comes_out_upright(translator: Translator, tmp_path: Path, rotation: int) -> None:
    film(tmp_path / "in.mov", pictures(3), "png", rotation=rotation)
    translate_video(translator, "ab", tmp_path / "in.mov", tmp_path / "out.mov", lossless=True)
    upright = [np.rot90(frame, rotation // 90) for frame in pictures(3)]
    assert differ(watched(tmp_path / "in.mov")[0], upright) == 0
    assert differ(watched(tmp_path / "out.mov")[0], by_hand(translator, upright)) <= 1
    with av.open(str(tmp_path / "out.mov")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_odd_sides_are_made_even_where_they_must_be(translator: Translator, tmp_path: Path) -> None:
    film(tmp_path / "in.mkv", pictures(2, 15, 21), "ffv1")
    done = translate_video(translator, "ab", tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert "21x15 becomes 22x16" in done.notes[0]
    assert watched(tmp_path / "out.mp4")[0][0].shape == (16, 22, 3)
    assert not translate_video(translator, "ab", tmp_path / "in.mkv", tmp_path / "out.mkv", lossless=True).notes
    assert watched(tmp_path / "out.mkv")[0][0].shape == (15, 21, 3)


def test_colours_of_each_matrix_and_range(tmp_path: Path) -> None:
    colour = np.array([200, 40, 90], np.uint8)
    for number, (matrix, code, wide, space) in enumerate([("itu709", 1, 1, "itu709"), ("itu601", 5, 2, "itu601")]):
        path = tmp_path / f"{number}.mkv"
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream("ffv1", rate=5)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
            stream.codec_context.colorspace, stream.codec_context.color_range = code, wide
            frame = av.VideoFrame.from_ndarray(np.broadcast_to(colour, (16, 16, 3)).copy(), "rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=wide)))
            out.mux(stream.encode(None))
        assert open_clip(path).space == space
        assert np.abs(watched(path)[0][0].astype(int) - colour).max() <= 2


def test_sound_that_the_container_does_not_hold_is_named(translator: Translator, source: Path, tmp_path: Path) -> None:
    done = translate_video(translator, "ab", source, tmp_path / "out.webm")
    assert done.notes == ("out.webm does not hold sound in aac, which is left out; a .mkv does",)
    assert open_clip(tmp_path / "out.webm").width == 24


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng", ".png"])
@pytest.mark.parametrize("loop", [0, 3])
def test_animations_keep_durations_and_loops(translator: Translator, tmp_path: Path, suffix: str, loop: int) -> None:
    source, frames = tmp_path / f"in{suffix}", [Image.fromarray(each) for each in pictures(4)]
    kind = {".gif": "GIF", ".webp": "WEBP"}.get(suffix, "PNG")
    frames[0].save(source, kind, save_all=True, append_images=frames[1:], duration=[40, 70, 100, 250], loop=loop)
    for out in (".gif", ".webp", ".apng"):
        target = tmp_path / f"out{out}"
        translate_video(translator, "ab", source, target)
        with Image.open(target) as image:
            found = []
            for number in range(image.n_frames):
                image.seek(number)
                image.load()
                found.append(round(image.info["duration"]))
            plays = open_clip(target).loop
        assert (found if out != ".webp" else found[:3]) == [40, 70, 100, 250][: 4 if out != ".webp" else 3], out
        assert plays == open_clip(source).loop == (loop + 1 if suffix == ".gif" and loop else loop), out
    assert [float(each) for each in watched(source)[1]] == [0, 0.04, 0.11, 0.21, 0.46]


@pytest.mark.parametrize(("suffix", "tick"), [(".gif", Fraction(1, 100)), (".webp", Fraction(1, 1000))])
def test_frames_that_an_animation_cannot_tell_apart_are_left_out_and_counted(
    translator: Translator, tmp_path: Path, suffix: str, tick: Fraction
) -> None:
    source = film(tmp_path / "fast.mkv", pictures(6), "ffv1", [0, 1, 2, 30, 31, 90])
    with av.open(str(source)) as container:  # Matroska has milliseconds
        times = [round(frame.pts * frame.time_base / tick) for frame in container.decode(video=0)]
    done = translate_video(translator, "ab", source, tmp_path / f"out{suffix}")
    _, shown, _ = watched(tmp_path / f"out{suffix}")
    assert [time / tick for time in shown[:-1]] == sorted(set(times))
    lost = 6 - len(set(times))
    assert done.frames == 6 and bool(lost) == (suffix == ".gif")
    assert [note.rpartition(": ")[2] for note in done.notes] == ([str(lost)] if lost else [])


def test_grey_models_take_the_luma_and_write_grey(source: Path, tmp_path: Path) -> None:
    grey = untrained({"a": 1, "b": 1})
    for name in ("out.mp4", "out.mkv", "out.gif", "out.webp"):
        translate_video(grey, "ab", source, tmp_path / name, lossless=name == "out.mkv")
        for frame in watched(tmp_path / name)[0]:
            assert np.ptp(frame.astype(int), axis=2).max() <= 1
    expected = [np.repeat(each[..., None], 3, 2) for each in by_hand(grey, watched(source)[0])]
    assert differ(watched(tmp_path / "out.mkv")[0], expected) <= 1


def test_models_of_other_images_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="have 5 channels, and a video is in grey or RGB"):
        translate_video(untrained({"a": 3, "b": 5}), "ab", source, tmp_path / "out.mp4")
    floats = untrained({"a": 3, "b": 3})
    floats.values["b"] = Values("float32", (-1000.0,), (400.0,))
    with pytest.raises(UserError, match="are float32, and a video is of bytes"):
        translate_video(floats, "ab", source, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


# Stops


def test_a_killed_translation_goes_on_to_the_same_frames(trained: Path, tmp_path: Path) -> None:
    film(tmp_path / "in.mkv", pictures(150), "ffv1", range(0, 150 * 24, 24))
    words = ("translate", trained, "ab", tmp_path / "in.mkv")
    options = ("--steady", "0.7", "--lossless")
    untouched = unitkit(*words, tmp_path / "whole.mkv", *options)
    assert untouched.status == 0 and "150 frames in" in untouched.out, untouched
    out = tmp_path / "out.mkv"
    for at, number in (2, signal.SIGKILL), (2, signal.SIGINT):
        moment = Moment("unitkit.video.parts:Parts.add", at, (number,))
        ended = run(tmp_path / "log", *words, out, *options, moments=[moment])
        assert ended.status == (-9 if number == signal.SIGKILL else 130), ended
        assert not out.exists() and (tmp_path / "out.mkv.parts").is_dir()
    assert "the same command goes on from there" in ended.err
    last = unitkit(*words, out, *options)
    assert last.status == 0 and "128 of the frames were there from an earlier call" in last.out, last
    assert out.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert last.out.splitlines()[-2] == untouched.out.splitlines()[-2]  # the flicker
    assert not list(tmp_path.glob("*.parts")) and not list(tmp_path.glob(".writing*"))


def test_a_stop_before_the_first_segment_promises_nothing(trained: Path, source: Path, tmp_path: Path) -> None:
    moment = Moment("unitkit.video.parts:Parts.add", 1, (signal.SIGINT,))
    ended = run(tmp_path / "log", "translate", trained, "ab", source, tmp_path / "out.mkv", moments=[moment])
    assert ended.status == 130 and "kept" not in ended.err, ended
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_other_options_begin_anew(
    translator: Translator, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int | None) -> None:
        if done == 9:
            raise KeyboardInterrupt

    for steady, resumed in (0.0, 8), (0.5, 0):
        with pytest.raises(KeyboardInterrupt):
            translate_video(translator, "ab", source, tmp_path / "out.mp4", segment=4, progress=stop)
        done = translate_video(translator, "ab", source, tmp_path / "out.mp4", segment=4, steady=steady)
        assert done.resumed == resumed and any("begun anew" in note for note in done.notes) == (not resumed)


def test_segments_that_are_damaged_are_made_again(tmp_path: Path) -> None:
    state = {"last": np.array(4)}
    with Parts(tmp_path / "out.mp4", {"job": 1}) as parts:
        for number in range(3):
            parts.add([Packet(b"some bytes", number, True)], state)
        with pytest.raises(UserError, match="another process is translating to"):
            Parts(tmp_path / "out.mp4", {"job": 1})
    (tmp_path / "out.mp4.parts" / "000001.packets").write_bytes(b"fewer")
    with Parts(tmp_path / "out.mp4", {"job": 1}) as parts:
        assert parts.frames == 1 and list(parts.packets()) == [Packet(b"some bytes", 0, True)]
        assert not (tmp_path / "out.mp4.parts" / "000002.npz").exists() and not parts.anew
    with Parts(tmp_path / "out.mp4", {"job": 2}) as parts:
        assert parts.frames == 0 and parts.anew
    assert not (tmp_path / "out.mp4.parts").exists()


def test_a_folder_of_that_name_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.mp4.parts").mkdir()
    (tmp_path / "out.mp4.parts" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'mine\.txt': move that away"):
        Parts(tmp_path / "out.mp4", {})
    assert (tmp_path / "out.mp4.parts" / "mine.txt").read_text() == "mine"


def test_frames_are_made_ahead_in_their_order() -> None:
    def numbers() -> Iterable[int]:
        yield from range(7)
        raise UserError("the eighth")

    found: list[int] = []
    with pytest.raises(UserError, match="the eighth"):
        found.extend(made_ahead(iter(numbers()), 2**21))
    assert found == [*range(7)] and list(made_ahead(iter([]), 1)) == []


# Files that are damaged, or lie


def test_what_is_there_of_a_truncated_video_is_translated(translator: Translator, source: Path, tmp_path: Path) -> None:
    film(tmp_path / "in.mkv", pictures(), "ffv1")
    whole = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "short.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    done = translate_video(translator, "ab", tmp_path / "short.mkv", tmp_path / "out.mkv", lossless=True)
    assert 2 <= done.frames < 12
    assert differ(watched(tmp_path / "out.mkv")[0], by_hand(translator, pictures(done.frames))) <= 1
    film(tmp_path / "in.mov", pictures(), "png")
    data = bytearray((tmp_path / "in.mov").read_bytes())
    place = data.find(b"IDAT", data.find(b"IDAT") + 1)
    data[place + 4 : place + 40] = bytes(36)
    (tmp_path / "bad.mov").write_bytes(data)
    done = translate_video(translator, "ab", tmp_path / "bad.mov", tmp_path / "out.mov", lossless=True)
    assert done.frames == 11 and "announces 12 frames, and 11 can be read" in done.notes[-1]


def test_files_that_lie_are_one_line(trained: Path, source: Path, tmp_path: Path) -> None:
    gif, buffer = io.BytesIO(), io.BytesIO()
    Image.new("L", (4, 4)).save(gif, "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 9)])
    Image.fromarray(pictures()[0]).save(buffer, "PNG")
    with av.open(str(tmp_path / "none.mkv"), "w") as empty:
        empty.add_stream("ffv1", rate=5).pix_fmt = "bgr0"
        empty.start_encoding()
    with av.open(str(tmp_path / "sound.mkv"), "w") as sound:
        heard = sound.add_stream("pcm_s16le", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 99), np.int16), format="s16", layout="mono")
        frame.rate = 16000
        sound.mux(heard.encode(frame))
    film(tmp_path / "large.avi", pictures(2), "ffv1")
    large = bytearray((tmp_path / "large.avi").read_bytes())
    place = large.find(b"strf") + 12
    assert large[place : place + 8] == struct.pack("<ii", 24, 16)
    large[place : place + 8] = struct.pack("<ii", 60_000, 60_000)
    wide = bytearray(gif.getvalue())
    wide[6:10] = b"\xff\xff\xff\xff"
    files = {
        "text.mp4": (b"no video " * 100, "is not a video that can be read"),
        "empty.mp4": (b"", "is empty (0 bytes)"),
        "still.mp4": (buffer.getvalue(), "is not a video that can be read"),
        "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "is not a video that can be read"),
        "short.mp4": (source.read_bytes()[: source.stat().st_size // 2], "is not a video that can be read"),
        "large.avi": (large, "tells no size of its frames that can be"),
        "wide.gif": (wide, "announces frames of more pixels"),
        "lying.gif": (source.read_bytes(), "is not an animated GIF that can be read"),
        "none.mkv": (None, "'"),
        "sound.mkv": (None, "holds no video: there is audio in it"),
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (data, says) in files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        one_line(unitkit("translate", trained, "ab", tmp_path / name, tmp_path / "out.mp4"), name, says)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**17, "KiB more"
    assert not (tmp_path / "out.mp4").exists() and not list(tmp_path.glob("*.parts"))


def test_stills_and_videos_are_told_apart(trained: Path, source: Path, tmp_path: Path) -> None:
    def refused(before: Path, after: str, *words: str, options: Sequence[object] = ()) -> None:
        one_line(unitkit("translate", trained, "ab", before, tmp_path / after, *options), *words)

    still, folder = tmp_path / "still.png", tmp_path / "folder"
    Image.fromarray(pictures()[0]).save(still)
    folder.mkdir()
    shutil.copy(source, folder / "clip.mp4")
    shutil.copy(still, folder / "still.png")
    refused(source, "out.png", "is a video, and", "name one of .mp4")
    refused(still, "out.mp4", "is no video, and", "has no image suffix")
    refused(folder, "out.mp4", "is a folder, and", "name a folder for its images")
    refused(still, "out.png", "--steady and --lossless are of videos", options=("--steady", "0.5"))
    refused(source, "out.mp4", "name a .mkv (FFV1)", options=("--lossless",))
    refused(source, "out.gif", "a GIF has 256 colours", options=("--lossless",))
    refused(source, "out.mp4", "--alpha, --format, --workers and --again are of images", options=("--alpha", "keep"))
    refused(tmp_path / "gone.mp4", "out.mp4", "there is no file or folder")
    one_line(unitkit("translate", trained, "ab", source, source), "is the input; choose another place")
    answer = unitkit("translate", trained, "ab", source, tmp_path / "out.mp4", "--steady", "1.5")
    assert answer.status == 2 and "is no number from 0 to 1" in answer.err
    answer = unitkit("translate", trained, "ab", folder, tmp_path / "images")
    assert answer.status == 0 and "passed over in" in answer.out and "1 .mp4" in answer.out, answer
    assert unitkit("translate", trained, "ab", source, tmp_path / "images").status == 0
    assert (tmp_path / "images" / "in.mp4").is_file()


def test_animations_in_a_folder_are_told_of(trained: Path, tmp_path: Path) -> None:
    first, *others = map(Image.fromarray, pictures(3))
    (tmp_path / "in").mkdir()
    first.save(tmp_path / "in" / "moving.webp", save_all=True, append_images=others)
    first.save(tmp_path / "in" / "still.webp")
    first.save(tmp_path / "in" / "still.png")
    done = unitkit("translate", trained, "ab", tmp_path / "in", tmp_path / "out")
    said = " ".join(done.out.split())
    assert done.status == 0 and "the first image alone is translated: 1, such as" in said, done
    assert "moving.webp;" in said.replace(" ", ""), done


def test_a_missing_package_is_one_line(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "find_spec", lambda name: None)
    one_line(unitkit("translate", trained, "ab", source, tmp_path / "out.mp4"), "pip install 'unitkit[video]'")


def test_progress_off_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "OFTEN", 0)
    monkeypatch.setattr(progress, "RARER", 0)
    with progress.frames_done() as told:
        told(64, 300)
        told(150, 300)
    assert "frame 150 of 300, " in capsys.readouterr().err


# Flicker


def test_flicker_is_its_formula() -> None:
    frames = [np.random.default_rng(n).integers(0, 256, (3, 5, 7), np.uint8) for n in range(4)]
    first, last = Flicker(), Flicker()
    for frame in frames[:2]:
        first.add(frame)
    last.restore(first.state())
    for frame in frames[2:]:
        last.add(frame)
    assert last.value == pytest.approx(differences(frames)) and Flicker().value == 0


def test_steady_zero_changes_nothing(translator: Translator, source: Path, tmp_path: Path) -> None:
    found: list[Translated] = []
    for name, options in ("one.mkv", {}), ("two.mkv", {"steady": 0.0}), ("three.mkv", {"steady": 0.5}):
        found.append(translate_video(translator, "ab", source, tmp_path / name, lossless=True, **options))
    one, two, three = ((tmp_path / name).read_bytes() for name in ("one.mkv", "two.mkv", "three.mkv"))
    assert one == two != three and found[0] == found[1]
    with pytest.raises(UserError, match="--steady is a number from 0"):
        Steady(float("nan"))


def test_steady_blends_what_stands_still_and_lets_go_of_what_moves() -> None:
    steady, random = Steady(0.8), np.random.default_rng(0)
    measured, plain = Flicker(), Flicker()
    for number in range(30):
        noise = random.normal(0, 3, (1, 32, 32))
        before = np.full((1, 32, 32), 100.0)
        before[..., 16:] += 80 * (number >= 20)  # the right half changes at once
        before, after = ((each + noise).astype(np.uint8) for each in (before, 255 - before))
        shown = steady(before, after)
        assert np.abs(shown.astype(int) - after)[..., 20:].mean() < (6 if number != 20 else 0.6)
        if number < 20:
            plain.add(after)
            measured.add(shown)
    assert measured.value < plain.value / 2


def test_steady_follows_a_slow_change() -> None:
    """Of a fade of one level a frame, which a comparison with the frame before takes for none, it lags behind by fewer
    than so many frames as a plain average would."""
    steady = Steady(0.95)
    for level in range(100):
        frame = np.full((1, 8, 8), level, np.uint8)
        shown = steady(frame, frame)
    assert 99 - int(shown.max()) < min(CHANGE * 2, 0.95 / 0.05)
