"""The page and what it asks for. Nothing in a request names a file: runs are numbers, and pictures are its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ..system.devices import enough_memory
from ..system.errors import MachineError, UserError
from ..system.output import printable
from ..templates import render
from ..translate import Translator
from . import pictures
from .guard import Guard
from .runs import Gone, Models, Shown, Size

UPLOADED = 16 * 2**20  # bytes of what a request brings: one picture, or two
QUEUE = 8  # requests with pictures at once, of which the network has one
SEEDS = 2**31 - 1  # the largest of a style
PATIENCE = 30.0  # seconds until a picture must have come
WAY_OUT = "choose a smaller size"


class Demo:
    """The answers, in which the network is used by one request at a time.

    Args:
        runs: what can be chosen from.
        models: those in memory.
    """

    def __init__(self, runs: Sequence[Shown], models: Models) -> None:
        self.runs, self.models = runs, models
        self.asked = 0
        self.network = asyncio.Lock()

    def app(self, names: Iterable[str] = ()) -> Starlette:
        """The application; `names` are those of this machine, see `Guard`."""
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/runs", self.listing),
                Route("/example", self.example),
                Route("/translate", self.translate, methods=["POST"]),
                Route("/walk", self.walk, methods=["POST"]),
            ],
            middleware=[Middleware(Guard, names=tuple(names))],
            exception_handlers={UserError: _refused, HTTPException: _refused_by_http},
        )

    async def page(self, request: Request) -> Response:
        """The page itself."""
        limits = {"bytes": UPLOADED, "megapixels": pictures.PIXELS // 1_000_000}

        def rendered() -> str:
            runs = [run.to_json() for run in self.runs]
            return render("demo.html.jinja", title="unitkit demo", runs=runs, limits=limits)

        return HTMLResponse(await run_in_threadpool(rendered))

    async def listing(self, request: Request) -> Response:
        """What can be chosen, as it is now."""
        return JSONResponse(await run_in_threadpool(lambda: [run.to_json() for run in self.runs]))

    async def example(self, request: Request) -> Response:
        """A held-out image."""
        ask = Ask(request.query_params, self.runs)
        found = (await run_in_threadpool(lambda: ask.run.examples)).get(ask.text("letter"), [])
        return Response(found[ask.number("number", len(found) - 1)], media_type="image/png")

    async def translate(self, request: Request) -> Response:
        """A picture along a path, and beside it."""
        ask = Ask(request.query_params, self.runs)
        seed = ask.number("seed", SEEDS) if "seed" in ask.given and ask.run.walk == "styles" else None
        path, size = ask.path(), ask.size()
        async with self.turn(request) as body:
            return await self.computed(
                ask, lambda translator: pictures.translated(translator, body, path, size, seed), "translating"
            )

    async def walk(self, request: Request) -> Response:
        """What lies between two pictures, which the body holds one behind the other, or between two styles."""
        ask = Ask(request.query_params, self.runs)
        run, path, size = ask.run, ask.path(), ask.size()
        first = ask.number("first", UPLOADED)
        work: Callable[[Translator, bytes, bytes], dict[str, Any]]
        if run.walk == "styles":
            work = partial(pictures.restyled, path=path, size=size, seed=ask.number("seed", SEEDS - 1))
        elif run.walk == "codes":
            letters = path[0], ask.choice("other", {each[0] for each in run.paths})
            decoders = [each for each in run.labels if {letter + each for letter in letters} <= {*run.paths}]
            work = partial(pictures.between, letters=letters, decoders=decoders, size=size)
        else:
            raise UserError(f"{run.name} has no latent space that its domains share, and no styles")
        async with self.turn(request) as body:
            return await self.computed(ask, lambda translator: work(translator, body[:first], body[first:]), "walking")

    @asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request whose turn it is. Raises `HTTPException` where too many wait, or it is too large."""
        if self.asked >= QUEUE:
            raise HTTPException(503, f"{QUEUE} pictures are waiting already: try again in a moment")
        self.asked += 1
        try:
            try:
                async with asyncio.timeout(PATIENCE):
                    body = await _body(request)
            except TimeoutError:
                raise HTTPException(408, f"the picture has not come within {PATIENCE:g} seconds") from None
            except ClientDisconnect:
                raise HTTPException(400, "the picture has not come") from None
            async with self.network:
                yield body
        finally:
            self.asked -= 1

    async def computed(self, ask: Ask, work: Callable[[Translator], dict[str, Any]], what: str) -> Response:
        """What the model of a request makes, in a thread."""

        def compute() -> dict[str, Any]:
            place = ask.run.checkpoint(ask.step())
            try:
                translator = self.models.get(place)
            except (UserError, OSError):
                ask.run.checkpoint(ask.step())  # it may have gone at this very moment
                raise
            with enough_memory(translator.inference.device, what, WAY_OUT, MachineError):
                return work(translator)

        return JSONResponse(await run_in_threadpool(compute))


class Ask:
    """What a request asks for, none of it trusted. Raises `UserError` for what the page would not ask."""

    def __init__(self, given: Mapping[str, str], runs: Sequence[Shown]) -> None:
        self.given = given
        self.run = runs[self.number("run", len(runs) - 1)]

    def text(self, name: str) -> str:
        """A short word."""
        return self.given.get(name, "")[:40]

    def number(self, name: str, most: int) -> int:
        """A whole number from 0 to `most`."""
        text = self.text(name)
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= most):
            raise UserError(f"'{printable(text)}' is no {name} from 0 to {most}")
        return int(text)

    def choice(self, name: str, choices: Iterable[str]) -> str:
        """One of some words."""
        if (text := self.text(name)) not in choices:
            raise UserError(f"'{printable(text)}' is no {name} of {self.run.name}: load the page again")
        return text

    def path(self) -> str:
        """One of the run's image paths."""
        return self.choice("path", self.run.paths)

    def size(self) -> Size:
        """One of the run's sizes."""
        return self.run.sizes[self.choice("size", self.run.sizes)]

    def step(self) -> int | None:
        """Of a checkpoint; None of a run that has no others."""
        return self.number("step", 2**62) if self.run.run else None


async def _body(request: Request) -> bytes:
    most = f"a request may bring {UPLOADED // 2**20} MiB of pictures, and this brings more: scale them down"
    if int(request.headers.get("content-length", 0)) > UPLOADED:
        raise HTTPException(413, most, {"connection": "close"})
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > UPLOADED:
            raise HTTPException(413, most, {"connection": "close"})
    return bytes(found)


async def _refused(request: Request, error: Exception) -> Response:
    status = 410 if isinstance(error, Gone) else 500 if isinstance(error, MachineError) else 400
    return JSONResponse({"error": printable(" ".join(str(error).split()))}, status)


async def _refused_by_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
