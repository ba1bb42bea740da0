"""What is registered, read from the package's source without importing it, so that `unitkit list` answers at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Each kind of part, and the module or package that registers it.
HOMES = {
    "encoder": "encoders",
    "generator": "generators",
    "discriminator": "discriminators",
    "sharing": "sharing.py",
    "loss": "losses.py",
    "data": "data",
    "metric": "metrics.py",
    "model": "models",
}


@dataclass(frozen=True)
class Entry:
    """A registered part: its name, the user's arguments as `name: type = default`, and its docstring's first line."""

    kind: str
    name: str
    arguments: tuple[str, ...]
    summary: str


def entries(kind: str) -> list[Entry]:
    """The parts of one kind that the package itself registers, by name."""
    home = Path(__file__).parent / HOMES[kind]
    files = sorted(home.glob("*.py")) if home.is_dir() else [home]
    return sorted((e for file in files for e in _registered(kind, file)), key=lambda entry: entry.name)


def _registered(kind: str, file: Path) -> Iterator[Entry]:
    for node in ast.parse(file.read_text("utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if not any(ast.unparse(d).partition("(")[0].split(".")[-1] == "register" for d in node.decorator_list):
            continue
        function = node
        if isinstance(node, ast.ClassDef):
            function = next(n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        assert isinstance(function, ast.FunctionDef)
        summary = (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
        yield Entry(kind, node.name.lower(), tuple(_arguments(function.args)), summary)


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
        yield f"{argument.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")
