"""Many images on their way: decoded ahead of a network, gathered into its batches, and written behind it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from typing import Any, TypeVar

from ...system.errors import UserError

T = TypeVar("T")
AHEAD = 2**22  # pixels that are decoded before, or encoded behind, those that the network has
MOST = 16  # items that are made ahead, however small


@contextmanager
def workers(count: int | None = None) -> Iterator[Executor | None]:
    """Threads for files. At the end of the block what has begun is finished, and nothing else begins.

    Args:
        count: how many; without it one more than the processors, and 4 at most. There is no thread of 0.
    """
    count = min(4, (os.cpu_count() or 1) + 1) if count is None else count
    if not count:
        yield None
        return
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: Executor | None, tasks: Iterable[Callable[[], T]], pixels: Iterable[int]) -> Iterator[T]:
    """The results of tasks in their order, which work in the background before they are asked for; without a pool when
    they are.

    Where one fails, or the next cannot be had, the results of those before it come first.

    Args:
        pixels: of each: those of the tasks under way are at most `AHEAD`, or those of two.
    """
    if pool is None:
        for task in tasks:
            yield task()
        return
    waiting: deque[tuple[Future[T], int]] = deque()
    failure: Exception | None = None
    pairs, under_way = zip(tasks, pixels, strict=False), 0
    while True:
        try:
            task, size = next(pairs)
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        waiting.append((pool.submit(task), size))
        under_way += size
        while len(waiting) > 1 and under_way > AHEAD:
            future, size = waiting.popleft()
            under_way -= size
            yield future.result()
    for future, _ in waiting:
        yield future.result()
    if failure is not None:
        raise failure


def made_ahead(items: Iterator[T], pixels: int) -> Iterator[T]:
    """The items of an iterator, none of them None, which a thread makes before they are asked for: at most `MOST`
    of them, and `AHEAD` pixels, or two."""
    with workers(1) as pool:
        for item in ahead(pool, repeat(lambda: next(items, None)), repeat(max(pixels, AHEAD // MOST))):
            if item is None:
                return
            yield item


def batches(items: Iterable[T], together: Callable[[T], tuple[Any, int]]) -> Iterator[list[T]]:
    """Neighbours that go through a network together. Where the next item raises, those before it come first.

    Args:
        together: what the items of a batch have in common with this one, and how many of them there are at most.
    """
    batch: list[T] = []
    of_batch: Any = None
    try:
        for item in items:
            common, most = together(item)
            if batch and (len(batch) >= most or of_batch != common):
                yield batch
                batch = []
            batch.append(item)
            of_batch = common
    except UserError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
