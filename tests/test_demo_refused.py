"""Whom and what the server of `unitkit demo` refuses, and the command."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
from commands import one_line, start, unitkit, until
from PIL import Image
from test_demo import PICTURE, Site, asked, noise, serving

from unitkit.demo import app, pictures
from unitkit.demo.guard import BODY
from unitkit.demo.server import bound


@pytest.fixture(scope="module")
def site(trained: Path) -> Iterator[Site]:
    with serving([trained]) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"host": "evil.example"}, 403),
        ("GET", {"host": "127.0.0.1.evil.example:80"}, 403),
        ("GET", {"host": "localhost@evil.example"}, 403),
        ("GET", {"host": ""}, 403),
        ("GET", {"host": "[::1"}, 403),
        ("GET", {"host": "LOCALHOST:1"}, 200),
        ("GET", {"host": "[::1]:80"}, 200),
        ("GET", {"host": "192.168.0.7"}, 200),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"origin": "http://127.0.0.1:1"}, 403),
        ("POST", {"sec_fetch_site": "cross-site"}, 403),
        ("POST", {"sec_fetch_site": "same-site"}, 403),
        ("POST", {"content_type": "text/plain"}, 403),
        ("POST", {"content_type": "multipart/form-data"}, 403),
        ("POST", {"sec_fetch_site": "same-origin"}, 200),
        ("PUT", {}, 405),
    ],
)
def test_who_may_ask(site: Site, method: str, headers: dict[str, str], status: int) -> None:
    post = method != "GET"
    found, answered, body = site.ask(method, asked() if post else "/runs", PICTURE if post else None, **headers)
    assert found == status, body
    assert "content-security-policy" in answered and answered["cache-control"] == "no-store"
    assert status == 200 or "error" in json.loads(body)


def test_the_pages_own_origin_may_post(site: Site) -> None:
    status, _, _ = site.ask(
        "POST", asked(), PICTURE, origin=f"http://127.0.0.1:{site.port}", sec_fetch_site="same-origin"
    )
    assert status == 200


@pytest.mark.parametrize(
    "given",
    [
        {"run": 1}, {"run": "-1"}, {"run": "../../etc"}, {"run": "\u00b2"}, {"run": "0" * 5000}, {"step": "9" * 19},
        {"step": "latest"}, {"step": None}, {"path": "ac"}, {"path": "abab"}, {"path": "a"}, {"path": "/etc/passwd"},
        {"size": "9999"}, {"size": None}, {"run": "%00"}, {"path": "a%0ab"},
    ],
)  # fmt: skip
def test_what_no_page_asks(site: Site, given: dict[str, object]) -> None:
    status, _, body = site.ask("POST", quote(asked(**given), safe="/?&=%"), PICTURE)
    assert status in (400, 410) and "\n" not in json.loads(body)["error"], body


def test_examples_and_files_that_are_not_there(site: Site) -> None:
    for where in ("letter=a&number=4", "letter=a&number=-1", "letter=z&number=0", "letter=../a&number=0", ""):
        assert site.ask("GET", f"/example?run=0&{where}")[0] == 400
    for where in ("/../../etc/passwd", "/demo.js", "/example/", "/translate/x"):
        assert site.ask("GET", where)[0] in (404, 405, 307)


def gif() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (gif(), "not an image"),
        (PICTURE[:200], "damaged or truncated"),
        (b"\x93NUMPY", "not an image"),
    ],
)
def test_what_is_no_picture(site: Site, body: bytes, says: str) -> None:
    site.refused(asked(), body, says)


def test_what_is_too_large(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "UPLOADED", 2**20)
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.putrequest("POST", asked())
    connection.putheader("content-type", BODY)
    connection.putheader("content-length", str(2**20 + 1))
    connection.endheaders()  # and nothing more: the answer waits for no byte of it
    answer = connection.getresponse()
    assert answer.status == 413 and "1 MiB" in json.loads(answer.read())["error"]
    connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    chunks = (bytes(2**16) for _ in range(17))
    connection.request("POST", asked(), chunks, {"content-type": BODY}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    monkeypatch.setattr(pictures, "PIXELS", 255)
    site.refused(asked(), PICTURE, "16x16 pixels")


def test_a_picture_that_does_not_come(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "PATIENCE", 0.05)
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.putrequest("POST", asked())
    connection.putheader("content-type", BODY)
    connection.putheader("content-length", "1000")
    connection.endheaders(b"x")
    assert connection.getresponse().status == 408
    connection.close()
    until(lambda: site.demo.asked == 0)


def test_the_network_has_one_picture_at_a_time_and_few_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "QUEUE", 3)
    at_once: list[int] = []
    free, busy = threading.Event(), threading.Lock()

    def slow(*_: Any) -> dict[str, Any]:
        assert busy.acquire(blocking=False), "two at once"
        at_once.append(site.demo.asked)
        free.wait(20)
        busy.release()
        return {}

    monkeypatch.setattr(pictures, "translated", slow)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(site.ask("POST", asked(), PICTURE)[0])) for _ in range(3)
    ]
    for each in threads:
        each.start()
    until(lambda: site.demo.asked == 3 and at_once)
    site.refused(asked(), PICTURE, "3 pictures are waiting", status=503)
    assert site.ask("GET", "/")[0] == 200, "the page is there meanwhile"
    free.set()
    for each in threads:
        each.join()
    assert statuses == [200, 200, 200] and len(at_once) == 3 and site.demo.asked == 0


def test_a_fault_of_ours_is_a_line_and_the_server_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise KeyError("ours")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "translated", broken)
        site.refused(asked(), PICTURE, "KeyError: 'ours'", status=500)
        patch.setattr(pictures, "translated", mock.Mock(side_effect=MemoryError))
        site.refused(asked(), PICTURE, "the memory of cpu ran out; choose a smaller size", status=500)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "KeyError" in printed and "Traceback" not in printed
    assert site.post(asked(), PICTURE)


# The command


def test_mistakes_are_one_line_each_before_anything_is_served(trained: Path, tmp_path: Path) -> None:
    answer = unitkit("demo", tmp_path / "one", trained, tmp_path / "two", "--port", 0, "--no-open")
    assert answer.status == 2 and answer.out == "" and answer.err.count("error: ") == answer.err.count("\n") == 2
    with bound("127.0.0.1", 0) as taken:
        taken.listen(1)
        port = taken.getsockname()[1]
        one_line(unitkit("demo", trained, "--port", port), f"port {port} is in use", "--port 0")
    one_line(unitkit("demo", trained, "--host", "no such host"), "'no such host' is no address")
    one_line(unitkit("demo", trained, "--host", "192.0.2.1"), "no address of this machine")
    one_line(unitkit("demo", trained, "--device", "nowhere", "--port", 0), "unknown device")
    assert unitkit("demo", trained, "--port", 65536).status == 2
    with mock.patch("unitkit.commands.demo.find_spec", return_value=None):
        one_line(unitkit("demo", trained), "pip install 'unitkit[demo]'")


def test_ctrl_c_ends_it_with_a_line_and_who_can_reach_it_is_said(trained: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    begun = start(log, "demo", trained, "--port", 0, "--no-open", "--host", "0.0.0.0")
    until(lambda: log.with_suffix(".out").exists() and "http://" in log.with_suffix(".out").read_text())
    said, where = log.with_suffix(".out").read_text().splitlines()
    assert said.startswith("warning: whoever reaches this machine at 0.0.0.0") and "no password" in said
    found = re.match(r"http://localhost:(\d+)/", where)
    assert found
    with socket.create_connection(("127.0.0.1", int(found[1]))) as idle:  # which holds nothing up
        idle.sendall(b"GET /runs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        os.kill(begun.process.pid or 0, signal.SIGINT)
        answer = begun.wait()
    assert (answer.status, answer.err) == (130, "stopped\n")


def test_a_browser_is_opened_where_it_is_asked_for(trained: Path) -> None:
    with (
        mock.patch("webbrowser.open") as opened,
        mock.patch("uvicorn.Server.run", side_effect=KeyboardInterrupt),
    ):
        answer = unitkit("demo", trained, "--port", 0, "--open")
        assert answer.status == 130 and answer.out.count("\n") == 1, "no warning where this machine alone reaches it"
        (where,) = opened.call_args.args
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", where)
        assert unitkit("demo", trained, "--port", 0).status == 130
        assert opened.call_count == 1, "nobody looks at a terminal here"
