"""Videos that are damaged, lie, or are none; and flicker."""

from __future__ import annotations

import io
import resource
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import one_line, unitkit
from films import av, by_hand, differ, differences, film, pictures, watched
from PIL import Image

import unitkit as kit
from unitkit import UserError
from unitkit.commands import progress
from unitkit.translate import Translator
from unitkit.video import clip as clips
from unitkit.video.flicker import CHANGE, Flicker, Steady
from unitkit.video.translating import Translated, translate_video


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return kit.load(trained, device="cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "in.mp4", pictures(), sound="aac")


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
