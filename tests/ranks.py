"""Two ranks in tests: processes forked from a server that has imported everything, as torchrun starts them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from commands import FORKED


def torchrun() -> list[dict[str, str]]:
    """The variables that torchrun gives two processes of one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]


def on_two_ranks(function: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Call a function with each rank's variables, and arguments, in a process each; their exit codes."""
    ranks = [FORKED.Process(target=function, args=(each, *arguments), daemon=True) for each in torchrun()]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(60)
    codes = [each.exitcode for each in ranks]
    for each in ranks:
        each.kill()
    return codes
