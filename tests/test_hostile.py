"""Files that announce more than they hold, that are no files, or that cost a decoder too much: refused by a line."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import os
import socket
import struct
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from unitkit import UserError, open_data
from unitkit.data.digits import formats
from unitkit.data.digits.arrays import idx_images, npz_array, npz_shapes
from unitkit.data.digits.formats import hdf5_arrays, libsvm_table, matlab_arrays
from unitkit.data.files import bounds
from unitkit.data.files.bounds import Room
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.walk import SCAN, segments
from unitkit.system import sizes

IMAGES = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8)
READERS: dict[str, Callable[[Path], object]] = {
    "npz": lambda path: npz_array(path, next(iter(npz_shapes(path)))),
    "idx": idx_images,
    "idx.gz": idx_images,
    "h5": lambda path: hdf5_arrays(path, ["train/data"]),
    "mat": lambda path: matlab_arrays(path, ["X"]),
    "bz2": libsvm_table,
    "txt": lambda path: open_data(str(path), size=8),
    "png": lambda path: decode(path, 3),
}


def refused(path: Path, *words: str) -> None:
    """Reading raises one short line with the path and these words in it, in 2 seconds and 300 MiB."""
    before, started = from_now(), time.perf_counter()
    with pytest.raises(UserError) as caught:
        READERS[path.name.partition(".")[2]](path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message and len(message) < 500
    for word in words:
        assert word in message, message
    assert time.perf_counter() - started < 2 and peak() - before < 300 * 1024


def from_now() -> int:
    """Let `peak` begin anew. Returns it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """KiB of memory, the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


# What is no file


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("kind", ["pipe", "socket", "zero", "folder"])
def test_what_is_no_ordinary_file_is_not_opened(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x.{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif suffix == "txt":
        return  # a folder is a location like any other
    else:
        path.mkdir()
    refused(path, {"zero": "a device"}.get(kind, f"a {kind}"))


# Archives of arrays


def npy(words: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    header = words.encode("latin1")
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(header)) + header + data


def described(shape: object, dtype: str = "|u1") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"


def archive(path: Path, members: list[tuple[str, bytes]], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (npy(described((10**12, 8, 8)), bytes(64)), "announces"),
        (npy(described((2**32, 2**32, 1)), bytes(64)), "announces"),
        (npy(described((5, 8, 8)), bytes(64)), "announces"),
        (npy(described((1, 8, 8)), bytes(65)), "announces"),
        (npy(described((-1, 8, 8)), bytes(64)), "shape"),
        (npy(described("(" + "1," * 100_000 + ")"), version=b"\2\0"), "header"),
        (npy("(" * 5000), "damaged"),
        (npy("__import__('os').system('true')"), "damaged"),
        (npy(described((1, 8, 8)), bytes(64), b"\2\0")[:8] + b"\xff\xff\xff\xff" + bytes(64), "header"),
        (npy(described((1, 8, 8), "|O"), bytes(64)), "objects"),
        (npy(described((1, 8, 8), "<U1"), bytes(256)), "text"),
        (npy(described((1, 8, 8), "|S1"), bytes(64)), "text"),
        (npy(described((1, 8, 8), "|V1"), bytes(64)), "untyped"),
        (npy(described((1, 8, 8), "<M8[s]"), bytes(512)), "dates"),
        (npy(described((1, 8, 8)).replace("'|u1'", "[('a', '<u1'), ('b', '<u1')]"), bytes(128)), "fields"),
        (b"PK\3\4" + bytes(100), "no array"),
        (b"", "no array"),
    ],
)
def test_a_header_that_does_not_fit_its_array_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    refused(archive(tmp_path / "x.npz", [("x.npy", content)]), word)


@pytest.mark.parametrize(("order", "dtype"), [("C", "u1"), ("F", "u1"), ("C", ">u2"), ("F", ">f4"), ("C", "<f8")])
def test_arrays_of_any_order_are_read(tmp_path: Path, order: Any, dtype: str) -> None:
    array = np.asarray(IMAGES // 255, dtype, order=order)
    np.savez_compressed(tmp_path / "x.npz", x=array, nothing=np.array(3))
    assert (npz_array(tmp_path / "x.npz", "x") == array).all() and npz_array(tmp_path / "x.npz", "nothing") == 3


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(tmp_path: Path, packing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "UNPACKED", 2**20)
    content = npy(described((8, 2**10, 2**10)), bytes(2**23))
    refused(archive(tmp_path / "x.npz", [("x.npy", content)], packing), "times as much")


def test_more_than_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "available_memory", lambda: 2**16)
    refused(archive(tmp_path / "x.npz", [("x.npy", npy(described((8, 128, 128)), bytes(2**17)))]), "are free")


def test_archives_that_are_odd_are_refused(tmp_path: Path) -> None:
    good, path = npy(described((1, 8, 8)), bytes(64)), tmp_path / "x.npz"
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(path, [("x.npy", good), ("x.npy", good)])
    refused(path, "twice")
    refused(archive(path, [("folder/", b"")]), "no array")
    refused(archive(path, [("a\nb.npy", good)]), "names an array")
    refused(archive(path, [(f"{i}.npy", good) for i in range(10_001)]), "10001 arrays")
    whole = archive(path, [("x.npy", good)]).read_bytes()
    path.write_bytes(whole.replace(bytes(60), bytes(59) + b"x"))
    refused(path, "CRC")
    coded = bytearray(whole)
    for at in (6, whole.index(b"PK\1\2") + 8):  # the flag of a password
        coded[at] |= 1
    path.write_bytes(coded)
    refused(path, "encrypted")
    end = whole.index(b"PK\5\6")
    path.write_bytes(whole[: end + 12] + struct.pack("<I", 2**32 - 2) + whole[end + 16 :])
    refused(path, "damaged")


# idx, bzip2, MATLAB, HDF5


@pytest.mark.parametrize("shape", [(7, 8, 8), (5, 8, 8), (2**32 - 1,) * 3, (2**31, 2**31, 4), (0, 8, 8)])
@pytest.mark.parametrize("suffix", ["idx", "idx.gz"])
def test_idx_files_of_another_size_than_announced(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    data = struct.pack(">HBB3I", 0, 8, 3, *shape) + IMAGES.tobytes()
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == "idx.gz" else data)
    refused(path, "announces")


def test_bombs_of_other_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "UNPACKED", 2**20)
    path = tmp_path / "x.idx.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 16, 1024, 1024) + bytes(2**24)))
    refused(path, "times as much")
    path = tmp_path / "x.bz2"
    monkeypatch.setattr(formats, "TEXT", 2**16)
    path.write_bytes(bz2.compress(b"1 " * 2**16))
    refused(path, "unpacks")
    savemat(tmp_path / "x.mat", {"X": np.zeros((32, 32, 3, 2000), np.uint8)}, do_compression=True)
    refused(tmp_path / "x.mat", "times as much")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("train/data", (2**24, 256), "f4", chunks=(2**10, 256), compression="gzip")
    refused(tmp_path / "x.h5", "times as much")


@pytest.mark.parametrize("packed", [False, True])
def test_matlab_arrays_that_are_no_numbers_or_of_another_size(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "x.mat"
    cell = np.empty(2, object)
    cell[:] = [1, "a"]
    for content, word in ((cell, "a cell"), ({"a": 1}, "a structure"), ("text", "text"), (1j * IMAGES, "complex")):
        savemat(path, {"X": content}, do_compression=packed)
        refused(path, word)
    savemat(path, {"X": IMAGES}, do_compression=False)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<II", 5, 12)) + 8  # its dimensions
    data[at : at + 4] = struct.pack("<I", 2**30)
    if packed:
        element = zlib.compress(bytes(data[128:]))
        data = data[:128] + struct.pack("<II", 15, len(element)) + element
    path.write_bytes(data)
    refused(path, "announces")
    path.write_bytes(data[:124] + b"\0\2IM" + data[128:])
    refused(path, "version 5")


def test_hdf5_reaches_no_other_file(tmp_path: Path) -> None:
    path, other = tmp_path / "x.h5", tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["train/data"] = np.zeros((6, 256))
    (tmp_path / "raw").write_bytes(bytes(6 * 256))

    def linked(file: h5py.File) -> None:
        file["train/data"] = h5py.ExternalLink(str(other), "/train/data")

    def whole(file: h5py.File) -> None:
        file["train"] = h5py.ExternalLink(str(other), "/train")

    def external(file: h5py.File) -> None:
        file.create_dataset("train/data", (6, 256), "u1", external=[(str(tmp_path / "raw"), 0, 6 * 256)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((6, 256), "f8")
        layout[:] = h5py.VirtualSource(str(other), "train/data", (6, 256))
        file.create_virtual_dataset("train/data", layout)

    def text(file: h5py.File) -> None:
        file["train/data"] = ["a", "b"]

    def unknown(file: h5py.File) -> None:
        file.create_dataset("train/data", (6, 256), chunks=(6, 256), scaleoffset=2, data=np.ones((6, 256)))

    made = {linked: "link", whole: "link", external: "other files", virtual: "other files", text: "numbers"}
    for make, word in {**made, unknown: "filter"}.items():
        with h5py.File(path, "w") as file:
            make(file)
        refused(path, word)


def test_a_chunk_of_hdf5_that_unpacks_to_more_than_its_size(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("train/data", (64, 256), "u1", chunks=(64, 256), compression="gzip")
        data.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**29), 1))
    refused(tmp_path / "x.h5", "chunk")


# Images


def saved(path: Path, **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(path, **options)
    return path


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def many_scans(path: Path) -> bytes:
    data = saved(path, format="JPEG", progressive=True).read_bytes()
    _, begin, _ = [each for each in segments(data) if each[0] == SCAN][1]
    last = data[begin - 4 : data.index(b"\xff", begin)]
    return data[:-2] + last * 3000 + b"\xff\xd9"


def exif_bomb(path: Path) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 1, 60_000, 0) for tag in range(4000))
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 4000) + entries + bytes(4)
    return saved(path, format="JPEG").read_bytes()[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block


def many_chunks(path: Path) -> bytes:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return png_of((b"IHDR", header), *[(b"teXt", b"")] * 300_000, (b"IDAT", zlib.compress(bytes(72))), (b"IEND", b""))


def large_tile(path: Path) -> bytes:
    tags = {256: 32, 257: 32, 258: 8, 259: 5, 262: 1, 277: 1, 322: 2**20, 323: 2**12, 324: 8, 325: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(64)


def many_strips(path: Path) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 273, 4, 10**6, 8) + bytes(4 * 10**6)


def run_length(path: Path) -> bytes:
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 1078, 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 256, 0)
    return header + bytes(1024) + b"\0\0" * 9000


COSTLY: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "scans": ("jpg", many_scans, "scans"),
    "junk": ("jpg", lambda path: b"\xff\xd8\xff" + b"\xfe" * 5_000_000, "no pixels"),
    "fill": ("jpg", lambda path: b"\xff\xd8" + b"\xff" * 5_000_000, "no pixels"),
    "segments": ("jpg", lambda path: b"\xff\xd8" + b"\xff\xfe\0\2" * 500_000, "segments"),
    "exif": ("jpg", exif_bomb, "metadata"),
    "chunks": ("png", many_chunks, "chunks"),
    "tile": ("tiff", large_tile, "tiles"),
    "strips": ("tiff", many_strips, "strips"),
    "run-length": ("bmp", run_length, "run-length"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_images_that_cost_more_than_their_pixels_are_refused_at_once(tmp_path: Path, name: str) -> None:
    suffix, make, word = COSTLY[name]
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(make(path))
    before, started = from_now(), time.perf_counter()
    with pytest.raises(UserError, match=rf"x\.{suffix}' .*{word}"):
        decode(path, 3, (8, 8))
    assert time.perf_counter() - started < 1.5 and peak() - before < 100 * 1024


def test_a_film_behind_a_jpeg_is_none_of_its_scans(tmp_path: Path) -> None:
    """Cameras put one there, in which any bytes may stand."""
    path = saved(tmp_path / "x.jpg", quality=90)
    whole = decode(path, 3)
    path.write_bytes(path.read_bytes() + b"\xff\xda" * 5000)
    assert (decode(path, 3) == whole).all()


def test_sixteen_bits_take_little_more_than_the_file_s_own_pixels(tmp_path: Path) -> None:
    values = np.zeros((5000, 4000), np.uint16)
    values[-1, -1] = 65535
    Image.fromarray(values).save(tmp_path / "x.png", compress_level=1)
    before = from_now()
    image = decode(tmp_path / "x.png", 1, (32, 32))
    assert image.shape == (1, 32, 32) and peak() - before < 12 * values.size / 1024


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "CMYK", "1"])
def test_an_image_is_the_same_in_bands(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.open(saved(tmp_path / "x.png"))
    made = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200) if mode == "I;16" else None
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "y.png")
    (made or image.convert(mode)).save(path, **({"transparency": 3} if mode in ("P", "1") else {}))
    whole = [decode(path, channels) for channels in (1, 3)]
    monkeypatch.setattr("unitkit.data.files.decode.BAND", 64 * 7)
    assert all((decode(path, channels) == one).all() for channels, one in zip((1, 3), whole, strict=True))


def test_decoders_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    room, most, held = Room(), 0, list[int]()
    size = bounds.SMALL
    monkeypatch.setattr(bounds, "available_memory", lambda: 5 * size)

    def work() -> None:
        nonlocal most
        with room.of(size, "the image"):
            held.append(1)
            most = max(most, len(held))
            time.sleep(0.02)
            held.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 2 and room.taken == 0
    with room.of(3 * size, "alone"):  # more than half, with nobody beside
        assert room.taken == 3 * size
    with pytest.raises(UserError, match=r"the image takes about .* are free"), room.of(6 * size, "the image"):
        pass
    with room.of(size - 1, "a small one"):
        assert room.taken == 0


def test_decode_asks_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png")
    monkeypatch.setattr(bounds, "SMALL", 1)
    monkeypatch.setattr(sizes, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemAvailable:    8 kB")
    with pytest.raises(UserError, match=r"takes about .* to decode"):
        decode(path, 3)
    assert probe(path).width == 64


# All kinds at random


def test_mutated_files_of_every_kind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parent.parent / "benchmarks/hostile_images.py"
    spec = importlib.util.spec_from_file_location("hostile_images", path)
    assert spec and spec.loader
    hostile = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hostile_images", hostile)
    spec.loader.exec_module(hostile)
    assert hostile.main(["510", "5"]) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()[1:]
    tried = [int(line.split()[1]) + int(line.split()[2]) for line in lines]
    assert len(tried) >= 14 and sum(tried) == 510 and min(tried) >= 30  # of NIfTI and DICOM where they are installed
    # What is wrong is seen as such: another exception, the end of the process, too long a time.
    for wrong, word in ((lambda path: 1 / 0, "ZeroDivision"), (lambda path: os.abort(), "SIGABRT")):
        monkeypatch.setattr(hostile, "opened", wrong)
        assert hostile.main(["2", "5", "--kinds", "txt"]) == 2 and word in capsys.readouterr().out
    for limit, wait, name in (("PATIENCE", time.sleep, "SIGALRM"), ("SECONDS", busy, "SIGPROF")):
        with monkeypatch.context() as patch:
            patch.setattr(hostile, limit, 1)
            patch.setattr(hostile, "opened", lambda path, wait=wait: wait(5))
            assert hostile.main(["1", "5", "--kinds", "txt"]) == 1 and name in capsys.readouterr().out


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
