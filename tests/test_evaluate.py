"""`unitkit evaluate`, the watch during a training, and data that know the truth."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Moment, one_line, run, unitkit
from PIL import Image
from sets import figures, near, pictures, save

from unitkit import UserError, data, load, load_recipe, metrics, open_data
from unitkit.check import check
from unitkit.hooks import Watcher
from unitkit.recipe import Watch
from unitkit.runs.folder import WRITTEN, RunFolder
from unitkit.runs.options import RunOptions
from unitkit.system import files as unitkit_files
from unitkit.trainer import Trainer


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def entries(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "metrics.json").read_text())["evaluations"]
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content, less the name that each run has for itself."""
    return {
        str(path.relative_to(folder)): re.sub(rb'"run": "\w+"', b"", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# A run


def test_a_log_says_once_that_a_classifier_learns_first(folder: Path) -> None:
    answer = unitkit("evaluate", folder, "--metrics", "attribute_success(ab, steps=2), attribute_success(ba, steps=2)")
    assert answer.status == 0, answer
    what = "training the classifier of plain and glasses on batches of 32, 2 steps"
    assert answer.err == f"measuring step-00000012: {what}\n"


def test_metrics_are_printed_kept_and_added_to_those_before(folder: Path, tmp_path: Path) -> None:
    answer = unitkit("evaluate", folder, "--metrics", "ssim(aa, a), l1(aba,a)", "--save", tmp_path / "out.json")
    assert answer.status == 0, answer
    assert "ssim of reconstruction aa" in answer.out and "protocol: step 12" in answer.out
    (entry,) = entries(folder)
    assert set(entry["metrics"]) == {"psnr(aa, a)", "ssim(aa, a)", "l1(aba, a)"}
    saved = json.loads((tmp_path / "out.json").read_text())
    assert set(saved["metrics"]) == {"ssim(aa, a)", "l1(aba, a)"}
    assert "ssim" in (folder / "report.html").read_text()
    assert unitkit("evaluate", folder, "--metrics", "l1(aba,a)").status == 0
    assert entries(folder)[0]["metrics"]["l1(aba, a)"] == saved["metrics"]["l1(aba, a)"]  # the same again
    for other in ("--max-images", 2), ("--seed", 1):
        assert unitkit("evaluate", folder, *other).status == 0
    assert [(each["images"], each["seed"]) for each in entries(folder)] == [("all", 0), (2, 0), ("all", 1)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("psmr(aa, a)", ("'psmr'", "'psnr'")),
        ("psnr(ax, a)", ("'ax'",)),
        ("psnr(aa)", ("2 paths",)),
        ("psnr(aa, a, tol=3)", ("'tol'",)),
        ("pixel_accuracy(ab, b, tolerance=many)", ("'tolerance'", "'many'")),
        ("psnr(ab, a), (", ("no metric",)),
        ("fid(ab, b, weights=nowhere.pth)", ("nowhere.pth", "https://")),
        ("lpips", ("35 pixels", "16x16")),
    ],
)
def test_a_metric_that_cannot_be_is_refused(trained: Path, words: str, says: tuple[str, ...]) -> None:
    before = (trained / "metrics.json").read_bytes()
    one_line(unitkit("evaluate", trained, "--metrics", words), *says)
    assert (trained / "metrics.json").read_bytes() == before


def test_what_is_no_run_is_refused(trained: Path, tmp_path: Path) -> None:
    one_line(unitkit("evaluate"), "--images")
    one_line(unitkit("evaluate", trained, "--images", f"a={tmp_path}"), "--images")
    one_line(unitkit("evaluate", "--images", f"ab={tmp_path}", f"b={tmp_path}"), "--images", "for each set")
    one_line(unitkit("evaluate", tmp_path), "run.json")
    one_line(unitkit("evaluate", trained, "--data", tmp_path / "nowhere"), "nowhere")
    lost = shutil.copytree(RunFolder(trained).latest(), tmp_path / "lost" / "checkpoint")
    one_line(unitkit("evaluate", lost), "without its run", "--data FOLDER")


def domains(root: Path, n: int = 3) -> Path:
    """Two domains in folders, whose pictures are no pairs."""
    for label, seed in ("north", 0), ("south", 1):
        for split, first in ("train", 0), ("test", 10):
            save(root / split / label, pictures(n, seed + first, 16))
    return root


def test_other_data_are_measured_on_their_own_test_split(folder: Path, tmp_path: Path) -> None:
    data = domains(tmp_path / "other")
    answer = unitkit("evaluate", folder, "--data", data, "--metrics", "psnr(aa, a)")
    assert answer.status == 0, answer
    first, second = entries(folder)
    assert second["data"]["name"] == str(data) != first["data"]["name"]
    assert second["data"]["fingerprint"] == open_data(str(data), size=16).fingerprint()
    assert second["metrics"]["psnr(aa, a)"]["n"] == {"aa": 3, "a": 3}


@pytest.mark.parametrize("metric", ["pixel_accuracy(ab, b)", "ground_truth(ab)", "l1(ba, a)"])
def test_data_that_are_not_aligned_know_no_truth(folder: Path, tmp_path: Path, metric: str) -> None:
    before = files(folder)
    answer = unitkit("evaluate", folder, "--data", domains(tmp_path / "other"), "--metrics", metric)
    one_line(answer, metric, "aligned")
    assert files(folder) == before


def test_a_checkpoint_is_measured_by_its_own_step(folder: Path) -> None:
    answer = unitkit("evaluate", folder / "checkpoints" / "step-00000009")
    assert answer.status == 0 and "protocol: step 9" in answer.out, answer
    assert [each["checkpoint"] for each in entries(folder)] == ["step-00000012", "step-00000009"]
    last, before = (each["metrics"]["psnr(aa, a)"]["figures"] for each in entries(folder))
    assert last != before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["unitkit.metrics.evaluation:_Evaluated.update", "unitkit.runs.folder:json.dumps"])
def test_an_evaluation_that_is_cut_off_leaves_what_was_there(
    folder: Path, tmp_path: Path, number: signal.Signals, where: str
) -> None:
    before = files(folder)
    words = ("evaluate", folder, "--metrics", "l1(aba, a)", "--save", tmp_path / "out.json")
    answer = run(tmp_path / "log", *words, moments=[Moment(where, 1, (number,))])
    assert answer.status != 0 and "Traceback" not in answer.err
    assert {name: data for name, data in files(folder).items() if not name.startswith(".")} == before
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("name", ["metrics.json", "report.html"])
def test_figures_are_printed_and_saved_before_they_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def replacing(path: Path) -> Any:
        if path == folder / name:
            raise UserError(f"cannot write {path}: Read-only file system")
        return files_replacing(path)

    files_replacing = unitkit_files.replacing
    for module in "runs.folder", "templates":
        monkeypatch.setattr(f"unitkit.{module}.replacing", replacing)
    words = ("evaluate", folder, "--metrics", "l1(aa, a)")
    answer = unitkit(*words)
    one_line(answer, f"{name}: Read-only file system", "--save FILE")
    assert "l1 of reconstruction aa" in answer.out
    monkeypatch.setattr("unitkit.commands.evaluate.refuse_unwritable", lambda path: None)  # as where it fails later
    one_line(unitkit(*words, "--save", tmp_path), "it is a folder", "Read-only file system")
    answer = unitkit(*words, "--save", tmp_path / "new/out.json")
    assert answer.status == 0 and f"{name}: Read-only file system" in answer.out
    assert "l1(aa, a)" in json.loads((tmp_path / "new/out.json").read_text())["metrics"]


def test_a_training_prints_its_figures_before_it_keeps_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise UserError("cannot write metrics.json: No space left on device")

    monkeypatch.setattr("unitkit.runs.folder.RunFolder.add_evaluation", fails)
    answer = unitkit("train", tiny, "@quick", "--out", tmp_path / "run")
    one_line(answer, "No space left")
    assert "psnr of reconstruction aa" in answer.out and RunFolder(tmp_path / "run").latest().name == "step-00000002"


@pytest.mark.parametrize("place", ["file/out.json", "folder", "/dev/null", "/proc/nothing/out.json", "n" * 256])
def test_a_place_that_cannot_be_written_is_refused_before_measuring(
    folder: Path, sets: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("unitkit.commands.evaluate.evaluate_with_protocol", measured)
    monkeypatch.setattr("unitkit.commands.evaluate.evaluate_images", measured)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    one_line(unitkit("evaluate", folder, "--save", tmp_path / place), "cannot write")
    one_line(unitkit("evaluate", *sets, "--metrics", "l1(ab, b)", "--save", tmp_path / place), "cannot write")
    (folder / "metrics.json").write_text("{}")
    one_line(
        unitkit("evaluate", folder),
        "metrics.json: Object missing required field 'evaluations'; delete it",
    )


# Sets of pictures


@pytest.fixture
def sets(tmp_path: Path) -> tuple[object, ...]:
    array = pictures(4, 0)
    one, two = save(tmp_path / "ab", array), save(tmp_path / "b", near(array, 1))
    return ("--images", f"ab={one}", "--images", f"b={two}")


def test_sets_of_pictures_without_a_model(sets: tuple[object, ...], tmp_path: Path) -> None:
    wanted = "psnr(ab, b), pixel_accuracy(ab, b)"
    answer = unitkit("evaluate", *sets, "--metrics", wanted, "--save", tmp_path / "out.json")
    assert answer.status == 0 and "psnr" in answer.out, answer
    found = json.loads((tmp_path / "out.json").read_text())
    array = pictures(4, 0)
    for metric in metrics.parse_metrics(wanted, "ab"):
        assert found["metrics"][metric.name]["figures"] == figures(metric, ab=array, b=near(array, 1))
    assert found["size"] == [32, 32] and found["sets"]["ab"]["images"] == 4 and found["versions"]["unitkit"]


def test_sets_that_do_not_fit_are_refused(sets: tuple[object, ...], tmp_path: Path) -> None:
    def refused(*words: object, says: tuple[str, ...]) -> None:
        one_line(unitkit("evaluate", *sets, *words), *says)

    refused(says=("--metrics",))
    refused("--metrics", "psnr(ba, a)", says=("'ba'",))
    refused("--images", f"b={tmp_path / 'b'}", "--metrics", "psnr(ab, b)", says=("'b=", "each path once"))
    refused("--images", "folder", "--metrics", "psnr(ab, b)", says=("'folder'", "PATH=FOLDER"))
    refused("--images", f"c={tmp_path / 'none'}", "--metrics", "psnr(ab, b)", says=("none", "does not exist"))
    (tmp_path / "empty").mkdir()
    refused("--images", f"c={tmp_path / 'empty'}", "--metrics", "psnr(ab, b)", says=("no image",))
    (tmp_path / "b" / "003.png").rename(tmp_path / "b" / "004.png")
    refused("--metrics", "psnr(ab, b)", says=("003.png", "004.png"))
    (tmp_path / "b" / "004.png").unlink()
    refused("--metrics", "psnr(ab, b)", says=("ab 4", "b 3"))
    Image.new("RGB", (20, 20)).save(tmp_path / "b" / "009.png")
    refused("--metrics", "psnr(ab, b)", says=("32x32", "20x20", "--size"))
    (tmp_path / "b" / "009.png").write_bytes(b"no picture")
    refused("--metrics", "psnr(ab, b)", says=("009.png",))


def test_pictures_too_small_for_a_metric_are_refused(tmp_path: Path) -> None:
    one, two = (save(tmp_path / name, pictures(2, 0, 8)) for name in ("ab", "b"))
    answer = unitkit("evaluate", "--images", f"ab={one}", "--images", f"b={two}", "--metrics", "ssim(ab, b)")
    one_line(answer, "ssim(ab, b)", "11 pixels", "8x8")


def test_sets_of_two_sizes_are_refused(tmp_path: Path) -> None:
    one, two = save(tmp_path / "ab", pictures(2, 0, 16)), save(tmp_path / "b", pictures(2, 0, 32))
    words = ("evaluate", "--images", f"ab={one}", "--images", f"b={two}", "--metrics", "l1(ab, b)")
    one_line(unitkit(*words), "16x16", "32x32", "--size")
    assert unitkit(*words, "--size", 16, "--save", tmp_path / "out.json").status == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["size"] == found["sets"]["b"]["size"] == [16, 16]


def test_grey_pictures_are_compared_with_coloured_ones(tmp_path: Path) -> None:
    grey = pictures(2, 0, 16, channels=1)
    one = save(tmp_path / "b", grey.repeat(3, axis=1))
    (tmp_path / "ab").mkdir()
    for i, picture in enumerate(grey):
        Image.fromarray(picture[0]).save(tmp_path / "ab" / f"{i:03d}.png")
    words = ("--images", f"ab={tmp_path / 'ab'}", "--images", f"b={one}", "--save", tmp_path / "out.json")
    assert unitkit("evaluate", *words, "--metrics", "l1(ab, b), pixel_accuracy(ab, b), ssim(ab, b)").status == 0
    found = json.loads((tmp_path / "out.json").read_text())["metrics"]
    assert found["l1(ab, b)"]["figures"] == {"l1": 0}
    assert found["ssim(ab, b)"]["figures"]["ssim"] == pytest.approx(1)
    assert found["pixel_accuracy(ab, b)"]["figures"]["largest_channel"] == 1


# The watch during a training


@pytest.fixture(scope="module")
def watched(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, measured every second step on three images of each domain."""
    text = tiny.read_text().replace("from unitkit import (", "from unitkit import (\n    Watch,")
    watch = 'watch=Watch([psnr("aa", "a")], every=2, images=3, patience=patience)'
    text = text.replace("        evaluate=[psnr", f"        {watch},\n        evaluate=[psnr")
    text = text.replace("    steps: int = 12,", "    steps: int = 12,\n    patience: int = 0,")
    recipe = tmp_path_factory.mktemp("recipe") / "watched.py"
    recipe.write_text(text)
    return recipe


@pytest.fixture(scope="module")
def whole(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training that is watched, on the path of `trained`."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    answer = unitkit("train", watched, "--out", folder, "--checkpoint-every", 3)
    assert answer.status == 0, answer
    return folder


def values(folder: Path) -> list[float]:
    return [row["psnr(aa, a)"]["psnr"] for row in RunFolder(folder).watched()]


def test_the_best_is_kept_beside_the_last(whole: Path, tmp_path: Path) -> None:
    rows, found = RunFolder(whole).watched(), values(whole)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    best = rows[found.index(max(found))]["step"]
    assert [path.name for path in (whole / "best").glob("step-*")] == [f"step-{best:08d}"]
    assert (whole / "checkpoints" / "step-00000012").is_dir()
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    for place, name in (folder / "best", f"best/step-{best:08d}"), (folder, "step-00000012"):
        assert unitkit("evaluate", place, "--max-images", 3).status == 0
        entry = entries(folder)[-1]
        assert entry["checkpoint"] == name
        step = entry["metrics"]["psnr(aa, a)"]["figures"]["psnr"]
        assert step == pytest.approx(found[entry["step"] // 2 - 1], rel=1e-6)


def test_a_watch_does_not_change_the_training(whole: Path, trained: Path) -> None:
    for name in ("model.safetensors", "training.safetensors"):
        one, two = (folder / "checkpoints" / "step-00000012" / name for folder in (whole, trained))
        assert one.read_bytes() == two.read_bytes()


def test_whatever_takes_a_run_takes_its_best(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its folder, from anywhere, and by its checkpoint."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (best,) = (folder / "best").glob("step-*")
    source = next(iter(sorted(save(tmp_path / "in", pictures(1, 0, 16)).iterdir())))
    weights = load(best).model.state_dict()
    for here, word in (tmp_path, "run/best"), (folder, "best"), (folder / "best", "."), (tmp_path, best):
        monkeypatch.chdir(here)
        found = load(word).model.state_dict()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
        assert unitkit("translate", word, "ab", source, tmp_path / "y.png").status == 0
        assert unitkit("evaluate", word, "--max-images", 1, "--metrics", "psnr(aa, a)").status == 0
        assert RunFolder(folder).evaluations()[-1]["checkpoint"] == f"best/{best.name}"
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(best)
    for words in ("translate", "run/best", "ab", source, tmp_path / "y.png"), ("evaluate", "run/best"):
        one_line(unitkit(*words), "run/best is not a run folder")


@pytest.mark.parametrize(
    "moment",
    [
        Moment("unitkit.hooks:Watcher.after_step", 4),
        Moment("unitkit.runs.folder:RunFolder.append_watched", 5),
        Moment("unitkit.runs.checkpoint:save", 3),
        Moment("unitkit.runs.stored:save_file", 4),
    ],
)
def test_a_resumed_training_has_the_same_best(whole: Path, watched: Path, tmp_path: Path, moment: Moment) -> None:
    folder = tmp_path / "run"
    words = ("train", watched, "--out", folder, "--checkpoint-every", 3)
    assert run(tmp_path / "log", *words, moments=[moment]).status == -signal.SIGKILL
    answer = unitkit("train", "--resume", "--out", folder, "--checkpoint-every", 3)
    assert answer.status == 0, answer
    assert (folder / "watched.jsonl").read_bytes() == (whole / "watched.jsonl").read_bytes()
    for place in ("best", "checkpoints"):
        assert files(folder / place) == files(whole / place)


def test_patience_ends_a_training_early_and_for_good(watched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ("steps=40", "lr=0.5", "patience=2", "--out", folder, "--checkpoint-every", 3)
    answer = unitkit("train", watched, *words)
    assert answer.status == 0 and "ended early" in answer.out, answer
    found, rows = values(folder), RunFolder(folder).watched()
    assert len(rows) == found.index(max(found)) + 3 < 20
    assert RunFolder(folder).latest().name == f"step-{rows[-1]['step']:08d}"
    before = files(folder / "checkpoints") | files(folder / "best")
    assert unitkit("train", "--resume", "--out", folder).status == 0
    assert RunFolder(folder).watched() == rows
    assert files(folder / "checkpoints") | files(folder / "best") == before


def test_a_watch_sees_the_same_images_each_time(tiny: Path, tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    class Accumulator:
        def update(self, images: Mapping[str, np.ndarray]) -> None:
            seen.append(images["b"])

        def result(self, n: Mapping[str, int]) -> metrics.Result:
            return metrics.Result({"seen": 1.0})

    metric = metrics.Metric("seen(b)", ("b",), lambda context: Accumulator(), True)
    recipe = replace(load_recipe(tiny, steps=4), watch=Watch([metric], every=1, images=2))
    Trainer(recipe, RunOptions(tmp_path / "run", device="cpu")).fit()
    test = recipe.data.domains["b"].test
    expected = np.stack([test.load(0), test.load(2)])  # spread over four
    assert len(seen) == 4 and all(np.array_equal(each, expected) for each in seen)
    assert [path.name for path in (tmp_path / "run" / "best").glob("step-*")] == ["step-00000001"]  # first of equals


@pytest.mark.parametrize(
    ("metric", "found", "best"),
    [
        (metrics.psnr("aa", "a"), [1.0, 3.0, 2.0, 3.0], 1),
        (metrics.l1("aa", "a"), [2.0, 1.0, 3.0], 1),
        (metrics.psnr("aa", "a"), [float("nan"), 1.0, float("nan")], 1),
        (metrics.psnr("aa", "a"), [], -1),
    ],
)
def test_the_best_is_by_the_metrics_own_sense(
    metric: metrics.Metric, found: list[float], best: int, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    for step, value in enumerate(found):
        folder.append_watched({"step": step, metric.name: {"figure": value}})
    assert Watcher(Watch([metric]), folder, 100).best == best


def test_a_watch_that_cannot_be_is_refused(tiny: Path) -> None:
    for wrong, says in ({"every": 0}, "every"), ({"images": -1}, "images"), ({"patience": -1}, "patience"):
        with pytest.raises(UserError, match=says):
            Watch([metrics.psnr("aa", "a")], **wrong)
    with pytest.raises(UserError, match="at least one metric"):
        Watch([])
    recipe = load_recipe(tiny)
    with pytest.raises(UserError, match="'ax'"):
        check(replace(recipe, watch=Watch([metrics.l1("ax", "a")])))
    with pytest.raises(UserError, match=r"l1\(aa, a\) .*at least 17 .*16x16"):
        check(replace(recipe, watch=Watch([replace(metrics.l1("aa", "a"), smallest=17)])))


# Aligned data


def aligned(root: Path) -> Path:
    """Satellite pictures and maps of other suffixes; the held-out ones have pairs by name, in another number."""
    for split, names in ("train", ("1", "2")), ("val", ("3", "4")):
        for domain, offset in ("map", 100), ("satellite", 0):
            (root / split / domain).mkdir(parents=True)
            for name in names:
                suffix = "png" if domain == "map" else "bmp"
                Image.new("RGB", (16, 16), (int(name) + offset,) * 3).save(root / split / domain / f"{name}.{suffix}")
    return root


def test_aligned_data_know_the_truth_by_name(tmp_path: Path) -> None:
    data = open_data(str(aligned(tmp_path)), size=16, labels="satellite,map", aligned=True)
    assert data.truth
    assert [int(data.truth("ab", i)[0, 0, 0]) for i in (0, 1)] == [103, 104]
    assert [int(data.truth("ba", i)[0, 0, 0]) for i in (0, 1)] == [3, 4]
    assert open_data(str(tmp_path), size=16).truth is None


@pytest.mark.parametrize("recipe", ["cyclegan", "unit_faces"])
def test_any_recipe_is_measured_against_the_truth_of_aligned_data(recipe: str, tmp_path: Path) -> None:
    root, out = aligned(tmp_path / "data"), tmp_path / "run"
    words = [f"data={root}", "labels=satellite,map", "size=16", "width=4", "blocks=1", "batch=1", "steps=1"]
    assert unitkit("train", recipe, *words, "--out", tmp_path / "blind").status == 0
    refusal = unitkit("evaluate", tmp_path / "blind", "--metrics", "l1(ab, b)")
    assert refusal.status == 2 and "aligned=yes in a training" in refusal.err
    assert unitkit("evaluate", tmp_path / "blind", "--metrics", "l1(ab, b)", "--aligned").status == 0
    assert unitkit("train", recipe, *words, "aligned=yes", "--out", out).status == 0
    assert unitkit("evaluate", out, "--metrics", "l1(ab, b)").status == 0
    found, later = (
        entries(folder)[-1]["metrics"]["l1(ab, b)"]["figures"]["l1"] for folder in (out, tmp_path / "blind")
    )
    assert found == later
    run = load(out, device="cpu")
    differences = [
        np.abs(
            np.asarray(run.translate(Image.open(root / f"val/satellite/{name}.bmp"), "ab"), float) - (int(name) + 100)
        ).mean()
        for name in ("3", "4")
    ]
    assert found == pytest.approx(np.mean(differences), abs=0.6)


def test_a_recipe_may_say_itself_that_its_data_are_aligned(tmp_path: Path) -> None:
    source = data.Open(str(aligned(tmp_path)), size=16, labels="satellite,map")
    assert source.open(aligned=True).truth and replace(source, aligned=True).open().truth and not source.open().truth


def test_a_missing_counterpart_is_named(tmp_path: Path) -> None:
    root = aligned(tmp_path)
    (root / "val" / "map" / "4.png").rename(root / "val" / "map" / "5.png")
    with pytest.raises(UserError, match=r"not aligned: .*4\.bmp.* of satellite .*in map.*1 of 2"):
        open_data(str(root), size=16, labels="satellite,map", aligned=True)
    (root / "val" / "satellite" / "4.bmp").unlink()
    with pytest.raises(UserError, match=r"not aligned: .*5\.png.* of map .*in satellite"):
        open_data(str(root), size=16, labels="satellite,map", aligned=True)
    assert open_data(str(root), size=16, labels="satellite,map").truth is None


OWN = {
    "run.json": (*WRITTEN, "run.json", "bad_images.json", ".lock", "log.txt", "samples/x.json", "checkpoints/x"),
    "ablation.json": ("ablation.json", "ablation.csv", "ablation.md", "ablation.html", "plots/x", "mine.py", ".lock"),
}


@pytest.mark.parametrize("how", ["its own", "another", "linked", "below", "sets"])
@pytest.mark.parametrize(("record", "name"), [(record, name) for record, names in OWN.items() for name in names])
def test_figures_are_saved_over_no_run_and_no_ablation(
    folder: Path, tmp_path: Path, record: str, name: str, how: str
) -> None:
    """Of this run or of another one, whatever it is called by, and whether the file is there or not yet."""
    own = folder if (how, record) == ("its own", "run.json") else tmp_path / "another"
    own.mkdir(exist_ok=True)
    (own / record).touch()
    before = files(own)
    (tmp_path / "linked").symlink_to(own)
    place = {"linked": tmp_path / "linked" / name, "below": own / "x/.." / name}.get(how, own / name)
    (own / "x").mkdir()
    words = ("--images", f"ab={save(tmp_path / 'ab', pictures(1, 0, 8))}", "--metrics", "l1(ab, ab)")
    answer = unitkit("evaluate", *(words if how == "sets" else (folder,)), "--save", place)
    one_line(answer, f"is the {record.removesuffix('.json')}'s own {name.partition('/')[0]}: choose another file")
    assert files(own) == before


def test_figures_are_saved_beside_a_run(folder: Path) -> None:
    assert unitkit("evaluate", folder, "--save", folder / "mine.json").status == 0


def test_a_checkpoint_through_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "checkpoints").rename(tmp_path / "disk")
    (folder / "checkpoints").symlink_to(tmp_path / "disk")
    answer = unitkit("evaluate", folder / "checkpoints/step-00000009")
    assert answer.status == 0 and "protocol: step 9" in answer.out, answer


@pytest.mark.parametrize("channels", [1, 3])
def test_data_of_other_channels(tmp_path: Path, channels: int) -> None:
    sets = {depth: tmp_path / f"{depth}" for depth in (1, 3)}
    for depth, place in sets.items():
        for label in "xy":
            (place / label).mkdir(parents=True)
            for i, picture in enumerate(pictures(12, ord(label), 16)):
                image = Image.fromarray(picture.transpose(1, 2, 0)).convert("L")
                (image if depth == 1 else image.convert("RGB")).save(place / label / f"{i:02}.png")
    run_folder = tmp_path / "run"
    assert unitkit("train", TINY, "@quick", f"data={sets[channels]}", "--out", run_folder).status == 0
    own, other = (unitkit("evaluate", run_folder, "--data", sets[depth]) for depth in (channels, 4 - channels))
    assert own.status == other.status == 0, other.err
    one, two = entries(run_folder)[-2:]
    assert one["metrics"] == two["metrics"]  # the same images in the end


def test_bytes_in_a_path_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/q\xe9"))
    for label in "xy":
        save(place / "data" / label, pictures(12, ord(label), 16))
    monkeypatch.chdir(place)
    answer = unitkit("train", TINY, "@quick", "data=data", "--out", place / "run")
    assert answer.status == 0 and "done in" in answer.out, answer
    assert "\\udce9" in (place / "run/report.html").read_text()
    assert unitkit("train", "--resume", "--out", place / "run", "steps=3").status == 0
    assert unitkit("evaluate", place / "run").status == 0
    answer = unitkit("ablate", TINY, "@quick", "width=2,4", f"data={place / 'data'}", "--out", "ablation")
    assert answer.status == 0 and (place / "ablation/ablation.html").is_file(), answer
