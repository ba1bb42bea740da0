"""Decoded images, kept as bytes so that each is decoded once: in memory where they fit, else in a mapped file."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..system.dist import variable
from ..system.errors import UserError, refusal
from .sources import Images

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
MEMINFO = Path("/proc/meminfo")


def memory_limit() -> int:
    """The bytes that all decoded images of this process may take in memory: a quarter of what the machine has free,
    shared among the training's processes on it."""
    return available_memory() // 4


def available_memory() -> int:
    """The bytes of RAM that this process can have: what the machine and its container have free, shared among the
    training's processes on it."""
    free = _available()
    with suppress(OSError, ValueError, StopIteration):  # no container, or one without a limit of its own
        limit = int(CGROUP_LIMIT.read_text())
        free = min(free, limit)
        used = int(CGROUP_LIMIT.with_name("memory.current").read_text())
        lines = CGROUP_LIMIT.with_name("memory.stat").read_text().splitlines()
        # Pages of files that give way count as used.
        idle = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        free = min(free, max(0, limit - used + idle))
    return free // max(1, variable("LOCAL_WORLD_SIZE", 0))


def _available() -> int:
    with suppress(OSError, ValueError, StopIteration):  # Linux: with the caches that give way, unlike "free" pages
        lines = MEMINFO.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 * 2**30  # Windows, macOS


class Decoded:
    """The images of a source, decoded when first needed and kept as uint8 (n, C, H, W).

    They lie in memory if they take no more than `limit_bytes`, else in a temporary file that goes when the process
    ends, however it ends. Raises `UserError` where the disk has no room for that. Safe to use from several threads.
    """

    def __init__(self, images: Images, limit_bytes: int) -> None:
        self.images = images
        shape = (len(images), images.channels, *images.size)
        size = int(np.prod(shape, dtype=np.int64))
        self.mapped = not fits(images, limit_bytes)
        self.buffer = _mapped(shape, size) if self.mapped else np.empty(shape, np.uint8)
        self.ready = np.zeros(len(images), bool)
        self.pending: dict[int, Future[None]] = {}
        self.lock = threading.Lock()
        _ALL.add(self)

    def forked(self) -> None:
        """In a forked process: forget what the threads of its parent were about, which it does not have."""
        self.pending, self.lock = {}, threading.Lock()

    def prefetch(self, indices: Sequence[int] | np.ndarray) -> dict[int, Future[None]]:
        """Start decoding, in the background, those images that are not ready; the futures of what is under way."""
        wanted = np.asarray(indices)
        missing = wanted[~self.ready[wanted]].tolist()
        if not missing:
            return {}
        with self.lock:
            for i in missing:
                if i not in self.pending and not self.ready[i]:
                    self.pending[i] = _pool().submit(self._decode, i)
            return {i: self.pending[i] for i in missing if i in self.pending}

    def fetch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images, uint8 (k, C, H, W), a copy. Raises the `UserError` of the first that cannot be decoded."""
        for future in self.prefetch(indices).values():
            future.result()
        return np.asarray(self.buffer[np.asarray(indices)])

    def broken(self, indices: Sequence[int] | np.ndarray) -> dict[int, UserError]:
        """Decode the images that are not ready; those that cannot be decoded, and why."""
        futures = self.prefetch(indices)
        try:
            return _errors(futures)
        except BaseException:
            with self.lock:
                for i, future in futures.items():
                    if future.cancelled():
                        self.pending.pop(i, None)
            raise

    def _decode(self, i: int) -> None:
        try:
            self.buffer[i] = self.images.load(i)
            self.ready[i] = True
        finally:  # an image that failed is tried again when it is next needed: the file may have been mended
            with self.lock:
                del self.pending[i]


def fits(images: Images, limit_bytes: int) -> bool:
    """Whether all images, decoded, take no more than so many bytes."""
    return len(images) * images.channels * images.size[0] * images.size[1] <= limit_bytes


def broken(images: Images, indices: Sequence[int]) -> dict[int, UserError]:
    """Decode images without keeping them; those that cannot be decoded, and why."""
    return _errors({i: _pool().submit(images.load, i) for i in indices})


def _errors(futures: Mapping[int, Future[Any]]) -> dict[int, UserError]:
    errors = {}
    try:
        for i, future in futures.items():
            try:
                future.result()
            except UserError as error:
                errors[i] = error
    except BaseException:  # Ctrl-C, say: what waits for its turn must not keep the process
        for future in futures.values():
            future.cancel()
        raise
    return errors


def _mapped(shape: tuple[int, ...], size: int) -> np.ndarray:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(prefix="unitkit-", dir=folder) as file:
            # Claimed now: a disk that fills up later would end the process with SIGBUS.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        what = f"decoded images need {size / 2**30:.1f} GiB in '{folder}'"
        raise refusal(what, error, "; make room, or set TMPDIR to a folder on a larger disk") from None


_ALL: weakref.WeakSet[Decoded] = weakref.WeakSet()


def _after_fork() -> None:
    _pool.cache_clear()
    for each in _ALL:
        each.forked()


os.register_at_fork(after_in_child=_after_fork)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="unitkit-decode")
