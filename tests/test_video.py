"""Videos translated: frames, times, sound and orientation kept, and stops gone on from."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Moment, run, unitkit
from films import av, by_hand, differ, differences, film, halved, heard, luma, pictures, watched
from PIL import Image
from test_translate import untrained

import unitkit as kit
from unitkit import UserError
from unitkit.data.files.pipeline import made_ahead
from unitkit.data.values import Values
from unitkit.translate import Translator
from unitkit.video import encoding
from unitkit.video.encoding import Packet
from unitkit.video.parts import Parts
from unitkit.video.reading import open_clip
from unitkit.video.translating import translate_video


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
