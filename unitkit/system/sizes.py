"""Amounts of memory: as users write them, as they are shown, and what is free."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path

from .dist import variable
from .errors import UserError

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
MEMINFO = Path("/proc/meminfo")
MOST = 2**60
FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """The bytes of "8G", "8GiB", "512M" or "1.5 gb"; units are powers of 1024. Raises `UserError` for other words."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?) ?([KMGT]?)(I?B)?", text.strip().upper(), re.ASCII)
    size = int(float(found[1]) * FACTORS[found[2]]) if found and (found[2] or found[3]) else 0
    if not 1 <= size <= MOST:
        raise UserError(f"'{text}' is no amount of memory: give one with its unit, such as 8G, 8GiB or 512M")
    return size


def show_size(size: int, *, up: bool = False) -> str:
    """Bytes as "7.9 GiB", or "512 MiB" below one; `up` rounds what is needed, so that it fits into what is shown."""
    tenths = math.ceil(size * 10 / 2**30) / 10 if up else size / 2**30
    return f"{tenths:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


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
