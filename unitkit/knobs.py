"""Knobs: what of a recipe can be said from outside, on the command line say.

They are the keyword parameters of `recipe(*, ...)`; the fields of parameters whose default is a small frozen value
(`optimizer: Adam = Adam(lr=3e-3)` brings `lr=`); and the plain fields of the `Recipe` that comes out. A name that two
of these values have is spelt in full: `optimizer_d.lr=`.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from .annotations import understood
from .system.errors import UserError, nearest

if TYPE_CHECKING:
    from .recipe import Recipe

OWN = ("steps", "batch", "accumulate", "flip", "crop", "ema", "sample_every")  # of the recipe's fields


@dataclass(frozen=True)
class Knob:
    """One of them.

    Attributes:
        name: as it is said.
        annotation: what it may be.
        default: None of a field of the recipe, which knows its own.
        help: a line for whoever turns it.
        parameter: of the function `recipe`; "" of a field of the recipe.
        field: of the value that the parameter is, or of the recipe; "" of a plain parameter.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    parameter: str
    field: str = ""


def knobs_of(function: Callable[..., Recipe]) -> dict[str, Knob]:
    """The knobs of a recipe by name, in the order in which they are written; the recipe's own fields last.

    Raises:
        UserError: annotations that are none.
    """
    parameters = inspect.signature(function).parameters
    hints, said = _hints(function), comments(function)
    values = {name: p.default for name, p in parameters.items() if _is_value(p.default)}
    shared = Counter(field.name for value in values.values() for field in fields(value))
    found: dict[str, Knob] = {}
    for name, parameter in parameters.items():
        if name not in values:
            found[name] = Knob(name, hints[name], parameter.default, said.get(name, ""), name)
            continue
        kind = type(values[name])
        inner, helps = _fields_hints(kind), documented(kind)
        for field in fields(values[name]):
            if understood(inner[field.name]):
                alone = shared[field.name] == 1 and field.name not in parameters
                known = field.name if alone else f"{name}.{field.name}"
                default = getattr(values[name], field.name)
                found[known] = Knob(known, inner[field.name], default, helps.get(field.name, ""), name, field.name)
    from .recipe import Recipe  # and with it torch, which a list of recipes does not need

    own, helps = get_type_hints(Recipe, localns=_LATER, include_extras=True), documented(Recipe)
    for name in OWN:
        found.setdefault(name, Knob(name, own[name], None, helps[name], "", name))
    return found


def find(knobs: Mapping[str, Knob], name: str, of: str) -> Knob:
    """The knob of a name, in short or in full. Raises `UserError` for an unknown name, with the nearest."""
    if name in knobs:
        return knobs[name]
    in_full = {f"{knob.parameter}.{knob.field}": knob for knob in knobs.values() if knob.parameter and knob.field}
    if name in in_full:
        return in_full[name]
    if several := [full for full, knob in in_full.items() if knob.field == name]:
        raise UserError(f"{of} has several knobs '{name}': say which, {' or '.join(several)}")
    raise UserError(f"{of} has no knob '{name}'. {nearest(name, knobs)}")


def arguments(function: Callable[..., Recipe], knobs: Mapping[str, Knob], values: Mapping[str, Any]) -> dict[str, Any]:
    """What to call the function with, so that its knobs have these values."""
    given: dict[str, Any] = {}
    changed: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        knob = knobs[name]
        if knob.parameter and knob.field:
            changed.setdefault(knob.parameter, {})[knob.field] = value
        elif knob.parameter:
            given[knob.parameter] = value
    parameters = inspect.signature(function).parameters
    return given | {name: replace(parameters[name].default, **change) for name, change in changed.items()}


def own_fields(knobs: Mapping[str, Knob], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are of fields of the recipe."""
    return {name: value for name, value in values.items() if not knobs[name].parameter}


def comments(function: Callable[..., Any]) -> dict[str, str]:
    """The comment behind each keyword parameter in the source, with the lines of comment alone that follow it."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return {}
    lines = dict(_comments(source))
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    found = {}
    for argument, default in zip(definition.args.kwonlyargs, definition.args.kw_defaults, strict=True):
        place = (default or argument).end_lineno or argument.lineno
        words = [lines[place][1]] if place in lines else []
        while words and (place := place + 1) in lines and lines[place][0]:
            words.append(lines[place][1])
        found[argument.arg] = " ".join(words)
    return found


def documented(described: Any) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each of the arguments, on one line."""
    found: dict[str, str] = {}
    for each in reversed(described.__mro__):
        _, _, section = (inspect.cleandoc(each.__doc__ or "")).partition("Args:\n")
        for entry in re.split(r"\n(?=    \w)", section.partition("\n\n")[0]):
            name, colon, text = entry.strip().partition(":")
            if colon:
                found[name] = " ".join(text.split())
    return found


def _comments(source: str) -> Iterator[tuple[int, tuple[bool, str]]]:
    """The comments by line: whether nothing else is on it, and the text."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            yield token.start[0], (alone, token.string.lstrip("# "))


def _is_value(default: Any) -> bool:
    """Whether a default is a small frozen value, whose fields are knobs."""
    return is_dataclass(default) and not isinstance(default, type) and default.__dataclass_params__.frozen  # type: ignore[attr-defined]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each parameter; of one without, the type of its default, text where that is no plain value."""
    parameters = inspect.signature(function).parameters
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are evaluated here, and may say anything
        where = inspect.getsourcefile(function)
        raise UserError(f"{where}: an annotation of recipe() is wrong: {error}") from error
    kinds = {name: type(parameter.default) for name, parameter in parameters.items()}
    return {name: hints.get(name, kind if kind in (bool, int, float, Path) else str) for name, kind in kinds.items()}


def _fields_hints(kind: type) -> dict[str, Any]:
    """The annotations of a frozen value, whose module may be forgotten: that of a file beside a recipe is."""
    known: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        known |= getattr(sys.modules.get(each.__module__), "__dict__", {})
    return get_type_hints(kind, {**known, **kind.__init__.__globals__}, include_extras=True)  # type: ignore[misc]


_LATER = {"Affine": Any, "Data": Any, "Metric": Any}  # which the recipe imports for type checkers alone
