"""The page of `unitkit demo`: what it shows is what the model makes."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import one_line, unitkit, until
from PIL import Image
from test_export import checkpoint, unit
from test_munit import small
from test_report import BROWSER, Reader

import unitkit as kit
from unitkit import discriminators, encoders, generators, models, sharing
from unitkit.data.values import BYTES, Values
from unitkit.demo import pictures
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
