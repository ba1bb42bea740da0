"""Files and folders written whole or not at all, under temporary names that are nobody else's."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from .errors import UserError, refusal

SUFFIX = r"\.\w{1,15}"  # by which an image's writer knows the format
TEMPORARY = re.compile(rf"\.writing-[0-9a-f]{{12}}({SUFFIX})?", re.ASCII)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, of the same suffix; it takes `path`'s name when the block ends well.

    A link at `path` is itself replaced, and the file that it leads to stays as it was. A new file has the rights of
    any new file, one that is replaced keeps its own.

    Raises `UserError` where the disk is full or refuses, or where `path` is a folder or a device. What was there before
    then stays, and nothing else is left.
    """
    try:
        _refuse_devices(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path.parent, path.suffix if re.fullmatch(SUFFIX, path.suffix, re.ASCII) else "") as place:
            yield place
            with suppress(OSError):  # a new file, or a disk that knows no rights
                if not path.is_symlink():
                    place.chmod(path.stat().st_mode & 0o777)
            place.replace(path)
    except OSError as error:
        raise refusal(f"cannot write {path}", error) from error


def refuse_unwritable(path: Path) -> None:
    """Raise `UserError` now where `replacing(path)` would after long work. Leaves nothing, no folder either."""
    try:
        _refuse_devices(path)
        there = next(folder for folder in path.absolute().parents if folder.exists() or folder.is_symlink())
        with temporary(there):
            pass
    except OSError as error:
        raise refusal(f"cannot write {path}", error) from error


def expanded(path: str | Path) -> Path:
    """A path with `~` and `~user` as the folders that they stand for. Raises `UserError` for a user without one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"'{path}' begins with the home folder of a user who has none here") from None


def temporary_name(suffix: str = "") -> str:
    """A name that nothing else has, and by which `temporary` knows what a killed process left."""
    return f".writing-{secrets.token_hex(6)}{suffix}"


@contextmanager
def temporary(parent: Path, suffix: str = "", *, folder: bool = False) -> Iterator[Path]:
    """A new empty file or folder in `parent`, under a short name that was free; deleted at the end if still there.

    It is locked, so that one that a killed process left is told from one that is in use; the former are deleted
    here. Raises `OSError`.
    """
    _sweep(parent)
    while True:
        place = parent / temporary_name(suffix)
        try:
            if folder:
                place.mkdir()
                handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
            else:
                handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            continue
        with suppress(OSError):  # a disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink and place.exists():
            break
        os.close(handle)  # another process swept it away before it was locked
    try:
        yield place
    finally:
        os.close(handle)
        with suppress(OSError):
            _delete(place)


@cache  # once for each folder and process: a folder may hold very many files
def _sweep(parent: Path) -> None:
    """Delete what killed processes left: our own kind of name, no link, and locked by nobody."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name) and not entry.is_symlink():
                with suppress(OSError):
                    handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        _delete(Path(entry.path))
                    finally:
                        os.close(handle)


def _delete(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _refuse_devices(path: Path) -> None:
    """To replace /dev/null, or a pipe, would harm more than this file."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OSError(None, "it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(None, "it is no ordinary file; name one")


def flush(path: Path) -> None:
    """Wait until the disk has what was written to a file or a folder. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folders_with(name: str, place: Path) -> dict[str, Path]:
    """The folders that hold a file of this name, by their own: those in `place`, in its folders and in runs/, the first
    of equal ones."""
    found: dict[str, Path] = {}
    for here in dict.fromkeys((place, Path("runs"))):
        for pattern in f"*/{name}", f"*/*/{name}":
            for file in sorted(here.glob(pattern)):
                found.setdefault(file.parent.name, file.parent)
    return found
