"""What is published says nothing of the machine that it comes from: paths become the last name in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NAME = r"[^/\\\s'\"`,;:()\[\]]+"
WORDS = rf"{NAME}(?: {NAME}){{0,3}}"  # a name with spaces, which a separator behind it shows to be one
# From a root, from a home folder, and upwards from the working folder; none is in an address, or in a/b.
PATH = re.compile(rf"(?<![\w/.~\\])(?:~[^/\s]*|(?:\.\./)*\.\.)?/(?:{WORDS}/)*{NAME}")
# From a drive, or from another machine of the network: //server/share, with backslashes too.
WINDOWS = re.compile(rf"(?:(?<!\w)[A-Za-z]:[\\/]|(?<![\w.:/\\])[\\/]{{2}})(?:{WORDS}[\\/])*{NAME}")
# What stands before the path in an address that is one of this machine, and in a long path of Windows.
SCHEME = re.compile(r"(?<!\w)file:(?:///(?=[a-z]:[\\/])|(?://[^/\s]*)?(?=/))|\\\\[?.]\\(?=[a-z]:)", re.IGNORECASE)
# Within quotes all is the path.
QUOTED = re.compile(
    r"""(?<!\w)(['"`])((?:~[^/'"`\n]*)?/[^'"`\n]*|\.\./[^'"`\n]*|(?:[A-Za-z]:|[\\/])[\\/][^'"`\n]*)\1(?!\w)"""
)
HOME = re.compile(r"/(?:home|Users)/[^/]+|[A-Za-z]:[\\/]Users[\\/][^\\/]+|~[^\W\d][^/\\\s]*|~")


class Scrubber:
    """Takes the paths of this machine out of texts. One that holds spaces is known where it is here, or lies below one
    of `folders`, such as the run's own."""

    def __init__(self, folders: Iterable[str | Path | None] = ()) -> None:
        self.home = os.path.expanduser("~")
        places = {os.path.abspath(each) for each in (*folders, self.home) if each}
        places |= {os.path.realpath(each) for each in places}
        self.folders = sorted(places - {"/"}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without paths: of each, the last name stays."""
        text = SCHEME.sub("", text)
        if HOME.fullmatch(text):
            return self._last(text)
        text = QUOTED.sub(lambda found: f"{found[1]}{self._last(found[2])}{found[1]}", text)
        if text.startswith(("/", "~/")) and os.path.lexists(os.path.expanduser(text)):
            return self._last(text)
        for folder in self.folders:
            known = rf"(?<![\w.-]){re.escape(folder)}"
            text = re.sub(f"{known}/(?=[^/\\s])", "", text)
            text = re.sub(rf"{known}(?![\w.-])", lambda found: self._last(found[0]), text)
        return PATH.sub(lambda found: self._last(found[0]), WINDOWS.sub(lambda found: self._last(found[0]), text))

    def value(self, value: Any) -> Any:
        """A JSON value without paths, in names too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self.value(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def _last(self, path: str) -> str:
        """The last name of a path; of a home folder, whose name is a user's, only that it is one."""
        path = path.rstrip("\\/")
        return "home" if path == self.home or HOME.fullmatch(path) else re.split(r"[\\/]", path)[-1]
