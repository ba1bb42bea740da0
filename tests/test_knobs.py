"""Knobs: conversion by annotation, presets, and every way in which a recipe file can be wrong."""

from __future__ import annotations

import json
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from commands import TINY
from commands import unitkit as command
from sets import pictures, save

import unitkit
from unitkit.annotations import convert
from unitkit.check import check
from unitkit.recipe import Recipe
from unitkit.recipe_file import RecipeFile, import_parts, parse_knobs, read_recipe_file, shipped
from unitkit.system.errors import UserError, nearest

RECIPES = Path(__file__).parents[1] / "recipes"
GOOD = """
    '''A small recipe.'''
    from unitkit import Player, Recipe, discriminators, encoders, generators, l1, models, open_data, sharing

    presets = {"paper": {"width": 8, "labels": "hat,plain"}, "text": {"width": "16"}}

    def recipe(*, data: str = "portraits", labels: str | None = None, size: int = 16, width: int = 4,
               steps: int = 3, lr: float = 1e-4) -> Recipe:
        source = open_data(data, size=size, domains=2, labels=labels)
        model = models.spec(
            "unit",
            channels=source.channels,
            encoder=encoders.spec("residual", width=width, blocks=1),
            generator=generators.spec("residual", width=width, blocks=1),
            discriminator=discriminators.spec("strided", width=width, layers=2),
            sharing=sharing.spec("none"),
        )
        return Recipe(model, [Player("g", ["encoders", "generators"], [l1("aa", "a")])], source, steps=steps)
"""


def write(folder: Path, text: str, name: str = "small.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")
    return path


def refused(path: Path, preset: str | None = None, **knobs: Any) -> str:
    """Loading raises one line."""
    with pytest.raises(UserError) as caught:
        unitkit.load_recipe(path, preset, **knobs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Values


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("3", float, 3.0),
        ("1e-4", float, 1e-4),
        ("true", bool, True),
        ("No", bool, False),
        ("0", bool, False),
        ("a=b", str, "a=b"),
        ("", str, ""),
        ("hinge", Literal["hinge", "saturating"], "hinge"),
        ("2", Literal[1, 2], 2),
        ("none", int | None, None),
        ("4", int | None, 4),
        ("4", Optional[int], 4),  # noqa: UP045 (the older spelling is understood too)
        ("none", str, "none"),
        ("none", Literal["none", "tie"], "none"),
        ("64", int | tuple[int, int], 64),
        ("48x64", int | tuple[int, int], (48, 64)),
        ("48,64", tuple[int, int], (48, 64)),
        ("1,2,3", list[int], [1, 2, 3]),
        ("1,2,3", tuple[int, ...], (1, 2, 3)),
        ("0.5,0.999", tuple[float, float], (0.5, 0.999)),
        ("4,hinge", tuple[int, Literal["hinge"]], (4, "hinge")),
        ("fox,ox", list[str], ["fox", "ox"]),
        ("fox, ox", tuple[str, ...], ("fox", "ox")),
        ("48x64", list[str], ["48x64"]),
        ("0.5x2", tuple[float, ...], (0.5, 2.0)),
        ("none", str | None, None),
        ("ox", str | None, "ox"),
    ],
)
def test_text_becomes_what_the_annotation_says(text: str, annotation: Any, value: Any) -> None:
    found = convert("knob", text, annotation)
    assert found == value and type(found) is type(value)
    again = convert("knob", value, annotation)  # a value given in Python, or read back from run.json
    assert again == value and type(again) is type(value)


def test_lists_of_json_become_tuples_again() -> None:
    assert convert("size", [48, 64], int | tuple[int, int]) == (48, 64)
    assert convert("lr", 1, float) == 1.0 and convert("width", 8.0, int) == 8


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        ("many", int, "a whole number"),
        ("3.5", int, "a whole number"),
        (3.5, int, "a whole number"),
        (True, int, "a whole number"),
        ("", int, "a whole number"),
        ("nan", float, "a number"),
        ("inf", float, "a number"),
        (float("nan"), float, "a number"),
        (True, float, "a number"),
        ("maybe", bool, "true or false"),
        (3, bool, "true or false"),
        (3, str, "text"),
        (None, int, "a whole number"),
        (None, str, "text"),
        ("hing", Literal["hinge", "saturating"], "one of hinge, saturating"),
        ("x", int | None, "a whole number or none"),
        ("48x64x3", tuple[int, int], "several values, such as 48x64"),
        ("48x", int | tuple[int, int], "a whole number or several values"),
        (7, tuple[int, int], "several values"),
        ("1,x", list[int], "several values"),
        (3, list[str], "several values with commas between"),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, annotation: Any, wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        convert("knob", value, annotation)
    assert str(caught.value).startswith(f"the knob 'knob' is {wanted}") and f"'{value}' is not" in str(caught.value)


# Words on the command line


def test_words_are_knobs_and_one_preset() -> None:
    assert parse_knobs(["width=32", "@paper", "data=a=b"]) == ("paper", {"width": "32", "data": "a=b"})
    assert parse_knobs([]) == (None, {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["width=1", "width=2"], "the knob 'width' is given twice: '1' and '2'"),
        (["@paper", "@photo"], "one preset at a time: '@paper' and '@photo'"),
        (["width"], "'width' is neither knob=value nor @preset"),
        (["--width=3"], "'--width=3' is neither"),
        (["=3"], "'=3' is neither"),
        (["two words=3"], "'two words=3' is neither"),
    ],
)
def test_words_that_are_neither(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_knobs(words)
    assert message in str(caught.value)


# Recipe files


def test_defaults_then_preset_then_given(tmp_path: Path) -> None:
    file = read_recipe_file(write(tmp_path, GOOD))
    assert (file.name, file.doc) == ("small", "A small recipe.") and "def recipe" in file.source
    own = ["batch", "accumulate", "flip", "crop", "ema", "sample_every"]  # of the recipe that comes out
    assert list(file.knobs) == ["data", "labels", "size", "width", "steps", "lr", *own]
    assert file.values()["width"] == 4 and file.values()["labels"] is None
    assert file.values("paper")["width"] == 8 and file.values("text")["width"] == 16
    values = file.values("paper", {"width": "32", "lr": "1e-3"})
    assert (values["width"], values["labels"], values["lr"], values["steps"]) == (32, "hat,plain", 1e-3, 3)
    assert file.values()["width"] == 4  # nothing sticks


def test_load_recipe_is_the_library_way(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = unitkit.load_recipe(path, "paper", steps=7)
    assert isinstance(recipe, Recipe) and recipe.steps == 7 and recipe.data.labels == {"a": "hat", "b": "plain"}
    assert recipe.model.arguments["encoder"].arguments["width"] == 8
    check(recipe)
    assert unitkit.load_recipe(str(path)).steps == 3


@pytest.mark.parametrize("path", sorted(shipped().values()), ids=lambda path: path.stem)
def test_the_recipes_of_the_project_have_the_knobs_that_all_have(path: Path) -> None:
    file = read_recipe_file(path)
    assert {"data", "size", "width", "batch", "steps"} <= file.knobs.keys()
    for name in (None, *file.presets):
        file.values(name)
    assert file.doc


def test_knobs_and_presets_name_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert refused(path, widht=3) == "small has no knob 'widht'. Did you mean 'width'?"
    assert refused(path, "papr") == "small has no preset '@papr'. Did you mean 'paper'?"
    assert "Choose from: accumulate, batch, crop, data, ema, flip, labels, lr, " in refused(path, zzz=3)
    assert refused(path, width="wide") == "the knob 'width' is a whole number, and 'wide' is not"
    assert "has no preset '@paper'" in refused(write(tmp_path, "def recipe(*, a: int = 1): ...", "bare.py"), "paper")


def test_a_preset_with_an_unknown_or_ill_typed_knob(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace('"width": 8', '"wdth": 8').replace('"width": "16"', '"width": 1.5'))
    assert "no knob 'wdth'. Did you mean 'width'" in refused(path, "paper")
    assert "the knob 'width' is a whole number, and '1.5' is not" in refused(path, "text")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert "Did you mean 'small.py'?" in refused(tmp_path / "smal.py")
    assert "There are no recipes in" in refused(tmp_path / "nowhere" / "smal.py")
    assert f"there is no recipe file {tmp_path}" in refused(tmp_path)  # a folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines no function `recipe(*, ...) -> Recipe`"),
        ("recipe = 3\n", "defines no function `recipe(*, ...) -> Recipe`"),
        ("", "defines no function"),
        ("def recipe(width=4): ...\n", "the knob 'width' of recipe() must be keyword-only and have a default"),
        ("def recipe(*, width): ...\n", "the knob 'width' of recipe() must be keyword-only and have a default"),
        ("def recipe(**knobs): ...\n", "the knob 'knobs' of recipe() must be keyword-only"),
        ("x = 1\n\ndef recipe(:\n", "does not run at line 3: SyntaxError"),
        ("import nowhere_to_be_found\n", "does not run at line 1: ModuleNotFoundError: No module named 'nowhere"),
        ("x = 1\ny = x / 0\n", "does not run at line 2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "does not run at line 1: SystemExit: 3"),
        ("import asyncio\nraise asyncio.CancelledError\n", "does not run at line 2: CancelledError"),
        ("class Own(BaseException): ...\nraise Own(3)\n", "does not run at line 2: Own: 3"),
        ("def recipe(*, a: int = 1):\n    raise GeneratorExit\n", "failed at line 2: GeneratorExit"),
        ("b = {}\ndef recipe(*, a: int = 1):\n\n    return b[a]\n", "failed at line 4: KeyError: 1"),
        ("def recipe(*, a: int = 1): ...\n", "returned None; it must return a unitkit.Recipe"),
        ("def recipe(*, a: int = 1):\n    return {}\n", "returned a dict; it must return a unitkit.Recipe"),
        ("def recipe(*, a: int = 1):\n    import sys\n    sys.exit(1)\n", "failed at line 3: SystemExit: 1"),
        (
            "from __future__ import annotations\ndef recipe(*, a: nowhere = 1): ...\n",
            "an annotation of recipe() is wrong",
        ),
        ("def recipe(*, a: nowhere = 1): ...\n", "does not run at line 1: NameError"),
        ("presets = 3\ndef recipe(*, a: int = 1): ...\n", "`presets` must be a dict of dicts"),
        ("presets = {'x': 3}\ndef recipe(*, a: int = 1): ...\n", "`presets` must be a dict of dicts"),
    ],
)
def test_a_recipe_file_that_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    found = refused(write(tmp_path, text))
    assert message in found and "small.py" in found


@pytest.mark.parametrize("failure", ["MemoryError", "KeyboardInterrupt"])
@pytest.mark.parametrize("text", ["raise {}", "def recipe(*, a: int = 1):\n    raise {}"])
def test_what_is_no_fault_of_a_recipe(tmp_path: Path, text: str, failure: str) -> None:
    answer = command("show", write(tmp_path, text.format(failure)))
    said = {"MemoryError": (1, "error: the memory of this machine ran out"), "KeyboardInterrupt": (130, "stopped")}
    assert answer.status == said[failure][0] and answer.err.startswith(said[failure][1]), answer
    assert answer.err.count("\n") == 1
    parts = write(tmp_path, f"raise {failure}")
    with pytest.raises(BaseException) as raised:
        import_parts(parts)
    assert raised.type.__name__ == failure


def test_the_line_is_named_for_a_relative_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "x = 1\ny = x / 0\n")
    monkeypatch.chdir(tmp_path)
    assert refused(Path("small.py")).startswith("the recipe file small.py does not run at line 2: ZeroDivisionError")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    assert "a recipe is a Python file, NAME.py, and" in refused(write(tmp_path, "a: 3", "small.yaml"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_bytes(b"\xff\xfe\x00binary\x00")
    assert "small.py does not run: UnicodeDecodeError" in refused(tmp_path / "small.py")
    (tmp_path / "small.py").write_bytes(b"x = 1\x00")
    assert "small.py does not run" in refused(tmp_path / "small.py")


def test_a_users_error_inside_a_recipe_passes_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert refused(path, data="portrait").startswith("data 'portrait' is no path")
    assert "wants width to be a whole number of at least 1 and at most 65536, not 0" in refused(path, width=0)


def test_a_recipe_may_be_called_like_a_module_that_it_imports(tmp_path: Path) -> None:
    path = write(tmp_path, "import json\njson.dumps\n" + textwrap.dedent(GOOD), "json.py")
    assert unitkit.load_recipe(path).steps == 3


# What a run keeps of them

KINDS = """
    from __future__ import annotations
    import enum, fractions, decimal
    from collections import namedtuple
    from dataclasses import dataclass, field
    from pathlib import Path
    from typing import *
    import numpy as np
    import torch

    @dataclass
    class Settings:
        width: int = 4

    class Color(enum.Enum):
        RED = 1

    class Level(enum.IntEnum):
        LOW = 1

    class Word(enum.StrEnum):
        YES = "yes"

    class Odd:
        def __str__(self): raise RuntimeError
        __repr__ = __str__

    Pair = namedtuple("Pair", "a b")
    presets = {"p": PRESET}

    def recipe(*, knob ANNOTATION = DEFAULT): ...
"""


def kinds(folder: Path, annotation: str, default: str, preset: str = "{}") -> RecipeFile:
    text = KINDS.replace("ANNOTATION", f": {annotation}" if annotation else "").replace("DEFAULT", default)
    return read_recipe_file(write(folder, text.replace("PRESET", preset)))


def kept_and_read(file: RecipeFile, values: dict[str, Any]) -> dict[str, Any]:
    """As a run keeps them, and the recipe that it keeps reads them again."""
    return read_recipe_file(file.path).values(None, json.loads(json.dumps(file.kept(values))))


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        *((annotation, "4") for annotation in ("", "int", "float", "str", "Any", "Level", "list[int]", "bool", "Path")),
        *((annotation, "None") for annotation in ("", "int", "str", "tuple[int, int]", "int | None", "Settings")),
        *((annotation, "True") for annotation in ("", "bool", "int", "float")),
        *((annotation, "2.0") for annotation in ("", "float", "int", "int | float", "float | int", "str | float")),
        *((annotation, "'none'") for annotation in ("", "str", "str | None", "Literal['none', 'tie']", "int")),
        *((annotation, "'3'") for annotation in ("", "int", "int | str", "str | int", "Literal['3', 3]")),
        ("float", "float('nan')"),
        ("float", "float('inf')"),
        ("float", "-0.0"),
        ("float", "0.1 + 0.2"),
        ("float", "10 ** 400"),
        ("float", "1"),
        ("", "{}"),
        ("dict", "{'a': 1}"),
        ("dict[str, int]", "{'a': 1, 2: 3}"),
        ("Path", "Path('x/y')"),
        ("", "Path('x/y')"),
        ("str", "Path('x/y')"),
        ("Path | None", "None"),
        ("str | Path", "Path('x/y')"),
        ("Settings", "Settings()"),
        ("Color", "Color.RED"),
        ("Level", "Level.LOW"),
        ("int", "Level.LOW"),
        ("str", "Word.YES"),
        ("Literal[Color.RED]", "Color.RED"),
        ("set[int]", "{1, 2}"),
        ("frozenset", "frozenset({1})"),
        ("bytes", "b'x'"),
        ("complex", "1j"),
        ("tuple", "(4, 5)"),
        ("tuple[()]", "()"),
        ("tuple[int, ...]", "()"),
        ("tuple[int, ...]", "(1, 2)"),
        ("tuple[float, float]", "(1, 2)"),
        ("list[float]", "[0.5, 1.0]"),
        ("tuple[int, int] | list[int]", "[1, 2]"),
        ("tuple[tuple[int, int], ...]", "((1, 2), (3, 4))"),
        ("list[tuple[str, int | None]]", "[('a', None), ('b', 1)]"),
        ("tuple[Path, ...]", "(Path('x'), Path('y'))"),
        ("tuple[int, int]", "Pair(1, 2)"),
        ("Pair", "Pair(1, 2)"),
        ("float", "np.float32(0.1)"),
        ("float", "np.float64(0.1)"),
        ("int", "np.int64(3)"),
        ("bool", "np.bool_(True)"),
        ("", "np.zeros(3)"),
        ("float", "torch.tensor(0.5)"),
        ("float", "fractions.Fraction(1, 3)"),
        ("float", "decimal.Decimal('0.1')"),
        ("str", "'a\\udcff, \\u00e9\\n'"),
        ("type", "int"),
        ("Callable[..., Any]", "len"),
        ("", "Odd()"),
        ("Odd", "Odd()"),
    ],
)
def test_every_default_that_a_recipe_may_have_is_there_again(tmp_path: Path, annotation: str, default: str) -> None:
    file = kinds(tmp_path, annotation, default)
    before = file.values()["knob"]
    after = kept_and_read(file, file.values())["knob"]
    assert type(after).__name__ == type(before).__name__
    if "Odd" not in default:
        assert repr(after) == repr(before)


@pytest.mark.parametrize(
    ("annotation", "default", "text"),
    [
        ("", "4", "8"),
        ("", "4.5", "8"),
        ("", "False", "yes"),
        ("", "'x'", "8"),
        ("", "None", "8"),
        ("int", "None", "8"),
        ("int", "'wide'", "8"),
        ("Path", "None", "a/b"),
        ("Path | None", "None", "none"),
        ("list[Path]", "[]", "a,b/c"),
        ("int | float", "1", "2.0"),
        ("float | int", "1", "3"),
        ("int | str", "1", "x"),
        ("str | None", "'none'", "none"),
        ("Literal['3', 3]", "3", "3"),
        ("Literal[Color.RED, None]", "None", "Color.RED"),
        ("Optional[tuple[int, int]]", "None", "3x4"),
        ("tuple[str, ...]", "()", "a, b"),
    ],
)
def test_what_is_given_is_there_again(tmp_path: Path, annotation: str, default: str, text: str) -> None:
    file = kinds(tmp_path, annotation, default)
    values = file.values(None, {"knob": text})
    assert repr(kept_and_read(file, values)) == repr(values)


@pytest.mark.parametrize(
    ("annotation", "default", "preset"),
    [
        ("Any", "4", "{'knob': {1: 2}}"),
        ("dict", "{}", "{'knob': {1: 2}}"),
        ("Settings", "None", "{'knob': Settings(8)}"),
        ("Color", "Color.RED", "{'knob': Color.RED}"),
        ("float", "1.0", "{'knob': 10 ** 400}"),
        ("int", "1", "{'knob': np.float32(3.7)}"),
        ("int", "1", "{'knob': decimal.Decimal('3.7')}"),
        ("tuple[()]", "()", "{'knob': (1,)}"),
        ("", "{}", "{'knob': {}}"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(tmp_path: Path, annotation: str, default: str, preset: str) -> None:
    file = kinds(tmp_path, annotation, default, preset)
    with pytest.raises(UserError, match="the knob 'knob' is") as caught:
        file.kept(file.values("p"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"the knob 'knob' is .* a run cannot keep a set such as \{1\}"):
        file.kept({"knob": {1}})


def test_a_recipe_that_finds_its_data_beside_itself(tmp_path: Path) -> None:
    """The copy that a run keeps lies elsewhere, and so does that of an ablation."""
    for label in "xy":
        save(tmp_path / "set" / label, pictures(12, ord(label), 16))
    text = TINY.read_text().replace("    source = ", "    data = str(Path(__file__).parent / 'set')\n    source = ")
    path = tmp_path / "own.py"
    path.write_text(text.replace("from unitkit import (", "from pathlib import Path\n\nfrom unitkit import (", 1))
    for words in (
        ("train", path, "@quick", "--out", tmp_path / "run"),
        ("train", "--resume", "--out", tmp_path / "run", "steps=3"),
        ("evaluate", tmp_path / "run"),
        ("ablate", path, "@quick", "width=2,4", "--out", tmp_path / "ablation"),
        ("evaluate", tmp_path / "ablation/width=2/seed-0"),
    ):
        answer = command(*words)
        assert answer.status == 0, answer


def test_the_nearest_name_in_any_case() -> None:
    assert nearest("FID", ["fid", "kid"]) == "Did you mean 'fid'?"
    assert nearest("gauss", ["Gaussian", "x"]) == "Did you mean 'Gaussian'?"


def test_threads_read_recipes_at_the_same_time() -> None:
    """Which import the file beside them, one name of the whole process."""
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(read_recipe_file, [shipped()["unit_faces"], shipped()["unit_maps"]] * 16))
    assert {file.name for file in read} == {"unit_faces", "unit_maps"}
