"""Names of models on the Hugging Face Hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from ..system.errors import UserError

PREFIX = "hf:"
LONGEST = 96  # characters of a repository's name, as the hub has it
WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
REPOSITORY = re.compile(rf"(?!.*(--|\.\.)){WORD}/{WORD}(?<!\.git)")
# What git allows and no shell, file system or address takes for something else.
REVISION = re.compile(r"(?!.*(\.\.|//|@\{))[A-Za-z0-9_][A-Za-z0-9_.+/#=@-]{0,199}(?<![/.])")


class Place(NamedTuple):
    """A repository of a model, and a branch, a tag or a commit of it; without one the hub's own choice, `main`."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_on_hub(run: str | Path) -> bool:
    """Whether a run is named as one on the hub."""
    return str(run).startswith(PREFIX)


def parse_place(run: str | Path) -> Place:
    """The place that `hf:OWNER/NAME[@REVISION]` names. Raises `UserError` for a name that none can have, and where a
    folder here is called so."""
    word = str(run)
    if os.path.lexists(word):
        raise UserError(
            f"'{word}' is a folder here, and could be a model on the hub: give the folder by its whole path, "
            f"{os.path.abspath(word)}, or use the hub's model in another working folder"
        )
    repository, at, revision = word.removeprefix(PREFIX).partition("@")
    check_revision(revision if at else None)
    return Place(check_repository(repository), revision or None)


def check_repository(name: str) -> str:
    """The name of a repository, OWNER/NAME. Raises `UserError` for what the hub would not take."""
    if len(name) > LONGEST or not REPOSITORY.fullmatch(name):
        raise UserError(
            f"'{name:.120}' is no name on the hub: expected OWNER/NAME, such as anna/glasses, of letters, digits and "
            f"single - . _, at most {LONGEST} in all"
        )
    return name


def check_revision(name: str | None) -> None:
    """Raise `UserError` for what is no name of a branch, a tag or a commit."""
    if name is not None and not REVISION.fullmatch(name):
        raise UserError(f"'{name:.120}' is no revision: expected a branch, a tag or a commit, such as main")
