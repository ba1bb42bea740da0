"""What is done of a translation: its segments, kept beside the output until that is whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..system.errors import UserError, refusal
from ..system.files import TEMPORARY, replacing
from .encoding import Packet

OURS = re.compile(rf"job|\d{{6}}\.(packets|npz)|{TEMPORARY.pattern}", re.ASCII)


def kept_for(target: Path) -> Path:
    """The folder `OUT.parts` of an output."""
    return target.with_name(f"{target.name}.parts")


def forget(target: Path) -> None:
    """Delete the segments of an output that is whole."""
    with suppress(OSError):  # what is left harms nothing
        _clear(kept_for(target))
        kept_for(target).rmdir()


def _clear(folder: Path, keep: Collection[str] = ()) -> None:
    """Delete files of ours."""
    for name in os.listdir(folder):
        if OURS.fullmatch(name) and name not in keep:
            (folder / name).unlink(missing_ok=True)


class Parts:
    """The folder `OUT.parts`, which holds the segments of one job, and is one process's.

    A segment is a file of packets and, written after it, one that says what these are, with the state of the
    translation behind them. What does not fit the job, or is damaged, is made anew.

    Args:
        job: all that the frames depend on, as it goes to JSON.

    Attributes:
        frames: how many there are in whole segments.
        state: that behind the last of them.
        anew: whether there were segments of another job.

    Raises:
        UserError: another process is at it, or the disk refuses.
    """

    def __init__(self, target: Path, job: Mapping[str, Any]) -> None:
        self.target, self.folder = target, kept_for(target)
        self.key = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
        self.segments: list[int] = []  # frames of each
        self.state: dict[str, np.ndarray] = {}
        self.anew = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.folder, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise refusal(f"cannot write to {self.folder}", error) from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.lock)
            raise UserError(f"another process is translating to {target}: wait for it") from None
        try:
            self._find()
        except BaseException:
            os.close(self.lock)
            raise

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder, which stays unless `remove` was called."""
        if not self.segments:
            forget(self.target)
        os.close(self.lock)

    @property
    def frames(self) -> int:
        """How many there are in whole segments."""
        return sum(self.segments)

    def add(self, packets: Sequence[Packet], state: Mapping[str, np.ndarray]) -> None:
        """Keep a segment."""
        data, about = self._files(len(self.segments))
        with replacing(data) as place:
            place.write_bytes(b"".join(packet.data for packet in packets))
        with replacing(about) as place, open(place, "wb") as file:
            np.savez(
                file,
                sizes=np.array([len(packet.data) for packet in packets]),
                pts=np.array([packet.pts for packet in packets]),
                keys=np.array([packet.key for packet in packets]),
                **{f"state.{name}": value for name, value in state.items()},  # type: ignore[arg-type]
            )
        self.segments.append(len(packets))
        self.state = dict(state)

    def packets(self) -> Iterator[Packet]:
        """Those of all segments."""
        for number in range(len(self.segments)):
            data, about = self._files(number)
            with np.load(about) as found, open(data, "rb") as file:
                for size, pts, key in zip(found["sizes"], found["pts"], found["keys"], strict=True):
                    yield Packet(file.read(int(size)), int(pts), bool(key))

    def remove(self) -> None:
        """The output is whole: nothing of it is needed."""
        self.segments = []

    def _files(self, number: int) -> tuple[Path, Path]:
        return self.folder / f"{number:06}.packets", self.folder / f"{number:06}.npz"

    def _find(self) -> None:
        """Take what an earlier process of the same job left, and remove the rest."""
        try:
            left = sorted(os.listdir(self.folder))
            ours = "job" in left and (self.folder / "job").read_text("utf-8", "replace") == self.key
        except OSError as error:
            raise refusal(f"cannot read {self.folder}", error) from error
        if foreign := [name for name in left if not OURS.fullmatch(name)]:
            raise UserError(f"{self.folder} is where segments are kept, and holds '{foreign[0]}': move that away")
        while ours and self._found(len(self.segments)):
            pass
        self.anew = not ours and any(name.endswith(".npz") for name in left)
        _clear(self.folder, {file.name for number in range(len(self.segments)) for file in self._files(number)})
        with replacing(self.folder / "job") as place:
            place.write_text(self.key, "utf-8")

    def _found(self, number: int) -> bool:
        """Whether a segment is there, and whole."""
        data, about = self._files(number)
        try:
            with np.load(about) as found:
                sizes = found["sizes"]
                state = {name.removeprefix("state."): found[name] for name in found.files if name.startswith("state.")}
            whole = len(sizes) > 0 and int(sizes.sum()) == data.stat().st_size
        except Exception:  # a damaged archive raises nearly anything
            return False
        if whole:
            self.segments.append(len(sizes))
            self.state = state
        return whole
