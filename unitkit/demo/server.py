"""The server of the page: its socket, its address, its end."""

from __future__ import annotations

import errno
import ipaddress
import socket

import uvicorn
from starlette.types import ASGIApp

from ..system.errors import UserError, refusal

CONNECTIONS = 64  # at once
LEAVE = 3  # seconds that requests have to end in once the server is stopped


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 is one that is free. Nobody is listened to yet.

    Raises:
        UserError: a host that is not this machine, a port that is taken or not for us.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"--host '{host:.80}' is no address: give one of this machine, such as 127.0.0.1") from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use: choose another by --port, or --port 0 for a free one") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"--host {host} is no address of this machine: give one that is, or 127.0.0.1") from None
        raise refusal(f"cannot serve at {host}, port {port}", error) from error
    return found


def address_of(host: str, at: socket.socket) -> str:
    """Where a browser on this machine finds the page."""
    address, port = at.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_private(at: socket.socket) -> bool:
    """Whether nobody but this machine reaches it."""
    return ipaddress.ip_address(at.getsockname()[0]).is_loopback


def server_of(app: ASGIApp) -> uvicorn.Server:
    """The server of an application, for `run(sockets=[...])`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=LEAVE,
        )
    )
