"""Imports point down only, read from the sources; and what importing the package itself loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import unitkit

PACKAGE = Path(__file__).parents[1] / "unitkit"

# A module may import from lower layers and from its own, where a circle is refused. Every module stands here: a new
# one is given its place when it is made. A package (`data`, `encoders`, ...) is one unit.
LAYERS: dict[int, tuple[str, ...]] = {
    1: (
        "registry",
        "errors",
        "seeds",
        "dist",
        "images",
        "devices",
        "files",
        "nested",
        "norms",
        "operators",
        "output",
        "signals",
        "threads",
    ),
    3: ("towers", "sharing", "losses", "objective", "parts"),
    4: ("encoders", "generators", "discriminators"),
    5: ("models",),
    6: ("recipe", "knobs"),
    7: ("data", "checkpoint", "run", "doctor", "image_check", "metrics", "samples", "trainer", "translate", "watch"),
    8: (
        "cli",
        "session",
        "resume",
        "scoring",
        "fetch",
        "report",
        "show",
        "catalog",
        "contracts",
        "contract_models",
        "finite_differences",
        "testing",
        "__main__",
        "grid",
        "workers",
        "ablation",
        "ablate",
        "ablation_pictures",
        "ablation_plots",
        "ablation_report",
        "ablation_statistics",
    ),
}
LAYER = {module: layer for layer, modules in LAYERS.items() for module in modules}


class Import(NamedTuple):
    """One import of a module of the package, and whether it happens when a function is called."""

    importer: str
    imported: str
    line: str
    late: bool


def imports() -> list[Import]:
    """Every import between modules of the package.

    Imports under `if TYPE_CHECKING:` are left out: they name types in annotations and never run, so a recipe may
    say that it holds `Data`. Imports inside functions count like all others for the layers, since they are as much a
    dependence; they are only free of the rule against circles within one layer, which is about import order.
    `unitkit/__init__.py` is not a layer: it names all modules in strings and loads each when it is asked for.
    """
    found: list[Import] = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file != PACKAGE / "__init__.py":
            visit(file, ast.parse(file.read_text("utf-8")), False, found)
    return found


def visit(file: Path, node: ast.AST, late: bool, found: list[Import]) -> None:
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        return
    late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for imported in modules(file, node):
        importer = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if imported != importer:
            where = f"{file.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
            found.append(Import(importer, imported, where, late))
    for child in ast.iter_child_nodes(node):
        visit(file, child, late, found)


def modules(file: Path, node: ast.AST) -> list[str]:
    """The package's modules that an import statement names, by their first word after `unitkit.`."""
    if isinstance(node, ast.Import):
        whole = [alias.name.split(".") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        here = ["unitkit", *file.relative_to(PACKAGE).parts[:-1]]
        base = here[: len(here) + 1 - node.level] if node.level else []
        base += node.module.split(".") if node.module else []
        whole = [[*base, alias.name] for alias in node.names]
    else:
        return []
    # `from . import x` may name an attribute of the package instead of a module: only modules of the table count,
    # and what is not in it fails in `test_every_module_has_a_layer`.
    return [words[1] for words in whole if words[0] == "unitkit" and len(words) > 1]


def test_every_module_has_a_layer() -> None:
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()} - {"__init__"}
    assert there == set(LAYER), f"not in LAYERS, or no longer there: {sorted(there ^ set(LAYER))}"
    assert {each.imported for each in imports()} <= set(LAYER)


def test_imports_point_down() -> None:
    upward = [each.line for each in imports() if LAYER[each.imported] > LAYER[each.importer]]
    assert not upward, "imports that point up:\n" + "\n".join(upward)


def test_no_circles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in LAYER}
    for each in imports():
        if not each.late:
            graph[each.importer].add(each.imported)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_reader_sees_imports() -> None:
    """The rules above are worth what the reader finds: known imports of every form are among them."""
    found = {(each.importer, each.imported, each.late) for each in imports()}
    assert {
        ("sharing", "towers", False),  # from .towers import Tower
        ("encoders", "towers", False),  # from ..towers import Tower, in a package
        ("trainer", "checkpoint", False),  # from . import checkpoint
        ("cli", "session", True),  # inside a function
    } <= found
    assert ("recipe", "data", False) not in found  # for annotations only


def test_the_package_never_imports_recipes() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "recipes" for name in names), file


def test_type_checkers_see_the_names_that_are_loaded_late() -> None:
    block = next(n for n in ast.parse((PACKAGE / "__init__.py").read_text("utf-8")).body if isinstance(n, ast.If))
    typed = {
        alias.name: f"unitkit.{node.module or alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert ast.unparse(block.test) == "TYPE_CHECKING" and (PACKAGE / "py.typed").is_file()
    assert typed == unitkit._HOME | {name: f"unitkit.{name}" for name in unitkit._MODULES}
    assert set(unitkit.__all__) == set(typed) and len(unitkit.__all__) == len(typed)
    assert all(getattr(unitkit, name) is not None for name in unitkit.__all__)


@pytest.mark.parametrize("module", ["unitkit", "unitkit.cli", "unitkit.commands.catalog"])
def test_importing_loads_neither_torch_nor_numpy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'numpy', 'timm', 'PIL'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
