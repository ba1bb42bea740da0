"""Printing that never ends the work, and that no name of a file or label can take over.

A pipe may have no reader left, a log no room, a terminal may be closed, and names may hold what commands a terminal.
Whatever a command prints goes through here: what rich lays out through `screen`, all else through `steady_output`.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from .errors import TrainingError, UserError, of_system

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

COMMANDING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's categories of controls, marks of direction, breaks, halves
JOINERS = "\u200c\u200d"  # of these, what some scripts and emoji are written with
WIDEST = 10_000  # columns or lines


def printable(text: str, *, lines: bool = False) -> str:
    """Text as it may stand on a terminal, a log or a page: what commands rather than shows is written as its escape,
    "\\x1b", and so are line breaks and tabs without `lines`."""
    if text.isprintable():
        return text
    kept = JOINERS + "\n\t" * lines

    def shown(letter: str) -> str:
        harmless = letter in kept or unicodedata.category(letter) not in COMMANDING
        return letter if harmless else letter.encode("unicode_escape").decode()

    return "".join(map(shown, text))


@cache
def _screen_type() -> type[Console]:
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        """A console that shows what commands a terminal in what it is given, and sends such commands itself."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else printable(text, lines=True), style, control)

    return Screen


def screen(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = True) -> Console:
    """Where a command prints what it has to say."""
    stream = raw(sys.stderr if stderr else sys.stdout)
    return _screen_type()(file=stream, quiet=quiet, highlight=False, emoji=False, soft_wrap=soft_wrap)


def say(console: Console, text: str) -> None:
    """Print one line, whatever names it holds."""
    console.print(printable(text), markup=False)


def literal(text: str) -> str:
    """Text for a row of a table, or amid markup."""
    from rich.markup import escape

    return escape(printable(text))


def room(console: Console) -> int | None:
    """The columns for a command: those of a terminal; a log file has no end of them."""
    return console.width if console.is_terminal else None


def argument(path: Path) -> str:
    """A path as a word of a command, which must not begin as an option does."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def typed(*words: str, width: int | None = None) -> str:
    """A command as a person can copy it: indented, its words quoted, broken between them where `width` asks for it."""
    lines = ["  "]
    for word in map(_quoted, words):
        if width is not None and len(lines[-1]) + len(word) + 3 > width and lines[-1].strip():  # with room for " \\"
            lines[-1] += " \\"
            lines.append("      " + word)
        else:
            lines[-1] += f" {word}" if lines[-1].strip() else word
    return "\n".join(lines)


def _quoted(word: str) -> str:
    """A word as a shell reads it, also one that no terminal may be shown."""
    if printable(word) == word:
        return shlex.quote(word)

    def octal(letter: str) -> str:
        return "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))

    plain = "".join(each if printable(each) == each and each not in "'\\%" else octal(each) for each in word)
    return f"\"$(printf '{plain}')\""


class _Steady:
    """A stream whose first failure silences it; what it cannot spell is written as an escape."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.silent = stream, False

    def write(self, text: str) -> int:
        for encoding in (None, self.stream.encoding, "ascii") if not self.silent else ():
            try:
                spelt = text.encode(encoding, "backslashreplace").decode(encoding) if encoding else text
                return self.stream.write(spelt)
            except UnicodeError:
                continue
            except (OSError, ValueError):
                self._silence()
                break
        return len(text)

    def flush(self) -> None:
        if not self.silent:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                self._silence()

    def _silence(self) -> None:
        self.silent = True
        with suppress(OSError, ValueError):  # what is left in its buffer goes nowhere, also when Python ends
            number = self.stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Plain:
    """A stream on which nothing commands the terminal, but for a progress bar's return to the line's beginning."""

    def __init__(self, stream: _Steady) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        bar = text.startswith("\r")
        return self.raw.write("\r" * bar + printable(text[bar:], lines=True))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw(stream: TextIO) -> TextIO:
    """The stream below one of `steady_output`, for those who know what they print."""
    return cast(TextIO, stream.raw) if isinstance(stream, _Plain) else stream


@contextmanager
def steady_output() -> Iterator[None]:
    """Within the block, nothing that is written to stdout or stderr raises for want of a place to go.

    Work goes on to its own end, and its exit status, when `| head -1` has seen enough.
    """
    for number in (0, 1, 2):  # a stream that was closed (>&-): or the next file that is opened would be printed into
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("COLUMNS", "LINES"):  # rich believes them, whatever they say
        said = os.environ.get(name, "")
        if not (re.fullmatch(r"\d{1,9}", said, re.ASCII) and 0 < int(said) <= WIDEST):
            os.environ.pop(name, None)
    before = sys.stdout, sys.stderr
    streams = [_Steady(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115 (open to the end)
    sys.stdout, sys.stderr = (cast(TextIO, _Plain(stream)) for stream in streams)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Lines that the user should know of, and that end nothing."""
    for note in notes:
        say(console, f"note: {note}")


def complain(error: UserError | TrainingError | OSError | MemoryError) -> int:
    """Say on stderr why a command ends, in one line; returns its exit status."""
    if isinstance(error, OSError | MemoryError):
        error = of_system(error)
    message = " ".join(line.strip() for line in str(error).splitlines())  # a file's name may hold a line break
    what = "training stopped:" if isinstance(error, TrainingError) else "error:"
    screen(stderr=True).print(f"[red]{what}[/red] {literal(message)}")
    return error.status
