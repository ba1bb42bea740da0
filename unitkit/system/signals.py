"""SIGTERM, Ctrl-C and a terminal that closes as a request to stop, rather than an end at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asking(stop: Callable[[int], None]) -> Iterator[None]:
    """Within the block, the first SIGTERM, SIGINT or SIGHUP calls `stop` with its number; a second one ends at once.

    SIGHUP stays ignored where it is, as under nohup. Signals reach only the main thread; in another one the block runs
    as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        restore()
        stop(number)

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before: dict[int, Any] = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        restore()
