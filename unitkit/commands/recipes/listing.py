"""`unitkit list`: what a recipe can name, and the recipes themselves."""

from __future__ import annotations

import ast
import shutil
import textwrap
from itertools import chain

from ...system.errors import UserError, closest, nearest
from .catalog import HOMES, Entry, entries

KINDS = ("recipe", *HOMES)


def listed(kind: str | None, name: str | None) -> list[str]:
    """The lines for all kinds, one of them, or one entry. Raises `UserError` for an unknown kind or name."""
    if kind is not None and kind not in KINDS:
        kind, name = _kind_of(kind), kind
    lines = []
    for each in [kind] if kind else KINDS:
        found = _entries(each)
        if name is not None:
            found = [entry for entry in found if entry.name == name]
            if not found:
                known = [entry.name for entry in _entries(each)]
                raise UserError(f"there is no {each} '{name}'. {nearest(name, known)}")
        lines += [each, *(line for entry in found for line in _shown(entry))]
    return lines


def _kind_of(name: str) -> str:
    """The only kind that has an entry of this name. Raises `UserError` where several have one, or none."""
    known = {kind: {entry.name for entry in _entries(kind)} for kind in KINDS}
    kinds = [kind for kind, names in known.items() if name in names]
    if len(kinds) > 1:
        ways = ", or ".join(f"unitkit list {kind} {name}" for kind in kinds)
        raise UserError(f"'{name}' is of several kinds: {ways}")
    if not kinds:
        near = closest(name, {*KINDS, *chain.from_iterable(known.values())})
        hint = f"Did you mean '{near}'?" if near else f"Choose from: {', '.join(sorted(KINDS))}."
        raise UserError(f"unknown kind of part '{name}', and no part is called so. {hint}")
    return kinds[0]


def _entries(kind: str) -> list[Entry]:
    return _recipes() if kind == "recipe" else entries(kind)


def _shown(entry: Entry) -> list[str]:
    width = shutil.get_terminal_size().columns
    texts = [entry.summary, *map(str, entry.arguments)]
    return [
        f"  {entry.call}",
        *(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="        ") for text in texts),
    ]


def _recipes() -> list[Entry]:
    from ...recipe_file import shipped

    found = []
    for name, path in shipped().items():
        summary = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n\n")[0]
        found.append(Entry("recipe", name, (), (), " ".join(summary.split())))
    return found
