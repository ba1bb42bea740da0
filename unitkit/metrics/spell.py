"""Metrics as text, as the command line gives them: `fid(ab, b)`, `lpips(aba, a, net=vgg)`, or a name alone."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ..annotations import convert
from ..system.errors import UserError
from .metric import Metric, registry

ROUND = ("psnr", "ssim", "l1", "lpips")  # which, named alone, compare a cycle with its beginning


def parse_metrics(text: str, letters: Iterable[str]) -> list[Metric]:
    """The metrics in a text, with commas or spaces between.

    Args:
        letters: the domains: a name alone, `fid`, means every translation between them (or every cycle).

    Raises:
        UserError: text that is no metric, an unknown name, argument or value.
    """
    found: list[Metric] = []
    rest = text.strip()
    while rest:
        match = re.match(r"(\w+)\s*(?:\(([^()]*)\))?\s*(?:,|$|\s)\s*", rest)
        if not match:
            raise UserError(f"'{rest}' is no metric: expected a name with image paths, such as fid(ab, b)")
        rest = rest[match.end() :]
        name, inside = match.groups()
        paths, options = _arguments(name, inside or "")
        positional = _positional(name)
        for given in [paths] if paths else _usual(name, len(positional), letters):
            if len(given) != len(positional):
                wanted = ", ".join(positional)
                raise UserError(f"the metric {name} reads {len(positional)} paths, {name}({wanted}), not {len(given)}")
            found.append(registry.spec(name, **options).build(*given))
    if not found:
        raise UserError("no metric is named: expected such as --metrics 'fid(ab, b), lpips(aba, a)'")
    return found


def _arguments(name: str, inside: str) -> tuple[list[str], dict[str, Any]]:
    hints = get_type_hints(registry[name], include_extras=True)
    paths, options = [], {}
    for word in filter(None, (each.strip() for each in inside.split(","))):
        key, equals, value = (each.strip() for each in word.partition("="))
        if not equals:
            paths.append(word.strip("'\""))
            continue
        hint = hints.get(key, str)
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        options[key] = convert(key, value, kind)
    return paths, options


def _positional(name: str) -> list[str]:
    parameters = inspect.signature(registry[name]).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _usual(name: str, count: int, letters: Iterable[str]) -> list[list[str]]:
    letters = list(letters)
    if name == "accuracy":
        return [[letter] for letter in letters]
    pairs = list(itertools.permutations(letters, 2))
    if count == 1:
        return [[one + two] for one, two in pairs]
    return [[one + two + one, one] if name in ROUND else [one + two, two] for one, two in pairs]
