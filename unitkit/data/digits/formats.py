"""HDF5, MATLAB and libsvm files as arrays: what they announce is held to the file and the memory before it is read."""

from __future__ import annotations

import bz2
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...system.errors import UserError
from ..files.bounds import open_ordinary, ordinary, refuse_sizes
from .arrays import reason

SIDE = 16  # of an image of USPS
TEXT = 48 * 2**20  # bytes of a list of USPS, of which the published one has 24 million
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # of HDF5, of those that h5py brings
LARGE = 2**18  # bytes of a packed chunk that is looked into before HDF5, which unpacks all of it, has it
# Of MATLAB's file format, version 5: types of elements, classes of arrays, and bytes of a number by its type.
MATRIX, COMPRESSED = 14, 15
CLASSES = {1: "a cell array", 2: "a structure", 3: "an object", 4: "text", 5: "a sparse array"}
BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
HEAD = 4096  # bytes of an array before its numbers, at most: its class, dimensions and name


def hdf5_arrays(path: Path, names: list[str]) -> list[np.ndarray] | None:
    """The arrays of these names, such as `train/data`; None where the first one's group is not there.

    Raises `UserError` for what is damaged, lies in another file, is no numbers, is packed by a filter that h5py does
    not bring, or is larger than the file or the memory can be.
    """
    try:
        import h5py  # here, as few ever read such a file
    except ImportError:
        raise UserError(f"reading {path} needs h5py: install it with pip install 'unitkit[digits]'") from None

    ordinary(path, "an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            if names[0].split("/")[0] not in file:
                return None
            return [_hdf5_array(h5py, file, path, name) for name in names]
    except UserError:
        raise
    except Exception as error:  # HDF5 raises nearly anything on a damaged file, and on a path that is not in it
        content = "' or '".join(names)
        raise UserError(f"'{path}' is damaged, or lacks '{content}' ({reason(error)})") from None


def _hdf5_array(h5py: Any, file: Any, path: Path, name: str) -> np.ndarray:
    what, place = f"'{path}:{name}'", file
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise UserError(f"{what} is a link to another place or file, which is not followed: store the array itself")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise UserError(f"{what} is no array")
    if place.is_virtual or place.external:
        raise UserError(f"{what} is stored in other files, which are not read: store the array itself")
    if place.dtype.kind not in "iufb":
        raise UserError(f"cannot read {what}: it holds {str(place.dtype)[:60]}: expected numbers")
    plan = place.id.get_create_plist()
    filters = [plan.get_filter(i) for i in range(plan.get_nfilters())]
    if unknown := [each for each in filters if each[0] not in FILTERS]:
        raise UserError(
            f"{what} is packed by the filter {unknown[0][0]} ({reason(unknown[0][3])}): expected one of "
            f"{', '.join(FILTERS.values())}, or none"
        )
    size = math.prod(place.shape or ()) * place.dtype.itemsize
    stored = place.id.get_storage_size()
    if not filters and stored < size:  # what is missing would be filled up
        raise UserError(f"{what} announces {size} bytes and holds {stored}: write it again")
    refuse_sizes(what, size, stored if filters else None, copies=3)
    if place.chunks:
        chunk = math.prod(place.chunks) * place.dtype.itemsize
        refuse_sizes(f"a chunk of {what}", chunk, max(stored, size))
        _refuse_large_chunks(place, chunk, what)
    return np.asarray(place)


def _refuse_large_chunks(data: Any, size: int, what: str) -> None:
    """HDF5 unpacks a chunk to whatever it holds, though its size is known."""
    for i in range(data.id.get_num_chunks()):
        stored = data.id.get_chunk_info(i)
        if stored.size > LARGE:
            _, packed = data.id.read_direct_chunk(stored.chunk_offset)
            try:
                longer = len(zlib.decompressobj().decompress(packed, size + 8)) > size + 4  # with a checksum
            except zlib.error:  # not gzip, or damaged
                longer = stored.size > size + size // 10 + 1024
            if longer:
                raise UserError(f"{what} has a chunk that holds more than its {size} bytes: write it again")


def libsvm_table(path: Path) -> np.ndarray:
    """float64 (N, 513) of a bzip2 file, a line an image: the label, and `1:value` to `256:value`.

    Raises `UserError` for anything else.
    """
    try:
        with open_ordinary(path, "a bzip2 file") as packed, bz2.open(packed) as file:
            text = file.read(TEXT + 1)
        if len(text) > TEXT:
            raise ValueError(f"it unpacks to more than {TEXT >> 20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is no number ends the array early with no more than a warning
            numbers = np.fromstring(text.replace(b":", b" "), np.float64, sep=" ")
        table = numbers.reshape(-1, 1 + 2 * SIDE**2)
        if (table[:, 1::2] != np.arange(1, SIDE**2 + 1)).any():
            raise ValueError("the places of the values are not 1, 2, ..., 256 in every line")
    except UserError:
        raise
    except Exception as error:  # bzip2 and the parser each raise their own
        raise UserError(
            f"'{path}' is truncated or damaged, or is no bzip2 file of lines LABEL 1:VALUE ... 256:VALUE "
            f"({reason(error)}): fetch it again"
        ) from None
    return table


def matlab_arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Those arrays of a MATLAB file, of these names, that are there.

    Raises `UserError` for a file that is damaged or of another version than 5, and for an array that is no numbers or
    larger than its part of the file or the memory can be.
    """
    from scipy.io import loadmat  # here, as few ever read such a file

    try:
        with open_ordinary(path, "a MATLAB file") as file:
            _check_matlab(file, path, names)
            file.seek(0)
            content = loadmat(file, variable_names=names)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        raise UserError(f"'{path}' is truncated or damaged ({reason(error)}): fetch it again") from None
    return {name: content[name] for name in names if isinstance(content.get(name), np.ndarray)}


def _check_matlab(file: BinaryIO, path: Path, names: list[str]) -> None:
    header = file.read(128)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None or struct.unpack(f"{order}H", header[124:126])[0] != 0x0100:
        raise ValueError("it is no MATLAB file of version 5: save it with -v7")
    end, at = file.seek(0, 2), 128
    while at + 8 <= end:
        file.seek(at)
        kind, size = struct.unpack(f"{order}II", file.read(8))
        if size > end - at - 8:
            raise ValueError(f"an array announces {size} bytes, and {end - at - 8} are left of the file")
        head = file.read(min(size, HEAD))
        if kind == COMPRESSED:
            head = zlib.decompressobj().decompress(head, HEAD)
        elif kind == MATRIX:
            head = struct.pack(f"{order}II", kind, size) + head
        else:
            raise ValueError(f"it holds an element of type {kind} that is no array")
        name, declared, content = _matlab_array(head, order)
        if name in names:
            what = f"'{path}:{name}'"
            if content:
                raise UserError(f"cannot read {what}: it holds {content}: expected numbers")
            refuse_sizes(what, declared, size if kind == COMPRESSED else None)
            if kind == MATRIX and declared > size:
                raise ValueError(f"'{name}' announces {declared} bytes, and has {size}")
        at += 8 + size


def _matlab_array(head: bytes, order: str) -> tuple[str, int, str | None]:
    """Name, bytes of the numbers and, where it is none of numbers, the kind of an array that begins so."""
    (outer,) = struct.unpack_from(f"{order}I", head, 0)
    if outer != MATRIX:
        raise ValueError(f"it holds an element of type {outer} that is no array")
    at, found = 8, []
    for _ in range(4):  # flags, dimensions, name, numbers
        kind, size = struct.unpack_from(f"{order}II", head, at)
        start, padded = at + 8, 8 + -(-size // 8) * 8
        if kind >> 16:  # up to four bytes lie in the element's head
            kind, size, start, padded = kind & 0xFFFF, kind >> 16, at + 4, 8
        found.append((kind, size, head[start : start + size]))
        at += padded
    (_, _, flags), (_, _, sides), (_, _, name), (kind, size, _) = found
    (kinds,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(sides) // 4}i", sides)
    content = CLASSES.get(kinds & 0xFF) or ("complex numbers" if kinds & 0x800 else None)
    count = math.prod(shape)
    if content is None and (min(shape, default=0) < 0 or kind not in BYTES or size != count * BYTES[kind]):
        raise ValueError(f"'{name.decode('latin1')}' announces {size} bytes for the shape {shape}")
    return name.decode("latin1"), max(size, count * 8 if kinds & 0xFF == 6 else size), content
