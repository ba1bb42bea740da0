"""The architecture as the imports have it: which module may know which, no circle, and nothing that grows too large;
and what importing the package loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import unitkit

PACKAGE = Path(__file__).parents[1] / "unitkit"

# From the top down. A module may import what stands in its own line or below; what lies in a folder stands where that
# does. The package itself says where its names are found and stands above all: nothing below imports from it.
LAYERS = (
    ("unitkit", "__main__"),
    ("cli",),
    ("commands",),
    ("arguments",),
    ("testing",),
    ("ablation", "exporting", "publishing", "video", "demo"),
    ("trainer", "translate"),
    ("hooks", "trackers", "memory"),
    ("runs", "check", "training"),
    ("recipe_file", "recipe", "knobs"),
    ("metrics", "models"),
    ("data", "losses", "encoders", "generators", "discriminators", "sharing", "optimizers", "schedules"),
    ("registry", "annotations", "networks", "kernels", "templates", "hub"),
    ("system",),
)
LONGEST = 300  # lines of a module
LARGEST = 12  # modules of a folder
# What is larger as yet, and how large it may be. What is no longer so leaves the list.
LONGER: dict[str, int] = {}
LARGER = {"unitkit": 14}


@dataclass(frozen=True)
class Import:
    """One import of a module of the package by another, both by their names within it, and where it stands."""

    by: str
    of: str
    line: str


def modules(package: Path) -> dict[str, Path]:
    """The files of a package by the module's name within it, "runs.folder"; its own by the package's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        *folders, last = path.relative_to(package).with_suffix("").parts
        found[".".join([*folders, last] if last != "__init__" else folders) or package.name] = path
    return found


@cache
def imports(package: Path) -> list[Import]:
    """Every import between a package's modules: at the head, in a function, or for types alone."""
    files = modules(package)
    found = []
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for whole in imported(node, (package.name, *path.relative_to(package).parts[:-1])):
                place = whole
                while place and (target := place.removeprefix(f"{package.name}.")) not in files:
                    place = place.rpartition(".")[0]  # `from .folder import RunFolder` is of the folder, not of a name
                if place.partition(".")[0] == package.name and target != name:
                    where = f"{path.relative_to(package.parent)}:{getattr(node, 'lineno', 0)}"
                    found.append(Import(name, target, f"{where}: {ast.unparse(node)}"))
    return found


def imported(node: ast.AST, folder: tuple[str, ...]) -> Iterator[str]:
    """The whole names that an import statement names, such as unitkit.runs.folder.RunFolder."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = folder[: len(folder) + 1 - node.level] if node.level else ()
        yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def layer(module: str, layers: tuple[tuple[str, ...], ...]) -> int:
    """How high a module stands. Raises `LookupError` for one without a layer."""
    first = module.partition(".")[0]
    for height, names in enumerate(reversed(layers)):
        if first in names:
            return height
    raise LookupError(f"{first} stands in no layer: give it a place in LAYERS")


def upward(found: list[Import], layers: tuple[tuple[str, ...], ...]) -> list[str]:
    """The imports that point up."""
    return [each.line for each in found if layer(each.of, layers) > layer(each.by, layers)]


def circle(found: list[Import]) -> list[str]:
    """Modules that import each other round in a circle, if any do."""
    graph: dict[str, set[str]] = {}
    for each in found:
        graph.setdefault(each.by, set()).add(each.of)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def lengths(package: Path) -> dict[str, int]:
    """The lines of each module."""
    return {name: len(path.read_text("utf-8").splitlines()) for name, path in modules(package).items()}


def folders(package: Path) -> dict[str, int]:
    """The modules of each folder, but for its `__init__` and `__main__`."""
    found: dict[str, int] = {}
    for path in modules(package).values():
        if not path.stem.startswith("__"):
            name = ".".join(path.parent.relative_to(package.parent).parts)
            found[name] = found.get(name, 0) + 1
    return found


def too_large(sizes: Mapping[str, int], most: int, excepted: Mapping[str, int]) -> list[str]:
    """What is larger than it may be, and exceptions that are none."""
    large = [f"{name}: {size}" for name, size in sizes.items() if size > excepted.get(name, most)]
    idle = [f"{name}: no exception is needed" for name in excepted if sizes.get(name, 0) <= most]
    return large + idle


def test_imports_point_down() -> None:
    found = upward(imports(PACKAGE), LAYERS)
    assert not found, "imports that point up:\n" + "\n".join(found)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert not (found := circle(imports(PACKAGE))), " imports ".join(found)


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    there = {name.partition(".")[0] for name in modules(PACKAGE)}
    named = [name for names in LAYERS for name in names]
    assert there == set(named), f"not in LAYERS, or no longer there: {sorted(there ^ set(named))}"
    assert len(named) == len(set(named))


def test_modules_and_folders_stay_small() -> None:
    assert not too_large(lengths(PACKAGE), LONGEST, LONGER)
    assert not too_large(folders(PACKAGE), LARGEST, LARGER)


FORMS = {
    "from .trainer import Trainer": ["trainer"],
    "from . import trainer": ["trainer"],
    "from .runs import folder": ["runs.folder"],
    "from .runs import NAME": ["runs"],
    "from .runs.folder import Folder": ["runs.folder"],
    "import made.trainer": ["trainer"],
    "from made import trainer": ["trainer"],
    "from made.runs import folder, NAME": ["runs.folder", "runs"],
    "def f():\n    from .trainer import Trainer": ["trainer"],
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .trainer import Trainer": ["trainer"],
    "import madeup.trainer, os\nfrom collections import abc\nfrom maker import trainer": [],
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A package: a trainer, which imports a folder of runs, which imports nothing."""
    package = tmp_path / "made"
    (package / "runs").mkdir(parents=True)
    for name in "__init__", "runs/__init__", "runs/folder", "system":
        (package / f"{name}.py").write_text("")
    (package / "trainer.py").write_text("from .runs.folder import Folder\nfrom . import system\n")
    return package


MADE = (("made",), ("trainer",), ("runs",), ("system",))


def test_the_checker_finds_nothing_in_a_package_that_is_right(made: Path) -> None:
    found = imports(made)
    assert [(each.by, each.of) for each in found] == [("trainer", "runs.folder"), ("trainer", "system")]
    assert not upward(found, MADE) and not circle(found)


@pytest.mark.parametrize("text", FORMS)
def test_the_checker_sees_every_form_of_import(made: Path, text: str) -> None:
    (made / "system.py").write_text(text)
    found = [each for each in imports(made) if each.by == "system"]
    assert [each.of for each in found] == FORMS[text]
    assert len(upward(found, MADE)) == len(FORMS[text])


@pytest.mark.parametrize("text", ["from ..trainer import Trainer", "from .. import trainer", "import made.trainer"])
def test_the_checker_finds_a_circle(made: Path, text: str) -> None:
    (made / "runs" / "folder.py").write_text(text)
    found = imports(made)
    assert upward(found, MADE) == [f"made/runs/folder.py:1: {text}"]
    assert set(circle(found)) == {"trainer", "runs.folder"}


def test_the_checker_finds_a_circle_of_a_folder_and_its_module(made: Path) -> None:
    (made / "runs" / "__init__.py").write_text("from .folder import Folder")
    (made / "runs" / "folder.py").write_text("from . import register")
    found = imports(made)
    assert not upward(found, MADE)
    assert set(circle(found)) == {"runs", "runs.folder"}


def test_the_checker_refuses_a_module_without_a_layer(made: Path) -> None:
    (made / "system.py").write_text("from . import stray")
    (made / "stray.py").write_text("")
    with pytest.raises(LookupError, match="stray"):
        upward(imports(made), MADE)


def test_the_checker_counts(made: Path) -> None:
    (made / "system.py").write_text("x = 1\n" * 7)
    assert too_large(lengths(made), 6, {}) == ["system: 7"]
    assert too_large(lengths(made), 6, {"system": 6}) == ["system: 7"]
    assert not too_large(lengths(made), 6, {"system": 7})
    assert too_large(lengths(made), 7, {"system": 9}) == ["system: no exception is needed"]
    assert folders(made) == {"made": 2, "made.runs": 1}


def test_the_package_never_imports_recipes() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "recipes" for name in names), file


def test_type_checkers_see_the_names_that_are_loaded_late() -> None:
    conditions = [n for n in ast.parse((PACKAGE / "__init__.py").read_text("utf-8")).body if isinstance(n, ast.If)]
    block = next(n for n in conditions if ast.unparse(n.test) == "TYPE_CHECKING")
    typed = {
        alias.name: f"unitkit.{node.module or alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert (PACKAGE / "py.typed").is_file()
    assert typed == unitkit._HOME | {name: f"unitkit.{name}" for name in unitkit._MODULES}
    assert set(unitkit.__all__) == set(typed) and len(unitkit.__all__) == len(typed)
    assert all(getattr(unitkit, name) is not None for name in unitkit.__all__)


LIGHT = ("unitkit", "unitkit.cli", "unitkit.commands.recipes.listing", "unitkit.recipe_file")


@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_nothing_that_takes_long(module: str) -> None:
    slow = {"torch", "numpy", "timm", "PIL", "importlib.metadata"}
    code = f"import sys, {module}; print(*sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
