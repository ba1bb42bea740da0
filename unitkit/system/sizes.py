"""Amounts of memory as users write them, and as they are shown."""

from __future__ import annotations

import math
import re

from .errors import UserError

MOST = 2**60
FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """The bytes of "8G", "8GiB", "512M" or "1.5 gb"; units are powers of 1024. Raises `UserError` for other words."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?) ?([KMGT]?)(I?B)?", text.strip().upper(), re.ASCII)
    size = int(float(found[1]) * FACTORS[found[2]]) if found and (found[2] or found[3]) else 0
    if not 1 <= size <= MOST:
        raise UserError(f"'{text}' is no amount of memory: give one with its unit, such as 8G, 8GiB or 512M")
    return size


def show_size(size: int) -> str:
    """Bytes as "7.9 GiB", or "512 MiB" below one."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"
