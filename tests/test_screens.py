"""What is printed cannot command a terminal, pages hold values as text, and failures of the machine end with 1."""

from __future__ import annotations

import encodings.aliases
import errno
import io
import json
import os
import shutil
import stat
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import unitkit
from PIL import Image

from unitkit.ablation.heatmaps import HeatCell, HeatMap
from unitkit.data.files.decode import decode
from unitkit.runs.folder import RunFolder
from unitkit.runs.page import write_report
from unitkit.runs.page.side_by_side import Strip, drawn
from unitkit.runs.stored import write_tensors
from unitkit.system.errors import OF_THE_MACHINE, MachineError, UserError, of_system, refusal
from unitkit.system.output import literal, printable, say, screen, steady_output
from unitkit.templates import write_page

NASTY = "\x1b[2J\x07\r\x9b31m\u202e\u2066\u2028<script>alert(1)</script>\"'[bold]x[/bold]\udcff\ttwo\nlines"
HARMLESS = "é 日本語 עברית \u0645\u06cc\u200c\u062e\u0648 👩\u200d👩 a\u00a0b"


def test_what_commands_is_shown_and_what_is_legitimate_stays() -> None:
    assert printable(HARMLESS) == HARMLESS
    shown = printable(NASTY)
    assert shown.startswith("\\x1b[2J\\x07\\r\\x9b31m\\u202e\\u2066\\u2028<script>") and shown.endswith(
        "\\udcff\\ttwo\\nlines"
    )
    assert printable("a\tb\nc", lines=True) == "a\tb\nc"
    for number in (*range(32), 127, *range(0x80, 0xA0), 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)):
        assert printable(chr(number)).startswith("\\"), hex(number)


def test_nothing_commands_a_terminal_however_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with steady_output():
        print(NASTY)
        sys.stdout.writelines([NASTY, "\n"])
        sys.stdout.write("\rbar 1/2\rbar")
        console = screen()
        say(console, NASTY)
        console.print(f"[red]{literal(NASTY)}[/red]")
        table = Table(title=literal(NASTY))
        table.add_column(NASTY)
        table.add_row(NASTY)
        console.print(table)
    text = terminal.getvalue()
    assert "\x1b[31m" in text, "our own colours stay"
    for mark in ("\x1b[2J", "\x07", "\x9b", "\u202e", "\u2066", "\u2028", "\udcff", "lines\r"):
        assert mark not in text, repr(mark)
    assert text.count("\r") == 1, "that at the beginning of a bar alone"


@pytest.mark.parametrize("encoding", sorted({*encodings.aliases.aliases.values(), "koi8_r", "iso8859_5", "utf_8_sig"}))
def test_what_an_encoding_cannot_spell_is_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """In every one that Python knows, some of which it calls by another's name in what they raise."""
    try:
        stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="\n")
    except LookupError:
        pytest.skip("no encoding of text, or none of this system")
    monkeypatch.setattr(sys, "stdout", stream)
    with steady_output():
        for text in "x\n", "é\n", "日本\n", "ж\n", "x\n":
            print(text, end="")
    lines = stream.buffer.getvalue().decode(encoding).split("\n")  # type: ignore[attr-defined]
    for text, line in zip(("x", "é", "日本", "ж", "x", ""), lines, strict=True):
        assert line in (text, text.encode("ascii", "backslashreplace").decode()), lines


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, list[dict[str, str | None]]] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.setdefault(tag, []).append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def spoilt(value: Any, word: str) -> Any:
    """JSON, with the word behind every text in it, and behind every key but those that have a meaning."""
    if isinstance(value, dict):
        return {key: spoilt(each, word) for key, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each, word) for each in value]
    return value + word if isinstance(value, str) else value


@pytest.mark.parametrize(
    "word",
    [
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(1)>",
        "javascript:alert(1)",
        NASTY,
        "{{ 7 * 7 }}",
        "&lt;",
    ],
)
def test_every_value_of_a_page_is_text(
    trained: Path, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those too that no run can have, which are refused when they are read."""
    monkeypatch.setattr("unitkit.runs.folder.read_json", lambda path, *_: json.loads(path.read_text()))

    def lines(path: Path, *_: object) -> list[Any]:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    monkeypatch.setattr("unitkit.runs.folder.read_lines", lines)
    folder = tmp_path / "run"
    # Without the sheet of the best and worst images, which is known by names that are spoilt below.
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints", "best-and-worst.png"))
    write_report(RunFolder(folder))
    plain, page = Reader(), Reader()
    plain.feed((folder / "report.html").read_text("utf-8"))
    for name in ("run.json", "metrics.json"):
        (folder / name).write_text(json.dumps(spoilt(json.loads((folder / name).read_text()), word)))
    rows = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    known = ("step", "seconds")
    spoilt_rows = [{key if key in known else key + word: value for key, value in row.items()} for row in rows]
    (folder / "stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in spoilt_rows))
    write_report(RunFolder(folder))
    text = (folder / "report.html").read_text("utf-8")
    page.feed(text)
    assert page.tags.keys() == plain.tags.keys() and len(page.tags["td"]) == len(plain.tags["td"])
    for tags in page.tags.values():
        for attributes in tags:
            assert not any(name.startswith("on") or name == "href" for name in attributes)
            assert not attributes.get("src") and printable(word) not in (attributes.get("style") or "")
    assert page.text.count(printable(word, lines=True)) >= 30, "in the cells"
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_what_the_machine_refuses_ends_with_1(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("unitkit.system.files._sweep", refuse)
    answer = unitkit("new", tmp_path / "mine.py")
    assert answer.status == 1 and answer.err == f"error: cannot write {tmp_path}/mine.py: {os.strerror(number)}\n"


def test_what_the_user_can_mend_ends_with_2(tmp_path: Path) -> None:
    for number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        assert number not in OF_THE_MACHINE and type(refusal("x", OSError(number, "y"))) is UserError
    assert str(of_system(OSError(errno.ENAMETOOLONG, "too long", "x" * 5000))).endswith(
        "... (5000 characters): too long"
    )
    assert type(of_system(MemoryError())) is MachineError


def test_tensors_have_the_rights_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tensors({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize("word", ["</td><script>", "\"'><i x=", NASTY])
def test_every_value_of_an_ablation_s_page_is_text(tmp_path: Path, word: str) -> None:
    image = np.zeros((3, 4, 4), np.uint8)
    write_page(
        tmp_path / "page.html",
        "ablation.html.jinja",
        title=word,
        plots=[{"name": word, "svg": ""}],
        heat_maps=[HeatMap(word, word, word, [word], [(word, [HeatCell(word, word, 0.5)])], (word, word), word)],
        tables=[((word, [word], [[word]]), word)],
        strips=drawn([Strip(word, [(word, [image])])]),
        notes=[word],
        protocol=[(word, word)],
    )
    page = Reader()
    page.feed((tmp_path / "page.html").read_text("utf-8"))
    assert len(page.tags["script"]) == 1 and "i" not in page.tags, "the page's own script alone"
    assert page.tags["img"][0]["alt"] == printable(word, lines=True)
    assert page.text.count(printable(word, lines=True)) == 21 and len(page.tags["td"]) == 6


def test_libtiff_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for compression in ("tiff_lzw", "tiff_adobe_deflate"):
        Image.fromarray(pixels).save(path := tmp_path / f"{compression}.tif", compression=compression)
        damaged = bytearray(path.read_bytes())
        damaged[40:400] = bytes(byte ^ 0x55 for byte in damaged[40:400])
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            decode(path, 3)
    assert capfd.readouterr().err == ""
