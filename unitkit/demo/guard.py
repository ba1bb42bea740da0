"""Who may ask the page's server: pages of its own, by a name that is this machine's."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..system.errors import MachineError, TrainingError
from ..system.output import complain, printable
from ..templates import digest

BODY = "application/octet-stream"  # which no form sends, and no page of elsewhere without asking first
SCRIPTS = " ".join(f"'{digest(name)}'" for name in ("page.js", "demo.js"))
POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    f"script-src {SCRIPTS}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:@/\[\]]+)(:[0-9]+)?")
HEADERS = {
    "content-security-policy": POLICY,
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests under a name that is not this machine's, as after DNS rebinding, and posts of other pages; puts
    the headers that keep the page to itself on every answer.

    Args:
        names: by which this machine may be called besides localhost and numeric addresses, which no rebinding has.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            return
        try:
            why = self.refusal(scope["method"], Headers(scope=scope))
            app: ASGIApp = JSONResponse({"error": why}, 403) if why else self.app
            await app(scope, receive, sent)
        except Exception as error:  # a fault of ours, or of the machine: a line, and the server goes on
            known = error if isinstance(error, TrainingError | OSError | MemoryError) else None
            line = known or MachineError(f"{type(error).__name__}: {error}")
            complain(line)
            if not begun:
                await JSONResponse({"error": printable(" ".join(str(line).split()))}, 500)(scope, receive, sent)

    def refusal(self, method: str, headers: Headers) -> str:
        """Why a request is refused; nothing for one that is not."""
        host = headers.get("host", "")
        if not self._ours(host):
            return "this name is not this machine's: use the address that the server has printed"
        if method in ("GET", "HEAD"):
            return ""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if (origin is not None and origin != f"http://{host}") or site not in (None, "same-origin"):
            return "this comes from another page"
        if headers.get("content-type") != BODY:
            return f"pictures are posted as {BODY}"
        return ""

    def _ours(self, host: str) -> bool:
        if (found := HOST.fullmatch(host)) is None:
            return False
        name = found["name"].strip("[]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True
