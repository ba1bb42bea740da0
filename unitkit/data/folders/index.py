"""The headers of a folder's images, remembered in the user's cache folder: a second start need not open each file.

Nothing hangs on it. What it says of a file holds for that name, size and time of change alone; where it is missing or
damaged the headers are read again, and where it cannot be written nothing is said.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ...system.errors import UserError
from ...system.files import replacing
from ..files.bounds import open_ordinary
from ..files.quick import header_of
from ..formats.header import Header
from ..formats.windows import refuse_too_large
from ..values import DTYPES
from .listing import FileSet

LEAST = 1000  # images of a folder that is remembered; the headers of fewer are read in a moment
SETTLED = 2 * 10**9  # nanoseconds since a file's last change: a change in the same tick of the clock would not show
MOST = 2**28  # bytes of all that is remembered
CHUNK = 512  # files that a thread takes at once
FIELDS = ("width", "height", "channels", "dtype", "frames", "least", "most")
WIDTH, STATED = len(FIELDS), 5  # columns, of which the last two are a window's bits
RULES = 4  # raised whenever the package reads another header from a file, or refuses another one
MAGIC = f"unitkit headers {RULES} {' '.join(FIELDS)}\n".encode()
DIGEST = 16


@dataclass(frozen=True)
class Headers:
    """The headers of some images, `values`, int32 (n, WIDTH); zeros where `broken` says why there is none."""

    values: np.ndarray
    broken: Mapping[int, UserError]

    def __getitem__(self, i: int) -> Header | UserError:
        return self.broken[i] if i in self.broken else _unpacked(self.values[i])

    def column(self, name: str) -> np.ndarray:
        """A field of all headers, int32 (n,); 0 of those that are broken."""
        found: np.ndarray = self.values[:, FIELDS.index(name)]
        return found

    def kinds(self) -> dict[Header, int]:
        """What there is of types, channels and windows, each with the first image that has them."""
        kinds, first = np.unique(self.values[:, 2:], axis=0, return_index=True)
        return {
            _unpacked(np.concatenate([[1, 1], kind])): int(place)
            for kind, place in sorted(zip(kinds.tolist(), first.tolist(), strict=True), key=lambda each: each[1])
            if kind[0]
        }


def headers(sets: Sequence[FileSet]) -> list[Headers]:
    """The headers of the images of each set."""
    found: dict[int, Headers] = {}
    for root in dict.fromkeys(each.root for each in sets):
        places = [place for place, each in enumerate(sets) if each.root == root]
        whole, start = _of_root(root, [sets[place] for place in places]), 0
        for place in places:
            end = start + len(sets[place])
            broken = {i - start: error for i, error in whole.broken.items() if start <= i < end}
            found[place], start = Headers(whole.values[start:end], broken), end
    return [found[place] for place in range(len(sets))]


@dataclass(frozen=True)
class Known:
    """What is remembered of a folder: a digest of its listing, its files, uint64 (n,), and their headers."""

    state: bytes
    files: np.ndarray
    values: np.ndarray


def folder() -> Path:
    """Where headers are remembered: ~/.cache/unitkit/headers, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unitkit" / "headers"


def _of_root(root: str, sets: Sequence[FileSet]) -> Headers:
    names = [name for each in sets for name in each.paths.names]
    if len(names) < LEAST:
        values = np.zeros((len(names), WIDTH), np.int32)
        return Headers(values, _read(names, range(len(names)), values))
    marks = np.concatenate([each.marks for each in sets])
    start = os.path.join(root, "")
    listing = [name.removeprefix(start).encode("utf-8", "surrogateescape") for name in names]
    path = _place(root)
    known, values = _load(path), np.zeros((len(names), WIDTH), np.int32)
    state = _digest(b"\0".join([*listing, marks.tobytes()]))
    if known is not None and known.state == state:
        values[:] = known.values
        files = known.files
    else:
        files = _identities(listing, marks)
        if known is not None:
            order = np.argsort(known.files)
            places = order[np.searchsorted(known.files, files, sorter=order).clip(max=len(order) - 1)]
            same = known.files[places] == files
            values[same] = known.values[places[same]]
    missing = np.flatnonzero(values[:, 0] == 0).tolist()
    broken = _read(names, missing, values)
    if len(missing) > len(broken) or known is None or known.state != state:
        settled = marks[:, 1:].max(axis=1) < time.time_ns() - SETTLED
        _save(path, Known(state, files, np.where(settled[:, None], values, 0)))
    return Headers(values, broken)


def _read(names: Sequence[str], rows: Sequence[int], values: np.ndarray) -> dict[int, UserError]:
    """Read the headers of these rows into `values`; what cannot be read, and why."""

    def look(part: Sequence[str]) -> list[Header | UserError]:
        return [_header(name) for name in part]

    broken = dict[int, UserError]()
    of_file: dict[str, list[int]] = {}
    for i in rows:  # of a stack there are many of one name
        of_file.setdefault(names[i], []).append(i)
    files = list(of_file)
    parts = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor(8) as pool:
        for name, header in zip(files, chain.from_iterable(pool.map(look, parts)), strict=True):
            if isinstance(header, UserError):
                broken |= dict.fromkeys(of_file[name], header)
            else:
                values[of_file[name]] = _packed(header)
    return broken


def _header(name: str) -> Header | UserError:
    header = header_of(name)
    try:
        if isinstance(header, Header):
            refuse_too_large(Path(name), header)
    except UserError as error:
        return error
    return header


def _packed(header: Header) -> list[int]:
    window = np.array(header.window or (np.nan, np.nan), np.float32).view(np.int32).tolist()
    return [header.width, header.height, header.channels, DTYPES.index(header.dtype) + 1, header.frames, *window]


def _unpacked(row: np.ndarray) -> Header:
    width, height, channels, dtype, frames = row[:STATED].tolist()
    least, most = row[STATED:].astype(np.int32).view(np.float32).tolist()
    return Header(width, height, channels, DTYPES[dtype - 1], frames, (least, most) if least < most else None)


def _identities(listing: Sequence[bytes], marks: np.ndarray) -> np.ndarray:
    """A number for each file that another name, size or time would change: uint64 (n,)."""
    data = marks.tobytes()
    size = len(data) // max(len(listing), 1)
    words = (
        hashlib.blake2b(name + b"\0" + data[size * i : size * (i + 1)], digest_size=8).digest()
        for i, name in enumerate(listing)
    )
    return np.frombuffer(b"".join(words), np.uint64)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def _place(root: str) -> Path | None:
    with suppress(OSError, RuntimeError, ValueError):  # no home, say
        return folder() / f"{_digest(os.fsencode(os.path.realpath(root))).hex()}.headers"
    return None


def _load(path: Path | None) -> Known | None:
    with suppress(OSError, UserError, ValueError):
        if path is None or os.stat(path).st_size > MOST:
            return None
        with open_ordinary(path, "headers") as file:
            data = memoryview(file.read(MOST))
        at = len(MAGIC) + DIGEST
        count, rest = divmod(len(data) - at - DIGEST, 8 + 4 * WIDTH)
        if data[: len(MAGIC)] != MAGIC or rest or count < 1 or _digest(data[at:]) != data[len(MAGIC) : at]:
            return None
        files = np.frombuffer(data, np.uint64, count, at + DIGEST)
        values = np.frombuffer(data, np.int32, count * WIDTH, at + DIGEST + 8 * count).reshape(count, WIDTH)
        if ((values[:, :STATED] > 0).all(axis=1) | (values == 0).all(axis=1)).all() and values[:, 3].max() <= len(
            DTYPES
        ):
            return Known(bytes(data[at : at + DIGEST]), files, values)
    return None


def _save(path: Path | None, known: Known) -> None:
    body = known.state + known.files.tobytes() + known.values.tobytes()
    if path is None or len(body) > MOST // 2:
        return
    with suppress(OSError, UserError):
        with replacing(path) as place:
            place.write_bytes(MAGIC + _digest(body) + body)
        _forget_oldest(path.parent)


def _forget_oldest(place: Path) -> None:
    with os.scandir(place) as entries:
        kept = [(entry.stat(), entry.path) for entry in entries if entry.name.endswith(".headers")]
    total = sum(status.st_size for status, _ in kept)
    for status, path in sorted(kept, key=lambda each: each[0].st_mtime_ns):
        if total <= MOST:
            break
        os.unlink(path)
        total -= status.st_size
