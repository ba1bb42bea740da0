"""Runs that lose nothing: folders with things in them, names of checkpoints, options, output that fails, forks."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Moment, one_line, run, unitkit
from PIL import Image
from safetensors.torch import load_file, save_file

import unitkit as kit
from unitkit import TrainingError, UserError
from unitkit.ablation.statistics import read_findings
from unitkit.commands.progress import summary
from unitkit.commands.runs.places import fresh_folder
from unitkit.data.cache import _pool
from unitkit.data.drawn import rendered
from unitkit.hooks import Call
from unitkit.runs import checkpoint
from unitkit.runs.folder import RunFolder
from unitkit.runs.options import RunOptions
from unitkit.runs.page import write_report
from unitkit.runs.steps import FILES, all_steps, broken
from unitkit.system.output import steady_output
from unitkit.trainer import Trainer


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def trainer(folder: Path, *, resume: bool = False, **knobs: Any) -> Trainer:
    recipe = kit.load_recipe(TINY, **{"steps": 3, **knobs})
    return Trainer(recipe, RunOptions(folder, device="cpu", resume=resume))


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in all_steps(folder / "checkpoints")]


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


# Folders that hold something already


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "recipe.py",
        "report.html",
        "metrics.json",
        "stats.jsonl",
        "watched.jsonl",
        "checkpoints/step-00000002/model.safetensors",
        "checkpoints/mine.txt",
        "samples/step-00000002.png",
        "best/step-00000002/model.safetensors",
        "checkpoints",
        "samples",
    ],
)
def test_a_new_run_overwrites_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).write_text("{}")
    before = content(tmp_path)
    one_line(
        unitkit("train", TINY, "@quick", "--out", tmp_path / "run"), name.split("/")[0].removesuffix(".json"), "--out"
    )
    assert content(tmp_path) == before


def test_a_link_that_leads_nowhere_is_not_overwritten_either(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").symlink_to("elsewhere")
    one_line(unitkit("train", TINY, "@quick", "--out", tmp_path), "stats.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["stats.jsonl"]


def test_checkpoints_that_lost_their_run_are_not_taken_for_the_new_ones(folder: Path) -> None:
    for name in ("run.json", "recipe.py", "stats.jsonl", "metrics.json", "report.html"):
        (folder / name).unlink()
    shutil.rmtree(folder / "samples")
    one_line(unitkit("train", TINY, "lr=1e-2", "--out", folder), "holds checkpoints", "no run to resume")


def test_other_things_in_the_folder_stay(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    for name in ("note.txt", ".DS_Store", "samples/.DS_Store"):
        (folder / name).write_text("mine")
    (folder / "recipe.py").write_bytes(TINY.read_bytes())  # of a training that was killed before it began
    assert unitkit("train", TINY, "@quick", "--out", folder).status == 0
    assert all((folder / name).read_text() == "mine" for name in ("note.txt", ".DS_Store", "samples/.DS_Store"))


def test_default_folders_are_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unitkit.commands.train.time.strftime", lambda *_: "now")
    for _ in range(3):
        assert unitkit("train", TINY, "@quick").status == 0
    assert sorted(path.name for path in Path("runs/tiny").iterdir()) == ["now", "now-2", "now-3"]
    one_line(unitkit("train", TINY, "width=0"), "width")
    assert len(list(Path("runs/tiny").iterdir())) == 3  # what cannot begin leaves no folder
    Path("file").touch()
    with pytest.raises(UserError, match="cannot make the folder"):
        fresh_folder(Path("file/x"))


@pytest.mark.parametrize(
    ("name", "words"), [("stats.jsonl", "holds stats.jsonl but no run.json"), ("run.json", "a run")]
)
def test_a_new_run_overwrites_nothing_where_a_training_has_held_the_folder(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / ".lock").touch()  # of a training that was killed before it began
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=words):
        trainer(tmp_path, steps=1)
    assert (tmp_path / name).read_text() == "{}"


# Names of checkpoints


def test_only_whole_checkpoints_count_and_by_number(folder: Path) -> None:
    place = folder / "checkpoints"
    good = place / "step-00000012"
    for name in ("step-00000012-good", "step-00000013.bak", "Step-00000014", "step-", "step-1x", "step-00000015\n"):
        shutil.copytree(good, place / name)
    shutil.copytree(good, place / "step-٣")  # a digit, but not one of ours
    (place / "step-00000099").mkdir()
    (place / "step-00000098").write_text("a file")
    (place / "step-00000097").symlink_to("nowhere")
    for step in (99999999, 100000000):
        shutil.copytree(good, place / f"step-{step}")
    assert checkpoints(folder) == ["step-00000009", "step-00000012", "step-99999999", "step-100000000"]
    assert RunFolder(folder).latest().name == "step-100000000"
    one_line(unitkit("train", "--resume", "--out", folder), "its step is 12")  # a copy under another name


def test_retention_deletes_only_its_own(tmp_path: Path) -> None:
    ours = trainer(tmp_path / "run", steps=1)
    ours.fit()
    place = tmp_path / "run/checkpoints"
    for name in ("step-00000001-good", "step-1", "linked"):
        shutil.copytree(place / "step-00000001", place / name)
    (place / "step-00000002").symlink_to("linked")
    (place / "step-00000003").mkdir()
    ours.done = 99999999
    ours.save()
    (place / "step-99999999/note.txt").write_text("mine")
    for ours.done in (100000000, 100000001):
        ours.save()
    stay = {"step-00000001-good", "step-1", "linked", "step-00000002", "step-00000003", "step-99999999"}
    assert {path.name for path in place.iterdir()} == {*stay, "step-100000000", "step-100000001"}
    assert [path.name for path in (place / "step-99999999").iterdir()] == ["note.txt"]


def test_one_file_short_is_no_checkpoint(folder: Path, tmp_path: Path) -> None:
    for name in FILES:
        shutil.copytree(folder / "checkpoints", place := tmp_path / name / "checkpoints")
        (place / "step-00000012" / name).unlink()
        assert [path.name for path in all_steps(place)] == ["step-00000009"]
        assert [path.name for path in broken(place)] == ["step-00000012"]
        (place / "step-00000009" / name).unlink()
        assert [path.name for path in broken(place)] == ["step-00000009", "step-00000012"]
    (folder / "checkpoints/step-00000012/state.json").unlink()
    answer = unitkit("train", "--resume", "--out", folder)
    assert answer.status == 0 and "steps 9 to 12" in answer.out and "step-00000012 lack files" in answer.out
    assert checkpoints(folder) == ["step-00000009", "step-00000012"]


@pytest.mark.parametrize("kind", ["file", "weights", "folder"])
def test_what_stands_at_the_name_of_a_checkpoint_is_set_aside(tmp_path: Path, kind: str) -> None:
    ours = trainer(tmp_path / "run", steps=1)
    place = tmp_path / "run/checkpoints/step-00000001"
    (tmp_path / "theirs").mkdir()
    if kind == "file":
        place.write_text("mine")
    elif kind == "weights":
        place.symlink_to(tmp_path / "theirs")
    else:
        place.mkdir()
        (place / "note.txt").write_text("mine")
    ours.fit()
    assert checkpoints(tmp_path / "run") == ["step-00000001"] and not place.is_symlink()
    aside = place.with_name("step-00000001.aside-1")
    assert aside.is_symlink() if kind == "weights" else (aside if kind == "file" else aside / "note.txt").read_text()


def test_a_step_of_another_history_is_replaced(tmp_path: Path) -> None:
    ours = trainer(tmp_path / "run", steps=2)
    ours.fit()
    old = load_file(ours.run.latest() / "model.safetensors")
    checkpoint.save(ours.run.best, 2, model=ours.model, description={"model": {}}, optimizers=ours.optimizers, keep=1)
    with torch.no_grad():
        for parameter in ours.model.parameters():
            parameter.add_(1)
    ours.save(ours.run.best, keep=1)
    new = load_file(ours.run.best / "step-00000002/model.safetensors")
    assert all(torch.equal(new[name], old[name] + 1) for name, _ in ours.model.named_parameters() if name in new)
    ours.done = 1  # rewound below the best of before
    ours.save(ours.run.best, keep=1)
    assert [path.name for path in ours.run.best.iterdir()] == ["step-00000001"]


def test_the_last_grid_is_by_number(folder: Path) -> None:
    for name, value in ("step-99999999", 1), ("step-100000000", 2), ("step-200000000-old", 3):
        Image.new("RGB", (2, 2), (value,) * 3).save(folder / "samples" / f"{name}.png")
    write_report(RunFolder(folder))
    assert '<output id="at" for="step">step 100000000</output>' in (folder / "report.html").read_text()


# What a run keeps


def test_options_are_kept_unless_they_are_given_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert unitkit("train", TINY, "steps=4", "--out", folder, "--checkpoint-every", 3).status == 0
    assert unitkit("train", "--resume", "--out", folder, "steps=7").status == 0
    assert checkpoints(folder) == ["step-00000006", "step-00000007"]
    assert unitkit("train", "--resume", "--out", folder, "steps=11", "--checkpoint-every", 4).status == 0
    assert unitkit("train", "--resume", "--out", folder, "steps=14").status == 0
    assert checkpoints(folder) == ["step-00000012", "step-00000014"]
    record = RunFolder(folder).record
    assert record["checkpoint_every"] == 4 and [each["step"] for each in record["history"]] == [4, 7, 11]


def test_an_ablation_begun_again_keeps_them(tmp_path: Path) -> None:
    words = ("ablate", TINY, "steps=6", "--out", tmp_path / "out")
    run(tmp_path / "log", *words, "--checkpoint-every", 2)
    cell = next((tmp_path / "out").glob("*/seed-0"))
    shutil.rmtree(cell / "checkpoints/step-00000006")
    run(tmp_path / "log", *words)
    assert RunFolder(cell).record["checkpoint_every"] == 2
    (finding,) = read_findings(tmp_path / "out").cells
    assert (finding.state, finding.step) == ("done", 6)


def test_another_number_of_processes_needs_the_same_global_batch(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "batch": 1, "world": 2}))
    answer = unitkit("train", "--resume", "--out", folder, "steps=13")
    assert answer.status == 0 and "batch 2 for each of 1, where it was 1 for each of 2 processes" in answer.out, answer
    assert "not the same bit for bit" in answer.out
    record = json.loads((folder / "run.json").read_text())
    assert (record["batch"], record["world"]) == (2, 1)
    assert "where it was" not in unitkit("train", "--resume", "--out", folder, "steps=14").out
    (folder / "run.json").write_text(json.dumps({**record, "batch": 2, "world": 2}))
    before = content(folder)
    one_line(unitkit("train", "--resume", "--out", folder, "steps=15"), "give batch=4")
    one_line(unitkit("train", "--resume", "--out", folder, "steps=15", "batch=3"), "give batch=4")
    assert content(folder) == before
    assert unitkit("train", "--resume", "--out", folder, "steps=15", "batch=4").status == 0


def test_notes_are_json(tmp_path: Path) -> None:
    recipe = kit.load_recipe(TINY, steps=2)
    with pytest.raises(UserError, match=r"cannot keep .*run.json: .*PosixPath"):
        Trainer(recipe, RunOptions(tmp_path, device="cpu"), notes={"where": tmp_path})
    assert Trainer(recipe, RunOptions(tmp_path, device="cpu"), notes={"where": [1, (2,)]}).fit()


def photos(root: Path, seed: int) -> Path:
    draw = np.random.default_rng(seed)
    for label in "xy":
        for split in "train", "test":
            (root / split / label).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(draw.integers(0, 255, (16, 16, 3), np.uint8)).save(root / split / label / f"{i}.png")
    return root


def figures(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())["evaluations"]


@pytest.mark.parametrize("data", ["data", "data/train/x,./data/train/y", "../a/data"])
def test_relative_data_are_the_same_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    for name, seed in ("a", 0), ("b", 1):
        photos(tmp_path / name / "data", seed)
    monkeypatch.chdir(tmp_path / "a")
    assert unitkit("train", TINY, f"data={data}", "steps=1", "--out", "run").status == 0
    (before,) = figures(Path("run"))
    monkeypatch.chdir(tmp_path / "b")
    answer = unitkit("evaluate", "../a/run")
    (after,) = figures(tmp_path / "a/run")
    assert answer.status == 0 and "warning" not in answer.out and after["metrics"] == before["metrics"]
    answer = unitkit("train", "--resume", "--out", "../a/run", "steps=2")
    assert answer.status == 0 and "differ" not in answer.out
    assert figures(tmp_path / "a/run")[1]["data"] == before["data"]
    answer = unitkit("evaluate", "../a/run", "--data", "data")  # given here, meant here
    assert "differ" not in answer.out and figures(tmp_path / "a/run")[2]["data"]["name"] == str(tmp_path / "b/data")
    assert unitkit("train", "--resume", "--out", "../a/run", "steps=3", "data=data").status == 0
    monkeypatch.chdir(tmp_path)
    answer = unitkit("train", "--resume", "--out", "a/run", "steps=4")
    assert "differ" not in answer.out and RunFolder("a/run").record["knobs"]["data"] == str(tmp_path / "b/data")


def test_other_data_than_the_runs_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in ("a", 0), ("b", 1):
        photos(tmp_path / name / "data", seed)
    monkeypatch.chdir(tmp_path / "a")
    assert unitkit("train", TINY, "data=data", "steps=1", "--out", tmp_path / "run").status == 0
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("a")  # the folder where it began is gone
    monkeypatch.chdir("b")
    assert "warning: the images differ" in unitkit("evaluate", tmp_path / "run").out
    for split in ("train", "test"):
        Path("data", split, "x").rename(Path("data", split, "z"))
    answer = unitkit("evaluate", tmp_path / "run")
    assert "warning: the domains differ" in answer.out and "were a x, b y, and are a y, b z" in answer.out
    assert "note: the domains differ" in unitkit("train", "--resume", "--out", tmp_path / "run", "steps=2").out


# Weights that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", ["model.safetensors", "training.safetensors"])
def test_what_is_not_finite_is_not_loaded(folder: Path, tmp_path: Path, file: str, value: float) -> None:
    path = folder / "checkpoints/step-00000012" / file
    stored = load_file(path)
    name = sorted(stored)[-1]
    stored[name].view(-1)[-1] = value
    save_file(stored, path)
    one_line(unitkit("train", "--resume", "--out", folder, "steps=13"), f"'{name}' is not finite", "step-00000009")
    if file == "model.safetensors":
        words = ("ab", folder / "samples/step-00000012.png", tmp_path / "x.png")
        one_line(unitkit("translate", folder, *words), f"'{name}' is not finite", "step-00000009")
        one_line(unitkit("evaluate", folder), f"'{name}' is not finite")
        model, _ = checkpoint.load_model(folder / "checkpoints/step-00000009")
        next(model.parameters()).data.fill_(value)
        with pytest.raises(UserError, match="is not finite"):
            kit.Translator(model, {"a": "x", "b": "y"})


@pytest.mark.parametrize("what", ["weight", "moment"])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, what: str) -> None:
    ours = trainer(tmp_path / "run", steps=3)
    ours.hooks[-1].every = 2

    def report(ours: Any, losses: Any) -> None:
        if ours.done == 3:
            parameter = ours.training_step.parameters["generator"][0]
            state = ours.optimizers["generator"].state[parameter]
            (parameter.data if what == "weight" else state["exp_avg"]).fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"step 3: '.*' is not finite.* step-00000002, stays"):
        ours.hooks.insert(0, Call(report))
        ours.fit()
    assert checkpoints(tmp_path / "run") == ["step-00000002"]


# Output that fails


@pytest.mark.parametrize("lack", ["no_reader", "no_room"])
@pytest.mark.parametrize("words", [("train", TINY, "steps=6", "--checkpoint-every", 3), ("evaluate",), ("translate",)])
def test_work_goes_on_where_its_output_cannot(
    trained: Path, folder: Path, tmp_path: Path, lack: str, words: tuple[Any, ...]
) -> None:
    if words[0] == "train":
        words = (*words, "--out", tmp_path / "new")
    elif words[0] == "evaluate":
        words = (*words, folder, "--metrics", "l1(aa, a)")
    else:
        words = (*words, folder, "ab", trained / "samples/step-00000012.png", tmp_path / "x.png")
    answer = run(tmp_path / "log", *words, **{lack: True})
    assert (answer.status, answer.err) == (0, "")
    if words[0] == "train":
        assert checkpoints(tmp_path / "new") == ["step-00000003", "step-00000006"]
        assert (tmp_path / "new/report.html").exists()
    elif words[0] == "evaluate":
        assert "l1(aa, a)" in figures(folder)[0]["metrics"]
    else:
        assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_streams_that_are_closed_from_the_start(closed: str) -> None:
    code = (
        "import os, sys, tempfile\nfrom unitkit.system.output import steady_output\nwith steady_output():\n"
        " file = tempfile.TemporaryFile()\n assert file.fileno() > 2\n"
        " print('é' * 100000); print('x', file=sys.stderr)\n file.seek(0); sys.exit(3 if file.read() == b'' else 4)"
    )
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], timeout=60)
    assert done.returncode == 3


class Failing(io.StringIO):
    """A stream that fails from its second write on."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.calls = error, 0

    def write(self, text: str) -> int:
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "gone"), ValueError("closed file")]
)
def test_output_that_fails_is_tried_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    stream = Failing(error)
    monkeypatch.setattr(sys, "stdout", stream)
    with steady_output():
        for word in "abc":
            print(word, end="", flush=True)
    assert (stream.getvalue(), stream.calls) == ("a", 2) and sys.stdout is stream


def test_what_a_stream_cannot_spell_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with steady_output():
        print("é\udcff", "after")
    assert stream.buffer.getvalue() == b"\\xe9\\udcff after\n"  # type: ignore[attr-defined]


def test_the_line_of_a_step_tells_kinds_of_losses_whatever_their_paths() -> None:
    losses = {
        "generator/patch_nce(ab/a, a)": 1.0,
        "generator/patch_nce(b/ab/a, b/a)": 2.0,
        "d/l1(b/ab, b)": 0.5,
        "kl(a)": 4,
    }
    assert summary({name: torch.tensor(value) for name, value in losses.items()}) == "patch_nce 1.5  l1 0.5  kl 4"


def test_a_line_shows_the_losses_of_the_step_that_it_names(tmp_path: Path) -> None:
    answer = unitkit("train", TINY, "steps=37", "--out", tmp_path / "run")
    rows = {row.pop("step"): row for row in RunFolder(tmp_path / "run").stats()}
    lines = re.findall(r"^step (\d+) of 37, \d+ images/s  (.*)$", answer.out, re.MULTILINE)
    assert [int(step) for step, _ in lines] == [1, 37]  # and one every 30 seconds
    for step, losses in lines:
        assert losses == summary({name: value for name, value in rows[int(step)].items() if name != "seconds"})


def test_a_terminal_that_closes_stops_with_a_checkpoint(tmp_path: Path) -> None:
    moments = [Moment("unitkit.trainer:Trainer.step", 3, (signal.SIGHUP,))]
    answer = run(tmp_path / "log", "train", TINY, "--out", tmp_path / "run", moments=moments)
    assert answer.status == 128 + signal.SIGHUP and checkpoints(tmp_path / "run") == ["step-00000003"]


# Forks


def in_a_fork(work: Callable[[], Any]) -> None:
    child = os.fork()
    if not child:
        signal.alarm(30)  # what hangs is ended
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def work_and_fork(folder: Path) -> None:
    """In a process of its own: train, and train in a fork."""
    torch.set_num_threads(2)
    ours = trainer(folder / "one", steps=2, size=32, width=16)
    ours.fit()
    large = torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # by threads of which a fork has none
    slow = _pool().submit(signal.sigtimedwait, [signal.SIGUSR1], 0.5)
    for decoded in ours.batches.train.values():
        decoded.pending = dict.fromkeys(range(len(decoded.images)), slow)
        decoded.ready[:] = False
    with ours.batches.train["a"].lock, rendered.DRAWING:
        in_a_fork(lambda: (large @ large, ours.step(1), trainer(folder / "two").fit()))


def test_a_process_forked_after_work_can_train(tmp_path: Path) -> None:
    """A fresh one: where another test has predicted memory, torch's autograd has threads of its own, and no fork."""
    process = multiprocessing.get_context("spawn").Process(target=work_and_fork, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0 and RunFolder(tmp_path / "two").latest().name == "step-00000003"


def test_this_folder_can_be_a_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other, for a training, one that is resumed, and an ablation."""
    monkeypatch.chdir(tmp_path)
    for words in ("train", TINY, "steps=1"), ("train", "--resume", "steps=2"):
        answer = unitkit(*words, "--out", ".")
        assert answer.status == 0, answer
    assert RunFolder(tmp_path).latest().name == "step-00000002" and not (tmp_path / "runs").exists()
    one_line(unitkit("train", TINY, "--name", "x", "--out", "."), "--name x and --out .")
    one_line(unitkit("ablate", TINY, "shared=0,1", "steps=1", "--out", "."), ". is a folder with other")
    monkeypatch.chdir(fresh_folder(tmp_path / "ablation"))
    answer = unitkit("ablate", TINY, "shared=1", "steps=1", "--out", ".")
    assert answer.status == 0 and (tmp_path / "ablation/ablation.csv").is_file(), answer


@pytest.mark.parametrize("words", [("train", TINY), ("train", "--resume"), ("ablate", TINY, "shared=0,1")])
def test_an_empty_word_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(unitkit(*words, "--out", ""), "--out is empty")
    one_line(unitkit(*words, "--out="), "--out is empty")
    assert not os.listdir()
