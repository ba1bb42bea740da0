"""The command line: what it answers, and that each mistake of a user ends with status 2 and one clear line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from commands import TINY, Moment, one_line, run, unitkit
from PIL import Image

import unitkit as kit
from unitkit.commands import progress

RECIPE = TINY.read_text()


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def changed(folder: Path, old: str, new: str) -> Path:
    """The tiny recipe with one change."""
    assert RECIPE.count(old) == 1, old
    return written(folder, RECIPE.replace(old, new))


def refused(folder: Path, recipe: object, *words: str, says: tuple[str, ...] | list[str]) -> None:
    """Training refuses before it makes a run folder."""
    one_line(unitkit("train", recipe, *words, "--out", folder / "run"), *says)
    assert not (folder / "run" / "run.json").exists()


def photos(root: Path, labels: str = "xy", *, count: int = 4, side: int = 16, suffix: str = ".png") -> Path:
    """root/train/LABEL and root/test/LABEL with noise."""
    draw = np.random.default_rng(0)
    for label in labels:
        for split in "train", "test":
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 255, (side, side, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i}{suffix}")
    return root


# Recipes


def test_a_recipe_that_is_missing(tmp_path: Path) -> None:
    refused(tmp_path, TINY.with_name("tinny.py"), says=["tinny.py", "Did you mean 'tiny.py'?"])
    refused(tmp_path, tmp_path / "nowhere" / "x.py", says=["no recipe file"])
    refused(tmp_path, tmp_path, says=["no recipe file"])
    refused(tmp_path, written(tmp_path, RECIPE, "recipe.txt"), says=["Python file", "recipe.txt"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", ["mine.py", "no function `recipe"]),
        ("recipe = 3", ["no function `recipe"]),
        ("def recipe(*, steps: int = 1):\n    return 5", ["a int", "must return a unitkit.Recipe"]),
        ("def recipe():\n    pass", ["None"]),
        ("def recipe(size): pass", ["'size'", "keyword-only"]),
        ("def recipe(*, size): pass", ["'size'", "default"]),
        ("def recipe(**knobs): pass", ["'knobs'"]),
        ("def recipe(*, size: Nonsense = 1): pass", ["Nonsense"]),
        ("def recipe(*, size: 'int[' = 1): pass", ["annotation"]),
        ("def recipe(*, size:\n", ["mine.py", "line 1", "SyntaxError"]),
        ("import nothing_of_this_name", ["line 1", "nothing_of_this_name"]),
        ("x = 1\ny = 1 / 0", ["line 2", "ZeroDivisionError"]),
        ("raise ValueError('two\\nlines [red]and[/blue] :smile:')", ["two lines [red]and[/blue] :smile:"]),
        ("import sys; sys.exit(4)", ["SystemExit"]),
        ("def recipe():\n    raise KeyError('three')", ["line 2", "KeyError", "three"]),
        ("def recipe():\n    exit(0)", ["line 2", "SystemExit"]),
        ("def recipe():\n    return recipe()", ["RecursionError"]),
        ("\x00", ["mine.py"]),
        ("presets = [1]\ndef recipe(): pass", ["`presets`"]),
        ("presets = {'a': 1}\ndef recipe(): pass", ["`presets`"]),
        ("from unitkit import Recipe\ndef recipe():\n    return Recipe()", ["line 3", "TypeError"]),
        ("from unitkit import encoders\nencoders.spec('residul')", ["unknown encoder", "Did you mean 'residual'?"]),
        ("from unitkit import encoders\nencoders.spec('residual', widht=3)", ["'widht'", "Did you mean 'width'?"]),
        ("from unitkit import l1\nl1('aba', 'a') * -1", ["weight of l1(aba, a)", "-1"]),
    ],
)
def test_a_recipe_that_is_none(tmp_path: Path, text: str, says: list[str]) -> None:
    refused(tmp_path, written(tmp_path, text), says=says)


def test_a_recipe_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"x = '\xff\xfe'")
    refused(tmp_path, tmp_path / "mine.py", says=["mine.py"])


def test_the_line_of_a_recipe_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "\n\nraise ValueError('so')")
    refused(tmp_path, "mine.py", says=["at line 3: ValueError: so"])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"unit",', '"unnit",', ["unknown model 'unnit'", "'unit'"]),
        ('sharing.spec("tie"', 'sharing.spec("ties"', ["unknown sharing 'ties'", "'tie'"]),
        ('cycle("aba", "bab")', 'cycle("aba", "bxb")', ["'bx'", "'generator'", "a, b"]),
        ('cycle("aba", "bab")', 'cycle("ab")', ["a cycle ends where it began"]),
        ('gan("ab", "ba"', 'gan("ab", "bz"', ["'z' is not an image path"]),
        ('["discriminators"]', '["discriminator"]', ["'discriminator'", "Did you mean 'discriminators'?"]),
        ('["discriminators"]', '["encoders"]', ["trained by two players"]),
        ('Player("discriminator"', 'Player("generator"', ["different names"]),
        ("l_gan.d, adam", "[], adam", ["'discriminator' has no terms"]),
        ('psnr("aa", "a")', 'psnr("ax", "a")', ["'ax'"]),
        ('psnr("aa", "a")', 'psnr("aa", "")', ["''"]),
        ("adam = Adam(lr=lr", "adam = Adam(lr=-lr", ["Adam's lr must be a number above 0"]),
        ("channels=source.channels", "channels={'a': 1, 'b': 1}", ["channels", "the data's"]),
        ("channels=source.channels", "channels={'a': 3}", ["two or more"]),
        ('encoder=encoders.spec("residual"', 'encoder=generators.spec("residual"', ["encoder", "generator 'residual'"]),
        (
            'model=models.spec(\n            "unit",',
            "model=encoders.spec('residual', width=4, blocks=1) or dict(",
            ["recipe's model", "encoder 'residual'"],
        ),
    ],
)
def test_a_recipe_whose_parts_do_not_fit(tmp_path: Path, old: str, new: str, says: list[str]) -> None:
    refused(tmp_path, changed(tmp_path, old, new), says=says)


def test_a_metric_that_needs_counterparts_which_the_data_do_not_know(tmp_path: Path) -> None:
    recipe = changed(tmp_path, 'evaluate=[psnr("aa", "a")]', 'evaluate=[ground_truth("ab")]')
    recipe.write_text(recipe.read_text().replace("psnr,", "ground_truth,"))
    refused(tmp_path, recipe, f"data={photos(tmp_path / 'data')}", says=["ground_truth(ab)", "aligned"])


# Knobs and options


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["widht=8"], ["no knob 'widht'", "Did you mean 'width'?"]),
        (["width=big"], ["'width' is a whole number", "'big'"]),
        (["width=1.5"], ["'width'", "'1.5'"]),
        (["width="], ["'width'", "''"]),
        (["lr=nan"], ["'lr'"]),
        (["lr=inf"], ["'lr'"]),
        (["augment=perhaps"], ["'augment' is true or false"]),
        (["size=16x"], ["'size'", "48x64"]),
        (["size=[red]"], ["'[red]'"]),
        (["width"], ["'width' is neither knob=value nor @preset"]),
        (["=3"], ["'=3'"]),
        (["steps=1", "steps=2"], ["'steps' is given twice"]),
        (["@quik"], ["no preset '@quik'", "Did you mean 'quick'?"]),
        (["@quick", "@quick"], ["one preset"]),
        (["width=0"], ["width", "at least 1", "0"]),
        (["width=-4"], ["width", "at least 1"]),
        (["shared=9"], ["encoders", "9"]),
        (["steps=0"], ["steps", "at least 1"]),
        (["batch=0"], ["batch", "at least 1"]),
        (["batch=-2"], ["batch", "at least 1"]),
        (["size=0"], ["size"]),
        (["size=-16"], ["size"]),
        (["size=18"], ["18x18", "divides height and width by 4", "nearest size that does is 16x16"]),
        (["size=16x22"], ["16x22", "is 16x24"]),
        (["size=1"], ["1x1", "16 or more"]),
        (["size=16x16x16"], ["'size'"]),
        (["noise=-1"], ["noise", "at least 0"]),
        (["lr=0"], ["Adam's lr must be a number above 0"]),
        (["decay=-1"], ["decay"]),
        (["data=portrait"], ["'portrait'", "'portraits'"]),
        (["data=./nowhere"], ["nowhere", "does not exist"]),
        (["--device", "cuda:77"], ["no device 'cuda:77'", "--device cpu"]),
        (["--device", "cuda:999999999999"], ["cuda:999999999999"]),
        (["--device", "cpuu"], ["unknown device 'cpuu'", "Did you mean 'cpu'?"]),
        (["--device", "meta"], ["'meta'"]),
        (["--device", ""], ["''"]),
        (["--precision", "fp16"], ["unknown precision 'fp16'", "'bf16'"]),
    ],
)
def test_words_that_are_wrong(tmp_path: Path, words: list[str], says: list[str]) -> None:
    refused(tmp_path, TINY, *words, says=says)


@pytest.mark.parametrize("out", ["/dev/null", "/dev/null/run", "/proc/nothing/here"])
def test_places_where_no_run_can_be(out: str) -> None:
    one_line(unitkit("train", TINY, "--out", out), "cannot write", out)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_no_cuda_device(tmp_path: Path) -> None:
    refused(tmp_path, TINY, "--device", "cuda", says=["no device 'cuda'", "CUDA devices: 0", "--device cpu"])


@pytest.mark.parametrize(
    "words",
    [
        ["train", TINY, "--seed", "-1"],
        ["train", TINY, "--seed", "x"],
        ["train", TINY, "--checkpoint-every", "0"],
        ["train", TINY, "--nonsense"],
        ["train", TINY, "--out"],
        ["tarin"],
        ["translate", "run", "ab", "x.png"],
        ["show"],
    ],
)
def test_typers_own_refusals(words: list[object]) -> None:
    answer = unitkit(*words)
    assert answer.status == 2
    assert answer.err and "Traceback" not in answer.err


def test_the_recipe_may_be_forgotten() -> None:
    for words in ([], ["steps=4"], ["@quick", "steps=3"]):
        one_line(unitkit("train", *words), "name a recipe file", "--resume")


# Data


def test_folders_that_hold_no_two_domains(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path, TINY, f"data={tmp_path / 'empty'}", says=["empty", "no image"])
    refused(tmp_path, TINY, f"data={photos(tmp_path / 'single', 'x')}", says=["single domain", "'x'"])
    refused(tmp_path, TINY, f"data={photos(tmp_path / 'three', 'xyz')}", says=["3 domains", "labels="])
    shutil.rmtree(photos(tmp_path / "half") / "train/y")
    (tmp_path / "half/train/y").mkdir()
    refused(tmp_path, TINY, f"data={tmp_path / 'half'}", says=["half/train/y", "no image"])


@pytest.mark.filterwarnings("ignore:Image size")  # pytest undoes the filter that unitkit sets
@pytest.mark.parametrize("what", ["zero bytes", "no image", "cut header", "huge", "[red]"])
def test_images_that_are_refused_before_training(tmp_path: Path, what: str) -> None:
    bad = photos(tmp_path / "data") / "train/y/2.png"
    says = ["'" + str(bad) + "'"]
    if what == "zero bytes":
        bad.write_bytes(b"")
        says += ["empty (0 bytes)"]
    elif what == "no image":
        bad.write_text("hello")
    elif what == "cut header":
        bad.write_bytes(bad.read_bytes()[:20])
    elif what == "huge":
        Image.new("1", (11_000, 10_000)).save(bad)
        says += ["more than 100 million pixels"]
    else:
        bad = bad.with_name("[red]two\nlines :smile:.png")
        bad.write_bytes(b"")
        says = ["[red]two lines :smile:.png"]
    refused(tmp_path, TINY, f"data={tmp_path / 'data'}", says=says)


# Run folders


def test_run_folders_that_do_not_serve(trained: Path, tmp_path: Path) -> None:
    one_line(unitkit("train", "--resume"), "--resume needs the run folder")
    one_line(unitkit("train", TINY, "--resume"), "--resume needs the run folder")
    one_line(unitkit("train", "--resume", "--out", tmp_path), "is not a run folder")
    one_line(unitkit("train", "--resume", "--out", TINY), "is not a run folder")
    one_line(unitkit("train", "--resume", "--out", trained.with_name("rum")), "rum", f"Did you mean '{trained}'?")
    assert not trained.with_name("rum").exists()
    one_line(unitkit("train", TINY, "--out", trained), "already holds a run", "--resume")
    one_line(unitkit("train", "--resume", "--out", trained, "width=8"), "only steps= and data=")
    one_line(unitkit("train", "--resume", "--out", trained, "@quick"), "only steps= and data=")
    one_line(unitkit("train", "--resume", "--out", trained, "steps=x"), "'steps' is a whole number")
    other = written(tmp_path, RECIPE, "other.py")
    edited = written(tmp_path, RECIPE + "# edited\n", "tiny.py")
    for another in other, edited, tmp_path / "missing.py":
        answer = unitkit("train", another, "--resume", "--out", trained)
        one_line(answer, "a run of another recipe, 'tiny'", str(another), "leave the recipe out")
    one_line(unitkit("train", "--resume", "--out", trained, "--seed", 1), "seed 0, not 1", "leave seed out")
    one_line(unitkit("train", "--resume", "--out", trained, "--precision", "bf16"), "precision fp32, not bf16")


def test_a_run_is_not_resumed_with_a_recipe_whose_imports_were_edited(tmp_path: Path) -> None:
    base = written(tmp_path, RECIPE, "base.py")
    recipe = written(tmp_path, "from base import presets, recipe\n", "mine.py")
    command = ("train", recipe, "@quick", "--resume", "--out", tmp_path / "run")
    for _ in range(2):
        answer = unitkit(*command)
        assert answer.status == 0, answer.err
    base.write_text(base.read_text() + "# edited\n")
    one_line(unitkit(*command), "a run of another recipe, 'mine'", "leave the recipe out")
    base.unlink()
    one_line(unitkit(*command), "a run of another recipe, 'mine'")
    assert unitkit("train", "--resume", "--out", tmp_path / "run").status == 0


def test_a_run_folder_whose_name_is_markup(tmp_path: Path) -> None:
    folder = tmp_path / "a [red] b [/blue]" / "run=1.py"
    answer = unitkit("train", TINY, "@quick", "--out", folder)
    assert answer.status == 0, answer.err
    assert f"Run folder: {folder}" in answer.out
    resume = next(line for line in answer.out.splitlines() if "--resume" in line)
    assert f"unitkit train --resume --out '{folder}' steps=4" in resume  # on one line, as it can be typed
    assert unitkit("train", "--resume", "--out", folder, "steps=3").status == 0
    answer = unitkit("translate", folder, "ab", folder / "samples/step-00000002.png", folder / "[bold].png")
    assert answer.status == 0, answer.err
    assert f"1 image in {folder}/[bold].png" in answer.out


def test_options_reach_the_run(tmp_path: Path) -> None:
    recipe = written(tmp_path, RECIPE, "other.py")
    words = ("@quick", "width=5", "size=16x24", "--precision", "bf16", "--seed", 7, "--device", "cpu")
    answer = unitkit("train", recipe, *words, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["recipe"], record["seed"], record["precision"], record["device"]) == ("other", 7, "bf16", "cpu")
    assert record["knobs"]["width"] == 5 and record["knobs"]["size"] == [16, 24] and record["knobs"]["steps"] == 2
    answer = unitkit("train", "--resume", "--out", tmp_path / "run", "steps=3")  # with the run's seed and precision
    assert answer.status == 0, answer.err
    answer = unitkit("train", recipe, "--resume", "--out", tmp_path / "run", "--seed", 7, "--precision", "bf16")
    assert answer.status == 0, answer.err


OUTSIDE = """
import torch
from unitkit import encoders, losses
from unitkit.encoders import residual
from unitkit.networks.tower import Tower

@encoders.register
def mirrored(in_channels: int, *, width: int = 4) -> Tower:
    return residual.build(in_channels, width=width, blocks=1)

@losses.register()
def evenness(x: torch.Tensor) -> torch.Tensor:
    return x.mean().square()
"""


def test_parts_that_the_recipe_file_registers(tmp_path: Path) -> None:
    """Trained, resumed and used in processes of their own, which know nothing of the recipe's parts."""
    text = RECIPE.replace('encoders.spec("residual", width=width, blocks=1)', 'encoders.spec("mirrored", width=width)')
    text = text.replace('*cycle("aba", "bab")', '*cycle("aba", "bab"), 3 * evenness("ab")') + OUTSIDE
    assert "mirrored" in text and "evenness" in text
    folder, log = tmp_path / "run", tmp_path / "log"
    answer = run(log, "train", written(tmp_path, text), "@quick", "--out", folder)
    assert answer.status == 0, answer.err
    assert f"ab INPUT OUTPUT --parts {folder / 'recipe.py'}\n" in answer.out
    assert run(log, "train", "--resume", "--out", folder, "steps=3").status == 0
    words = ("translate", folder, "ab", folder / "samples/step-00000002.png", tmp_path / "y.png")
    hint = f"it was registered by the recipe: import that file first, or give --parts {folder / 'recipe.py'}"
    one_line(run(log, *words), "unknown encoder 'mirrored'", hint)
    assert run(log, *words, "--parts", written(tmp_path, OUTSIDE, "only_parts.py")).status == 0
    answer = run(log, *words, "--parts", folder / "recipe.py")
    assert answer.status == 0, answer.err
    one_line(run(log, *words, "--parts", tmp_path / "mime.py"), "no file", "Did you mean 'mine.py'?")
    bad = written(tmp_path, "1 / 0", "bad.py")
    one_line(run(log, *words, "--parts", bad), "bad.py does not run: ZeroDivisionError")
    one_line(run(log, *words, "--parts", written(tmp_path, "", "parts.txt")), "Python file", "parts.txt")


def test_parts_are_named_only_where_they_are_needed(tmp_path: Path) -> None:
    answer = unitkit("train", TINY, "@quick", "--out", tmp_path / "run")
    assert "ab INPUT OUTPUT\n" in answer.out and "--parts" not in answer.out


# What is no training


def test_list_and_show() -> None:
    everything = unitkit("list")
    assert everything.status == 0 and "residual" in everything.out and "tie" in everything.out
    one_line(unitkit("list", "foo"), "unknown kind of part 'foo'")
    one_line(unitkit("list", "encodr"), "Did you mean 'encoder'?")
    shown = unitkit("show", TINY, "width=6")
    assert shown.status == 0 and "l1(aba, a)" in shown.out
    one_line(unitkit("show", TINY, "size=18"), "16x16")
    one_line(unitkit("show", "none.py"), "no recipe file none.py")


def test_show_marks_what_is_shared() -> None:
    lines = unitkit("show", TINY).out.splitlines()
    towers = lines[next(i for i, line in enumerate(lines) if "parameters, images of" in line) :]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in towers if line.startswith("│")]
    rows = [row for row in rows if len(row) == 6 and row[1]]
    shared = [(row[0].split(" (")[0], row[1], row[5]) for row in rows if row[4] == "by a, b"]
    assert [number for _, number, _ in shared] == ["3", "3", "0", "0"]  # encoders' last stage, generators' first
    assert [counted == "counted above" for _, _, counted in shared] == [False, True, False, True]
    assert all(row[4] in ("", "by a, b") for row in rows)


def test_the_bar_in_a_terminal_of_80_columns(tmp_path: Path) -> None:
    """It moves at every step, and neither times nor losses are cut."""
    answer = run(tmp_path / "log", "train", TINY, "--out", tmp_path / "run", terminal=80)
    assert answer.status == 0, answer.out
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", answer.out)
    assert "…" not in text
    assert re.search(r"12/12 0:\d\d:\d\d left 0:\d\d:\d\d +[\d.]+ images/s", text), text
    assert re.search(r"\(step 12, [\d.]+ [MG]iB at most\)", text.replace("\n", " ")), text
    assert re.search(r"^gan_d [\d.]+  kl [\d.]+", text, re.MULTILINE), text
    bar: list[int] = []
    moved = mock.patch.object(progress._Bar, "update", lambda self, task, **new: bar.append(new["completed"]))
    with moved:
        unitkit("train", TINY, "steps=3", "--out", tmp_path / "other")
    assert bar == [1, 2, 3]


def test_what_translate_refuses(trained: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    Image.new("RGB", (16, 16)).save(image)
    (tmp_path / "none").mkdir()

    def says(run: object, path: str, source: object, target: object, *words: str) -> None:
        one_line(unitkit("translate", run, path, source, target), *words)

    says(trained, "ax", image, tmp_path / "y.png", "'ax' is not an image path")
    says(trained, "[red]", image, tmp_path / "y.png", "'[red]'")
    says(trained, "a", image, tmp_path / "y.png", "'a' is not a translation")
    says(trained, "", image, tmp_path / "y.png", "'' is not a translation")
    says(trained, "code:ab", image, tmp_path / "y.png", "'code:ab' is not a translation")
    says(trained.with_name("rum"), "ab", image, tmp_path / "y.png", "not a run folder", f"Did you mean '{trained}'?")
    says(tmp_path / "none", "ab", image, tmp_path / "y.png", "not a run folder")
    says(TINY, "ab", image, tmp_path / "y.png", "not a run folder")
    says(trained, "ab", tmp_path / "z.png", tmp_path / "y.png", "z.png", "Did you mean 'x.png'?")
    says(trained, "ab", tmp_path / "none", tmp_path / "y", "holds no image")
    says(trained, "ab", image, image, "is the input")
    says(trained, "ab", image, tmp_path, "is the input")  # into the same folder
    says(trained, "ab", tmp_path, tmp_path, "is the input")
    says(trained, "ab", image, tmp_path / "y.gif", "no image suffix", ".png")
    says(trained, "ab", image, tmp_path / "y", "no image suffix")
    says(trained, "ab", tmp_path, image, "the input is a folder")
    says(trained, "ab", image, "/proc/nothing/y.png", "cannot write /proc/nothing/y.png")
    says(trained, "ab", image, "/dev/null/y.png", "cannot write /dev/null/y.png")
    one_line(unitkit("translate", trained, "ab", image, tmp_path / "y.png", "--device", "cuda:9"), "cuda:9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none", "x.png"]


def test_translate_names_a_damaged_image(trained: Path, tmp_path: Path) -> None:
    source = photos(tmp_path / "data", "x", suffix=".jpg") / "train/x"
    (source / "2.jpg").write_bytes(b"no image")
    one_line(unitkit("translate", trained, "ab", source, tmp_path / "out"), f"'{source / '2.jpg'}'")
    assert not (tmp_path / "out").exists()  # its header is looked at before the first is translated
    (source / "2.jpg").write_bytes((source / "1.jpg").read_bytes()[:-50])
    answer = unitkit("translate", trained, "ab", source, tmp_path / "out")
    one_line(answer, f"the image '{source / '2.jpg'}' is damaged or truncated")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == ["0.jpg", "1.jpg"]


def test_a_run_without_a_checkpoint_yet(tmp_path: Path) -> None:
    moments = [Moment("unitkit.trainer:Trainer.step", 2)]
    run(tmp_path / "log", "train", TINY, "--out", tmp_path / "run", moments=moments)
    one_line(unitkit("translate", tmp_path / "run", "ab", TINY, tmp_path / "y.png"), "no checkpoint yet")


# As processes


def test_the_command_itself(tmp_path: Path) -> None:
    """`python -m unitkit`: help at once, one line for a mistake, and no traceback where nobody reads."""
    command = [sys.executable, "-m", "unitkit"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "translate" in done.stdout
    done = subprocess.run([*command, "list", "foo"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: unknown kind")
    read, write = os.pipe()
    os.close(read)  # as `unitkit list | head -0`
    done = subprocess.run([*command, "list"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert done.stderr == ""


def test_training_into_a_pipe_that_closed(tmp_path: Path) -> None:
    answer = run(tmp_path / "log", "train", TINY, "--out", tmp_path / "run", "--checkpoint-every", 3, no_reader=True)
    assert answer.err == ""
    assert unitkit("train", "--resume", "--out", tmp_path / "run").status == 0


@pytest.mark.parametrize("at", ["unitkit.cli", "unitkit.commands.data", "unitkit.recipe_file", "torch"])
def test_ctrl_c_while_modules_are_imported(tmp_path: Path, at: str) -> None:
    """Of the command line itself, and of what a command needs."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {at!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(kit.__file__).parents[1])])
    words = [sys.executable, "-m", "unitkit", "show", "unit_faces"]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "stopped\n")
