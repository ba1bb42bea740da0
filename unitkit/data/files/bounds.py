"""What reading a file may cost: ordinary files alone, what they declare held to what they are, memory shared out."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...system.errors import UserError, pass_on_failure
from ...system.sizes import available_memory, show_size

# A file may unpack to this much whatever its size, and to more only by so many times its size: images of digits or
# of scenes pack 2 to 20 times, a bomb a thousand times.
UNPACKED, PACKED = 2**28, 100
SMALL = 2**26  # bytes that a decoder takes without asking for room
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def ordinary(path: str | Path, expected: str) -> os.stat_result:
    """The status of an ordinary file, links followed. Opens nothing, so that no pipe waits and no device acts.

    Raises `UserError` for anything else, in the words of what was `expected`, and `OSError` where there is nothing.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"'{path}' is {KINDS.get(stat.S_IFMT(status.st_mode), 'no ordinary file')}, not {expected}")
    return status


def refuse_unusable(path: str | Path, expected: str, kind: str) -> None:
    """Raise `UserError` for what is no ordinary file, or empty, before a library opens it by its name. The `kind` is
    such as "image"."""
    try:
        empty = not ordinary(path, expected).st_size
    except (OSError, ValueError) as error:
        pass_on_failure(f"cannot read the {kind} '{path}'", error)
        raise UserError(f"cannot read the {kind} '{path}': {getattr(error, 'strerror', None) or error}") from None
    if empty:
        raise UserError(f"the {kind} '{path}' is empty (0 bytes): remove it or fetch it again")


def open_ordinary(path: str | Path, expected: str) -> BinaryIO:
    """An ordinary file, open for reading. Raises as `ordinary` does."""
    ordinary(path, expected)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe may have taken its place just now
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise UserError(f"'{path}' is no ordinary file, not {expected}")
    return file


def refuse_sizes(what: str, declared: int, packed: int | None, copies: float = 1) -> None:
    """Raise `UserError` where `what` cannot, or should not, be read.

    `declared` bytes are those that it announces, `packed` those in which the file holds them (None where they are not
    packed), and `copies` the memory that it takes to use them, in times of the declared bytes.
    """
    if packed is not None and declared > max(UNPACKED, PACKED * packed):
        raise UserError(
            f"{what} announces {show_size(declared)} in {show_size(packed)} of a file, more than {PACKED} times as "
            f"much, as damaged or malicious files do: save it without compression if it is right"
        )
    if (need := int(declared * copies)) > (free := available_memory()):
        raise UserError(f"{what} needs {show_size(need)} of memory, and {show_size(free)} are free: give it in parts")


class Guarded(io.FileIO):
    """An ordinary file of which nobody reads more than `MOST` bytes at once, however many its content asks for."""

    MOST = 2**22

    def __init__(self, path: str | Path, expected: str) -> None:
        with open_ordinary(path, expected) as file:
            super().__init__(os.dup(file.fileno()), "rb")
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = self.size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self.MOST:
            raise ValueError(f"it announces {show_size(wanted)} of entries")
        return super().read(max(wanted, 0)) or b""


class Room:
    """The memory that decoders of large images take at once: at most half of what is free, or one of them alone."""

    def __init__(self) -> None:
        self.condition, self.taken = threading.Condition(), 0

    @contextmanager
    def of(self, size: int, what: str) -> Iterator[None]:
        """Wait until so many bytes are to be had, and hold them within the block.

        Raises `UserError` where they will not be.
        """
        if size < SMALL:
            yield
            return
        with self.condition:
            # What others hold they have taken from what is free, in part, so that this errs on the safe side.
            self.condition.wait_for(lambda: not self.taken or self.taken + size <= available_memory() // 2)
            if not self.taken and size > (free := available_memory()):
                raise UserError(
                    f"{what} takes about {show_size(size)} of memory to decode, and {show_size(free)} are free: scale "
                    f"it down first"
                )
            self.taken += size
        try:
            yield
        finally:
            with self.condition:
                self.taken -= size
                self.condition.notify_all()

    def forked(self) -> None:
        """In a forked process: nobody decodes yet."""
        self.condition, self.taken = threading.Condition(), 0


room = Room()
os.register_at_fork(after_in_child=room.forked)
