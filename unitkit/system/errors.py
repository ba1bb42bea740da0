"""The exceptions that reach the user as a single clear line, each with the exit status of a command that it ends."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable

# What a system answers where a user could have named nothing better: a disk that is full, read-only or failing, no
# right to it, no memory or handles left.
OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}
# Of these, what a file may meet that is read, whatever is in it.
FAILING = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

NEAR = 0.55  # how alike two words are, as difflib has it, of which one is meant by the other
SHORT = 3  # letters of a word by which no other of as many is meant that begins otherwise, by "gif" no "tif"
LONG = 80  # characters of a path, of which no more is shown


class UserError(Exception):
    """A mistake that the user can mend. The command line prints it as one line and exits with status 2.

    The message says what was given, what was expected and the way out; it never needs a traceback beside it.
    """

    status = 2


class MachineError(UserError):
    """What the machine refuses, such as a full disk. Printed as one line, exit status 1.

    It is a `UserError`, since whatever ends well at one must at the other.
    """

    status = 1


class TrainingError(Exception):
    """Training cannot go on (a non-finite gradient, say). Printed as one line, exit status 1."""

    status = 1


def refusal(what: str, error: OSError, way_out: str = "") -> UserError:
    """The error to raise for one of the system's, "cannot write x: No space left on device": of the machine where
    `OF_THE_MACHINE` has its number, else of the user.

    Args:
        what: what could not be done, with the name of the file.
        way_out: what to do about it, appended.
    """
    kind = MachineError if error.errno in OF_THE_MACHINE else UserError
    return kind(f"{what}: {error.strerror or error}{way_out}")


def pass_on_failure(what: str, error: BaseException) -> None:
    """Raise what is no fault of the file that could not be read: no memory as it is, and `MachineError` for a disk that
    fails, or no handles, "cannot read x: Too many open files"."""
    if isinstance(error, MemoryError | MachineError):
        raise error
    if isinstance(error, OSError) and error.errno in FAILING:
        raise refusal(what, error) from error


def of_system(error: OSError | MemoryError) -> UserError:
    """The line for an error of the system's that nothing on the way up knew more about."""
    if isinstance(error, MemoryError):
        return MachineError("the memory of this machine ran out; lower batch=, size= or width= (see `unitkit show`)")
    try:
        os.getcwd()
    except FileNotFoundError:
        return UserError("the working folder is gone: go to another one (cd), and try again")
    names = " -> ".join(
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
    )
    if len(names) > LONG:
        names = f"{names[:LONG]}... ({len(names)} characters)"
    if names:
        return refusal(f"cannot use {names}", error)
    return MachineError(f"the system refuses: {error.strerror or error}")  # no folder for temporary files, say


def nearest(name: str, choices: Iterable[str]) -> str:
    """A closing sentence for an error about `name`: the nearest of `choices`, or all of them where none is near."""
    choices = sorted(choices)
    if near := suggested(name, choices):
        return near.removeprefix(". ")
    return f"Choose from: {', '.join(choices)}." if choices else "There is nothing to choose from."


def suggested(name: str, choices: Iterable[str], near: float = NEAR) -> str:
    """How an error ends that has listed the choices: ". Did you mean 'x'?", or "" where none is near."""
    found = closest(name, choices, near)
    return f". Did you mean '{found}'?" if found is not None else ""


def closest(name: str, choices: Iterable[str], near: float = NEAR) -> str | None:
    """The one of the choices that a name is a misspelling of."""
    name = str(name).casefold()
    folded = {choice.casefold(): choice for choice in sorted(choices, reverse=True)}
    possible = [each for each in folded if len(name) > SHORT or len(each) != len(name) or each[:1] == name[:1]]
    found = difflib.get_close_matches(name, possible, n=1, cutoff=near)
    return folded[found[0]] if found else None
