"""Printing that never ends the work: a pipe whose reader has left, a full disk behind a log, a terminal that closed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


def room(console: Console) -> int | None:
    """The columns for a command: those of a terminal; a log file has no end of them."""
    return console.width if console.is_terminal else None


def argument(path: Path) -> str:
    """A path as a word of a command, which must not begin as an option does."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def typed(*words: str, width: int | None = None) -> str:
    """A command as a person can copy it: indented, its words quoted, broken between them where `width` asks for it."""
    lines = ["  "]
    for word in map(shlex.quote, words):
        if width is not None and len(lines[-1]) + len(word) + 3 > width and lines[-1].strip():  # with room for " \\"
            lines[-1] += " \\"
            lines.append("      " + word)
        else:
            lines[-1] += f" {word}" if lines[-1].strip() else word
    return "\n".join(lines)


class _Steady:
    """A stream whose first failure silences it; what it cannot spell is written as an escape."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.silent = stream, False

    def write(self, text: str) -> int:
        if not self.silent:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError as error:
                return self.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            except (OSError, ValueError):
                self._silence()
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
    before = sys.stdout, sys.stderr
    streams = [_Steady(stream or open(os.devnull, "w")) for stream in before]  # noqa: SIM115 (open to the end)
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Lines that the user should know of, and that end nothing."""
    for note in notes:
        console.print(f"note: {note}", markup=False)


def complain(what: str, error: Exception) -> None:
    """Say on stderr why a command ends, in one line."""
    from rich.console import Console
    from rich.markup import escape

    errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    message = " ".join(line.strip() for line in str(error).splitlines())  # a file's name may hold a line break
    errors.print(f"[red]{what}[/red] {escape(message)}")
