"""Registries of parts, and the specs that name a part with its arguments.

A part is a function. Its positional parameters are wired by the model that uses it (channels, say); its keyword-only
parameters are the user's. Calling a registered part with these gives a `Spec`: it is checked there and then, builds
the part later, and goes to JSON and back, so that a model is rebuilt from a file without running code.

    encoder = encoders.residual(width=32)     # a Spec
    encoder.build(3)                          # the tower, for images of 3 channels
    encoders.residual.build(3, width=32)      # the same at once
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

import msgspec

from .annotations import FirstWeights, describe, fits, said_by
from .system.errors import UserError, nearest

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)

REGISTRIES: dict[str, Registry] = {}
MOST = 2**16  # a whole number among a part's arguments: one that counts layers, say, is far smaller
FILES = ("unitkit_recipe_", "unitkit_parts_")  # modules that `recipe_file` makes of files


class Unregistered(UserError):
    """A name that no part of its kind has here: the file that registers it may only have to be imported."""


class Registry:
    """The named parts of one kind, such as "encoder"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.parts: dict[str, Callable[..., Any]] = {}
        REGISTRIES[kind] = self

    def register(self, part: F) -> F:
        """Decorator: enter `part` under its own name, and leave it as it is. Raises `UserError` as `enter` does."""
        self.enter(part)
        return part

    def enter(self, part: Callable[..., Any], name: str | None = None) -> str:
        """Enter a part under a name, its own in lower case if none is given. A name is taken once: a second part of
        that name is refused, but for one that a file registers which is read again."""
        name = name or part.__name__.lower()
        if (other := self.parts.get(name)) is not None and _origin(other) != _origin(part):
            raise UserError(
                f"the {self.kind} '{name}' is already registered by {other.__module__}; choose another name"
            )
        self.parts[name] = part
        return name

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self.parts:
            raise Unregistered(f"unknown {self.kind} '{name}'. {nearest(name, self.parts)}")
        return self.parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.parts))

    def function(self, name: str) -> Callable[..., Any]:
        """What a part computes or builds, as it was written."""
        return written(self[name])

    def spec(self, name: str, /, **arguments: Any) -> Spec:
        """A checked description of the part `name`. Raises `UserError` for an unknown name or argument."""
        accepted = users_parameters(self.function(name))
        for key in arguments:
            if key not in accepted:
                raise UserError(f"the {self.kind} '{name}' takes no argument '{key}'. {nearest(key, accepted)}")
        hints = get_type_hints(self.function(name), include_extras=True)
        for key, parameter in accepted.items():
            if parameter.default is parameter.empty and key not in arguments:
                raise UserError(f"the {self.kind} '{name}' needs the argument '{key}'")
            if key in arguments and not fits(arguments[key], hints.get(key, Any)):
                wanted = describe(hints[key])
                raise UserError(f"the {self.kind} '{name}' wants {key} to be {wanted}, not {arguments[key]!r:.200}")
        if not _bounded(list(arguments.values())):
            raise UserError(f"the {self.kind} '{name}' takes no number above {MOST}")
        return Spec(self.kind, name, arguments)


class Part(Generic[P, T_co]):
    """A registered function that builds something: called with the user's arguments it gives a `Spec`.

    Attributes:
        build: the function itself, whose positional parameters come first.
    """

    def __init__(self, registry: Registry, build: Callable[..., T_co]) -> None:
        self.build, self.__doc__, self.__wrapped__ = build, build.__doc__, build
        self.__name__, self.__qualname__, self.__module__ = build.__name__, build.__qualname__, build.__module__
        self._registry, self._name = registry, registry.enter(self)

    def __repr__(self) -> str:
        return f"{self._name} itself (call it: {self._name}(...))"

    def __call__(self, *none: P.args, **arguments: P.kwargs) -> Spec:
        if none:
            raise UserError(f"the {self._registry.kind} '{self._name}' takes named arguments only, width=32 say")
        return self._registry.spec(self._name, **arguments)


def users_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a user says of a part: a function's keyword-only parameters, all of a class."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY or inspect.isclass(function)}


def written(part: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a registered part."""
    function: Callable[..., Any] = getattr(part, "__wrapped__", part)
    return function


def _origin(part: Callable[..., Any]) -> tuple[str, str]:
    """What a part is told from others by. Files that are read may be read again, as the copy that a run keeps say."""
    return "a file" if part.__module__.startswith(FILES) else part.__module__, part.__qualname__


@dataclass(frozen=True)
class Spec:
    """The name of a registered part and the user's arguments to it; arguments may be specs themselves."""

    kind: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self, *wired: Any) -> Any:
        """Make the part, with `wired` for its positional parameters."""
        return REGISTRIES[self.kind].function(self.name)(*wired, **self.arguments)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. `Spec.from_json` is the inverse."""
        arguments = {k: v.to_json() if isinstance(v, Spec) else v for k, v in self.arguments.items()}
        return {"kind": self.kind, "name": self.name, "arguments": arguments}

    @staticmethod
    def from_json(value: Any) -> Spec:
        """Rebuild a spec. Raises `UserError` where it names a part or an argument that is not registered here."""
        try:
            said = msgspec.convert(value, Spec)
        except msgspec.ValidationError:
            raise UserError(f"a spec holds kind, name and arguments, and this does not: {str(value)[:80]}") from None
        if said.kind not in REGISTRIES:
            raise UserError(f"unknown kind of part '{said.kind:.80}'. {nearest(said.kind, REGISTRIES)}")
        arguments = {
            k: Spec.from_json(v) if isinstance(v, dict) and v.keys() == {"kind", "name", "arguments"} else v
            for k, v in said.arguments.items()
        }
        return REGISTRIES[said.kind].spec(said.name, **arguments)

    def rebuilding(self) -> Spec:
        """The spec without what only first weights are drawn from, for a model that gets others."""
        hints = get_type_hints(REGISTRIES[self.kind].function(self.name), include_extras=True)
        kept = {key: value for key, value in self.arguments.items() if not said_by(hints.get(key), FirstWeights)}
        return replace(self, arguments={k: v.rebuilding() if isinstance(v, Spec) else v for k, v in kept.items()})


def _bounded(values: list[Any]) -> bool:
    """Whether all whole numbers among them, and in lists and mappings of them, are within `MOST`."""
    return all(
        _bounded(list(each.values()) if isinstance(each, Mapping) else list(each))
        if isinstance(each, Mapping | list | tuple)
        else not isinstance(each, int) or abs(each) <= MOST
        for each in values
    )


def from_outside(spec: Spec) -> bool:
    """Whether a part, or a part among its arguments, was registered by another package or by a recipe file."""
    module = REGISTRIES[spec.kind][spec.name].__module__
    inside = module.startswith(f"{__package__}.")
    return not inside or any(from_outside(value) for value in spec.arguments.values() if isinstance(value, Spec))
