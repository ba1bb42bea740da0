"""`unitkit weights`: what is listed, and what is fetched from a server of this test: whole and right, or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from commands import one_line, unitkit
from huggingface_hub import constants

from unitkit import UserError
from unitkit.commands.machine.weights import published_for
from unitkit.metrics import distances
from unitkit.metrics.networks import published
from unitkit.metrics.networks.features import find_timm
from unitkit.metrics.networks.published import INCEPTION, Published, hub_cache, timm_weights, torch_home

CONTENT = b"weights, in a manner of speaking" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]
USED_BY = ("fid", "kid", "lpips", "lpips(net=vgg)", "frechet", "kernel")


class Answers(BaseHTTPRequestHandler):
    """The content whole, cut short, altered, or none of it, by the folder that is asked for."""

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        if how == "gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write({"cut": CONTENT[:5000], "altered": CONTENT[::-1]}.get(how, CONTENT))

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return torch_home()


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


def known(monkeypatch: pytest.MonkeyPatch, url: str) -> Published:
    """Inception's weights, said to be at another address, and to be the content above."""
    moved = replace(INCEPTION, url=f"{url}/file-{DIGEST}.pth", digest=DIGEST)
    monkeypatch.setattr(published, "INCEPTION", moved)
    monkeypatch.setattr(distances, "INCEPTION", moved)
    return moved


def test_a_file_comes_whole_and_stays(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = known(monkeypatch, f"{server}/whole")
    answer = unitkit("weights", "kid", "inception", "fid")  # three names of one file
    assert answer.status == 0, answer.err
    assert file.place.parent == home and file.place.read_bytes() == CONTENT
    assert answer.out.count(str(file.place)) == 1 and "Apache" in answer.out and "96 MB" in answer.out
    assert os.listdir(home) == [file.file]
    before = file.place.stat().st_mtime_ns
    again = unitkit("weights", "fid")
    assert again.status == 0 and "here already" in again.out and file.place.stat().st_mtime_ns == before
    assert "inception  here\n" in unitkit("weights").out


@pytest.mark.parametrize(
    ("how", "says"),
    [("cut", "cut short"), ("altered", "not the published file"), ("gone", "404"), ("refused", "cannot fetch")],
)
def test_what_is_not_the_file_is_not_kept(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch, how: str, says: str
) -> None:
    file = known(monkeypatch, "http://127.0.0.1:1" if how == "refused" else f"{server}/{how}")
    answer = unitkit("weights", "fid")
    assert answer.status == 2 and "Traceback" not in answer.err
    error = answer.err[answer.err.index("error: ") :]  # behind the bar of a download
    for word in says, file.url, str(file.place), "weights=PATH":
        assert word in error, error
    assert error.count("\n") == 1 and not list(home.glob("*"))


def test_another_file_in_its_place_is_not_overwritten(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = known(monkeypatch, f"{server}/whole")
    home.mkdir(parents=True)
    file.place.write_bytes(b"mine")
    one_line(unitkit("weights", "fid"), str(file.place), "not the published file", "move it away")
    assert file.place.read_bytes() == b"mine"
    assert "inception  here, but not the published file" in unitkit("weights").out


def test_one_that_cannot_be_had_leaves_the_others(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = known(monkeypatch, f"{server}/whole")
    gone = replace(published.BACKBONES["alex"], url=f"{server}/gone/alex.pth")
    monkeypatch.setitem(published.BACKBONES, "alex", gone)
    answer = unitkit("weights", "lpips", "fid")
    assert answer.status == 2 and "alex.pth" in answer.err
    assert file.place.read_bytes() == CONTENT


def test_a_folder_that_cannot_be(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, f"{server}/whole")
    home.parent.mkdir(parents=True)
    home.write_text("a file where the folder should be")
    one_line(unitkit("weights", "fid"), "cannot keep", str(home), "TORCH_HOME")


def test_names(home: Path) -> None:
    for name in USED_BY:
        assert name in published_for(name).used_by
    assert published_for("lpips( net=vgg )").name == "vgg" and published_for("resnet18").name == "resnet18"
    for name in "fid(ab, b)", "FID", "Inception", "kid( ba,a)":
        assert published_for(name) == INCEPTION
    for name, file in ("lpips(aba, a)", "alex"), ("lpips(net=alex)", "alex"), ("lpips(aba, a, net=vgg)", "vgg"):
        assert published_for(name).name == file
    assert published_for("diversity(ab, distance=lpips, net=squeeze)").name == "squeeze"
    assert published_for("frechet(model=resnet18)").name == "resnet18"
    one_line(unitkit("weights", "diversity"), "needs no weights")
    one_line(unitkit("weights", "resnet50.nonsense"), "timm has no weights 'resnet50.nonsense'", "resnet50.")
    one_line(unitkit("weights", "frechet(model=resnet50.nonsense)"), "timm has no weights")
    one_line(unitkit("weights", "fdi"), "no weights are known as 'fdi'", "Did you mean 'fid'?")
    one_line(unitkit("weights", "psnr"), "needs no weights")
    one_line(unitkit("weights", "fid", "resnet5O"), "resnet5O")
    assert not list(home.glob("*"))


def test_every_error_about_missing_weights_names_the_command(home: Path) -> None:
    for name in USED_BY:
        with pytest.raises(UserError, match=f"`unitkit weights {published_for(name).name}`"):
            published_for(name).find(None)


def test_models_of_the_hub_have_a_place_each(home: Path) -> None:
    """Their files are all called model.safetensors: in torch's folder they would be taken for each other."""
    one, two = (timm_weights(model) for model in ("aimv2_1b_patch14_224", "aimv2_1b_patch14_336"))
    assert one and two and one.repository and one.file == two.file and one.place != two.place
    one.place.parent.mkdir(parents=True)
    one.place.write_bytes(b"")
    assert one.find(None) == one.place
    with pytest.raises(UserError, match="aimv2_1b_patch14_336"):
        two.find(None)


def test_the_list_is_whole(home: Path) -> None:
    answer = unitkit("weights")
    assert answer.status == 0
    for each in published.published():
        for word in each.name, each.url, str(each.place), each.licence, each.digest, *each.used_by:
            assert word and word in answer.out
    assert answer.out.count("missing") == 5


@pytest.mark.parametrize(("name", "value"), [("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x"), ("HF_HUB_CACHE", "~/zz")])
def test_weights_are_looked_for_where_they_are_fetched_to(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variables that Hugging Face's own library reads, when it is imported."""
    for other in [*os.environ]:
        if other.startswith(("HF_", "HUGGINGFACE")) or other == "XDG_CACHE_HOME":
            monkeypatch.delenv(other)
    monkeypatch.setenv(name, value)
    spec = importlib.util.find_spec("huggingface_hub.constants")
    assert spec and spec.loader
    anew = importlib.util.module_from_spec(spec)  # as a process imports it that has this variable
    spec.loader.exec_module(anew)
    monkeypatch.setattr(huggingface_hub, "constants", anew)
    assert str(hub_cache()) == anew.HF_HUB_CACHE and "~" not in anew.HF_HUB_CACHE


def test_weights_of_jax_are_taken_from_the_hub(home: Path) -> None:
    import timm

    found = [name for name in timm.list_pretrained() if str(timm.get_pretrained_cfg(name).url or "").endswith(".npz")]
    assert found
    for name in found:
        known = timm_weights(name)
        assert known is None or (
            known.repository and known.file == "model.safetensors" and hub_cache() in known.place.parents
        )


def test_weights_that_timm_itself_has_fetched_are_found(home: Path) -> None:
    """It takes the hub's file of a model that has an older address as well."""
    known = timm_weights("resnet50")
    assert known and known.digest and known.place.parent == home
    snapshot = hub_cache() / "models--timm--resnet50.a1_in1k/snapshots/0123/model.safetensors"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"of the hub")
    assert find_timm("resnet50", None) == (snapshot, "")
    assert "resnet50  here\n" in unitkit("weights").out
