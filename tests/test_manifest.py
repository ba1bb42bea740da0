"""What was translated into a folder: a second call does the rest, and nothing is taken for done that is not."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Moment, one_line, run, unitkit
from PIL import Image

from unitkit import UserError
from unitkit.commands import manifest as module
from unitkit.commands.manifest import Manifest, Origin
from unitkit.models.inference import Inference

NAMES = ("a.png", "b.png", "c.bmp", "deep/d.png", 'odd "\n\udcff.png')
TOLD = {"model": "run", "weights": "ema"}


def save(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    with open(path, "wb") as file:
        Image.fromarray(pixels).save(file, path.suffix[1:])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of pictures, of names that any file may have."""
    for seed, name in enumerate(NAMES):
        save(tmp_path / "in" / name, seed)
    return tmp_path / "in"


def times(folder: Path) -> dict[str, int]:
    """When each output was written."""
    return {name: (folder / name).stat().st_mtime_ns for name in NAMES if (folder / name).exists()}


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def says(answer: Any, done: int, rest: int, out: Path) -> None:
    """A call found so many outputs done, and made the rest."""
    assert answer.status == 0, answer.err
    before = f"{done} of {len(NAMES)} were done before; --again does them anew\n" if done else ""
    made = f"{rest} {'image' if rest == 1 else 'images'} in {out}\n" if rest else ""
    assert answer.out == before + made


def test_a_second_call_has_nothing_to_do(trained: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    says(unitkit("translate", trained, "ab", source, out), 0, 5, out)
    before = times(out)
    says(unitkit("translate", trained, "ab", source, out, "--workers", 0), 5, 0, out)
    assert times(out) == before
    says(unitkit("translate", trained / "checkpoints/step-00000012", "ab", source, out), 5, 0, out)
    says(unitkit("translate", trained, "ab", source, out, "--again"), 0, 5, out)
    assert all(after > before[name] for name, after in times(out).items())
    lines = [json.loads(line) for line in (out / Manifest.NAME).read_text().splitlines()]
    assert [line["line"] for line in lines] == ["call"] + 10 * ["output"]
    assert lines[0]["step"] == 12 and lines[0]["run"] and lines[0]["settings"]["path"] == "ab"


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "a source": lambda source, out: save(source / "a.png", 9),
    "a source of equal size and time": lambda source, out: swap(source / "c.bmp"),
    "an output that is gone": lambda source, out: (out / "a.png").unlink(),
    "an output of another size": lambda source, out: (out / "c.bmp").open("ab").write(b"0"),
    "an output that another has written": lambda source, out: swap(out / "c.bmp", os.utime),
    "an output that is a link": lambda source, out: link(out / "a.png"),
}


def swap(path: Path, late: Callable[..., object] = lambda path: None) -> None:
    """Other pixels, of the same size, with the time of the old ones."""
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-9] + b"otherwise")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    late(path)


def link(path: Path) -> None:
    shutil.copy2(path, path.with_name("else.png"))
    path.unlink()
    path.symlink_to("else.png")


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_done_again(trained: Path, source: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    unitkit("translate", trained, "ab", source, out)
    CHANGES[change](source, out)
    says(unitkit("translate", trained, "ab", source, out), 4, 1, out)
    found = pictures(out)
    unitkit("translate", trained, "ab", source, out, "--again")
    assert found == pictures(out)


def test_another_call_is_another_result(trained: Path, source: Path, tmp_path: Path) -> None:
    """Another model, path or option."""
    out = tmp_path / "out"
    (tmp_path / "parts.py").write_text("")
    (source / "c.bmp").unlink()
    first = ("translate", trained, "ab", source, out)
    others: tuple[tuple[object, ...], ...] = (
        ("translate", trained / "checkpoints/step-00000009", "ab", source, out),
        ("translate", trained, "aba", source, out),
        (*first, "--precision", "bf16"),
        (*first, "--alpha", "keep"),
        (*first, "--parts", tmp_path / "parts.py"),
    )
    for words in others:
        assert unitkit(*first, "--again").status == 0
        answer = unitkit(*words)
        assert answer.status == 0 and "before" not in answer.out, answer
    answer = unitkit(*words)
    assert answer.status == 0 and "4 of 4 were done before" in answer.out, answer
    (tmp_path / "parts.py").write_text("# changed")
    assert "before" not in unitkit(*words).out
    answer = unitkit("translate", trained, "ab", source, out, "--format", "bmp")
    assert "before" not in answer.out and (out / "a.bmp").exists() and (out / "a.png").exists()


def test_what_a_call_replaces_is_said_before(trained: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    earlier = trained / "checkpoints/step-00000009"
    for words in (("ab",), ("ba", "--again")):
        assert "replaced" not in unitkit("translate", trained, words[0], source, tmp_path / words[0]).out
    unitkit("translate", trained, "ba", source, out)
    (out / "a.png").unlink()
    answer = unitkit("translate", trained, "ab", source, out)
    assert answer.out.startswith(f"note: replaced in {out}: 4 made with path ba; another folder keeps them\n"), answer
    answer = unitkit("translate", earlier, "ab", source, out, "--precision", "bf16")
    assert f"note: replaced in {out}: 5 made with precision fp32, another model; another folder" in answer.out


def test_a_large_record_takes_little_memory(tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    save(picture, 0)
    record = Manifest(tmp_path, {}, TOLD)
    record.add(picture, Origin.of(picture, None), picture.stat())
    call, line = record.path.read_text().splitlines(keepends=True)
    with record.path.open("w") as file:
        file.write(call)
        file.writelines(line.replace('"x.png"', f'"{number}-x.png"') for number in range(10_000))
    tracemalloc.start()
    found = Manifest(tmp_path, {}, TOLD)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.outputs) == 10_000 and peak < 6e6, (kept, peak)  # the lines as dictionaries are 16 MB


def test_a_folder_of_other_pictures_of_the_same_names(trained: Path, source: Path, tmp_path: Path) -> None:
    """Though size and times are the same, as where an archive was unpacked."""
    shutil.copytree(source, tmp_path / "other", copy_function=os.link)
    unitkit("translate", trained, "ab", source, tmp_path / "out")
    says(unitkit("translate", trained, "ab", tmp_path / "other", tmp_path / "out"), 0, 5, tmp_path / "out")


def test_a_picture_alone_has_no_record(trained: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unitkit("translate", trained, "ab", source, out)
    known = (out / Manifest.NAME).read_bytes()
    assert unitkit("translate", trained, "ba", source / "a.png", out, "--workers", 0).status == 0
    assert (out / Manifest.NAME).read_bytes() == known
    says(unitkit("translate", trained, "ab", source, out), 4, 1, out)  # what lies there is not of this call


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_killed_call_is_gone_on_with(trained: Path, source: Path, tmp_path: Path, workers: int) -> None:
    """Killed between an output and its line, and where an earlier call has left an output of another model."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    unitkit("translate", trained, "ab", source, whole)
    unitkit("translate", trained, "aba", source, out)
    words = ("translate", trained, "ab", source, out, "--workers", workers)
    moments = [Moment("unitkit.commands.manifest:_append", 3)]
    assert run(tmp_path / "log", *words, moments=moments).status == -9
    answer = unitkit(*words)
    others = f"note: replaced in {out}: 3 made with path aba; another folder keeps them\n"
    assert others in answer.out
    says(replace(answer, out=answer.out.replace(others, "")), 2, 3, out)
    assert pictures(out) == pictures(whole)


def test_a_line_that_was_cut(trained: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unitkit("translate", trained, "ab", source, out)
    path = out / Manifest.NAME
    path.write_bytes(path.read_bytes()[:-30])
    says(unitkit("translate", trained, "ab", source, out), 4, 1, out)
    says(unitkit("translate", trained, "ab", source, out), 5, 0, out)
    path.write_bytes(path.read_bytes()[:40])  # all of it within its first line
    says(unitkit("translate", trained, "ab", source, out), 0, 5, out)
    says(unitkit("translate", trained, "ab", source, out), 5, 0, out)


def test_a_damaged_record_and_one_of_somebody_else(trained: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unitkit("translate", trained, "ab", source, out)
    path, before = out / Manifest.NAME, times(out)
    lines = path.read_bytes().splitlines(keepends=True)
    for line in (
        lines[2][:30] + b"\n",
        lines[2].replace(b'"output": "', b'"output": "../'),
        lines[2].replace(b'"style": null', b'"style": -1'),
        lines[0].replace(b'"format": 1', b'"format": 2'),
        b"[]\n",
    ):
        path.write_bytes(b"".join([*lines[:2], line, *lines[3:]]))
        one_line(unitkit("translate", trained, "ab", source, out), Manifest.NAME, "line 3: ", "move the file away")
    for text in b"my notes", b"my\nnotes\n", b'{"mine": 1}', b'{"mine": 1}\n':
        path.write_bytes(text)
        one_line(unitkit("translate", trained, "ab", source, out), Manifest.NAME, "move the file away")
        assert path.read_bytes() == text
    path.unlink()
    path.mkdir()
    one_line(unitkit("translate", trained, "ab", source, out), Manifest.NAME, "no ordinary file")
    assert times(out) == before


def test_a_folder_that_cannot_be_written(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told before the network works; where all is done, there is nothing to write."""
    out, opened = tmp_path / "out", os.open

    def read_only(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT and Path(path).is_relative_to(out):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *rest, **more)

    unitkit("translate", trained, "ab", source, out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        says(unitkit("translate", trained, "ab", source, out), 5, 0, out)
        patch.setattr(Inference, "translate", lambda *_: pytest.fail("the network worked"))
        one_line(unitkit("translate", trained, "ba", source, out), Manifest.NAME, "Read-only", status=1)


def test_a_disk_without_room_for_a_line(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "out", os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, text: write(handle, text[: len(text) - 9]))
        answer = unitkit("translate", trained, "ab", source, out, "--workers", 0)
    one_line(answer, Manifest.NAME, "No space left", status=1)
    says(unitkit("translate", trained, "ab", source, out), 0, 5, out)
    says(unitkit("translate", trained, "ab", source, out), 5, 0, out)


def test_two_calls_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each adds to the file of which the other drops lines: nothing of either is lost."""
    monkeypatch.setattr(module, "IDLE", 5)
    picture = tmp_path / "x.png"
    save(picture, 0)
    origin, status = Origin.of(picture, None), picture.stat()
    folder = tmp_path / "out"
    for path in "ab", "ba":
        for _ in range(3):
            each = Manifest(folder, {"path": path}, TOLD)
            for number in range(4):
                each.add(folder / f"old-{number}", origin, status)

    def work(number: int) -> None:
        for name in range(20):
            Manifest(folder, {"path": "ab"}, TOLD).add(folder / f"{number}-{name}", origin, status)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Manifest(folder, {"path": "ab"}, TOLD)
    assert len(found.outputs) == 84 and len((folder / Manifest.NAME).read_bytes().splitlines()) < 100


def test_a_line_waits_while_another_call_writes_the_file(tmp_path: Path) -> None:
    save(tmp_path / "x.png", 0)
    found, origin = Manifest(tmp_path, {}, TOLD), Origin.of(tmp_path / "x.png", None)
    thread = threading.Thread(target=found.add, args=(tmp_path / "y.png", origin, os.stat(tmp_path)))
    with module._alone(found.path):
        thread.start()
        thread.join(0.1)
        assert thread.is_alive() and not found.path.read_bytes()
    thread.join()
    assert len(found.path.read_bytes().splitlines()) == 2


def test_outputs_of_a_style(tmp_path: Path) -> None:
    """Is that of the seed or of the image, whatever number of samples a call has."""
    picture, output = tmp_path / "x.png", tmp_path / "out/x-1.png"
    save(picture, 0)
    save(output, 0)
    for style in (None, 0, 1, "0" * 64):
        Manifest(output.parent, {}, TOLD).add(output, Origin.of(picture, style), output.stat())
        found = Manifest(output.parent, {}, TOLD)
        assert [found.has(output, Origin.of(picture, each)) for each in (None, 0, 1, "0" * 64)].count(True) == 1
        assert found.has(output, Origin.of(picture, style))
        assert not found.has(output, Origin.of(tmp_path / "gone.png", style))


def test_images_of_equal_size_go_through_together(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they are in the folder, and a second call decodes nothing."""
    for number in range(12):
        save(tmp_path / f"in/{number:02}.png", number, ((16, 16), (12, 20), (8, 8))[number % 3])
    seen, translate = list[tuple[int, ...]](), Inference.translate
    look = lambda self, x, *rest: seen.append(x.shape) or translate(self, x, *rest)  # noqa: E731
    monkeypatch.setattr(Inference, "translate", look)
    unitkit("translate", trained, "ab", tmp_path / "in", tmp_path / "out")
    assert seen == [(4, 3, 8, 8), (4, 3, 12, 20), (4, 3, 16, 16)]
    monkeypatch.setattr("unitkit.commands.translate.probe", lambda *_: pytest.fail("a header was read"))
    assert "12 of 12" in unitkit("translate", trained, "ab", tmp_path / "in", tmp_path / "out").out


def test_a_record_that_goes_while_it_is_written(tmp_path: Path) -> None:
    """Begins again with how the outputs are made."""
    found = Manifest(tmp_path, {}, TOLD)
    for name in "ab":
        save(tmp_path / f"{name}.png", 0)
        found.add(tmp_path / name, Origin.of(tmp_path / f"{name}.png", None), os.stat(tmp_path))
        lines = [json.loads(line)["line"] for line in found.path.read_text().splitlines()]
        assert lines == ["call", "output"]
        found.path.unlink()


def test_a_record_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file/out"
    with pytest.raises(UserError, match="cannot write"):
        Manifest(out, {}, TOLD).add(out / "x", Origin("x", (0, 0, 0), None), os.stat("/"))
