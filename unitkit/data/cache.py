"""Decoded images, kept as bytes so that each is decoded once: in memory where they fit, else in a mapped file."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np

from ..system.errors import MachineError, UserError, refusal
from ..system.sizes import available_memory
from .sources import Images
from .values import values_of

T = TypeVar("T")


def memory_limit() -> int:
    """The bytes that all decoded images of this process may take in memory: a quarter of what the machine has free,
    shared among the training's processes on it."""
    return available_memory() // 4


class Decoded:
    """The images of a source, decoded when first needed and kept as they are stored, (n, C, H, W).

    They lie in memory if they take no more than `limit_bytes`, else in a temporary file that goes when the process
    ends, however it ends. Raises `UserError` where the disk has no room for that. Safe to use from several threads.
    """

    def __init__(self, images: Images, limit_bytes: int) -> None:
        self.images = images
        shape = (len(images), images.channels, *images.size)
        dtype = np.dtype(values_of(images).dtype)
        self.mapped = not fits(images, limit_bytes)
        self.buffer = _mapped(shape, dtype) if self.mapped else np.empty(shape, dtype)
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
        """The images, (k, C, H, W), a copy. Raises the `UserError` of the first that cannot be decoded."""
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
    return stored_bytes(images) <= limit_bytes


def stored_bytes(images: Images) -> int:
    """What all images take, decoded."""
    return len(images) * images.channels * images.size[0] * images.size[1] * values_of(images).itemsize


def broken(images: Images, indices: Sequence[int]) -> dict[int, UserError]:
    """Decode images without keeping them; those that cannot be decoded, and why."""
    return _errors({i: _pool().submit(images.load, i) for i in indices})


def in_background(work: Callable[..., T], *arguments: Any) -> Future[T]:
    """Have one of the decoding threads do this."""
    return _pool().submit(work, *arguments)


def _errors(futures: Mapping[int, Future[Any]]) -> dict[int, UserError]:
    errors = {}
    try:
        for i, future in futures.items():
            try:
                future.result()
            except MachineError:
                raise
            except UserError as error:
                errors[i] = error
    except BaseException:  # Ctrl-C, say: what waits for its turn must not keep the process
        for future in futures.values():
            future.cancel()
        raise
    return errors


def _mapped(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    folder = tempfile.gettempdir()
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(prefix="unitkit-", dir=folder) as file:
            # Claimed now: a disk that fills up later would end the process with SIGBUS.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)
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
