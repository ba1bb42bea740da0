"""Registries of parts, and the specs that name a part with its arguments.

A part is a function or a class. Its positional parameters are wired by the model that uses it (channels, say); its
keyword-only parameters are the user's. A `Spec` holds the name and the user's arguments: it is checked when it is
written, builds the part later, and goes to JSON and back, so that a model is rebuilt from a file without running code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from .annotations import describe, fits
from .system.errors import UserError, nearest

Part = TypeVar("Part", bound=Callable[..., Any])


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


def from_outside(spec: Spec) -> bool:
    """Whether a part, or a part among its arguments, was registered by another package or by a recipe file."""
    module = REGISTRIES[spec.kind][spec.name].__module__
    inside = module.startswith(f"{__package__}.")
    return not inside or any(from_outside(value) for value in spec.arguments.values() if isinstance(value, Spec))


def unregistered(value: Any) -> str | None:
    """The first part that a spec in JSON names and nothing registers here, with the nearest name; None without one."""
    if not isinstance(value, dict) or not isinstance(value.get("arguments"), dict):
        return None
    kind, name = value.get("kind"), value.get("name")
    if kind in REGISTRIES and name not in REGISTRIES[kind].parts:
        return f"{kind} '{name}' ({nearest(str(name), REGISTRIES[kind])});"
    return next(filter(None, map(unregistered, value["arguments"].values())), None)
