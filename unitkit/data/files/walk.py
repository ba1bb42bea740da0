"""What a picture's file is made of, looked at before a decoder is: parts without end cost it minutes and gigabytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

START, END = b"\xff\xd8", 0xD9
SCAN = 0xDA
LONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # what ends the compressed data of a scan
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # some as wrong as Pillow puts up with
EXIF = re.compile(rb"\A(Exif\0\0){1,2}")

SCANS = 100  # of a JPEG; encoders write about 10, and each costs as much time as a JPEG of one scan
SEGMENTS = 10_000  # of a JPEG before its first scan; cameras write some dozens
JPEG = 2**29  # bytes of one, which the largest image takes at the best quality
HEAD = 2**17  # bytes of a JPEG that are looked at first
JUNK = 2**18  # bytes there that belong to none
CHUNKS = 10_000  # of a PNG beside those that its size explains
CHUNK = 256  # bytes of a PNG for each further chunk; encoders write 8192 and more in one
DIRECTORIES = 65_536  # of a TIFF, each of an image
STRIPS = 200_000  # strips or tiles of a TIFF
TILE = 2**26  # pixels of one
METADATA = 2**26  # bytes that all entries of a directory may name together, where the file is smaller
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
STRIP_TAGS, TILE_TAGS = {273, 279, 324, 325}, (322, 323)

Read = Callable[[int, int], bytes]  # bytes from a place, fewer at the end


class TooMuch(Exception):
    """What the file has too much of, for a sentence that begins with its name."""


def check_parts(file: BinaryIO, size: int, pixels: bool) -> None:
    """Raise `TooMuch` for a picture that takes a decoder far more time or memory than its pixels explain, in its header
    or, where the `pixels` are wanted, anywhere.

    Other damage is the decoder's business. Leaves the file at its start.
    """

    def read(at: int, count: int) -> bytes:
        file.seek(at)
        return file.read(count)

    start = file.read(8)
    if start.startswith(START):
        if size > JPEG:
            raise TooMuch(f"is larger than {JPEG >> 20} MiB")
        if pixels or not _check_jpeg(read(0, HEAD), size, pixels):
            _check_jpeg(read(0, size), size, pixels)
    elif start == PNG:
        _check_png(read, size, pixels)
    elif start.startswith(TIFF):
        check_directory(read, size)
    file.seek(0)


def segments(data: bytes, at: int = len(START)) -> Iterator[tuple[int, int, int]]:
    """The parts of a JPEG from the place `at`: marker, and where its content begins and ends; to the end of the image
    or of the data."""
    scanned = False
    while (found := MARKER.search(data, at)) is not None:
        kind, at = data[found.end() - 1], found.end()
        if kind == END and scanned:
            return
        if kind in LONE or kind == END:
            continue
        end = at + max(2, int.from_bytes(data[at : at + 2]))
        yield kind, at + 2, end
        at, scanned = end, scanned or kind == SCAN


def _check_jpeg(data: bytes, size: int, pixels: bool) -> bool:
    """Whether the data, of so many bytes in the file, reach to the pixels."""
    scans = count = junk = before = 0
    exif = b""
    for kind, begin, end in segments(data):
        scans += kind == SCAN
        if scans > SCANS:
            raise TooMuch(f"has more than {SCANS} scans, where encoders write about 10")
        if scans + (kind != SCAN) > 1:
            continue
        count, junk, before = count + 1, junk + begin - 4 - before, end
        if count > SEGMENTS or junk > JUNK:
            raise TooMuch(f"has more than {SEGMENTS} segments, or {JUNK >> 10} KiB that are none, before its pixels")
        if kind == 0xE1 and (block := EXIF.sub(b"", data[begin:end])) != data[begin:end]:
            exif += block
        elif kind == 0xE2 and data[begin : begin + 4] == b"MPF\0":
            check_block(data[begin + 4 : end])
        # Nearly all have few of these bytes, so that there is no need to look at each.
        if scans and (not pixels or data.count(bytes((0xFF, SCAN))) <= SCANS):
            break
    if not scans and len(data) >= size and size - before > JUNK:
        raise TooMuch("has no pixels")
    check_block(exif)
    return bool(scans)


def _check_png(read: Read, size: int, pixels: bool) -> None:
    at, beside = len(PNG), 0
    for _ in range(CHUNKS + size // CHUNK):
        head = read(at, 8)
        if len(head) < 8 or head[4:] == b"IEND" or (not pixels and head[4:] == b"IDAT"):
            return
        length = int.from_bytes(head[:4])
        beside += length if head[4:] not in (b"IDAT", b"fdAT") else 0
        if beside > METADATA and length <= size:
            raise TooMuch(f"has more than {METADATA >> 20} MiB beside its pixels")
        at += 12 + length
    raise TooMuch(f"has more than {CHUNKS} chunks of less than {CHUNK} bytes")


def check_block(data: bytes) -> None:
    """Raise `TooMuch` for a block of Exif metadata whose entries name far more bytes than it has."""
    data = EXIF.sub(b"", data)
    check_directory(lambda at, count: data[at : at + count], len(data))


def check_directories(read: Read, size: int) -> None:
    """Raise `TooMuch` for a TIFF with a directory that `check_directory` refuses, with too many, or in a circle."""
    seen: set[int] = set()
    at = _first(read)
    while at:
        if at in seen:
            raise TooMuch("has directories that lead in a circle")
        seen.add(at)
        if len(seen) > DIRECTORIES:
            raise TooMuch(f"has more than {DIRECTORIES} directories")
        at = check_directory(read, size, at)


def check_directory(read: Read, size: int, at: int = 0) -> int:
    """Raise `TooMuch` for a TIFF whose directory there, or first one, names more than the file may hold, or strips
    without end. Where the next is, 0 for none."""
    start = read(0, 16).ljust(16, b"\0")
    at = at or _first(read)
    if not at:
        return 0
    order = "<" if start.startswith(b"II") else ">"
    big = start[2] == 43 or start[3] == 43
    field, entry = (8, f"{order}HHQQ") if big else (2, f"{order}HHII")
    count = int.from_bytes(read(at, field), "little" if order == "<" else "big")
    if count > 0xFFFF:
        raise TooMuch(f"has a directory of {count} entries")
    length = struct.calcsize(entry)
    table = read(at + field, count * length)
    named, tile = 0, dict[int, int]()
    for tag, kind, values, value in struct.iter_unpack(entry, table[: len(table) // length * length]):
        data = SIZES.get(kind, 0) * values
        named += data if data > length - 8 else 0
        if named > size + METADATA:
            raise TooMuch("names more bytes of metadata than it holds")
        if tag in STRIP_TAGS and values > STRIPS:
            raise TooMuch(f"has {values} strips or tiles, more than {STRIPS}")
        if tag in TILE_TAGS:
            tile[tag] = value >> 16 if kind == 3 and order == ">" and not big else value
    if len(tile) == 2 and tile[TILE_TAGS[0]] * tile[TILE_TAGS[1]] > TILE:
        raise TooMuch(f"has tiles of {tile[TILE_TAGS[0]]}x{tile[TILE_TAGS[1]]} pixels")
    behind = read(at + field + count * length, 8 if big else 4)
    return int.from_bytes(behind, "little" if order == "<" else "big")


def _first(read: Read) -> int:
    """Where the first directory of a TIFF is, 0 for none."""
    start = read(0, 16).ljust(16, b"\0")
    if not start.startswith(TIFF):
        return 0
    order: Literal["little", "big"] = "little" if start.startswith(b"II") else "big"
    return int.from_bytes(start[8:16] if 43 in start[2:4] else start[4:8], order)
