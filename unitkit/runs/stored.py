"""A run's files read and written: JSON as its schema has it and tensors of a model, or one line on what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from safetensors.torch import save as save_bytes
from torch import Tensor

from ..networks.state import fill
from ..system.errors import UserError
from .schema import MODEL, About, Header, Kind
from .steps import all_steps, step_of

FORMAT = 1
# What a file may hold, however it came about: far more than any run writes, and far less than harms.
LARGEST = 2**25  # bytes of a JSON file
LONGEST_LINE = 2**20  # bytes of a line of a history
LONGEST = 2**16  # characters of a text
DEEPEST = 64  # lists and objects within each other
FARTHEST = 2**63 - 1  # a whole number from 0
# A NUL is in no path, and half a character in no text; bytes of a path that are no text are kept as U+DC80 to U+DCFF.
NO_TEXT = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")


def read_json(path: Path, kind: Kind) -> dict[str, Any]:
    """The object in a JSON file. Raises `UserError` for one that is missing, or not as `kind` has it."""
    try:
        value = _parsed(_bytes(path, LARGEST))
        if not isinstance(value, dict) or value.get("format", FORMAT) != FORMAT:
            newer = isinstance(value, dict) and isinstance(found := value["format"], int) and found > FORMAT
            hint = ": a newer one made it, so bring this up to date" if newer else ""
            raise ValueError(f"it is not of format {FORMAT}, which this version of unitkit reads{hint}")
        _fit(value, kind.shape)
    except (OSError, ValueError) as error:
        raise damaged(path, error, kind.way_out) from error
    return value


def read_described(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `model.json` said of the model in an exported file of tensors, and the file's own description. Raises
    `UserError` for another file."""
    try:
        _refuse_no_file(path)
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST:
                raise ValueError("it is no file of tensors")
            header = _parsed(file.read(size))
        _fit(header, Header)
        said = header["__metadata__"]
        description, about = (_parsed(said[name].encode()) for name in ("model.json", "unitkit"))
        _fit(description, MODEL.shape)
        _fit(about, About)
    except (OSError, ValueError) as error:
        way_out = "give a run, or a .safetensors file that `unitkit export` has made"
        raise damaged(path, error, way_out) from error
    return description, about


def read_lines(path: Path, kind: Kind) -> list[dict[str, Any]]:
    """All that `each_line` gives."""
    return list(each_line(path, kind))


def each_line(path: Path, kind: Kind) -> Iterator[dict[str, Any]]:
    """The objects in a file of lines, one in each; none where there is no file. A last line that a kill has cut is left
    out. Raises `UserError` for another that is not as `kind` has it, with its number."""
    if not os.path.lexists(path):
        return
    try:
        _refuse_no_file(path)
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 2):
                number, ended = number + 1, line.endswith(b"\n")
                while not ended and (more := file.readline(LONGEST_LINE)):  # too long, as is said below
                    ended = more.endswith(b"\n")
                try:
                    row = _row(line.removesuffix(b"\n"), kind)
                except ValueError as error:
                    if ended:
                        raise damaged(path, f"line {number}: {error}", kind.way_out) from error
                    return
                yield row
    except (OSError, ValueError) as error:
        raise damaged(path, error, "move it away") from error


def _row(line: bytes, kind: Kind) -> dict[str, Any]:
    """The object in a line. Raises `ValueError` for what is not as `kind` has it."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it holds more than {LONGEST_LINE} bytes")
    row: dict[str, Any] = _parsed(line)
    head = kind.head.__annotations__ if kind.head else {}
    if head:
        _fit(row, kind.head)
    _fit({name: value for name, value in row.items() if name not in head} if head else row, kind.shape)
    return row


def check_writable(value: Any) -> None:
    """Raise `ValueError`, or `TypeError`, for what cannot be written as JSON and read again."""
    _parsed(json.dumps(value).encode())


def _bytes(path: Path, most: int) -> bytes:
    """What an ordinary file holds. Raises `OSError`, and `ValueError` for more than `most` bytes."""
    _refuse_no_file(path)
    with open(path, "rb") as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ValueError(f"it holds more than {most} bytes")
    return found


def _refuse_no_file(path: Path) -> None:
    """Raise `OSError` for a folder, or for a pipe, which would be waited for."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is no ordinary file")


def _parsed(text: bytes) -> Any:
    """The value of JSON, within the limits above. Raises `ValueError`."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST}") from None
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, str):
                _check_text(each)
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, dict):
                inner += each
                inner += each.values()
        if not (level := inner):
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"it names {twice[:LONGEST]!r:.80} twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > len(str(FARTHEST)) or abs(number := int(digits)) > FARTHEST:
        raise ValueError(f"the number {digits:.20}... is out of range")
    return number


def _check_text(text: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(f"the text {text[:40]!r}... is longer than {LONGEST} characters")
    if NO_TEXT.search(text):
        raise ValueError(f"{text!r:.80} is no text")


def _fit(value: Any, shape: Any) -> None:
    """Raise `ValueError` for a value that is not as its schema says, with the place in it."""
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        said, _, place = str(error).replace("`", "'").partition(" - at '$")
        where = place.strip("'.")
        raise ValueError(f"{where}: {said}" if where else said) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, which are in memory once they are touched. Raises `UserError` for one that is missing or
    damaged."""
    try:
        _refuse_no_file(path)
        return load_file(path) if _is_text(path) else load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise damaged(path, error) from error


def fill_from(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Copy a file's tensors into those of their names. Raises `UserError` as `refuse_others` does; then none is."""
    stored = read_tensors(path)
    refuse_others(path, stored, tensors)
    fill(tensors, stored)


def refuse_others(path: Path, stored: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Raise `UserError` for a file's tensors that have other names, shapes or types than those of `like`, which may be
    on the meta device, or that are not finite."""
    if stored.keys() != like.keys():
        name = min(stored.keys() ^ like.keys())
        raise UserError(f"{path} is not of this model: '{name:.200}' is in only one of them")
    for name, tensor in like.items():
        if (difference := differs(stored[name], tensor)) is not None:
            raise UserError(f"{path} is not of this model: '{name}' has {difference}")
    refuse_not_finite(path, stored)


def refuse_not_finite(path: Path, stored: Mapping[str, Tensor]) -> None:
    """Raise `UserError` for a file's tensors of which one is not finite."""
    if (bad := not_finite(stored)) is not None:
        raise damaged(path, f"'{bad}' is not finite")


def differs(stored: Tensor, like: Tensor) -> str | None:
    """What the shape or the type of a tensor is where it is not as it should be."""
    if stored.shape != like.shape:
        return f"shape {list(stored.shape)}, and not {list(like.shape)}"
    if stored.dtype != like.dtype:
        return f"values of {stored.dtype}, and not of {like.dtype}"
    return None


def digest(path: Path) -> str:
    """The SHA-256 of a file. Raises `OSError`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_other_file(path: Path, known: str) -> None:
    """Raise `UserError` for a file that is gone, or is not that of this SHA-256."""
    try:
        _refuse_no_file(path)
        same = digest(path) == known
    except OSError as error:
        raise damaged(path, error) from error
    if not same:
        raise damaged(path, "it is not as the training wrote it")


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a file of tensors, all of them contiguous, by name. Raises `OSError` where the disk refuses."""
    if not _is_text(path):
        path.write_bytes(save_bytes(tensors))
        return
    path.touch()
    rights = path.stat().st_mode & 0o777  # of any new file: safetensors lets the owner alone read its own
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise OSError(None, str(error)) from error
    path.chmod(rights)


def _is_text(path: Path) -> bool:
    """Whether safetensors, which wants UTF-8, can open a path; any bytes but 0 and / can be in one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds a NaN or an infinity."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def damaged(path: Path, reason: object, way_out: str = "") -> UserError:
    """The error for a file that cannot be used, with the checkpoint to turn to if the file is of another one."""
    here = path.parent
    others = [step for step in all_steps(here.parent) if step != here] if step_of(here.name) is not None else []
    said = (getattr(reason, "strerror", None) or str(reason)).partition("\n")[0]
    if not others:
        return UserError(f"cannot use {path}: {said}" + (f"; {way_out}" if way_out else ""))
    resumed = f", or delete {here} to resume from it" if here.parent.name == "checkpoints" else ""
    return UserError(
        f"cannot use {path}: {said}; there is also {others[-1].name}: use it by "
        f"`unitkit translate {shlex.quote(str(others[-1]))} ...`{resumed}"
    )
