"""`unitkit list`: what a recipe can name, read from the package's source without importing it, so that it answers at
once; and the recipes themselves."""

from __future__ import annotations

import ast
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..system.errors import UserError, nearest

PACKAGE = Path(__file__).parents[1]
# Each kind of part, and the module or package that registers it.
HOMES = {
    "encoder": "encoders",
    "generator": "generators",
    "discriminator": "discriminators",
    "sharing": "sharing.py",
    "loss": "losses",
    "data": "data",
    "metric": "metrics",
    "model": "models",
    "reading": "models",
    "optimizer": "optimizers.py",
    "schedule": "schedules.py",
}
KINDS = ("recipe", *HOMES)
BUNDLES = "bundles.py"  # its public functions make terms of several losses, and are shown among these
CALLED = ("loss", "metric")  # with image paths, by the user; models wire the positional parameters of other parts


@dataclass(frozen=True)
class Argument:
    """A keyword argument of a part: its annotation in words ("int >= 1"), its default as source, or None."""

    name: str
    words: str
    default: str | None

    def __str__(self) -> str:
        return f"{self.name}{'' if self.default is None else f'={self.default}'} ({self.words})"


@dataclass(frozen=True)
class Entry:
    """A part: its name, its image paths ("x", "*paths"), the user's arguments, its docstring's first paragraph."""

    kind: str
    name: str
    paths: tuple[str, ...]
    arguments: tuple[Argument, ...]
    summary: str

    @property
    def call(self) -> str:
        """The name, with the image paths that a loss or a metric takes: `l1(x, y)`."""
        return f"{self.name}({', '.join(self.paths)})" if self.paths else self.name


def listed(kind: str | None, name: str | None) -> list[str]:
    """The lines for all kinds, one of them, or one entry. Raises `UserError` for an unknown kind or name."""
    if kind is not None and kind not in KINDS:
        raise UserError(f"unknown kind of part '{kind}'. {nearest(kind, KINDS)}")
    lines = []
    for each in [kind] if kind else KINDS:
        found = _recipes() if each == "recipe" else entries(each)
        if name is not None:
            found = [entry for entry in found if entry.name == name]
            if not found:
                known = [entry.name for entry in (_recipes() if each == "recipe" else entries(each))]
                raise UserError(f"there is no {each} '{name}'. {nearest(name, known)}")
        lines += [each, *(line for entry in found for line in _shown(entry))]
    return lines


def _shown(entry: Entry) -> list[str]:
    width = shutil.get_terminal_size().columns
    texts = [entry.summary, *map(str, entry.arguments)]
    return [
        f"  {entry.call}",
        *(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="        ") for text in texts),
    ]


def _recipes() -> list[Entry]:
    from ..recipe_file import shipped

    found = []
    for name, path in shipped().items():
        summary = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n\n")[0]
        found.append(Entry("recipe", name, (), (), " ".join(summary.split())))
    return found


def entries(kind: str) -> list[Entry]:
    """The parts of one kind that the package itself registers, by name; under "loss" the bundles of terms too."""
    home = PACKAGE / HOMES[kind]
    # Parsing takes most of the time, and most files of `data` register nothing.
    files = [f for f in home.rglob("*.py") if "register" in f.read_text("utf-8")] if home.is_dir() else [home]
    if kind == "loss":
        files.append(home / BUNDLES)
    return sorted((e for file in files for e in _parts(kind, file)), key=lambda entry: entry.name)


def _parts(kind: str, file: Path) -> Iterator[Entry]:
    aliases = (
        _aliases(PACKAGE / "annotations.py")
        | _aliases(PACKAGE / "losses" / "adversarial.py")
        | _aliases(PACKAGE / "networks" / "layers.py")
        | _aliases(file)
    )
    for node in _parsed(file).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        registered = any(_registers(kind, decorator) for decorator in node.decorator_list)
        bundle = file.name == BUNDLES and isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if not (registered or bundle):
            continue
        summary = (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
        name = _kind_of_reading(node) if kind == "reading" else node.name.lower()
        if isinstance(node, ast.ClassDef):
            yield Entry(kind, name, (), tuple(_fields(node, _parsed(file), aliases)), summary)
            continue
        paths = tuple(_paths(node.args)) if kind in CALLED else ()
        yield Entry(kind, name, paths, tuple(_arguments(node.args, aliases)), summary)


def _registers(kind: str, decorator: ast.expr) -> bool:
    """Whether a decorator enters a part of this kind. Those of readings give it a name, beside models without one."""
    names = ("register", "reading") if kind == "reading" else ("register",)
    named = isinstance(decorator, ast.Call) and bool(decorator.args)
    fits = named == (kind == "reading") or kind not in ("reading", "model")
    return fits and ast.unparse(decorator).partition("(")[0].split(".")[-1] in names


def _kind_of_reading(node: ast.FunctionDef | ast.ClassDef) -> str:
    """What `@register("score")` enters a function as."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(args=[ast.Constant(str(name))]):
                return name
    return node.name.lower()


def _fields(node: ast.ClassDef, module: ast.Module, aliases: Mapping[str, ast.expr]) -> Iterator[Argument]:
    """The fields of a dataclass, those of its base in the same module first."""
    found: dict[str, Argument] = {}
    bases = [
        each for each in module.body if isinstance(each, ast.ClassDef) and each.name in map(ast.unparse, node.bases)
    ]
    for field in [each for kind in (*bases, node) for each in kind.body]:
        match field:
            case ast.AnnAssign(target=ast.Name(name), annotation=annotation, value=value) if name != "_":
                found[name] = Argument(name, _words(annotation, aliases), ast.unparse(value) if value else None)
    yield from found.values()


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def _aliases(file: Path) -> dict[str, ast.expr]:
    """The names that a module gives to annotations: `Positive = Annotated[int, AtLeast(1)]`."""
    found: dict[str, ast.expr] = {}
    for node in _parsed(file).body:
        match node:
            case ast.Assign([ast.Name(name)], ast.Subscript(ast.Name("Annotated" | "Literal")) as value):
                found[name] = value
            case ast.AnnAssign(ast.Name(name), value=ast.Subscript(ast.Name("Annotated" | "Literal")) as value):
                found[name] = value
    return found


def _paths(arguments: ast.arguments) -> Iterator[str]:
    for argument in arguments.args:
        if argument.arg != "self":
            yield argument.arg
    if arguments.vararg:
        yield f"*{arguments.vararg.arg}"


def _arguments(arguments: ast.arguments, aliases: Mapping[str, ast.expr]) -> Iterator[Argument]:
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        words = _words(argument.annotation, aliases) if argument.annotation else "anything"
        yield Argument(argument.arg, words, ast.unparse(default) if default else None)


def _words(annotation: ast.expr, aliases: Mapping[str, ast.expr]) -> str:
    """An annotation as a user reads it: names of annotations resolved, bounds as "int >= 1", choices listed."""
    match annotation:
        case ast.Name(id=name) if name in aliases:
            return _words(aliases[name], aliases)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_words(left, aliases)} | {_words(right, aliases)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=choices)):
            return " | ".join(ast.unparse(choice) for choice in choices)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, ast.Name()])):  # a mark
            return _words(kind, aliases)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, ast.Call() as rule])):
            signs = {"below": "<", "most": "<=", "above": ">"}
            bounds = [f"{signs[str(word.arg)]} {ast.unparse(word.value)}" for word in rule.keywords]
            bounds = [*(f">= {ast.unparse(least)}" for least in rule.args), *bounds]
            return f"{_words(kind, aliases)} {' and '.join(bounds)}"
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=inner)):
            return f"{name}[{', '.join(_words(each, aliases) for each in inner)}]"
    return ast.unparse(annotation)
