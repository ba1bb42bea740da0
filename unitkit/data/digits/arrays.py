"""Files of arrays: `.npz` with one array a domain or one domain's splits, and idx files as of MNIST."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...system.errors import UserError
from ..files.bounds import Guarded, open_ordinary, refuse_sizes
from ..sources import ImageArray

SINGLE = ("x_train", "images", "X", "x")
IDX_TRAIN, IDX_TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"

IDX_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte

MEMBERS = 10_000  # arrays in an archive, of which a training takes some dozens
SHOWN = 20  # arrays in a message
HEADER = 10_000  # bytes of an array's header, as numpy has it
NO_NUMBERS = {
    "O": "objects, which run code where they are read with allow_pickle",
    "U": "text",
    "S": "text in bytes",
    "V": "records of several fields, or untyped bytes",
    "M": "dates",
    "m": "spans of time",
}

# A training split, and a test split where the file has one of its own.
Arrays = tuple[ImageArray, ImageArray | None]


def npz_domains(path: Path) -> dict[str, Callable[[], Arrays]]:
    """The domains of an `.npz`, by label: arrays `<label>` with or without `<label>_test`, at least two labels; or
    one domain, named after the file, in `x_train` with or without `x_test`, or in `images`, `X` or `x`.

    Arrays of fewer than three dimensions (classes, say) are passed over. Raises `UserError` for a damaged file and,
    with a list of its arrays, for any other content.
    """
    shapes = npz_shapes(path)
    images = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    labels = [name for name in images if not (name.endswith("_test") and name.removesuffix("_test") in images)]
    if "x_train" in images:
        return {path.stem: partial(_npz_splits, path, "x_train", "x_test" if "x_test" in images else None)}
    if len(labels) >= 2 or (len(labels) == 1 and labels[0] in SINGLE):
        found = [(label, f"{label}_test" if f"{label}_test" in images else None) for label in labels]
        if len(found) == 1:
            return {path.stem: partial(_npz_splits, path, *found[0])}
        return {label: partial(_npz_splits, path, label, test) for label, test in found}
    raise UserError(
        f"'{path}' holds {content(shapes)}: expected one array of images a domain (two or more, each named by its "
        f"label), or one domain's in x_train and x_test, images, X or x"
    )


def content(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The first arrays of an archive and their shapes, for a message."""
    some = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:SHOWN]) or "nothing"
    return some + (f" and {len(shapes) - SHOWN} more" if len(shapes) > SHOWN else "")


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The arrays' shapes, from their headers alone: objects and great arrays that nobody asks for stay unread.

    Raises `UserError` for a damaged file.
    """
    with _archive(path) as archive:
        return {_array_name(member): _npy_header(archive, member).shape for member in archive.infolist()}


def _npz_splits(path: Path, train: str, test: str | None) -> Arrays:
    return _npz_images(path, train), None if test is None else _npz_images(path, test)


def _npz_images(path: Path, name: str) -> ImageArray:
    return ImageArray(npz_array(path, name), f"{path}:{name}")


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array of an `.npz`.

    Raises `UserError` where it is not there, is damaged, holds anything but numbers, or is larger than its part of the
    file or the memory can be.
    """
    with _archive(path) as archive:
        found = {_array_name(member): member for member in archive.infolist()}
        if name not in found:
            raise UserError(f"cannot read the array '{name}' of '{path}': it holds no such array")
        member, what = found[name], f"'{path}:{name}'"
        header = _npy_header(archive, member)
        if header.dtype.kind in NO_NUMBERS or header.dtype.subdtype:
            kind = NO_NUMBERS.get(header.dtype.kind, "arrays in an array")
            raise UserError(
                f"cannot read the array '{name}', {what}: it holds {kind} ({str(header.dtype)[:60]}): expected numbers"
            )
        if header.size != member.file_size:
            raise UserError(
                f"{what} announces {header.dtype} {header.shape}, {header.size} bytes with its header, and holds "
                f"{member.file_size}: write it again"
            )
        packed = None if member.compress_type == zipfile.ZIP_STORED else member.compress_size
        refuse_sizes(what, member.file_size, packed, copies=1 if header.dtype.itemsize == 1 else 3)
        with archive.open(member) as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # the end, where the checksum is looked at
        return array


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, its list of arrays checked. Whatever goes wrong in the block becomes a `UserError`."""
    try:
        with Guarded(path, "an .npz archive") as file, zipfile.ZipFile(file) as archive:
            names = [_array_name(member) for member in archive.infolist()]
            if len(names) > MEMBERS:
                raise ValueError(f"it holds {len(names)} arrays, more than {MEMBERS}")
            if odd := next((name for name in names if len(name) > 200 or not name.isprintable()), None):
                raise ValueError(f"it names an array {odd!r}")
            if twice := next((name for name, count in Counter(names).items() if count > 1), None):
                raise ValueError(f"it holds '{twice}' twice")
            yield archive
    except UserError:
        raise
    except Exception as error:  # zip, deflate and header parsers each raise their own on a damaged file
        raise UserError(f"'{path}' is not an .npz archive of arrays, or is damaged ({reason(error)})") from None


def _array_name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


class Npy(NamedTuple):
    """What the header of an array tells; `size` are the bytes of the header and of what it announces."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


def _npy_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Npy:
    try:
        with archive.open(member) as file:
            start = file.read(8)
            version = np.lib.format.read_magic(BytesIO(start))
            field = 2 if version == (1, 0) else 4
            length = file.read(field)
            long = int.from_bytes(length, "little")
            if long > HEADER:
                raise ValueError(f"its header announces {long} bytes")
            header = BytesIO(length + file.read(long))
    except (ValueError, EOFError) as error:
        raise ValueError(f"'{member.filename}' is no array: {error}") from None
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(header)
    if any(side < 0 for side in shape):
        raise ValueError(f"'{member.filename}' announces the shape {shape}")
    return Npy(shape, dtype, 8 + field + long + math.prod(shape) * dtype.itemsize)


def is_idx(path: Path) -> bool:
    """Whether a file's name is that of an idx file: `.idx` or `-ubyte`, gzipped or not."""
    return path.name.removesuffix(".gz").endswith((".idx", "-ubyte"))


def idx_file(folder: Path, name: str) -> Path | None:
    """The idx file of that name in the folder, plain or gzipped."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def idx_splits(train: Path, test: Path | None) -> Arrays:
    """The images of one idx file, or of two where there is one for each split."""
    return idx_images(train), None if test is None else idx_images(test)


def idx_images(path: Path) -> ImageArray:
    """The images of an idx file. Raises `UserError` for a damaged file and for one of labels."""
    return ImageArray(_idx_array(path, (3, 4), IDX_KINDS, "images", "0x00000803 (bytes, N x H x W)"), str(path))


def idx_labels(path: Path) -> np.ndarray:
    """The labels of an idx file, uint8 (N,). Raises `UserError` for a damaged file and for one of images."""
    return _idx_array(path, (1,), {8: IDX_KINDS[8]}, "labels", "0x00000801 (bytes, N)")


def _idx_array(path: Path, expected: tuple[int, ...], kinds: Mapping[int, str], content: str, magic: str) -> np.ndarray:
    """The values of an idx file whose number of dimensions is one of `expected`."""
    try:
        with open_ordinary(path, f"an idx file of {content}") as plain:
            size = os.fstat(plain.fileno()).st_size
            packed = path.suffix == ".gz"
            with gzip.open(plain) if packed else plain as file:
                zero, kind, dimensions = struct.unpack(">HBB", file.read(4))
                if zero != 0 or kind not in kinds or dimensions not in expected:
                    found = f"0x{zero:04x}{kind:02x}{dimensions:02x}"
                    raise UserError(
                        f"'{path}' is not an idx file of {content}: its magic number is {found}, expected {magic}"
                    )
                shape, dtype = struct.unpack(f">{dimensions}I", file.read(4 * dimensions)), np.dtype(kinds[kind])
                count, start = math.prod(shape) * dtype.itemsize, 4 + 4 * dimensions
                if packed:
                    refuse_sizes(f"'{path}', {shape},", count, size)
                    values = file.read(count + 1)
                else:
                    values = file.read() if size - start == count else b""
                held = len(values) if packed else size - start
    except (OSError, EOFError, ValueError, struct.error, MemoryError, OverflowError, zlib.error) as error:
        raise UserError(f"'{path}' is truncated or damaged ({reason(error)}): fetch it again") from None
    if held != count:
        more = " or more" if packed and held > count else ""
        raise UserError(f"'{path}' announces {shape}, {count} bytes, and holds {held}{more}: fetch it again")
    return np.frombuffer(values, dtype).reshape(shape)


def reason(error: Exception) -> str:
    """What an error says, on one line of at most 120 characters."""
    return " ".join(str(error).split())[:120] or type(error).__name__
