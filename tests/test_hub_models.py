"""Models on the Hugging Face Hub: pushed to and fetched from a stand-in on this machine that speaks HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import yaml
from commands import one_line, unitkit
from hub_server import TOKEN, Hub, Repository, hub_server
from huggingface_hub import constants
from PIL import Image, PngImagePlugin

from unitkit import UserError, load
from unitkit.hub import fetch as fetching
from unitkit.hub.access import explained
from unitkit.hub.names import Place, parse_place
from unitkit.publishing.contents import write_model
from unitkit.publishing.scrub import Scrubber
from unitkit.runs.kept import find_run
from unitkit.runs.samples import layout_of
from unitkit.system.errors import MachineError
from unitkit.templates.markdown import in_markdown

NAME = "anna/glasses"


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub_server() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty hub, a token for it, and an empty cache."""
    server.__init__(server.url)  # type: ignore[misc]
    url = server.url
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return server


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be pushed of the trained run. Not to be changed."""
    place = tmp_path_factory.mktemp("pushed") / "out"
    answer = unitkit("push", trained, NAME, "--dry-run", place, "--license", "MIT")
    assert answer.status == 0 and "nothing is pushed" in answer.out, answer
    return place


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(hub: Hub, folder: Path, **more: Any) -> Repository:
    """The model in a repository, beside what a hostile one would hold."""
    bad = {"recipe.py": b"raise SystemExit('ran')", "run.json": b"{}", "pytorch_model.bin": b"pickle", "x.py": b"1/0"}
    return hub.add(NAME, {**files(folder), **bad}, **more)


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "anna meier" / "run")


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_pushed_is_read_as_it_stands(folder: Path, trained: Path) -> None:
    names = {"README.md", "metrics.json", "model.json", "model.safetensors", "samples.png", "state.json"}
    assert set(files(folder)) == names
    ours, theirs = load(folder, device="cpu"), load(trained, device="cpu")
    assert all(
        same.equal(other) for same, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True)
    )
    assert ours.labels == theirs.labels
    run, checkpoint = find_run(folder)
    assert run is None and checkpoint == folder
    with Image.open(folder / "samples.png") as image:
        assert layout_of(image) is not None


def test_what_is_pushed_is_one_commit_and_is_fetched_again(hub: Hub, trained: Path, tmp_path: Path) -> None:
    answer = unitkit("push", trained, NAME, "--message", "the first")
    assert answer.status == 0, answer
    assert f"hf:{NAME}, private: {hub.url}/{NAME}/commit/" in answer.out and not answer.err
    assert "note: the hub" not in answer.out
    repository = hub.repositories[NAME]
    assert repository.private and repository.messages[1:] == ["the first"]
    before = tmp_path / "before"
    before.mkdir()
    Image.new("RGB", (20, 12), "red").save(before / "one.png")
    for model, place in (trained, "here"), (f"hf:{NAME}", "hub"):
        answer = unitkit("translate", model, "ab", before, tmp_path / place)
        assert answer.status == 0, answer
    assert (tmp_path / "here/one.png").read_bytes() == (tmp_path / "hub/one.png").read_bytes()


def test_a_second_push_leaves_nothing_stale(hub: Hub, trained: Path, tmp_path: Path) -> None:
    hub.add(NAME, {"ema.safetensors": b"old", "notes.txt": b"the user's"}, private=False)
    one_line(unitkit("push", trained, NAME, "--private"), "is there already, and public", "leave --private out")
    answer = unitkit("push", trained, NAME)
    assert answer.status == 0 and f"hf:{NAME}, public" in answer.out, answer
    found = hub.repositories[NAME]
    there = found.commits[found.branches["main"]]
    assert "ema.safetensors" not in there and there["notes.txt"] == b"the user's" and len(found.commits) == 2
    answer = unitkit("push", trained, f"hf:{NAME}", "--revision", "small")
    assert answer.status == 0 and set(found.branches) == {"main", "small"}, answer


def test_only_what_is_needed_is_fetched_and_no_code_runs(hub: Hub, folder: Path, tmp_path: Path) -> None:
    stored(hub, folder)
    assert load(f"hf:{NAME}", device="cpu").labels == {"a": "plain", "b": "glasses"}
    fetched = {line.rpartition("/")[2] for line in hub.asked if line.startswith("GET") and "/resolve/" in line}
    assert fetched == {"model.json", "state.json", "model.safetensors"}
    # Not even where it lies in the cache, or in a folder, because somebody fetched the whole repository.
    huggingface_hub.snapshot_download(NAME)
    one_line(unitkit("evaluate", f"hf:{NAME}"), "without its run", "--data FOLDER")
    shutil.copytree(folder, tmp_path / "whole")
    for name in "recipe.py", "run.json":
        (tmp_path / "whole" / name).write_text("raise SystemExit('ran')")
    one_line(unitkit("evaluate", tmp_path / "whole"), "without its run")


def test_a_second_time_nothing_large_is_fetched_and_without_a_network_nothing_at_all(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = stored(hub, folder)
    tag = repository.branches["v1"] = repository.branches["main"]
    places = (f"hf:{NAME}", f"hf:{NAME}@v1", f"hf:{NAME}@{tag}")
    for place in places:
        load(place, device="cpu")
    hub.asked.clear()
    load(f"hf:{NAME}", device="cpu")
    assert not any(line.startswith("GET") and "/resolve/" in line for line in hub.asked)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()  # which has been opened as one with a network
    for place in places:
        load(place, device="cpu")
    with pytest.raises(MachineError, match=r"'hf:anna/glasses@other' is not in the cache"):
        load(f"hf:{NAME}@other", device="cpu")
    one_line(unitkit("push", folder, NAME), "HF_HUB_OFFLINE is set", "--dry-run")
    assert not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    hub.fails = 503
    load(f"hf:{NAME}", device="cpu")  # as it was


def test_a_training_may_begin_with_one(hub: Hub, folder: Path, tiny: Path, tmp_path: Path) -> None:
    stored(hub, folder)
    for place in f"hf:{NAME}", folder:
        out = tmp_path / str(len(str(place)))
        answer = unitkit("train", tiny, "steps=1", "--out", out, "--init-from", place)
        assert answer.status == 0 and "do not match" not in answer.out, answer
        assert json.loads((out / "run.json").read_text())["init_from"] == str(place)


def test_evaluate_and_export_take_one_of_the_hub(hub: Hub, folder: Path, tmp_path: Path) -> None:
    stored(hub, folder)
    words = ("--data", "portraits", "--metrics", "psnr(aa, a)", "--max-images", 2, "--save", tmp_path / "found.json")
    answer = unitkit("evaluate", f"hf:{NAME}", *words)
    assert answer.status == 0 and "warning" not in answer.out and "metrics.json" not in answer.out, answer
    assert json.loads((tmp_path / "found.json").read_text())["checkpoint"] == f"hf:{NAME}"
    one_line(unitkit("evaluate", f"hf:{NAME}", "--data", "portraits", "--metrics", "psnr(ac, a)"), "c")
    answer = unitkit("export", f"hf:{NAME}", tmp_path / "ab.safetensors")
    assert answer.status == 0 and "compared on noise: this is a model without its run" in answer.out, answer
    assert (tmp_path / "ab.safetensors").is_file()


BAD_NAMES = (
    "anna",
    "anna/",
    "/glasses",
    "a/b/c",
    "anna/gl asses",
    "anna/../x",
    "anna/gl--asses",
    "-a/b",
    "a/b.git",
    "",
)


@pytest.mark.parametrize("name", [*BAD_NAMES, "anna/" + "x" * 96, "anna/\x1b[31m", "anna/gläser"])
def test_names_that_none_can_have(name: str, trained: Path, hub: Hub) -> None:
    one_line(unitkit("push", trained, "--", name), "is no name on the hub", "OWNER/NAME")
    with pytest.raises(UserError, match="is no name on the hub"):
        parse_place(f"hf:{name}")
    assert not hub.asked


@pytest.mark.parametrize("revision", ["", "a..b", "../x", "a b", "-x", "x/", "a@{1}", "x" * 300, "a//b", "~x", "a\nb"])
def test_revisions_that_none_can_have(revision: str, trained: Path) -> None:
    with pytest.raises(UserError, match="is no revision"):
        parse_place(f"hf:{NAME}@{revision}")
    assert parse_place(f"hf:{NAME}@refs/pr/1") == Place(NAME, "refs/pr/1")
    one_line(unitkit("push", trained, NAME, f"--revision={revision}"), "is no revision")


def test_a_folder_that_is_called_so_is_not_passed_over(
    hub: Hub, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = shutil.copytree(trained, tmp_path / "hf:anna" / "glasses")
    with pytest.raises(UserError, match=f"is a folder here.*{re.escape(str(here))}"):
        load(f"hf:{NAME}", device="cpu")
    load(here, device="cpu")
    assert not hub.asked


def test_what_the_hub_refuses_is_one_line(
    hub: Hub, folder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")

    def fetch(place: str, *words: str, status: int = 2) -> None:
        one_line(unitkit("translate", place, "ab", tmp_path / "in.png", tmp_path / "out.png"), *words, status=status)

    fetch("hf:anna/none", "'hf:anna/none' is not there, or is private", "hf auth login")
    stored(hub, folder, gated=True)
    fetch(f"hf:{NAME}", "is gated", "ask for access")
    stored(hub, folder)
    fetch(f"hf:{NAME}@old", f"'hf:{NAME}@old' has no such revision")
    hub.add("anna/other", {"README.md": b"", "model.bin": b""})
    fetch("hf:anna/other", "holds no model of unitkit's", "README.md, model.bin", "no model.json")
    stored(hub, folder).sizes["model.safetensors"] = 2**33
    fetch(f"hf:{NAME}", "is of 8.0 GiB, and no more than 4.0 GiB", "hf download")
    assert not any("/resolve/" in line for line in hub.asked)
    hub.fails = 503
    fetch(f"hf:{NAME}", "status 503", "try again later", status=1)
    hub.fails = 0
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    fetch(f"hf:{NAME}", "does not know this token", "hf auth login")
    monkeypatch.delenv("HF_TOKEN")
    stored(hub, folder, private=True)
    fetch(f"hf:{NAME}", "is not there, or is private")
    one_line(unitkit("push", trained, NAME), "there is no token", "hf auth login", "--dry-run")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    fetch(f"hf:{NAME}", "the hub cannot be reached", status=1)
    assert not (tmp_path / "out.png").exists()


def test_what_the_hub_does_not_take_is_one_line(hub: Hub, trained: Path) -> None:
    one_line(unitkit("push", trained, "nobody/x"), "the hub refuses this", "rights to create")
    one_line(unitkit("push", trained, NAME, "--license", "mine-own"), "must be one of apache-2.0")
    one_line(unitkit("push", trained, NAME, "--license", "a b\n"), "is no licence's name")
    one_line(unitkit("push", trained, NAME, "--message", " "), "--message is empty")
    one_line(unitkit("push", f"hf:{NAME}", NAME), "is on the hub already")
    one_line(unitkit("push", trained.parent, NAME), "is not a run folder")
    hub.fails = 500
    one_line(unitkit("push", trained, NAME), "status 500", status=1)


def test_a_repository_that_changes_while_it_is_fetched_is_not_mixed(hub: Hub, folder: Path) -> None:
    repository = stored(hub, folder)
    changes = iter([{**files(folder), "model.json": b"{}"}])

    def change(path: str) -> None:
        if path.endswith("model.safetensors") and (new := next(changes, None)):
            repository.commit("main", new)

    hub.before = change
    with pytest.raises(MachineError, match="was changed while it was being fetched"):
        load(f"hf:{NAME}", device="cpu")


HOSTILE = {
    "model.json": b"[]",
    "model.json ": b'{"format": 9}',
    "model.json  ": b"{" * 100_000,
    "model.safetensors": b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
    "model.safetensors ": b"",
}


@pytest.mark.parametrize("name", HOSTILE, ids=["no object", "newer", "deep", "pickle", "empty"])
def test_a_hostile_repository_is_one_line(name: str, hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.add(NAME, {**files(folder), name.strip(): HOSTILE[name]})
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    answer = unitkit("translate", f"hf:{NAME}", "ab", tmp_path / "in.png", tmp_path / "out.png")
    one_line(answer, "a newer one made it" if name == "model.json " else name.strip())


def test_a_network_that_fails_is_the_machines(tmp_path: Path) -> None:
    def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
        error.__cause__ = cause
        return error

    for error in (
        httpx2.ConnectError("no\nroute"),
        ConnectionError("x"),
        TimeoutError(),
        raised(RuntimeError("an upload failed"), httpx2.ReadTimeout("late")),
    ):
        said = explained(error, "the model")
        assert isinstance(said, MachineError) and "\n" not in str(said)
    assert explained(OSError(28, "No space left on device"), "x") is None
    assert explained(ZeroDivisionError(), "x") is None


PATHS = {
    "/home/anna/faces": "faces",
    "hf:/home/anna/set": "hf:set",
    "../../anna/faces": "faces",
    "see '/data/x.pt', or ~/y.pt": "see 'x.pt', or y.pt",
    "/home/anna": "home",
    r"C:\Users\anna\faces": "faces",
    "/a/b,/c/d": "b,d",
    "/srv/anna meier/run/recipe.py is gone": "recipe.py is gone",
    "file:///home/anna/faces": "faces",
    "file:///home/anna": "home",
    "file://anna-laptop/srv/anna/faces": "faces",
    r"\\nas\anna\faces": "faces",
    "//nas/anna/faces": "faces",
    "cannot use '/srv/bob lee/my set/x y.png': gone": "cannot use 'x y.png': gone",
    'in "C:\\Users\\bob lee\\my set" and `~bob/a b/c d`': 'in "my set" and `c d`',
    "'/home/bob lee', '../../bob lee/set', '\\\\nas\\bob lee\\set'": "'home', 'set', 'set'",
    "/mnt/bob lee/my set/x.png is gone": "x.png is gone",
    r"C:\Users\bob lee\my set\x.png is gone": "x.png is gone",
    "/home/bob lee": "home",
    r"D:\Users\bob lee": "home",
    "~bob": "home",
    "file:///home/bob%20lee/my%20set": "my%20set",
    "file:///C:/Users/bob/set": "set",
    "file:/home/bob/set, file://localhost/home/bob": "set, home",
    r"\\?\C:\Users\bob\set": "set",
    "bob's set isn't 'a/b' of ~5": "bob's set isn't 'a/b' of ~5",
    "/a/b and /c/d, ~5 of it": "b and d, ~5 of it",
    "https://x.org/a/b": "https://x.org/a/b",
    "a // b, a//b": "a // b, a//b",
    "data/faces, 1/2 of n/a": "data/faces, 1/2 of n/a",
}


@pytest.mark.parametrize("text", PATHS)
def test_paths_become_their_last_name(text: str) -> None:
    assert Scrubber(["/srv/anna meier/run"]).value([{text: (text, 1)}]) == [{PATHS[text]: [PATHS[text], 1]}]


def test_nothing_says_where_it_comes_from(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "anna meier"))
    data = str(tmp_path / "anna meier" / "my faces")
    record = json.loads((copied / "run.json").read_text())
    changed(copied / "run.json", data={**record["data"], "name": data}, knobs={**record["knobs"], "data": data})
    found = json.loads((copied / "metrics.json").read_text())
    entry = found["evaluations"][0]
    entry["data"]["name"] = data
    entry["metrics"]["psnr(aa, a)"]["warnings"] = [f"{data}/weights.pt is not the published file", "/opt/meier/x.pt"]
    other = {**entry, "step": 3, "checkpoint": "step-00000003"}
    changed(copied / "metrics.json", evaluations=[entry, other])
    grid = copied / "samples" / "step-00000012.png"
    with Image.open(grid) as image:
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", "anna meier")
        image.save(grid, pnginfo=text)
    answer = unitkit("push", copied, NAME, "--dry-run", tmp_path / "out")
    assert answer.status == 0 and "evaluations of other steps or weights stay here: 1" in answer.out, answer
    for name, content in files(tmp_path / "out").items():
        assert b"meier" not in content and str(tmp_path).encode() not in content, name
    card = (tmp_path / "out/README.md").read_text()
    assert "on the data my faces" in card and "| data | my faces | portraits |" in card
    assert "model-index" not in card  # its only figure comes with a warning
    assert "weights.pt is not the published file" in card
    assert len(json.loads((tmp_path / "out/metrics.json").read_text())["evaluations"]) == 1


def test_a_model_that_names_a_file_of_this_machine_is_refused(copied: Path, tmp_path: Path) -> None:
    checkpoint = copied / "checkpoints/step-00000012"
    changed(checkpoint / "model.json", labels={"a": str(tmp_path / "plain"), "b": "glasses"})
    assert unitkit("push", copied, NAME, "--dry-run", tmp_path / "out").status == 0
    assert json.loads((tmp_path / "out/model.json").read_text())["labels"]["a"] == "plain"
    one_line(unitkit("push", copied, NAME, "--dry-run", tmp_path / "out"), "is there already")
    part = {"kind": "encoder", "name": "mine", "arguments": {"weights": ["/srv/weights.pt"]}}
    with pytest.raises(UserError, match=r"names a file of this machine.*: /srv/weights\.pt$"):
        write_model(tmp_path, {"model": part, "labels": {}}, checkpoint, Scrubber())


def test_the_card_says_what_the_hub_needs_and_what_a_reader_does(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    said = yaml.safe_load(head)
    assert said["pipeline_tag"] == "image-to-image" and said["library_name"] == "unitkit" and said["license"] == "mit"
    (result,) = said["model-index"][0]["results"]
    figure = json.loads((folder / "metrics.json").read_text())["evaluations"][0]["metrics"]["psnr(aa, a)"]["figures"]
    assert result["dataset"] == {"name": "portraits", "type": "custom", "split": "test"}
    assert [each["value"] for each in result["metrics"]] == [round(figure["psnr"], 4)]
    for words in (
        f"unitkit translate hf:{NAME} ab INPUT OUTPUT",
        f'unitkit.load("hf:{NAME}")',
        "| ab | plain to glasses |",
        "![Held-out images along the image paths](samples.png)",
        "protocol: step 12, portraits, split test, 16x16, seed 0",
        "## Limits",
    ):
        assert words in body, words
    assert not re.search(r"\n{3}", body) and body.endswith("\n")


def test_names_are_no_marks_in_a_card(copied: Path, tmp_path: Path) -> None:
    label = "<script>x</script>|[a](javascript:1)\n# `b` *c*\u202e"
    changed(copied / "checkpoints/step-00000012/model.json", labels={"a": label, "b": "--- b"})
    changed(copied / "run.json", recipe="![x](http://y)")
    assert unitkit("push", copied, NAME, "--dry-run", tmp_path / "out").status == 0
    card = (tmp_path / "out/README.md").read_text()
    for words in "<script>", "[a](", "\n# `", "![x]", "\u202e":
        assert words not in card, words
    rows = [line for line in card.splitlines() if line.startswith("| ab |")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3]
    assert in_markdown("a_b _c_ 1*2 \\| x") == r"a_b \_c\_ 1\*2 \\\| x"


def test_the_moving_average_goes_alone_and_best_is_said_to_be_chosen(copied: Path, tmp_path: Path) -> None:
    checkpoint = copied / "checkpoints/step-00000012"
    shutil.copy(checkpoint / "model.safetensors", checkpoint / "ema.safetensors")
    shutil.copytree(checkpoint, copied / "best" / checkpoint.name)
    for run, weights, name in (copied / "best", "ema", "ema.safetensors"), (checkpoint, "last", "model.safetensors"):
        out = tmp_path / weights
        answer = unitkit("push", run, NAME, "--weights", weights, "--dry-run", out)
        assert answer.status == 0, answer
        assert [path.name for path in out.glob("*.safetensors")] == [name]
        card = (out / "README.md").read_text()
        assert ("figures on these flatter it" in card) == (weights == "ema")
        assert ("their moving average." in card) == (weights == "ema")
        assert ("which is not the one published here" in card) == (weights == "last")
        load(out, device="cpu")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load(tmp_path / "ema", device="cpu", weights="last")


def test_a_file_without_a_size_is_not_fetched(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(hub, folder).sizes["model.json"] = None  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"does not say how large model\.json"):
        load(f"hf:{NAME}", device="cpu")
    monkeypatch.setattr(fetching, "LARGEST", 10)
    stored(hub, folder)
    with pytest.raises(UserError, match="no more than 1 MiB"):
        load(f"hf:{NAME}", device="cpu")


def test_the_stand_in_keeps_what_it_is_given(hub: Hub, trained: Path, folder: Path) -> None:
    assert unitkit("push", trained, NAME, "--license", "mit").status == 0
    repository = hub.repositories[NAME]
    there = repository.commits[repository.branches["main"]]
    assert {name: there[name] for name in files(folder)} == files(folder)
    assert set(hub.objects) == {
        hashlib.sha256(there[name]).hexdigest() for name in ("model.safetensors", "samples.png")
    }
    assert base64.b64encode(there["README.md"])
