"""Where the files of a dataset of digits are: in the user's folder, in the cache, or on the network."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from ...system.errors import UserError, refusal
from ...system.files import expanded
from .arrays import reason
from .files import LAYOUTS, Found, find

VARIABLE = "UNITKIT_DATA"


def locate(name: str, folder: str | None) -> Found:
    """The files of the dataset `name`, "mnist", "usps" or "svhn".

    They are looked for in `folder`/name and in `folder` itself; without a folder in the one that the environment
    variable UNITKIT_DATA names, then in the cache (~/.cache/unitkit/digits), where they are downloaded to if they are
    in neither. Raises `UserError` where they are not to be had.
    """
    if folder is not None:
        root = expanded(folder)
        if not root.is_dir():
            raise UserError(f"'{folder}' is no folder: expected one that holds {name} ({_expected(name)})")
        if found := _search(name, root):
            return found
        raise UserError(f"'{folder}' holds no {name}: expected {_expected(name)} {_seen(name, root)}")
    roots = [expanded(given)] if (given := os.environ.get(VARIABLE)) else []
    roots.append(cache_folder())
    for root in roots:
        if found := _search(name, root):
            return found
    try:
        _download(name, roots[-1])
    except (OSError, RuntimeError, HTTPException) as error:  # the network, a checksum, the disk
        searched = ", ".join(f"'{place}'" for root in roots for place in (root / name, root))
        raise UserError(
            f"there is no {name} in {searched}, and the download failed ({reason(error)}): get {_expected(name)}; then "
            f"name their folder, data=FOLDER, or set {VARIABLE}"
        ) from None
    found = _search(name, roots[-1])
    assert found, roots  # the checksums were right
    return found


def cache_folder() -> Path:
    """The folder of downloaded digits: ~/.cache/unitkit/digits, or below XDG_CACHE_HOME."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "unitkit" / "digits"


def _places(name: str, root: Path) -> Iterator[Path]:
    for place in (root / name, root):
        yield place
        yield place / "MNIST" / "raw"  # below a root of torchvision's; only MNIST has such a folder


def _search(name: str, root: Path) -> Found | None:
    return next((found for place in _places(name, root) if (found := find(name, place))), None)


def _expected(name: str) -> str:
    return ", or ".join(layout.expected for layout in LAYOUTS[name])


def _seen(name: str, root: Path) -> str:
    """The places where the files are expected, and what is there instead."""
    inner = root / name
    words = f"in it or in '{inner}'"
    for place in (inner, root) if inner.is_dir() else (root,):
        try:
            names = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise refusal(f"cannot read the folder '{place}'", error) from None
        words += f"; '{place}' holds: {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"
    return words


def _download(name: str, root: Path) -> None:
    """Fetch a dataset into `root`/name, checked by torchvision against the published MD5.

    It goes to a folder beside first, and moves when it is whole: what is cut short leaves nothing, and several
    processes may do it at once. Raises what torchvision does: `OSError`, `RuntimeError`, `HTTPException`.
    """
    from torchvision.datasets import MNIST, SVHN, USPS  # here, as importing it takes seconds and most find their files
    from torchvision.datasets.utils import download_url

    root.mkdir(parents=True, exist_ok=True)
    print(f"downloading {name} to '{root / name}'", file=sys.stderr)
    # Not by the constructors of these classes, which would unpack and read the files as well.
    if name == "mnist":
        wanted = [([mirror + file for mirror in MNIST.mirrors], file, md5) for file, md5 in MNIST.resources]
    else:
        listed = {"usps": USPS, "svhn": SVHN}[name].split_list
        wanted = [([url], file, md5) for url, file, md5 in (listed["train"], listed["test"])]
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary, _patience(30):
        folder = Path(temporary) / name
        for urls, file, md5 in wanted:
            for url in urls:
                try:
                    download_url(url, folder, file, md5=md5)
                    break
                except (OSError, RuntimeError, HTTPException):
                    if url == urls[-1]:
                        raise
        with suppress(OSError):  # the folder is there: from another process, or with other files in it
            folder.rename(root / name)
            return
        shutil.copytree(folder, root / name, dirs_exist_ok=True)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """A server that says nothing for so long is given up; torchvision takes no time-out."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
