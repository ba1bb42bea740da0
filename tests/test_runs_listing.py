"""`unitkit runs`, --name and runs/latest: which runs there are, and where the newest lies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import TINY, one_line, unitkit

from unitkit.commands.runs.places import point_at
from unitkit.commands.runs.summary import summary
from unitkit.runs.folder import RunFolder

QUICK = ("train", TINY, "@quick")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_named_runs_are_listed_with_what_was_changed_and_the_newest_has_a_name(here: Path) -> None:
    assert unitkit(*QUICK, "--name", "first").status == 0
    assert unitkit(*QUICK, "width=3", "--name", "second").status == 0
    assert os.readlink("runs/latest") == "tiny/second"
    one_line(unitkit(*QUICK, "--name", "first"), "already holds a run")
    assert os.readlink("runs/latest") == "tiny/second"
    one_line(unitkit("evaluate", "runs/latest", "--metrics", "nothing"), "'nothing'")  # and not: no run folder
    first, second = json.loads(unitkit("runs", "--json").out)
    assert (first["path"], second["path"]) == ("runs/tiny/first", "runs/tiny/second")
    assert (first["changed"], second["changed"]) == ({"steps": 2}, {"width": 3, "steps": 2})
    assert first["step"] == first["steps"] == 2 and first["state"] == "done" and first["seconds"] > 0
    kept = RunFolder("runs/tiny/first").evaluations()[0]["metrics"]
    assert first["value"] == next(iter(next(iter(kept.values()))["figures"].values()))
    shown = unitkit("runs")
    assert shown.status == 0 and "width=3" in shown.out and first["text"] in shown.out


def test_of_a_preset_only_what_was_changed_beyond_it_is_said(here: Path) -> None:
    recipe = here / "mine.py"
    recipe.write_text(TINY.read_text().replace('{"steps": 2}', '{"steps": 2, "lr": 0.5, "shared": 0}'))
    assert unitkit("train", recipe, "@quick", "--name", "plain").status == 0
    plain = Path("runs/mine/plain")
    assert RunFolder(plain).record["preset"] == {"name": "quick", "knobs": {"steps": 2, "lr": 0.5, "shared": 0}}
    assert summary(plain).knobs == "@quick"
    other, old = (Path(shutil.copytree(plain, plain.with_name(name))) for name in ("other", "old"))
    record = RunFolder(plain).record
    knobs = {**record["knobs"], "lr": 0.001, "width": 3}  # the recipe's own again, which the preset has otherwise
    RunFolder(other).write_json("run.json", {**record, "knobs": knobs})
    RunFolder(old).write_json("run.json", {name: value for name, value in record.items() if name != "preset"})
    assert summary(other).knobs == "@quick width=3 lr=0.001"
    assert summary(old).knobs == "shared=0 lr=0.5"
    assert "@quick width=3" in unitkit("runs").out
    shown = [
        line.split("│")[3].split() for line in unitkit("compare", plain, other).out.splitlines() if "│ mine" in line
    ]
    assert shown == [["@quick", "width=4"], ["width=3", "lr=0.001"]]


def test_a_run_says_whether_it_is_training_stopped_or_done(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert summary(run).state == "done"
    handle = RunFolder(run).lock()
    assert summary(run).state == "training"
    os.close(handle)
    record = RunFolder(run).record
    RunFolder(run).write_json("run.json", {**record, "steps": 20})
    assert summary(run).state == "done"  # ended early, by its watch: what it has is measured
    shutil.copytree(run / "checkpoints/step-00000012", run / "checkpoints/step-00000015")
    found = summary(run)
    assert (found.state, found.step, found.text) == (
        "stopped",
        15,
        summary(trained).text,
    )  # measured at 12, and gone on
    RunFolder(run).write_json("run.json", record)
    (run / "metrics.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if path.name > "step-00000009":
            shutil.rmtree(path)
    found = summary(run)
    assert (found.state, found.step, found.steps, found.text) == ("stopped", 9, 12, "")


def test_a_damaged_run_is_named_and_the_others_are_listed(trained: Path, here: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(trained, here / "runs" / name)
    (here / "runs/a/run.json").write_text("{")
    answer = unitkit("runs", "--json")
    assert [each["path"] for each in json.loads(answer.out)] == ["runs/b"]
    assert "runs/a/run.json" in answer.err and "Traceback" not in answer.err


def test_cells_of_ablations_are_listed_where_asked(trained: Path, here: Path) -> None:
    shutil.copytree(trained, here / "runs/tiny/ablation/shared=0/seed-0")
    (here / "runs/tiny/ablation/ablation.json").write_text("{}")
    one_line(unitkit("runs"), "no runs in runs: expected a folder in which", "--cells lists those of ablations")
    assert unitkit("runs", "--json").out == "[]\n"
    assert "seed-0" in json.loads(unitkit("runs", "--cells", "--json").out)[0]["path"]


def test_names_and_folders_that_cannot_be(here: Path) -> None:
    one_line(unitkit(*QUICK, "--name", "a/b"), "'a/b'", "--out")
    one_line(unitkit(*QUICK, "--name", ".."), "'..'")
    one_line(unitkit(*QUICK, "--name", ""), "no name of a folder")
    one_line(unitkit(*QUICK, "--name", "a", "--out", "b"), "give one of them")
    one_line(unitkit("train", "--resume", "--name", "a"), "name the recipe")
    one_line(unitkit("runs"), "there is no folder runs")
    assert not (here / "runs").exists()


def test_latest_is_an_ablation_and_none_of_its_cells(here: Path) -> None:
    (here / "runs/tiny/ablation/cell").mkdir(parents=True)
    (here / "runs/tiny/ablation/ablation.json").touch()
    for path in ("runs/tiny/ablation", "runs/tiny/ablation/cell"):
        point_at(Path(path))
        assert os.readlink("runs/latest") == "tiny/ablation"


def test_what_is_called_latest_and_is_no_link_stays(here: Path) -> None:
    (here / "runs/latest").mkdir(parents=True)
    assert unitkit(*QUICK, "--name", "a").status == 0
    assert (here / "runs/latest").is_dir() and not (here / "runs/latest").is_symlink()
