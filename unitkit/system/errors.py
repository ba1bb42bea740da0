"""The one exception that reaches the user as a single clear line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. The command line prints it as one line and exits with status 2.

    The message says what was given, what was expected and the way out; it never needs a traceback beside it.
    """


class TrainingError(Exception):
    """Training cannot go on (a non-finite gradient, say). Printed as one line, exit status 1."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A closing sentence for an error about `name`: the nearest of `choices`, or all of them where none is near."""
    choices = sorted(choices)
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    if near := difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5):
        return f"Did you mean '{folded[near[0]]}'?"
    return f"Choose from: {', '.join(choices)}." if choices else "There is nothing to choose from."
