"""What was translated into a folder, kept beside the outputs, so that a second call does the rest."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

import torch

from ..data.folders.listing import mark
from ..runs.schema import STATE, TRANSLATIONS
from ..runs.stored import damaged, digest, each_line, read_json
from ..system.errors import refusal
from ..system.files import replacing
from ..translate import Translator

BEGINS = b'{"line": "call"'  # as every manifest does
IDLE = 1000  # lines that hold no more before they are dropped, beside as many as there are others


class Origin(NamedTuple):
    """What an output is made of: its source's path, size and times, and what its style is of: the seed by which it was
    drawn, or the SHA-256 of an image."""

    source: str
    mark: tuple[int, int, int]
    style: int | str | None

    @classmethod
    def of(cls, source: Path, style: int | str | None) -> Origin:
        """That of a source as it is now; one that is gone is like none that was there."""
        try:
            return cls(os.path.abspath(source), mark(os.stat(source)), style)
        except OSError:
            return cls(os.path.abspath(source), (0, 0, 0), style)


class Manifest:
    """`translations.jsonl` in a folder of outputs: a line on how they are made, and one for each that is written.

    The last line of an output is the one that holds. Several processes may add theirs at once. A kill leaves it short
    of the last outputs at worst, and what it has left of a line is taken away by the next call.

    Args:
        folder: of the outputs; it need not be there.
        settings: all by which a call makes of a source, in a style, what other calls do not.
        told: what readers of the file want to know of this besides, as `schema.TranslatedBy` has it.

    Raises:
        UserError: a file that is damaged, or somebody else's.
    """

    NAME = "translations.jsonl"

    def __init__(self, folder: Path, settings: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        self.folder, self.path = folder, folder / self.NAME
        self.id = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._call = {"line": "call", "format": 1, "id": self.id, "settings": settings, **told}
        self._lock = threading.Lock()
        self.outputs: dict[str, tuple[str, bytes]] = {}  # by name, how each is made, and what its line says in short
        self.calls: dict[str, Mapping[str, Any]] = {}  # the settings by their ids
        lines = 0
        for row in _read(self.path):
            lines += 1
            if row["line"] == "call":
                self.calls[row["id"]] = row["settings"]
            else:
                self.outputs[row["output"]] = intern(row["by"]), _short(row)
        self._told = self.id in self.calls
        self._wasteful = lines > 2 * len(self.outputs) + IDLE

    def has(self, output: Path, origin: Origin) -> bool:
        """Whether an output is there as a call of these settings has made it of this."""
        known = self.outputs.get(self._name(output))
        try:
            return known is not None and known[1] == _short(self._line(output, origin, os.lstat(output)))
        except OSError:
            return False

    def replaced(self, outputs: Iterable[Path]) -> list[str]:
        """A note for each of the other ways in which some of these outputs were made, that are still there."""
        ways = Counter(self.outputs.get(self._name(each), (self.id,))[0] for each in outputs if os.path.lexists(each))
        said: Counter[str] = Counter()
        for way, count in ways.items():
            if way != self.id:
                said[self._otherwise(self.calls.get(way, {}))] += count
        return [
            f"replaced in {self.folder}: {count} made {how}; another folder keeps them" for how, count in said.items()
        ]

    def _otherwise(self, settings: Mapping[str, Any]) -> str:
        """In what other settings differ from those of this call."""
        ours: Mapping[str, Any] = self._call["settings"]
        names = [name for name in {**ours, **settings} if ours.get(name) != settings.get(name)]
        plain = [f"{name} {settings[name]}" for name in names if name not in ("model", "parts") and name in settings]
        others = [f"another {name}" for name in names if name == "model"]
        return f"with {', '.join(plain + others) or 'other options'}"

    def add(self, output: Path, origin: Origin, status: os.stat_result) -> None:
        """Keep that an output is made. Several threads may do so.

        Args:
            status: of what was written. What is there now may be another process's.

        Raises:
            UserError: the disk refuses.
        """
        line = self._line(output, origin, status)
        try:
            with self._lock:
                if self._wasteful:
                    self._compact()
                with _alone(self.path) as handle:
                    empty = _mended(handle) == 0
                    _append(handle, [line] if self._told and not empty else [self._call, line])
                self._told = True
        except OSError as error:
            raise refusal(f"cannot write {self.path}", error) from error

    def _line(self, output: Path, origin: Origin, status: os.stat_result) -> dict[str, Any]:
        written = [status.st_size, status.st_mtime_ns]
        source, known, style = origin
        made = {"source": source, "mark": list(known), "by": self.id, "style": style}
        return {"line": "output", "output": self._name(output), "written": written, **made}

    def _name(self, output: Path) -> str:
        return output.relative_to(self.folder).as_posix()

    def _compact(self) -> None:
        """Write the file without the lines that hold no more."""
        with _alone(self.path):  # with what others have added
            last = {_subject(row): number for number, row in enumerate(_read(self.path))}
            kept = (row for number, row in enumerate(_read(self.path)) if last[_subject(row)] == number)
            with replacing(self.path) as place, open(place, "wb") as file:
                file.writelines(map(_encoded, kept))
        self._wasteful = False


def settings_of(
    translator: Translator, path: str, alpha: str, weights: str, parts: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """By what the outputs of a call are made, their styles aside, and what is told of the model besides."""
    settings = {"model": _fingerprint(translator), "path": path, "alpha": alpha}
    settings["precision"] = translator.inference.precision
    if parts is not None:
        settings["parts"] = digest(parts)
    told: dict[str, Any] = {"model": str(translator.place), "weights": weights}
    if translator.place is not None and (state := translator.place / "state.json").is_file():
        told |= {name: value for name, value in read_json(state, STATE).items() if name in ("run", "step")}
    return settings, told


def _fingerprint(translator: Translator) -> str:
    """The SHA-256 of a model: of what `model.json` says of it, and its weights, wherever they were read."""
    values = {letter: each.to_json() for letter, each in translator.values.items()}
    spec = translator.spec.to_json() if translator.spec else None
    found = hashlib.sha256(json.dumps([spec, values], sort_keys=True).encode())
    for name, tensor in sorted(translator.model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _read(path: Path) -> Iterator[dict[str, Any]]:
    row = None
    for row in each_line(path, TRANSLATIONS):
        yield row
    if row is None and path.exists():
        with open(path, "rb") as file:
            begun = file.read(len(BEGINS))
        if not BEGINS.startswith(begun):
            raise damaged(path, f"it begins with {begun!r}", TRANSLATIONS.way_out)


def _subject(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a line is about: of several about one, the last holds."""
    return row["line"], row.get("output", row.get("id"))


def _short(row: Mapping[str, Any]) -> bytes:
    """The SHA-256 of what a line of an output says of how it was made, of which and when: of very many, few bytes."""
    said = [row[name] for name in ("written", "source", "mark", "by", "style")]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """A file opened to add to it, which no other does within the block. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # or another in its place, since it was opened
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    yield handle
                    return
        finally:
            os.close(handle)


def _mended(handle: int) -> int:
    """The size of a file of lines, of which the last is whole then: what a killed process has left of one is cut."""
    size = os.fstat(handle).st_size
    last, place = b"", size
    while place and b"\n" not in last:
        start = max(0, place - 4096)
        last, place = os.pread(handle, place - start, start) + last, start
    cut = len(last) - (last.rfind(b"\n") + 1)
    if cut:
        os.ftruncate(handle, size - cut)
    return size - cut


def _append(handle: int, lines: list[dict[str, Any]]) -> None:
    """Raises `OSError` where the disk has no room."""
    text = b"".join(map(_encoded, lines))
    if os.write(handle, text) < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
