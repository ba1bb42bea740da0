"""The page of `unitkit demo`: what it shows is what the model makes, and whom and what the server refuses."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import numpy as np
import pytest
import torch
from commands import one_line, start, unitkit, until
from PIL import Image
from test_export import checkpoint, unit
from test_munit import small
from test_report import BROWSER, Reader

import unitkit as kit
from unitkit import discriminators, encoders, generators, models, sharing
from unitkit.data.values import BYTES, Values
from unitkit.demo import app, pictures
from unitkit.demo.app import Demo
from unitkit.demo.guard import BODY
from unitkit.demo.runs import LONGEST, Models, Size, all_shown, one_latent_space, shown
from unitkit.demo.server import bound, server_of
from unitkit.system.errors import UserError
from unitkit.translate import Translator

ALL = ("ab", "ba", "aa", "bb", "aba", "bab", "aab", "abb", "baa", "bba", "aaa", "bbb")


@dataclass(frozen=True)
class Site:
    """A server under test."""

    demo: Demo
    port: int

    def ask(
        self, method: str, where: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {**({"content-type": BODY} if body is not None else {}), **headers}
        connection.request(method, where, body, {name.replace("_", "-"): text for name, text in given.items()})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def get(self, where: str) -> bytes:
        """What is there."""
        status, _, body = self.ask("GET", where)
        assert status == 200, body
        return body

    def post(self, where: str, body: bytes) -> dict[str, Any]:
        """What the network makes of a picture."""
        status, _, answer = self.ask("POST", where, body)
        assert status == 200, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    def refused(self, where: str, body: bytes, *words: str, status: int = 400, **headers: str) -> None:
        """A post is refused, in one line with these words."""
        found, _, answer = self.ask("POST", where, body, **headers)
        error = json.loads(answer)["error"]
        assert found == status and "\n" not in error and all(word in error for word in words), (found, error)


@contextmanager
def serving(words: Sequence[Path], held: int = 3) -> Iterator[Site]:
    kept = Models("cpu", "ema", held)
    found, wrong = all_shown(words, kept)
    assert not wrong, wrong
    demo = Demo(found, kept)
    with bound("127.0.0.1", 0) as at:
        server = server_of(demo.app())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
        thread.start()
        until(lambda: server.started)
        try:
            yield Site(demo, at.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def site(trained: Path) -> Iterator[Site]:
    with serving([trained]) as found:
        yield found


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def seen(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def asked(where: str = "translate", **given: object) -> str:
    values = {"run": 0, "step": 12, "path": "ab", "size": "trained", **given}
    return f"/{where}?" + "&".join(f"{name}={value}" for name, value in values.items() if value is not None)


PICTURE = png(noise(16, 16, 3))


# What is shown


def test_the_page_offers_every_path_checkpoint_and_example(site: Site, trained: Path) -> None:
    status, headers, body = site.ask("GET", "/")
    page = Reader(body.decode())
    (data,) = page.json
    (run,) = data["runs"]
    assert status == 200 and {each["path"] for each in run["paths"]} == {*ALL}
    assert run["paths"][0] == {"path": "ab", "name": "plain to glasses"}
    assert run["steps"] == [9, 12] and run["step"] == 12 and run["walk"] == "codes"
    assert run["sizes"][0]["words"] == "as in training, 16x16, cut to the centre"
    assert run["examples"] == {"a": 4, "b": 4} and not run["notes"]
    assert all(each.startswith("data:") for each in page.loads), "its assets are in it"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert {word for word in re.split("[ ;]+", policy) if ":" in word or "." in word} == {"data:", "blob:"}, "no other"
    held_out = kit.load_recipe(trained / "recipe.py").data.domains["b"].test
    for number in range(4):
        example = np.asarray(Image.open(io.BytesIO(site.get(f"/example?run=0&letter=b&number={number}"))))
        np.testing.assert_array_equal(example.transpose(2, 0, 1), held_out.load(number))


@pytest.mark.parametrize("path", ["ab", "bb", "aba", "abb"])
def test_a_translation_is_the_models_beside_its_reconstruction_and_cycle(site: Site, trained: Path, path: str) -> None:
    found = site.post(asked(path=path), PICTURE)
    first = path[0]
    beside = [path[:2], first * 2, *([path + first] if len(path) == 2 else [])]
    images = {each["path"]: seen(each["uri"]) for each in found["images"]}
    assert list(images) == list(dict.fromkeys([first, path, *beside]))
    np.testing.assert_array_equal(images.pop(first), noise(16, 16, 3))
    translator = kit.load(trained, device="cpu")
    for each, image in images.items():
        np.testing.assert_array_equal(image, translator.translate(Image.fromarray(noise(16, 16, 3)), each), each)


def test_steps_of_a_run_and_those_that_are_gone(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    (folder / "recipe.py").write_text("raise SystemExit('the code of a run was run')")
    with serving([folder]) as site:
        last, early = (site.post(asked(step=step), PICTURE)["images"][1]["uri"] for step in (12, 9))
        assert last != early
        expected = kit.load(folder / "checkpoints" / "step-00000009", device="cpu")
        np.testing.assert_array_equal(seen(early), expected.translate(Image.fromarray(noise(16, 16, 3)), "ab"))
        shutil.rmtree(folder / "checkpoints" / "step-00000009")
        site.refused(asked(step=9), PICTURE, "step 9 of", "no longer there; those of steps 12 are", status=410)
        assert json.loads(site.get("/runs"))[0]["steps"] == [12]
        (folder / "checkpoints" / "step-00000012" / "ema.safetensors").unlink(missing_ok=True)
        shutil.copytree(folder / "checkpoints" / "step-00000012", folder / "checkpoints" / "step-00000013")
        (folder / "checkpoints" / "step-00000013" / "model.safetensors").write_bytes(b"cut off")
        site.refused(asked(step=13), PICTURE, "model.safetensors")
        assert site.post(asked(), PICTURE)["images"][1]["uri"] == last
        shutil.rmtree(folder)
        site.refused(asked(), PICTURE, "no longer there; and no other is", status=410)


def test_a_run_is_named_as_translate_takes_it(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "ab.safetensors"
    assert unitkit("export", trained, file).status == 0
    kept = Models("cpu", "ema")
    early = trained / "checkpoints" / "step-00000009"
    lone = Path(shutil.copytree(early, tmp_path / "lone" / "mine"))
    link = tmp_path / "latest"
    link.symlink_to(trained)
    found = {each: shown(each, kept) for each in (trained, early, lone, link, file)}
    assert [list(each.checkpoints()) for each in found.values()] == [[9, 12], [9, 12], [], [9, 12], []]
    assert [each.to_json()["step"] for each in found.values()] == [12, 9, None, 12, None]
    assert found[file].paths == ("ab",) and found[file].walk == "" and not found[file].examples
    link.unlink()  # and lead to another run, as runs/latest does
    assert found[link].checkpoint(12).is_dir()
    with serving([file]) as site:
        images = site.post(asked(step=None), PICTURE)["images"]
        assert [each["path"] for each in images] == ["a", "ab"]
        site.refused(asked("walk", step=None, first=len(PICTURE)), PICTURE, "no latent space")


def test_few_models_are_in_memory(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(place: Path, **options: Any) -> Translator:
        loaded.append(place.name[-2:])
        return kit.load(place, **options)

    monkeypatch.setattr("unitkit.demo.runs.load", load)
    kept = Models("cpu", "ema", held=1)
    for step in (9, 9, 12, 9):
        kept.get(trained / "checkpoints" / f"step-{step:08d}")
        assert len(kept._found) == 1
    assert loaded == ["09", "12", "09"]


def test_sizes_are_bounded_and_said(site: Site) -> None:
    found = site.post(asked(size="whole"), png(noise(100, 2000, 3)))
    assert found["size"] == [26, LONGEST] and found["given"] == [100, 2000]
    assert all(seen(each["uri"]).shape == (26, LONGEST, 3) for each in found["images"])
    found = site.post(asked(), png(noise(100, 2000, 3)))
    assert found["size"] == [16, 16]
    assert site.post(asked(size="whole"), png(noise(1, 1)))["size"] == [1, 1]


# Between two pictures


def test_a_walk_between_two_codes(site: Site, trained: Path) -> None:
    pixels = noise(16, 16, 3), 255 - noise(16, 16, 3)
    bodies = [png(each) for each in pixels]
    found = site.post(asked("walk", first=len(bodies[0]), other="b"), b"".join(bodies))
    rows = {row["path"]: [seen(each) for each in row["frames"]] for row in found["rows"]}
    assert list(rows) == ["a", "b"] and all(len(frames) == pictures.FRAMES for frames in rows.values())
    model = kit.load(trained, device="cpu").model
    images = {
        k: BYTES.normalised(torch.from_numpy(each.transpose(2, 0, 1).copy()))[None]
        for k, each in zip("ab", pixels, strict=True)
    }
    with torch.no_grad():
        codes = [model.read(images, [f"code:{letter}"])[f"code:{letter}"].mean for letter in "ab"]
        for letter, frames in rows.items():
            for frame, share in (frames[0], 0), (frames[4], 0.5), (frames[8], 1):
                made = model.generators[letter](codes[0] * (1 - share) + codes[1] * share)
                expected = BYTES.restored(made)[0].transpose(1, 2, 0)
                np.testing.assert_allclose(frame.astype(int), expected.astype(int), atol=1)
    site.refused(asked("walk", first=len(bodies[0]), other="z"), b"".join(bodies), "'z' is no other of")
    site.refused(asked("walk", first=len(bodies[0]), other="b"), bodies[0], "empty")


def test_a_walk_between_two_styles() -> None:
    translator = Translator(small(), {"a": "plain", "b": "glasses"})
    size = Size((16, 24), "")
    like = png(noise(16, 24, 3)[::-1])
    with torch.no_grad():
        for given, end in (
            (like, translator.style(Image.open(io.BytesIO(like)), "b")),
            (b"", translator.drawn_style("b", 6)),
        ):
            found = pictures.restyled(translator, png(noise(16, 24, 3)), given, path="ab", size=size, seed=5)
            (row,) = found["rows"]
            for frame, share in (0, 0.0), (4, 0.5), (8, 1.0):
                style = torch.lerp(translator.drawn_style("b", 5), end, share)
                expected = translator.translate(Image.fromarray(noise(16, 24, 3)), "ab", style=style)
                difference = seen(row["frames"][frame]).astype(int) - np.asarray(expected)
                assert np.abs(difference).max() <= 1
            assert len(set(row["frames"])) > 1
    with pytest.raises(UserError, match="own style"):
        pictures.restyled(translator, PICTURE, b"", path="aa", size=size, seed=5)
    drawn = [pictures.translated(translator, PICTURE, "ab", size, seed)["images"] for seed in (None, 1, 2)]
    assert len({images[1]["uri"] for images in drawn}) == 3 and len({images[2]["uri"] for images in drawn}) == 1


def test_where_no_latent_space_is_shared_there_is_no_walk(tmp_path: Path) -> None:
    parts = {"encoder": encoders.residual(width=4, blocks=1), "generator": generators.residual(width=4, blocks=1)}
    shares = {
        "none": sharing.none(),
        "discriminators": sharing.tie(discriminator=1),
        "encoders": sharing.tie(encoder=1),
        "generators": sharing.tie(generator=1),
        "soft": sharing.soft(encoder=1),
        "softly seen": sharing.soft(discriminator=1),
    }
    seen = discriminators.strided(width=4, layers=2)
    found = {
        name: models.unit(channels={"a": 3, "b": 3}, discriminator=seen, sharing=each, **parts).build()
        for name, each in shares.items()
    }
    assert [name for name, model in found.items() if one_latent_space(model)] == ["encoders", "generators", "soft"]
    place = checkpoint(tmp_path / "checkpoints", unit({"a": 3, "b": 3}), (16, 16))
    run = shown(place, Models("cpu", "ema"))
    assert run.walk == "" and not run.to_json()["walk"]


# Values of other kinds


def test_deep_images_are_shown_in_their_range_and_the_page_says_so(tmp_path: Path) -> None:
    values = {"a": Values("uint16", (100.0,), (4000.0,)), "b": Values()}
    place = checkpoint(tmp_path / "checkpoints", unit({"a": 1, "b": 3}), (16, 16), values)
    kept = Models("cpu", "ema")
    run = shown(place, kept)
    (note,) = run.notes
    assert "label of a hold uint16 100,4000" in note and "black the lowest" in note
    translator, size = kept.get(place), run.sizes["trained"]
    shallow = noise(16, 16)
    deep = np.rint(shallow / 255 * 3900 + 100).astype(np.uint16)
    expected = np.asarray(translator.translate(deep, "ab")).astype(int)
    for pixels in shallow, deep:
        found = pictures.translated(translator, png(pixels), "ab", size)["images"]
        np.testing.assert_allclose(seen(found[0]["uri"]).astype(int), shallow, atol=1)
        np.testing.assert_allclose(seen(found[1]["uri"]).astype(int), expected, atol=2)


def test_images_of_many_channels(tmp_path: Path) -> None:
    kept = Models("cpu", "ema")
    both = checkpoint(tmp_path / "run" / "checkpoints", unit({"a": 4, "b": 4}), (16, 16))
    one_line(
        unitkit("demo", tmp_path / "run", "--no-open"),
        "no picture in grey or colour",
        "4 channels",
        "unitkit translate",
    )
    one = checkpoint(tmp_path / "other" / "checkpoints", unit({"a": 3, "b": 4}), (16, 16))
    run = shown(one, kept)
    assert {path[0] for path in run.paths} == {"a"} and "4 channels: the first three are shown" in run.notes[0]
    found = pictures.translated(kept.get(one), PICTURE, "ab", run.sizes["trained"])
    assert seen(found["images"][1]["uri"]).shape == (16, 16, 3) and both.is_dir()


def test_a_map_of_colours_is_no_example(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    record = json.loads((folder / "run.json").read_text())
    assert set(shown(folder, Models("cpu", "ema")).examples) == {"a", "b"}
    (folder / "run.json").write_text(json.dumps({**record, "knobs": {**record["knobs"], "source.bands": "3,2,1"}}))
    assert not shown(folder, Models("cpu", "ema")).examples
    shutil.rmtree(folder / "samples")
    assert not shown(folder, Models("cpu", "ema")).examples


# What is refused


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


# In a browser


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_a_translation_and_asks_nobody_else(site: Site, tmp_path: Path) -> None:
    assert BROWSER
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    here, log = f"http://127.0.0.1:{site.port}", tmp_path / "net.json"
    done = subprocess.run(
        [
            BROWSER,
            *words,
            "--window-size=390,844",
            "--virtual-time-budget=10000",
            f"--log-net-log={log}",
            "--dump-dom",
            here,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    page = Reader(done.stdout)
    images = [each["src"] for each in page.tags["img"] if each.get("src", "").startswith("data:image/png")]
    assert len(images) == 6, done.stderr[-2000:]  # two in the wipe, and ab, aa and aba beside the picture
    example = site.get("/example?run=0&letter=a&number=0")
    made = site.post(asked(), example)["images"]
    assert images[1] == made[1]["uri"] and images[2:] == [each["uri"] for each in made]
    assert "CONSOLE" not in done.stderr, done.stderr
    ours = {
        event["params"]["url"]
        for event in json.loads(log.read_text())["events"]
        if event.get("params", {}).get("initiator") == here
    }
    assert any(url.startswith(f"{here}/translate?") for url in ours) and all(url.startswith(f"{here}/") for url in ours)
