"""What `unitkit list` reads from the source is what importing the package registers."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner

from unitkit import data, discriminators, encoders, generators, losses, metrics, models, optimizers, schedules, sharing
from unitkit.annotations import AtLeast
from unitkit.cli import app
from unitkit.commands.recipes.catalog import CALLED, HOMES, entries
from unitkit.losses import bundles as objective
from unitkit.registry import REGISTRIES

MODULES = (data, discriminators, encoders, generators, losses, metrics, models, optimizers, schedules, sharing)
KINDS = list(REGISTRIES)  # while collecting: without what other tests register
NAMES = {kind: list(REGISTRIES[kind]) for kind in KINDS}
BUNDLES = {
    name: value
    for name, value in vars(objective).items()
    if inspect.isfunction(value) and value.__module__ == objective.__name__ and not name.startswith("_")
}


def bounded(rule: Any, name: str) -> bool:
    return abs(getattr(rule, name)) < 1e9


def words(annotation: Any) -> str:
    """An annotation, evaluated, as `unitkit list` shows it."""
    if get_origin(annotation) is Annotated:
        kind, *rules = get_args(annotation)
        rules = [rule for rule in rules if isinstance(rule, AtLeast)]
        signs = {"above": ">", "least": ">=", "below": "<", "most": "<="}
        given = [
            f"{sign} {getattr(rule, name)}" for rule in rules for name, sign in signs.items() if bounded(rule, name)
        ]
        bounds = [" and ".join(given)] if given else []
        return " ".join([words(kind), *bounds])
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(words(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    if get_origin(annotation):
        inner = ", ".join(words(each) for each in get_args(annotation))
        return f"{get_origin(annotation).__name__}[{inner}]"
    return "None" if annotation is type(None) else str(annotation.__name__)


def test_kinds_are_those_that_importing_registers() -> None:
    assert set(HOMES) == set(KINDS)
    homes = {home.removesuffix(".py") for home in HOMES.values()} - {""}
    assert homes == {m.__name__.partition(".")[2] for m in MODULES}


@pytest.mark.parametrize("kind", KINDS)
def test_names_paths_arguments_defaults_and_summaries(kind: str) -> None:
    assert [entry.name for entry in entries(kind)] == sorted([*NAMES[kind], *(BUNDLES if kind == "loss" else ())])
    for entry in entries(kind):
        part: Callable[..., Any] = BUNDLES.get(entry.name) or REGISTRIES[kind].function(entry.name)
        hints = get_type_hints(part, include_extras=True)
        parameters = inspect.signature(part).parameters.values()
        if inspect.isclass(part):  # its fields are set by their names
            parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]  # type: ignore[assignment]
        wired = [str(p.replace(annotation=p.empty)) for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert entry.paths == (tuple(wired) if kind in CALLED else ()), entry.name
        expected = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert entry.kind == kind and {a.name for a in entry.arguments} == set(expected), entry.name
        for argument in entry.arguments:
            parameter = expected[argument.name]
            assert argument.words == words(hints[parameter.name]), f"{entry.name}: {argument}"
            if parameter.default is parameter.empty:
                assert argument.default is None
            elif isinstance(parameter.default, losses.Loss):
                assert argument.default == parameter.default.name
            else:
                assert argument.default is not None
                if "factory" not in repr(parameter.default) and not argument.default.startswith("field("):
                    assert ast.literal_eval(argument.default) == parameter.default
        assert entry.summary == (inspect.getdoc(part) or "").partition("\n\n")[0].replace("\n", " ") != ""


def test_words_and_brackets_reach_the_screen() -> None:
    printed = CliRunner().invoke(app, ["list"], terminal_width=200, env={"COLUMNS": "200"}).output
    for text in (
        "  l1(x, y)\n",
        "  kl(code)\n",
        "  gan(*paths)\n",
        "    size (int | tuple[int, int])\n",
        "    width=64 (int >= 1 and <= 65536)\n",
        "    mode='non-saturating' ('non-saturating' | 'saturating' | 'least-squares' | 'hinge')\n",
    ):
        assert text in printed, text
