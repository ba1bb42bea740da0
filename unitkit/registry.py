"""Registries of parts, and the specs that name a part with its arguments.

A part is a function or a class. Its positional parameters are wired by the model that uses it (channels, say); its
keyword-only parameters are the user's. A `Spec` holds the name and the user's arguments: it is checked when it is
written, builds the part later, and goes to JSON and back, so that a model is rebuilt from a file without running code.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import UserError, nearest

Part = TypeVar("Part", bound=Callable[..., Any])


@dataclass(frozen=True)
class AtLeast:
    """In an annotation, the values that a part accepts: `Annotated[float, AtLeast(0)]`, `AtLeast(0, below=1)`."""

    least: float
    below: float = float("inf")

    def __str__(self) -> str:
        return f"at least {self.least:g}" + (f" and below {self.below:g}" if self.below < float("inf") else "")


Positive = Annotated[int, AtLeast(1)]
Count = Annotated[int, AtLeast(0)]
Share = Annotated[float, AtLeast(0, below=1)]

REGISTRIES: dict[str, Registry] = {}


class Registry:
    """The named parts of one kind, such as "encoder"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.parts: dict[str, Callable[..., Any]] = {}
        REGISTRIES[kind] = self

    def register(self, part: Part) -> Part:
        """Decorator: enter `part` under its own name. A name is taken once: a second part of that name is refused."""
        name = part.__name__.lower()
        if (other := self.parts.get(name)) and (other.__module__, other.__qualname__) != (
            part.__module__,
            part.__qualname__,
        ):
            raise UserError(
                f"the {self.kind} '{name}' is already registered by {other.__module__}; choose another name"
            )
        self.parts[name] = part
        return part

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self.parts:
            raise UserError(f"unknown {self.kind} '{name}'. {nearest(name, self.parts)}")
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.parts))

    def spec(self, name: str, /, **arguments: Any) -> Spec:
        """A checked description of the part `name`. Raises `UserError` for an unknown name or argument."""
        parameters = inspect.signature(self[name]).parameters.values()
        accepted = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
        for key in arguments:
            if key not in accepted:
                raise UserError(f"the {self.kind} '{name}' takes no argument '{key}'. {nearest(key, accepted)}")
        hints = self._hints(name)
        for key, parameter in accepted.items():
            if parameter.default is parameter.empty and key not in arguments:
                raise UserError(f"the {self.kind} '{name}' needs the argument '{key}'")
            if key in arguments and not fits(arguments[key], hints.get(key, Any)):
                wanted = describe(hints[key])
                raise UserError(f"the {self.kind} '{name}' wants {key} to be {wanted}, not {arguments[key]!r}")
        return Spec(self.kind, name, arguments)

    def _hints(self, name: str) -> dict[str, Any]:
        part = self[name]
        return get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)


@dataclass(frozen=True)
class Spec:
    """The name of a registered part and the user's arguments to it; arguments may be specs themselves."""

    kind: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self, *wired: Any) -> Any:
        """Make the part, with `wired` for its positional parameters."""
        return REGISTRIES[self.kind][self.name](*wired, **self.arguments)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. `Spec.from_json` is the inverse."""
        arguments = {k: v.to_json() if isinstance(v, Spec) else v for k, v in self.arguments.items()}
        return {"kind": self.kind, "name": self.name, "arguments": arguments}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Spec:
        """Rebuild a spec. Raises `UserError` where it names a part or an argument that is not registered here."""
        if not isinstance(value, dict) or not {"kind", "name", "arguments"} <= value.keys():
            raise UserError(f"a spec holds kind, name and arguments, and this does not: {str(value)[:80]}")
        if value["kind"] not in REGISTRIES:
            raise UserError(f"unknown kind of part '{value['kind']}'. {nearest(value['kind'], REGISTRIES)}")
        arguments = {
            k: Spec.from_json(v) if isinstance(v, dict) and v.keys() == {"kind", "name", "arguments"} else v
            for k, v in value["arguments"].items()
        }
        return REGISTRIES[value["kind"]].spec(value["name"], **arguments)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says, for numbers, text, Literal, unions and `AtLeast`; others pass."""
    if get_origin(annotation) is Annotated:
        kind, *rules = get_args(annotation)
        return fits(value, kind) and all(r.least <= value < r.below for r in rules if isinstance(r, AtLeast))
    if get_origin(annotation) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if annotation in (int, float):
        return isinstance(value, (int, float) if annotation is float else int) and not isinstance(value, bool)
    if annotation in (bool, str, type(None)):
        return value is None if annotation is type(None) else isinstance(value, annotation)
    return True


def describe(annotation: Any) -> str:
    """An annotation in words: "a whole number of at least 1", "one of gaussian, kaiming"."""
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "none",
    }
    if get_origin(annotation) is Annotated:
        kind, *rules = get_args(annotation)
        return describe(kind) + "".join(f" of {rule}" for rule in rules if isinstance(rule, AtLeast))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (tuple, list):
        numbers = all(each in (int, float, ...) for each in get_args(annotation))
        return "several values, such as 48x64" if numbers else "several values with commas between"
    other = f"a {annotation.__name__}" if isinstance(annotation, type) else str(annotation)
    return words.get(annotation, other)
