"""`unitkit demo`: a page on this machine for playing with trained models."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..arguments import Device, Parts, Weights, whole
from ..system import threads
from ..system.errors import UserError


def demo(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders, checkpoints, exported .safetensors, hf:OWNER/NAME."),
    ],
    host: Annotated[
        str, typer.Option(help="The address to serve at; the default is reached by this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, whole(0, 65535, help="0 is a free one.")] = 7860,
    open: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open a browser.  [default: where there is a desktop]", show_default=False
        ),
    ] = None,
    parts: Parts = None,
    weights: Weights = "ema",
    held: Annotated[int, whole(1, 1000, help="Models in memory at once, at most.")] = 3,
    device: Device = "auto",
) -> None:
    """Serve a page to try trained models on pictures, step through checkpoints, and walk between codes."""
    threads.decide()
    if missing := [package for package in ("starlette", "uvicorn") if find_spec(package) is None]:
        raise UserError(f"the demo needs {' and '.join(missing)}: pip install 'unitkit[demo]'")
    import socket
    import webbrowser

    from ..demo.app import Demo
    from ..demo.runs import Models, all_shown
    from ..demo.server import address_of, bound, is_private, server_of
    from ..recipe_file import import_parts
    from ..system.output import complain, say, screen

    with bound(host, port) as at:
        if parts is not None:
            import_parts(parts)
        models = Models(device, weights, held)
        found, wrong = all_shown(runs, models)
        for error in wrong[:-1]:
            complain(error)
        if wrong:
            raise wrong[-1]
        private = is_private(at)
        names = [host, *([] if private else [socket.gethostname(), socket.getfqdn()])]
        server = server_of(Demo(found, models).app(names))
        at.listen(128)  # from here on a browser is answered, or waits
        address = address_of(host, at)
        console = screen()
        if not private:
            say(console, f"warning: whoever reaches this machine at {host} can use the page; there is no password")
        say(console, f"{address}  (Ctrl-C ends it)")
        if open if open is not None else _has_desktop():
            webbrowser.open(address)
        server.run(sockets=[at])


def _has_desktop() -> bool:
    shown = sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
    return bool(shown and sys.stdout.isatty())
