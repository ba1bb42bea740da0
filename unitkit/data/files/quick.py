"""The headers of ordinary JPEG and PNG files in a few microseconds, where Pillow takes a hundred times as long."""

from __future__ import annotations

import os
import struct
import zlib

from ...system.errors import MachineError, UserError
from ..formats.header import MAX_PIXELS, Header
from ..formats.turns import ORIENTATION, seen
from .decode import probe
from .walk import EXIF, PNG, SIZES

HEADS = (2**12, 2**17)  # bytes that are read of a file: first few, then as many as a camera's metadata take
SEGMENTS = 100
FRAMES = (0xC0, 0xC1, 0xC2)
PLAIN = (0xC4, 0xDD, 0xFE)  # Huffman tables, restarts, a comment
# By bits and colour type of a PNG: its channels without alpha.
COLOURS = {
    **{(bits, 0): 1 for bits in (1, 2, 4, 8, 16)},
    **{(bits, 3): 3 for bits in (1, 2, 4, 8)},
    **{(bits, kind): channels for bits in (8, 16) for kind, channels in ((2, 3), (4, 1), (6, 3))},
}
# Chunks of a PNG with their least length, and words under which one keeps text that means nothing to a decoder.
CHUNKS = {b"PLTE": 3, b"tRNS": 6, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"bKGD": 0, b"tIME": 0, b"sBIT": 0}
WORDS = (b"Software", b"Title", b"Author", b"Comment", b"Description", b"Copyright", b"Creation Time")


class Short(Exception):
    """More of the file is needed."""


def header_of(path: str) -> Header | UserError:
    """What `probe` says of a file, or the error that it raises, and faster where the header is like most are."""
    try:
        return _quick(path) or probe(path)
    except MachineError:
        raise
    except UserError as error:
        return error


def _quick(path: str) -> Header | None:
    """The header, or None where anything in it is not as usual, which is then for `probe` to judge."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        for length in HEADS:
            data = os.pread(handle, length, 0)
            try:
                return _jpeg(data) if data.startswith(b"\xff\xd8\xff") else _png(data) if data.startswith(PNG) else None
            except Short:
                if len(data) < length:
                    return None
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)
    return None


def _made(width: int, height: int, channels: int, orientation: int = 1, dtype: str = "uint8") -> Header | None:
    return Header(*seen(width, height, orientation), channels, dtype) if 0 < width * height <= MAX_PIXELS else None


def _jpeg(data: bytes) -> Header | None:
    at, orientation = 2, 0
    frame: tuple[int, int, int] | None = None
    for _ in range(SEGMENTS):
        if at + 4 > len(data):
            raise Short
        start, kind, length = data[at], data[at + 1], (data[at + 2] << 8) + data[at + 3]
        at, end = at + 4, at + 2 + length
        if start != 0xFF or length < 2:
            return None
        if end > len(data):
            raise Short
        if kind == 0xDA:
            return _made(frame[1], frame[0], 1 if frame[2] == 1 else 3, orientation or 1) if frame else None
        if kind in FRAMES:
            if frame or length < 11 or data[at] != 8 or length != 8 + 3 * data[at + 5]:
                return None
            frame = (*struct.unpack_from(">HH", data, at + 1), data[at + 5])
            if frame[2] not in (1, 3, 4):
                return None
        elif kind == 0xE1:
            if orientation or not data.startswith(b"Exif\0\0", at) or not (orientation := _turn(data[at:end])):
                return None
        elif kind == 0xDB:
            while at < end:
                at += 65 if data[at] < 16 else 129
            if at > end:
                return None
        elif kind not in PLAIN and not (
            (kind == 0xE0 and length >= 16 and data.startswith(b"JFIF\0", at))
            or (kind == 0xE2 and length >= 18 and data.startswith(b"ICC_PROFILE\0", at))
            or (kind == 0xEE and length >= 14 and data.startswith(b"Adobe", at))
        ):
            return None
        at = end
    return None


def _turn(block: bytes) -> int:
    """The orientation in a block of Exif, 1 where it tells none, or 0 where the block is not as usual."""
    block = EXIF.sub(b"", block)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return 0
    (at,) = struct.unpack_from(f"{order}I", block, 4)
    if not 8 <= at <= len(block) - 2:
        return 0
    (count,) = struct.unpack_from(f"{order}H", block, at)
    table = block[at + 2 : at + 2 + 12 * count]
    if len(table) < 12 * count:
        return 0
    entries = list(struct.iter_unpack(f"{order}HHIHH", table))
    found = [place for place, entry in enumerate(entries) if entry[0] == ORIENTATION]
    if not found:
        return 1
    for place in range(found[0]):  # Pillow reads no further than to one whose content is cut off
        _, kind, values, *_ = entries[place]
        size = SIZES.get(kind, 0) * values
        if size > 4 and struct.unpack_from(f"{order}I", table, 12 * place + 8)[0] + size > len(block):
            return 0
    _, kind, values, value, _ = entries[found[0]]
    return value if len(found) == values == 1 and kind == 3 and 1 <= value <= 8 else 0


def _png(data: bytes) -> Header | None:
    at, made, colour = len(PNG), None, 0
    for place in range(SEGMENTS):
        if at + 8 > len(data):
            raise Short
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return made
        end = at + 12 + length
        if (kind == b"IHDR") != (place == 0) or (kind not in CHUNKS and kind not in (b"IHDR", b"tEXt")):
            return None
        if end > len(data):
            raise Short
        content = data[at + 8 : end - 4]
        if zlib.crc32(kind + content) != int.from_bytes(data[end - 4 : end]):
            return None
        if kind == b"IHDR":
            if length != 13 or content[11]:
                return None
            width, height, bits, colour = struct.unpack_from(">IIBB", content)
            channels = COLOURS.get((bits, colour))
            made = _made(width, height, channels, dtype="uint16" if bits == 16 else "uint8") if channels else None
        elif kind == b"tEXt":
            if content.split(b"\0", 1)[0] not in WORDS:
                return None
        elif length < CHUNKS[kind] and not (kind == b"tRNS" and (colour == 3 or (length >= 2 and colour == 0))):
            return None
        if made is None:
            return None
        at = end
    return None
