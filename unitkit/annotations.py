"""What an annotation accepts: whether a value fits it, what it says in words, and text converted to it."""

from __future__ import annotations

import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from .system.errors import UserError


@dataclass(frozen=True)
class AtLeast:
    """In an annotation, the values that are accepted: `Annotated[float, AtLeast(0)]`, `AtLeast(0, below=1)`."""

    least: float = float("-inf")
    below: float = float("inf")
    most: float = float("inf")
    above: float = float("-inf")

    def accepts(self, value: float) -> bool:
        """Whether a number lies within the bounds; one that is none lies nowhere."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        if self.above > float("-inf"):
            return f"above {self.above:g}"
        below = f" and below {self.below:g}" if self.below < float("inf") else ""
        most = f" and at most {self.most:.12g}" if self.most < float("inf") else ""
        return f"at least {self.least:g}{below}{most}" if self.least > float("-inf") else most.removeprefix(" and ")


# Numbers that no training can have are refused by what they mean, before anything of that size is made.
FromOne = Annotated[int, AtLeast(1)]
Positive = Annotated[int, AtLeast(1, most=65536)]  # pixels along a side, channels of a layer
Count = Annotated[int, AtLeast(0, most=65536)]
Blocks = Annotated[int, AtLeast(0, most=32)]  # one after the other
Halvings = Annotated[int, AtLeast(0, most=16)]  # of a side, of which then nothing is left
Layers = Annotated[int, AtLeast(1, most=16)]  # each of which halves it


class FirstWeights:
    """In an annotation, what only says how weights begin: a file of them as `Annotated[str | None, FirstWeights]`.

    Where a model is rebuilt and gets its weights from a checkpoint, the part is not given it, and has its default.
    """


Share = Annotated[float, AtLeast(0, below=1)]
SEVERAL = (tuple, list, Sequence)
LIMITS: dict[type, float] = {int: 10**9, float: 1e12}  # where nothing else is said
NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
Number = TypeVar("Number", int, float)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says, for classes, Literal, unions, `AtLeast`, and tuples, lists and
    sequences of these, as JSON has them; others pass."""
    if get_origin(annotation) is Annotated:
        kind, *rules = get_args(annotation)
        return fits(value, kind) and all(r.accepts(value) for r in rules if isinstance(r, AtLeast))
    if get_origin(annotation) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if get_origin(annotation) in SEVERAL:
        kinds = get_args(annotation)
        if not isinstance(value, tuple | list):
            return False
        kinds = kinds if get_origin(annotation) is tuple and kinds[-1:] != (...,) else kinds[:1] * len(value)
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if annotation in (int, float):
        known = isinstance(value, (int, float) if annotation is float else int) and not isinstance(value, bool)
        return known and -LIMITS[annotation] <= value <= LIMITS[annotation]
    if annotation in (bool, str, type(None)):
        return value is None if annotation is type(None) else isinstance(value, annotation)
    return isinstance(value, annotation) if isinstance(annotation, type) else True


def said_by(annotation: Any, rule: type) -> bool:
    """Whether an annotation has a rule besides its type."""
    return get_origin(annotation) is Annotated and rule in get_args(annotation)


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
        return describe(kind) + "".join(_bounds(rule) for rule in rules if isinstance(rule, AtLeast))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is Sequence:
        return f"a list, each {describe(*get_args(annotation))}"
    if get_origin(annotation) in SEVERAL:
        sides = all(each in (int, ...) for each in get_args(annotation))
        return "several values, such as 48x64" if sides else "several values with commas between"
    other = f"a {annotation.__name__}" if isinstance(annotation, type) else str(annotation)
    return words.get(annotation, other)


def _bounds(rule: AtLeast) -> str:
    return f" {rule}" if str(rule).startswith("above") else f" of {rule}"


def convert(name: str, value: Any, annotation: Any) -> Any:
    """A knob's value as its annotation wants it; text is converted, other values are checked.

    Understood: int, float, bool, str, Path, Literal, tuples and lists of these, unions with these and None. Text for
    several values has commas between them, or an x between numbers ("48x64"); "none" is None wherever that is possible.
    Of a union, a value that is no text takes its own type first, then None and the others in their order.
    """
    own = type(value) if not isinstance(value, str) else type(None)
    way_out = "" if any(map(understood, _options(annotation))) else "; such a value is set in the recipe file itself"
    for option in sorted(_options(annotation), key=lambda option: (option is not own, option is not type(None))):
        try:
            return _convert(value, option)
        except OverflowError as error:
            way_out = f": {error}"
        except (ValueError, TypeError):
            continue
    shown = str(value) if len(str(value)) <= 60 else f"{str(value)[:60]}..."
    raise UserError(f"the knob '{name}' is {describe(annotation)}, and '{shown}' is not{way_out}")


def _convert(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        converted = _convert(value, get_args(kind)[0])
        return converted if fits(converted, kind) else _refuse()
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if value == choice or value == str(choice):
                return choice
        raise ValueError
    if get_origin(kind) in (tuple, list):
        kinds = get_args(kind)
        if isinstance(value, str):
            numbers = all(each in (int, float, ...) for each in kinds)
            value = [item.strip() for item in (value.replace("x", ",") if numbers else value).split(",")]
        items = list(value)
        kinds = kinds[:1] * len(items) if get_origin(kind) is list or kinds[-1:] == (...,) else kinds
        if len(kinds) != len(items):
            raise ValueError
        return get_origin(kind)(_convert(item, k) for item, k in zip(items, kinds, strict=True))
    if kind is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        word = value.lower() if isinstance(value, str) else value
        return word if isinstance(word, bool) else words[word] if word in words else _refuse()
    if kind is str:
        return value if isinstance(value, str) else _refuse()
    if kind is Path:
        return Path(value) if isinstance(value, str | Path) else _refuse()
    if kind in (int, float) and not isinstance(value, bool):
        return number(value, kind)
    raise ValueError


def spelt(value: Any) -> str:
    """A value as the command line takes it: a size of (48, 64) is "48x64"."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def number(value: Any, kind: type[Number], limit: float = 0) -> Number:
    """Text, or another number, as an `int` or `float`, whose absolute value is at most `limit`, else `LIMITS`.

    Text is a decimal numeral in ASCII, with sign, point and exponent, so that a typing error is no number: neither
    "1_0" nor "inf". Of an int it has the value of a whole number, however it is written ("1e4").
    Raises `ValueError`, and `OverflowError` beyond the limits.
    """
    if isinstance(value, str):
        if not NUMERAL.fullmatch(value):
            raise ValueError(f"'{value}' is no number")
        value = Decimal(value)
    limit = limit or LIMITS[kind]
    if not abs(value) <= limit:  # a NaN is not, either
        raise OverflowError(f"the largest is {limit:.12g}")
    found = kind(value)
    if kind is int and found != value:
        raise ValueError(f"{value} is no whole number")
    return found


def understood(annotation: Any) -> bool:
    """Whether text can be converted to what an annotation says."""
    options = _options(annotation)
    if len(options) > 1:
        return any(map(understood, options))
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_origin(kind) in (Literal, tuple, list) or kind in (int, float, bool, str, Path, type(None))


def _refuse() -> Any:
    raise ValueError


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
