"""What a command line says to words that are nearly right: the word that was meant, and how it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import TINY, one_line, unitkit

from unitkit.system.errors import nearest, suggested


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "x.py", "--steps", "60"), "unitkit train has no option --steps; a knob is given as steps=60"),
        (("train", "unit_faces", "--batch=4"), "no option --batch; a knob is given as batch=4\n"),
        (("ablate", "unit_faces", "--lambda-kl", "1,2"), "a knob is given as lambda_kl=1,2"),
        (("show", "unit_faces", "--width"), "a knob is given as width=VALUE"),
        (("train", "unit_faces", "--sed", "4"), "a knob is given as sed=4. Did you mean '--seed'?"),
        (("train", TINY, "steps", "60"), "did you mean steps=60?"),
        (("train", TINY, "batch=2", "lr", "1e-3"), "did you mean lr=1e-3?"),
        (("train", TINY, "steps"), "'steps' is neither knob=value nor @preset"),
        (
            ("evaluate", "runs/x", "--metric", "psnr"),
            "unitkit evaluate has no option --metric. Did you mean '--metrics'?",
        ),
        (("translate", "runs/x"), "PATH is missing: unitkit translate RUN PATH INPUT OUTPUT"),
        (("data", "check"), "SOURCE is missing: unitkit data check SOURCE"),
        (("train", "x.py", "--seed", "x"), "'--seed': 'x' is no whole number"),
        (("trian",), "no such command 'trian'. Did you mean 'train'?"),
        (("new", "a.py", "b.py"), "(b.py)"),
        (("--foo",), "unitkit has no option --foo"),
    ],
)
def test_words_that_the_command_line_does_not_take(words: tuple[object, ...], says: str) -> None:
    one_line(unitkit(*words), says)


def test_what_is_nearest_and_what_would_mislead() -> None:
    assert suggested("smlie", ["smile", "hat"]) == ". Did you mean 'smile'?"
    for name, other in ("tpu", "cpu"), ("gif", "tif"), ("/opt", "portraits"), ("residual", "schedule"):
        assert suggested(name, [other]) == "" and nearest(name, [other]) == f"Choose from: {other}."


def test_the_run_that_a_misspelt_one_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/tiny/smile")
    run.mkdir(parents=True)
    for name in "run.json", "recipe.py":
        (run / name).write_text("{}")
    for typed in "smlie", "runs/smlie", "runs/tiny/smlie":
        for words in ("translate", typed, "ab", "x", "y"), ("evaluate", typed), ("export", typed, "x.onnx"):
            one_line(unitkit(*words), "Did you mean 'runs/tiny/smile'?")
        one_line(unitkit("show", typed), "Did you mean 'runs/tiny/smile/recipe.py'?")
    one_line(unitkit("show", run), f"{run} is a run: give its recipe, {run}/recipe.py")
    one_line(unitkit("translate", "ab", run, "x", "y"), f"the run comes first: translate {run} ab")


def test_what_is_no_recipe_is_not_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("common.py").write_text("raise SystemExit\n")
    Path("mine.py").write_text("def recipe(*, steps: int = 1): ...\n")
    Path("also.py").write_text("from mine import recipe\n")
    answer = unitkit("show", "comon")
    one_line(answer, "also.py", "mine.py")
    assert "common.py" not in answer.err
    one_line(unitkit("new", "new.py", "--from", "./mien.py"), "Did you mean 'mine.py'?")


def test_choices_are_listed_once(trained: Path) -> None:
    one_line(
        unitkit("translate", trained, "nope", trained / "samples", "out"), "has a, b, aa, ab, ba, bb, aaa, aab, ...\n"
    )
    one_line(unitkit("translate", trained, "axb", trained / "samples", "out"), "... Did you mean 'ab'?")
    answer = unitkit("train", TINY, "data=nowhere")
    one_line(answer, "(digits, portraits, terrain)")
    assert "Choose from" not in answer.err


def test_a_placeholder_of_the_documentation() -> None:
    one_line(unitkit("train", TINY, "data=FOLDER"), "put the path of your images in place of FOLDER")


def test_a_part_without_its_kind() -> None:
    assert unitkit("list", "unit_faces").out == unitkit("list", "recipe", "unit_faces").out
    one_line(unitkit("list", "residual"), "unitkit list encoder residual, or unitkit list generator residual")
    one_line(unitkit("list", "unit_face"), "no part is called so. Did you mean 'unit_faces'?")
