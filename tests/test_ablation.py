"""Ablations: the grid, cells that are done, killed, resumed or failed, and the folder that they share."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from commands import one_line, run, start, unitkit, until
from safetensors.torch import load_file

from unitkit import UserError
from unitkit.ablation.folder import Ablation
from unitkit.ablation.grid import folder_name, one_setting, read_grid, split_values
from unitkit.knobs import OWN
from unitkit.recipe_file import read_recipe_file, shipped

QUICK = ("steps=2", "width=2", "--device", "cpu")


def record(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "ablation.json").read_text())
    return found


def cells(out: Path) -> list[str]:
    return [each["folder"] for each in record(out)["cells"]]  # type: ignore[attr-defined]


def times(out: Path) -> dict[str, int]:
    return {cell: (out / cell / "metrics.json").stat().st_mtime_ns for cell in cells(out)}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("1,2,5", ["1", "2", "5"]),
        ("0..3", ["0", "1", "2", "3"]),
        ("-1..1", ["-1", "0", "1"]),
        ("0..1,4", ["0", "1", "4"]),
        ("a,b;c,d", ["a,b", "c,d"]),
        ("a,b;", ["a,b"]),
        (" x , y ", ["x", "y"]),
    ],
)
def test_values(text: str, values: list[str]) -> None:
    assert split_values("knob", text) == values


@pytest.mark.parametrize("text", ["", ",", "1,", "1,,2", ";", "3..1"])
def test_no_values(text: str) -> None:
    with pytest.raises(UserError, match="'knob'"):
        split_values("knob", text)


def test_the_grid_is_typed_and_ordered(tiny: Path) -> None:
    file = read_recipe_file(tiny)
    grid = read_grid(file, ["@quick", "shared=0..1", "lr=1e-3,1e-2", "width=8"])
    assert grid.fixed == {"steps": 2, "width": 8}
    assert grid.settings == [
        {"shared": 0, "lr": 1e-3},
        {"shared": 0, "lr": 1e-2},
        {"shared": 1, "lr": 1e-3},
        {"shared": 1, "lr": 1e-2},
    ]
    assert [cell.seed for cell in grid.cells(2)] == [0] * 4 + [1] * 4
    assert len({cell.folder for cell in grid.cells(2)}) == 8


@pytest.mark.parametrize("name", shipped())
def test_presets_and_fields_of_the_recipe_are_as_in_training(name: str) -> None:
    file = read_recipe_file(name)
    for preset in file.presets:
        fixed = read_grid(file, [f"@{preset}"]).fixed
        assert {**file.values(), **fixed} == file.values(preset), preset
    words = {"steps": "3,4", "batch": "1,2", "ema": "0,0.9", "flip": "yes,no", "crop": "0,2", "sample_every": "5,6"}
    grid = read_grid(file, [*(f"{knob}={text}" for knob, text in words.items()), "accumulate=2"])
    assert grid.fixed == {"accumulate": 2} and grid.swept.keys() == words.keys() <= set(OWN)
    assert one_setting(file, grid, "ema=0.9, steps=4")["steps"] == 4
    recipe = file.build({**file.values(), **grid.fixed, **grid.settings[-1]})
    assert (recipe.steps, recipe.batch, recipe.ema, recipe.accumulate) == (4, 2, 0.9, 2)


def test_a_field_of_the_recipe_is_swept_and_the_report_says_of_which_weights_it_speaks(
    tiny: Path, tmp_path: Path
) -> None:
    answer = unitkit("ablate", tiny, "@quick", "ema=0,0.9", "width=2", "--out", tmp_path / "out")
    assert answer.status == 0 and cells(tmp_path / "out") == ["ema=0.0/seed-0", "ema=0.9/seed-0"], answer
    assert "- weights: of the last step; their moving average" in (tmp_path / "out/ablation.md").read_text()


def test_a_knob_in_full_is_that_knob() -> None:
    file = read_recipe_file("unit_faces")
    assert read_grid(file, ["optimizer.lr=1e-3,1e-2", "networks.width=8"]) == read_grid(
        file, ["lr=1e-3,1e-2", "width=8"]
    )


def test_folder_names_are_safe_and_differ() -> None:
    assert folder_name({"shared": 0, "lr": 0.001}) == "shared=0,lr=0.001"
    assert folder_name({}) == "default"
    odd = [folder_name({"data": value}) for value in ("a/b", "a b", "a_b", "x" * 300, "x" * 301)]
    assert len(set(odd)) == 5 and all("/" not in name and len(name) < 200 for name in odd)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["shred=0,1"], ["'shred'", "'shared'"]),
        (["shared="], ["'shared'", "no value"]),
        (["shared=0,0"], ["'shared'", "0 twice"]),
        (["shared=2..0"], ["2..0", "0..2"]),
        (["shared=0,many"], ["'shared'", "'many'"]),
        (["size=16,17"], ["size=17", "17x17"]),
        (["data=x,y"], ["'x'"]),
        (["shared=0,1", "--baseline", "shared=7"], ["shared=7", "0, 1"]),
        (["shared=0,1", "--baseline", "width=7"], ["'width'", "shared"]),
        (["shared=0,1", "--metric", "fid"], ["'fid'", "psnr(aa, a)"]),
        (["shared=0..400", "lr=1e-3,1e-2"], ["802", "--yes"]),
        (["@quik"], ["@quik", "quick"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    tiny: Path, tmp_path: Path, words: list[str], says: list[str]
) -> None:
    one_line(unitkit("ablate", tiny, *words, "--out", tmp_path / "out", "--device", "cpu"), *says)
    assert not list(tmp_path.rglob("run.json"))


def test_cells_are_done_once_and_a_grid_grows(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = unitkit("ablate", tiny, "shared=0,1", *QUICK, "--out", out)
    assert first.status == 0, first
    assert cells(out) == ["shared=0/seed-0", "shared=1/seed-0"]
    assert record(out)["metric"] == ["psnr(aa, a)", "psnr"] and record(out)["baseline"] == {"shared": 0}
    before = times(out)
    assert all((out / name).is_file() for name in ("ablation.csv", "ablation.md", "ablation.html"))
    second = unitkit("ablate", tiny, "shared=0,1", *QUICK, "--out", out, "--seeds", 2, "--workers", 2)
    assert second.status == 0 and "2 of 4 cells are done already" in second.out, second
    after = times(out)
    assert len(after) == 4 and all(after[cell] == time for cell, time in before.items())
    assert json.loads((out / "shared=1" / "seed-1" / "run.json").read_text())["seed"] == 1
    for words, says in (
        (("shared=0,1", "steps=3", "width=2"), "fixed knobs"),
        (("lr=1e-3,1e-2", "steps=2", "width=2"), "lr"),
    ):
        one_line(unitkit("ablate", tiny, *words, "--device", "cpu", "--out", out), says, "another --out")
    other = tmp_path / "tiny.py"
    other.write_text(tiny.read_text() + "\n# changed\n")
    one_line(unitkit("ablate", other, "shared=0,1", *QUICK, "--out", out), "text differs")
    assert times(out) == after


def test_a_cell_equals_the_training_alone(tiny: Path, tmp_path: Path) -> None:
    words = ("shared=1", "steps=3", "width=2", "--device", "cpu")
    assert unitkit("ablate", tiny, *words, "--out", tmp_path / "out").status == 0
    assert unitkit("train", tiny, *words, "--seed", 0, "--out", tmp_path / "alone").status == 0
    name = "checkpoints/step-00000003/model.safetensors"
    assert (tmp_path / "out/default/seed-0" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_failing_cell_is_named_and_the_rest_goes_on(tiny: Path, tmp_path: Path) -> None:
    out, mended = tmp_path / "out", tmp_path / "mended"
    fails = f"""
    from pathlib import Path
    if shared == 0 and Path({str(out / "ablation.json")!r}).exists() and not Path({str(mended)!r}).exists():
        raise ValueError("no luck today")
"""
    recipe = tmp_path / "broken.py"
    recipe.write_text(tiny.read_text().replace("    l_gan = ", f"{fails}    l_gan = "))
    answer = unitkit("ablate", recipe, "shared=0,1", *QUICK, "--out", out)
    assert answer.status == 1, answer
    assert "no luck today" in answer.out and "1 of 2 cells done" in answer.out
    failed = {each["folder"]: each["failed"] for each in record(out)["cells"]}  # type: ignore[attr-defined]
    assert "no luck today" in failed["shared=0/seed-0"] and failed["shared=1/seed-0"] is None
    mended.touch()
    again = unitkit("ablate", recipe, "shared=0,1", *QUICK, "--out", out)
    assert again.status == 0 and "1 of 2 cells are done already" in again.out, again


LONGER = ("shared=0,1", "steps=30", "width=2", "--device", "cpu", "--checkpoint-every", 5)


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert run(out / "log", "ablate", tiny, *LONGER, "--out", out / "whole").status == 0
    return out / "whole"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_in_the_middle_and_run_again(whole: Path, tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    words, broken = ("ablate", tiny, *LONGER), tmp_path / "broken"
    started = start(tmp_path / "log", *words, "--out", broken)
    until(lambda: list(broken.glob("*/seed-0/checkpoints/step-*/state.json")))
    assert started.process.pid is not None
    os.kill(started.process.pid, number)
    answer = started.wait()
    assert answer.status == (-number if number == signal.SIGKILL else 128 + number), answer
    assert run(tmp_path / "again", *words, "--out", broken).status == 0
    for cell in ("shared=0", "shared=1"):
        name = f"{cell}/seed-0/checkpoints/step-00000030/model.safetensors"
        one, two = load_file(whole / name), load_file(broken / name)
        assert all(one[key].equal(two[key]) for key in one | two)


def test_two_ablations_keep_out_of_one_folder(tiny: Path, tmp_path: Path) -> None:
    from unitkit.runs.folder import RunFolder

    handle = RunFolder(tmp_path / "out").lock()
    one_line(unitkit("ablate", tiny, "shared=0,1", *QUICK, "--out", tmp_path / "out"), "running", "--out")
    os.close(handle)


def test_a_folder_with_other_things_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    one_line(unitkit("ablate", tiny, "shared=0,1", *QUICK, "--out", tmp_path), "other things", "--out")


def test_on_a_ray_of_this_machine(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    words = ("ablate", tiny, "shared=0,1", *QUICK, "--ray", "local", "--out", tmp_path / "out")
    answer = run(tmp_path / "log", *words)
    assert answer.status == 0, answer
    assert len(times(tmp_path / "out")) == 2


def test_a_cell_measured_anew_on_a_few_images_keeps_its_figure(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert unitkit("ablate", tiny, "shared=1", *QUICK, "--out", out).status == 0
    ablation = Ablation(out, json.loads((out / "ablation.json").read_text()))
    (cell,) = ablation.cells
    before = ablation.figure(cell)
    run, metric = out / cell.folder, "psnr(aa, a)"
    for words in (("--max-images", 1), ("--metrics", metric), ("--max-images", 1)):
        assert unitkit("evaluate", run, *words, "--device", "cpu").status == 0
    # As a newcomer in the folder would type it: a checkpoint by a relative path is still that step, and not the best.
    step = os.path.relpath(run / "checkpoints" / "step-00000002")
    assert unitkit("evaluate", step, "--max-images", 2, "--device", "cpu").status == 0
    assert {entry["checkpoint"] for entry in ablation.run(cell).evaluations()} == {"step-00000002"}
    assert ablation.figure(cell) == before is not None and ablation.done(cell)
