"""Files that are replaced: names that are nobody else's, links, rights, and what killed processes left."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
from PIL import Image

from unitkit import UserError
from unitkit.data.files.encode import write_image
from unitkit.data.files.scale import to_array
from unitkit.system.files import TEMPORARY, _sweep, refuse_unwritable, replacing, temporary, temporary_name


def write(path: Path, text: str = "new") -> None:
    with replacing(path) as place:
        assert place.parent == path.parent and place.name != path.name
        place.write_text(text)


def test_nothing_is_left_beside_what_is_written(tmp_path: Path) -> None:
    write(tmp_path / "deep/x.json")
    with pytest.raises(RuntimeError), replacing(tmp_path / "deep/x.json") as place:
        place.write_text("half")
        raise RuntimeError
    assert (tmp_path / "deep/x.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", [".writing-x.png", "x.png", ".writing-000000000000.png"])
def test_a_link_that_waits_at_a_temporary_name_is_not_written_through(tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("../theirs")
    write_image([to_array(Image.new("RGB", (4, 4)))], tmp_path / "out/x.png")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert Image.open(tmp_path / "out/x.png").size == (4, 4) and not (tmp_path / "out/x.png").is_symlink()
    assert (tmp_path / "out" / name).is_symlink() == (name != "x.png")


def test_a_name_that_is_taken_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").write_text("theirs")
    names = ["a" * 12, "b" * 12]
    (tmp_path / f".writing-{names[0]}.txt").symlink_to("theirs")
    monkeypatch.setattr("unitkit.system.files.secrets.token_hex", lambda n: names.pop(0))
    write(tmp_path / "x.txt")
    assert (tmp_path / "theirs").read_text() == "theirs" and (tmp_path / "x.txt").read_text() == "new"


@pytest.mark.parametrize("length", [12, 246, 247, 251, 255])
@pytest.mark.parametrize("suffix", [".png", ".JPG", ".webp"])
def test_names_of_any_length_are_written(tmp_path: Path, length: int, suffix: str) -> None:
    path = tmp_path / ("é" + "n" * (length - len(suffix) - 2) + suffix)
    write_image([to_array(Image.new("RGB", (4, 4)))], path)
    assert Image.open(path).size == (4, 4) and len(os.fsencode(path.name)) == length
    write(tmp_path / ("n." + "s" * 253))  # all suffix
    with pytest.raises(UserError, match=r"cannot write .*File name too long"):
        write(tmp_path / ("n" * 256))


def test_rights_are_those_of_a_new_file_or_of_the_one_before(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    (tmp_path / "x").chmod(0o604)
    write(tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o604


def test_what_is_no_file_is_refused_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "file").write_text("x")
    for name in ("pipe", "folder", "null", "file/x", "file/deep/x", "n" * 256):
        for refuses in (write, refuse_unwritable):
            with pytest.raises(UserError, match="cannot write"):
                refuses(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "null").is_symlink()


def test_looking_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "deep/er/x.json")
    (tmp_path / "x").write_text("old")
    refuse_unwritable(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with temporary(tmp_path, ".png"), temporary(tmp_path, folder=True) as folder:
            (folder / "half").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 2
    theirs = [".writing", ".writing-novel", ".writing-chapter-1.txt", ".writing-0123456789ab.tar.gz", temporary_name()]
    for name in theirs[:-1]:
        (tmp_path / name).mkdir()
    (tmp_path / theirs[-1]).symlink_to(".writing")  # our kind of name, but a link
    with temporary(tmp_path.parent) as place, temporary(tmp_path, ".png") as used:
        _sweep.cache_clear()
        write(tmp_path / "x")
        assert used.exists() and place.exists() and TEMPORARY.fullmatch(used.name)  # in use
    assert {path.name for path in tmp_path.iterdir()} == {"x", *theirs}
