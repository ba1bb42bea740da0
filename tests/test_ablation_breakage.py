"""Ablations that break: signals from a terminal or from outside, an edited recipe, a worker that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import one_line, start, unitkit, until

from unitkit import RunOptions, UserError
from unitkit.ablation import workers
from unitkit.ablation.folder import Ablation, Figure, begin, choose_metric, read_ablation
from unitkit.ablation.grid import folder_name, read_grid, split_values
from unitkit.ablation.report import write_ablation_report
from unitkit.ablation.workers import Ended, Job
from unitkit.commands import ablate
from unitkit.recipe_file import read_recipe_file
from unitkit.runs.folder import RunFolder
from unitkit.system.errors import TrainingError

ON_CPU = ("width=2", "--device", "cpu")


def cell(out: Path, setting: str = "shared=0") -> Path:
    return out / setting / "seed-0"


def begun(folder: Path) -> bool:
    return (folder / "stats.jsonl").is_file()


def worker(folder: Path) -> int:
    """The process that writes a cell's log."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            opened = [os.readlink(each) for each in Path(f"/proc/{process}/fd").iterdir()]
        except OSError:
            continue
        if str(folder / "log.txt") in opened:
            return int(process)
    raise AssertionError(f"nobody writes {folder / 'log.txt'}")


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "ablation.json").read_text())
    return found


def begun_record(tiny: Path, folder: Path) -> dict[str, Any]:
    """What an ablation of one cell leaves that was killed at once."""
    file = read_recipe_file(tiny)
    grid = read_grid(file, ["shared=1", "steps=2", "width=2"])
    begin(
        folder / "begun",
        file,
        grid,
        1,
        {},
        Figure("psnr(aa, a)", "psnr"),
        RunOptions(folder, precision="fp32", compile=False),
        [],
    )
    return record(folder / "begun")


def failed(out: Path) -> list[str | None]:
    return [each["failed"] for each in record(out)["cells"]]


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "from outside")], ids=["kill", "term"]
)
def test_a_worker_that_dies_is_named_and_the_rest_goes_on(
    tiny: Path, tmp_path: Path, number: signal.Signals, says: str
) -> None:
    out = tmp_path / "out"
    started = start(tmp_path / "log", "ablate", tiny, "shared=0,1", "steps=40", *ON_CPU, "--out", out)
    until(lambda: begun(cell(out)))
    os.kill(worker(cell(out)), number)
    answer = started.wait()
    assert answer.status == 1 and "1 of 2 cells done" in answer.out, answer
    first, second = failed(out)
    assert first and says in first and second is None
    again = unitkit("ablate", tiny, "shared=0,1", "steps=40", *ON_CPU, "--out", out)
    assert again.status == 0 and failed(out) == [None, None], again


def test_ctrl_c_at_the_terminal_keeps_the_steps_done(tiny: Path, tmp_path: Path) -> None:
    """A terminal sends it to every process of its group; workers must not take it as a second request."""
    out = tmp_path / "out"
    started = start(tmp_path / "log", "ablate", tiny, "shared=0,1", "steps=4000", *ON_CPU, "--out", out)
    until(lambda: begun(cell(out)))
    ablation, training = started.process.pid, worker(cell(out))
    assert ablation and os.getpgid(training) == training != os.getpgid(ablation)
    os.kill(ablation, signal.SIGINT)
    assert started.wait().status == 128 + signal.SIGINT
    assert list(cell(out).glob("checkpoints/step-*/state.json")) and failed(out) == [None, None]


def test_a_terminal_that_closes_ends_the_server_of_processes_and_fails_no_cell(tmp_path: Path) -> None:
    """Its signal reaches every process of the group; of a worker whose server has ended no status is known."""
    job = Job("recipe.py", tmp_path / "recipe.py", {}, RunOptions(tmp_path))
    assert workers._ended(job, workers.LOST, told=True) == Ended(job, None, stopped=True)
    assert workers._ended(job, workers.LOST, told=False).failed
    assert workers._ended(job, 1, told=True).failed


def test_no_worker_begins_where_the_server_of_processes_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, told = Job("recipe.py", tmp_path / "recipe.py", {}, RunOptions(tmp_path)), list[bool]()

    def start(_: object) -> None:
        told.append(True)
        raise EOFError

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    assert list(workers.run_here([job], ablate.train_cell, 1, lambda: bool(told))) == [None]
    with pytest.raises(TrainingError, match="run it again"):
        list(workers.run_here([job], ablate.train_cell, 1, lambda: False))


@pytest.mark.parametrize("edited", ["mine.py", "beside.py"])
def test_a_recipe_edited_meanwhile_changes_no_cell(tiny: Path, tmp_path: Path, edited: str) -> None:
    """Nor does what it imports."""
    out, recipe = tmp_path / "out", tmp_path / "mine.py"
    recipe.write_text(
        f"from beside import NOISE\n{tiny.read_text().replace('noise: float = 1.0', 'noise: float = NOISE')}"
    )
    (tmp_path / "beside.py").write_text("NOISE = 1.0\n")
    before = recipe.read_text()
    words = ("ablate", recipe, "shared=0,1", "steps=20", *ON_CPU, "--out", out)
    started = start(tmp_path / "log", *words)
    until(lambda: begun(cell(out)))
    for file in (recipe, tmp_path / "beside.py"):
        if file.name == edited:
            file.write_text(file.read_text().replace("NOISE = 1.0", "NOISE = 0.5").replace("= NOISE", "= 0.5"))
    assert started.wait().status == 0
    assert {RunFolder(cell(out, each)).record["knobs"]["noise"] for each in ("shared=0", "shared=1")} == {1.0}
    assert cell(out, "shared=1").joinpath("recipe.py").read_text() == before
    assert cell(out, "shared=1").joinpath("recipes/beside.py").read_text() == "NOISE = 1.0\n"
    one_line(unitkit(*words), "text differs")


def test_a_shipped_recipe_by_its_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which imports another; begun in one folder, and gone on with from another."""
    (tmp_path / "other").mkdir()
    small = ("size=16", "width=4", "width_d=4", "blocks=1", "layers=2", "steps=1", "--device", "cpu")
    for place, seeds in (tmp_path, 1), (tmp_path / "other", 2):
        monkeypatch.chdir(place)
        answer = unitkit("ablate", "unit_faces", "shared=0", *small, "--seeds", seeds, "--out", tmp_path / "out")
        assert answer.status == 0, answer
    assert failed(tmp_path / "out") == [None, None]
    kept = {path.name for path in (tmp_path / "out").rglob("*.py") if "default" not in path.parts}
    assert kept == {"unit_faces.py", "common.py"}


def test_a_stopped_cell_that_was_measured_is_not_done(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("ablate", tiny, "shared=1", "steps=40", *ON_CPU, "--out", out)
    started = start(tmp_path / "log", *words)
    until(lambda: begun(cell(out, "default")))
    assert started.process.pid
    os.kill(started.process.pid, signal.SIGTERM)
    assert started.wait().status == 128 + signal.SIGTERM
    assert RunFolder(cell(out, "default")).latest().name < "step-00000040"
    assert unitkit("evaluate", cell(out, "default"), "--device", "cpu").status == 0
    ablation = Ablation(out, record(out))
    assert not ablation.done(ablation.cells[0])
    assert unitkit(*words).status == 0
    assert ablation.done(ablation.cells[0])


def test_a_cell_waits_for_the_last_worker_in_it(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("ablate", tiny, "shared=1", "steps=2", *ON_CPU, "--out", out)
    handle = RunFolder(cell(out, "default")).lock()  # as of a worker whose ablation was killed
    (out / "ablation.json").write_text(json.dumps(begun_record(tiny, tmp_path)))
    started = start(tmp_path / "log", *words)
    until((cell(out, "default") / "log.txt").exists)
    time.sleep(0.5)  # long enough for a worker that does not wait to fail
    os.close(handle)
    answer = started.wait()
    assert answer.status == 0 and failed(out) == [None], answer


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation of two settings that is done. To be copied."""
    out = tmp_path_factory.mktemp("whole") / "out"
    answer = unitkit("ablate", tiny, "shared=0,1", "steps=2", *ON_CPU, "--out", out)
    assert answer.status == 0, answer
    return out


def exchanged(out: Path) -> None:
    cell(out).rename(out / "aside")
    cell(out, "shared=1").rename(cell(out))
    (out / "aside").rename(cell(out, "shared=1"))


def trained_on(out: Path) -> None:
    assert unitkit("train", "--resume", "--out", cell(out), "steps=3").status == 0


def changed(key: str, value: object) -> Callable[[Path], None]:
    """A cell's run whose record has another knob, none (None), or another seed."""

    def change(out: Path) -> None:
        path = cell(out) / "run.json"
        found = json.loads(path.read_text())
        place = found if key == "seed" else found["knobs"]
        place[key] = value
        if value is None:
            del place[key]
        path.write_text(json.dumps(found))

    return change


OTHER_RUNS: dict[str, tuple[Callable[[Path], None], str]] = {
    "exchanged": (exchanged, "the knob shared is 1, and should be 0"),
    "trained on": (trained_on, "the knob steps is 3, and should be 2"),
    "swept": (changed("shared", 2), "the knob shared is 2, and should be 0"),
    "fixed": (changed("width", 4), "the knob width is 4, and should be 2"),
    "default": (changed("lr", 0.5), "the knob lr is 0.5, and should be 0.001"),
    "missing": (changed("lr", None), "the knob lr is None, and should be 0.001"),
    "of the recipe": (changed("ema", 0.5), "the knob ema is 0.5, and should be None"),
    "seed": (changed("seed", 1), "the seed is 1, and should be 0"),
}


@pytest.mark.parametrize("other", OTHER_RUNS)
def test_a_run_that_is_not_its_cells_is_refused(tiny: Path, whole: Path, tmp_path: Path, other: str) -> None:
    """By whatever reads a cell: else its figures were those of another setting."""
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    change, said = OTHER_RUNS[other]
    change(out)
    ablation = Ablation(out, record(out))
    first = ablation.cells[0]
    knobs = {**ablation.record["fixed"], **first.setting}
    job = Job(str(tiny), out / "tiny.py", knobs, RunOptions(cell(out), seed=0, device="cpu"))
    works = [
        lambda: ablation.done(first),
        lambda: ablation.figure(first),
        lambda: write_ablation_report(out),
        lambda: ablate.train_cell(job),
    ]
    for work in works:
        with pytest.raises(UserError) as refused:
            work()
        assert f"{cell(out)} is not the run of its cell: {said};" in str(refused.value)
    before = (out / "ablation.csv").read_bytes()
    one_line(unitkit("ablate", tiny, "shared=0,1", "steps=2", *ON_CPU, "--out", out), said, "move this one away")
    assert (out / "ablation.csv").read_bytes() == before


@pytest.mark.parametrize("folder", ["shared=0/seed-0", "shared=0//seed-0", "shared=0/./seed-0"])
def test_a_folder_of_two_cells_is_refused(whole: Path, tmp_path: Path, folder: str) -> None:
    twice = record(whole)
    twice["cells"][1]["folder"] = folder
    (tmp_path / "ablation.json").write_text(json.dumps(twice))
    with pytest.raises(UserError, match=r"ablation.json: two cells lie in one folder, shared=0/seed-0;"):
        read_ablation(tmp_path)


def test_what_differs_from_the_ablation_there_is_refused(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("ablate", tiny, "shared=1", "steps=2", *ON_CPU, "--out", out)
    assert unitkit(*words).status == 0
    one_line(unitkit(*words, "--precision", "bf16"), "precision", "another --out")
    one_line(unitkit(*words[:-2], "--out", tmp_path / "new", "--precision", "fp61"), "fp61", "Choose from: auto")
    one_line(unitkit("ablate", tiny, "shared=0,1", "--device", "cuda:99", "--out", tmp_path / "new"), "cuda:99")


def test_auto_is_one_precision_for_all_cells(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the ablation that is there, on whatever machine it goes on; and of compiling is kept whether."""
    monkeypatch.setattr(ablate, "_run", lambda *_: None)
    monkeypatch.setattr(ablate, "write_ablation_report", lambda *_: None)
    words = ("ablate", tiny, "shared=1", "steps=2", "--precision", "auto", "--out", tmp_path / "out")
    for best in "bf16", "fp32":
        monkeypatch.setattr(ablate, "best_precision", lambda _, best=best: best)
        assert unitkit(*words).status == 0
        record = json.loads((tmp_path / "out/ablation.json").read_text())
        assert (record["precision"], record["compile"]) == ("bf16", False)
    one_line(unitkit(*words, "--compile"), "--compile differs: False, now True", "another --out")
    one_line(unitkit(*words[:-1], tmp_path / "new", "--ray", "auto"), "fp32 or bf16, not auto")


def test_values_with_commas_are_explained(tiny: Path, tmp_path: Path) -> None:
    one_line(unitkit("ablate", tiny, "data=x,y", *ON_CPU, "--out", tmp_path / "out"), "data=x", "'data=x,y;'")
    assert folder_name({"size": (16, 48)}) == folder_name({"size": [16, 48]}) == "size=16x48"
    with pytest.raises(UserError, match="1000000001 values"):
        split_values("shared", "0..1000000000")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ("pixel_accuracy(ab, b)", "")),
        ("pixel_accuracy", ("pixel_accuracy(ab, b)", "")),
        ("pixel_accuracy.euclidean", ("pixel_accuracy(ab, b)", "euclidean")),
        ("pixel_accuracy(ab,b).euclidean", ("pixel_accuracy(ab, b)", "euclidean")),
        ("ground_truth(ab).all.translation.psnr", ("ground_truth(ab)", "all.translation.psnr")),
        ("psnr(aa, a)", ("psnr(aa, a)", "")),
    ],
)
def test_the_main_metric(wanted: str | None, found: tuple[str, str]) -> None:
    assert choose_metric(wanted, ["pixel_accuracy(ab, b)", "psnr(aa, a)", "psnr(bb, b)", "ground_truth(ab)"]) == found


@pytest.mark.parametrize("figure", ["", "p.s.n.r", "of (all), 50 %", "a/b=c", "ψ.l1", "x)."])
def test_names_of_metrics_and_figures_are_data(figure: str) -> None:
    names = ["frechet(ab, b, weights=/a/b.c(d).pth)", "frechet(ab, b)", "ground_truth(ab)"]
    for name in names:
        found = choose_metric(f"{name}.{figure}" if figure else name, names)
        assert found == (name, figure.replace(" ", ""))


@pytest.mark.parametrize("wanted", ["psnr", "psnr.psnr", "psnr(cc, c)", "fid", "psnr(", ""])
def test_no_single_metric(wanted: str) -> None:
    with pytest.raises(UserError, match="not one metric"):
        choose_metric(wanted, ["psnr(aa, a)", "psnr(bb, b)"])


def test_a_figure_that_the_metric_has_not_is_said(tiny: Path, tmp_path: Path) -> None:
    words = ("ablate", tiny, "shared=1", "steps=2", *ON_CPU, "--out", tmp_path / "out")
    answer = unitkit(*words, "--metric", "psnr.snr")
    assert answer.status == 0 and "no figure 'snr'" in answer.out and "'psnr'" in answer.out, answer
    assert answer.out.startswith("note: nothing is varied, so this is one training: a grid is such as shared=0,1,2 or ")
    assert record(tmp_path / "out")["metric"] == ["psnr(aa, a)", "psnr"]
