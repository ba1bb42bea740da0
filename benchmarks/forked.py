"""A command line in a process that is forked from a benchmark's own, which has imported everything."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from unitkit.cli import main as command_line

FAULT = 70  # the status of one that no command has seen to


def become(
    words: Sequence[str],
    folder: Path,
    output: int,
    *,
    encoding: str = "utf-8",
    prepare: Callable[[], object] = lambda: None,
) -> NoReturn:
    """Run `unitkit WORDS` in this process, which then ends; it is the first of its group.

    Args:
        folder: where it runs.
        output: the file that it prints to.
        prepare: is called before it, in the folder.
    """
    os.setpgid(0, 0)
    status: int = FAULT
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, handle in enumerate((nothing, output, output)):
            os.dup2(handle, number)
        sys.stdout, sys.stderr = (open(number, "w", encoding=encoding, closefd=False) for number in (1, 2))  # noqa: SIM115
        os.chdir(folder)
        prepare()
        sys.argv = ["unitkit", *words]
        command_line()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
