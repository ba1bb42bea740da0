"""Files of arrays: `.npz` with one array a domain or one domain's splits, and idx files as of MNIST."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ...system.errors import UserError
from ..sources import ImageArray

SINGLE = ("x_train", "images", "X", "x")
IDX_TRAIN, IDX_TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"

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
    content = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
    raise UserError(
        f"'{path}' holds {content}: expected one array of images a domain (two or more, each named by its label), "
        f"or one domain's in x_train and x_test, images, X or x"
    )


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The arrays' shapes, from their headers alone: objects and great arrays that nobody asks for stay unread.

    Raises `UserError` for a damaged file.
    """
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else (np.lib.format.read_array_header_2_0)
                    )
                    shapes[member.removesuffix(".npy")] = read(file)[0]
    except Exception as error:  # zip, deflate and header parsers each raise their own on a damaged file
        raise UserError(f"'{path}' is not an .npz archive of arrays, or is damaged ({reason(error)})") from None
    return shapes


def _npz_splits(path: Path, train: str, test: str | None) -> Arrays:
    return _npz_images(path, train), None if test is None else _npz_images(path, test)


def _npz_images(path: Path, name: str) -> ImageArray:
    return ImageArray(npz_array(path, name), f"{path}:{name}")


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array of an `.npz`. Raises `UserError` where it is not there, is damaged, or holds objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: np.ndarray = archive[name]
    except Exception as error:  # as above
        raise UserError(f"cannot read the array '{name}' of '{path}': {reason(error)}") from None
    return array


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
    return ImageArray(_idx_array(path, (3, 4), "images", "0x00000803 (bytes, N x H x W)"), str(path))


def idx_labels(path: Path) -> np.ndarray:
    """The labels of an idx file, uint8 (N,). Raises `UserError` for a damaged file and for one of images."""
    return _idx_array(path, (1,), "labels", "0x00000801 (bytes, N)")


def _idx_array(path: Path, expected: tuple[int, ...], content: str, magic: str) -> np.ndarray:
    """The bytes of an idx file whose number of dimensions is one of `expected`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            zero, kind, dimensions = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != 8 or dimensions not in expected:
                found = f"0x{zero:04x}{kind:02x}{dimensions:02x}"
                raise UserError(
                    f"'{path}' is not an idx file of {content}: its magic number is {found}, expected {magic}"
                )
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            count = math.prod(shape)
            values = file.read()
    except (OSError, EOFError, ValueError, struct.error, MemoryError, OverflowError, zlib.error) as error:
        raise UserError(f"'{path}' is truncated or damaged ({reason(error)}): fetch it again") from None
    if len(values) != count:
        raise UserError(f"'{path}' announces {shape}, {count} bytes, and holds {len(values)}: fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def reason(error: Exception) -> str:
    """What an error says, on one line of at most 120 characters."""
    return " ".join(str(error).split())[:120] or type(error).__name__
