"""What a training ran on: versions, machine, the commit of this package."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Versions, machine and the commit of this package where it runs from its work tree, for `run.json`."""
    return {
        "versions": versions("unitkit", "torch", "numpy", "pillow"),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "commit": _commit(Path(__file__)),
        "folder": _working_folder(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _working_folder() -> str | None:
    """What relative paths among the knobs are relative to; None where the folder is gone."""
    with suppress(OSError):
        return os.getcwd()
    return None


def versions(*packages: str) -> dict[str, str]:
    """Python's version, and those of installed packages."""
    return {"python": platform.python_version()} | {package: _version(package) for package in packages}


@cache  # what has been imported stays as it is
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def _commit(file: Path) -> str | None:
    """The commit checked out where git tracks `file`: an installed package may lie in another project's work tree."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
