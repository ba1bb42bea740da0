"""`unitkit new`: a recipe of one's own, begun as a copy of another."""

from __future__ import annotations

import os
from pathlib import Path

from ...recipe_file import find_recipe, read_recipe_file
from ...system.errors import UserError, refusal
from ...system.files import replacing


def new_recipe(path: Path, origin: str) -> list[Path]:
    """Copy a recipe, and beside it the files that it imports; returns what was written, the recipe first.

    Raises:
        UserError: a recipe that is none, a file that is there already, a disk that refuses.
    """
    source = find_recipe(origin)
    if path.suffix != ".py":
        raise UserError(
            f"a recipe is a Python file: name it {path / 'mine.py' if path.is_dir() else path.with_suffix('.py')}"
        )
    texts = {path: source.read_text("utf-8")}
    imported = read_recipe_file(source).imported
    texts |= {path.parent / name: text for name, text in imported.items()}
    for each, text in texts.items():
        there = os.path.lexists(each)
        if there and (each == path or not each.is_file() or each.read_text("utf-8", "replace") != text):
            raise UserError(f"{each} is there already: choose another name or folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(f"cannot make the folder {path.parent}", error) from error
    for each, text in texts.items():
        with replacing(each) as file:
            file.write_text(text, "utf-8")
    return list(texts)
