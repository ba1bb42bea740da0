"""Whether damaged and malicious data files cost more than a line: mutates valid ones and has them opened.

    python benchmarks/hostile_images.py 10000 1

Images, arrays and lists of every kind that can be opened are changed at random, bytes and structures, N times by the
seed. Each is opened in a forked child with 10 seconds of processor time and 2 GiB; a result or a `UserError` of one
line is right, anything else (another exception, a signal, a time-out, another answer of the quick look at a header than
of Pillow) is listed with its number, and `--keep FOLDER` keeps the file. Prints the counts, the longest time and the
most memory by kind; the status is 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import bz2
import faulthandler
import gzip
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unitkit import UserError
from unitkit.data.digits.arrays import idx_images, npz_domains
from unitkit.data.digits.formats import hdf5_arrays, libsvm_table, matlab_arrays
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.quick import header_of
from unitkit.data.folders.locations import read_location
from unitkit.data.formats.header import Header
from unitkit.data.formats.windows import windows_of

SECONDS, MEMORY = 10, 2 * 2**30
PATIENCE = 60  # seconds by the clock, which other work makes longer
BATCH = 100  # files that a child opens
SIDE = 24
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80\0\0\0")
NUMBERS = (b"-1", b"0", b"65536", b"4294967296", b"1000000000000", b"18446744073709551615", b"(1,)", b"True", b"'O'")
OTHERS = (b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"tRNS", b"PLTE")  # chunks of a PNG

Files = dict[str, list[bytes]]


def pictures() -> Files:
    """Valid images by suffix, of the modes and codes that each knows."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((SIDE, SIDE + 4))
    grey = rgb.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    clear, palette = rgb.convert("RGBA"), rgb.quantize(16)
    clear.putalpha(grey)
    profile = {"icc_profile": b"profile" * 40}
    rle = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 1078, 40, 16, 4, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    rle += b"\x10\x01\0\0\x08\x02\0\x08abcdefgh\0\0\0\x02\x03\x01\x0d\x05\0\0\x10\x07\0\x01"  # runs, a jump, the end
    return {
        "jpg": [
            saved(rgb, "JPEG", exif=exif, **profile),
            saved(rgb, "JPEG", progressive=True),
            saved(grey, "JPEG", comment=b"grey"),
            saved(rgb.convert("CMYK"), "JPEG"),
            saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        ],
        "png": [
            saved(rgb, "PNG", exif=exif, **profile),
            saved(palette, "PNG", transparency=0),
            *(saved(image, "PNG") for image in (clear, deep, grey, grey.convert("1"))),
            saved(rgb, "PNG", save_all=True, append_images=[grey.convert("RGB")]),
        ],
        "webp": [
            saved(rgb, "WEBP", exif=exif),
            saved(clear, "WEBP", lossless=True),
            saved(rgb, "WEBP", save_all=True, append_images=[clear.convert("RGB")]),
        ],
        "bmp": [rle, *(saved(image, "BMP") for image in (rgb, grey, palette, clear))],
        "tiff": [
            *(saved(rgb, "TIFF", compression=code) for code in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")),
            *(saved(image, "TIFF") for image in (deep, clear, grey.convert("1"), grey.convert("F"))),
            saved(rgb, "TIFF", save_all=True, append_images=[grey], exif=exif),
        ],
    }


def arrays(folder: Path) -> Files:
    """Valid files of arrays and of names, by suffix."""
    import h5py
    from scipy.io import savemat

    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(folder / "a.npz", x_train=images, y_train=np.arange(6), x_test=images.astype(">u2"))
    np.savez_compressed(folder / "b.npz", dog=images, cat=images / 255, cat_test=images)
    idx = struct.pack(">HBB3I", 0, 8, 3, *images.shape) + images.tobytes()
    flat = images.reshape(6, 64)
    for name, options in (("a.h5", {}), ("b.h5", {"chunks": (2, 32), "compression": "gzip", "shuffle": True})):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("train/data", data=flat / 255, **options)
            file["train/target"] = np.arange(6)
    for name, packed in (("a.mat", False), ("b.mat", True)):
        content = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.arange(2.0)[:, None]}
        savemat(folder / name, content, do_compression=packed)
    line = " ".join(f"{i}:{i / 256:.3f}" for i in range(1, 257))
    for name in ("1.png", "2.png"):
        Image.fromarray(images[0]).save(folder / name)
    found = {suffix: [(folder / f"{name}.{suffix}").read_bytes() for name in "ab"] for suffix in ("npz", "h5", "mat")}
    return found | {
        "idx": [idx],
        "idx.gz": [gzip.compress(idx, mtime=0)],
        "bz2": [bz2.compress(f"1 {line}\n2 {line}\n".encode())],
        "txt": [b'1.png\tcat\r\n"2.png"\tcat\n1.png\tdog\n2.png\tdog\n# a comment\n', "\ufeff1.png\n2.png".encode()],
    }


def deep(folder: Path) -> Files:
    """Valid files of more than 8 bits and other channels, by suffix; of those whose packages are installed."""
    import imagecodecs
    import tifffile

    random = np.random.default_rng(0)
    sixteen = random.integers(0, 4096, (3, SIDE, SIDE)).astype(np.uint16)
    floats = random.normal(size=(5, SIDE, SIDE)).astype(np.float32)

    def tiff(array: np.ndarray, **options: Any) -> bytes:
        tifffile.imwrite(folder / "x.tif", array, **{"photometric": "minisblack", **options})
        return (folder / "x.tif").read_bytes()

    def npy(array: np.ndarray) -> bytes:
        made = io.BytesIO()
        np.save(made, array)
        return made.getvalue()

    found: Files = {
        "tif": [
            tiff(sixteen),
            tiff(sixteen, metadata={"axes": "CYX"}, ome=True),
            tiff(floats, planarconfig="separate", compression="zlib", predictor=True),
            tiff(floats.transpose(1, 2, 0), planarconfig="contig", tile=(16, 16), compression="lzw"),
            tiff(sixteen[0], compression="zstd", bigtiff=True),
        ],
        "npy": [npy(each) for each in (floats, sixteen[0], floats.astype(">f8"), floats[None].repeat(3, 0))],
        "png": [bytes(imagecodecs.png_encode(np.ascontiguousarray(sixteen.transpose(1, 2, 0))))],
    }
    try:
        import nibabel

        volume: Any = nibabel.Nifti1Image(sixteen.astype(np.int16), np.eye(4))  # type: ignore[no-untyped-call]
        found |= {"nii": [volume.to_bytes()], "nii.gz": [gzip.compress(volume.to_bytes(), mtime=0)]}
    except ImportError:
        pass
    try:
        import pydicom

        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2")
        image: Any = pydicom.dataset.FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
        image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = SIDE, SIDE, 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.PixelData, image.RescaleSlope, image.RescaleIntercept = sixteen[0].tobytes(), 2, -1024
        image.save_as(folder / "x.dcm")
        found["dcm"] = [(folder / "x.dcm").read_bytes()]
    except ImportError:
        pass
    return found


def mutated(data: bytes, kind: str, rng: random.Random) -> bytes:
    """Some bytes or parts of a file changed, in a third of all cases within its packing."""
    if rng.random() < 0.35:
        data = inside(data, kind, rng)
        if rng.random() < 0.7:
            return data
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        change(made, rng)
    return bytes(made)


def change(made: bytearray, rng: random.Random) -> None:
    """One change: headers, at the start and the end, more often than what lies between."""
    size = len(made)
    if not size:
        return
    at = rng.choice((rng.randrange(size), rng.randrange(min(size, 128)), max(0, size - 1 - rng.randrange(128))))
    length = rng.choice((1, 2, 4, 16, 64))
    match rng.randrange(8):
        case 0:
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            made[at] = rng.choice((0, 1, 127, 128, 255))
        case 2:
            made[at : at + 4] = rng.choice(EXTREMES)
        case 3:
            made[at : at + length] = rng.randbytes(length)
        case 4:
            del made[at : at + length]
        case 5:
            made[at:at] = made[at : at + length] * rng.choice((1, 2, 50, 2000))
        case 6:
            del made[at:]
        case 7:
            other = rng.randrange(size)
            made[at : at + length], made[other : other + length] = made[other : other + length], made[at : at + length]


def inside(data: bytes, kind: str, rng: random.Random) -> bytes:
    """What a file packs, changed and packed again with right lengths and sums."""

    def changed(content: bytes) -> bytes:
        made = bytearray(content)
        if rng.random() < 0.5 and (places := [i for i, byte in enumerate(made[:256]) if 48 <= byte < 58]):
            at = rng.choice(places)
            made[at : at + 1] = rng.choice(NUMBERS)
        else:
            change(made, rng)
        return bytes(made)

    try:
        if kind == "npz":
            return zipped(data, changed, rng)
        if kind == "png":
            return chunks(data, changed, rng)
        if kind == "idx.gz":
            return gzip.compress(changed(gzip.decompress(data)), mtime=0)
        if kind == "bz2":
            return bz2.compress(changed(bz2.decompress(data)))
    except (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile):
        return data
    return changed(data)


def zipped(data: bytes, changed: Callable[[bytes], bytes], rng: random.Random) -> bytes:
    """An archive with one of its members changed, doubled, or packed otherwise."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            content = old.read(name)
            packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            if name == chosen:
                content = changed(content) if rng.random() < 0.8 else content[:128] + bytes(2**22)
            new.writestr(rng.choice((name, name, name, "x_train.npy", "folder/")), content, packing)
    return file.getvalue()


def chunks(data: bytes, changed: Callable[[bytes], bytes], rng: random.Random) -> bytes:
    """A PNG with one of its chunks changed, doubled or renamed, its checksum right."""
    parts, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = rng.randrange(len(parts))
    kind, content = parts[place]
    kind = rng.choice(
        (kind, kind, kind, b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"tRNS", b"PLTE")
    )
    if rng.random() < 0.2:
        content = b"key\0\0" + zlib.compress(bytes(2**21))
    parts[place : place + 1] = [(kind, changed(content))] * rng.choice((1, 1, 2, 300))
    made = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]
    return data[:8] + b"".join(made)


def opened(path: Path) -> None:
    """Open a file in every way in which the package does."""
    kind = path.name.partition(".")[2]
    if kind == "npz":
        for read in npz_domains(path).values():
            read()
    elif kind.startswith("idx"):
        idx_images(path)
    elif kind == "h5":
        hdf5_arrays(path, ["train/data", "train/target"])
    elif kind == "mat":
        matlab_arrays(path, ["X", "y"])
    elif kind == "bz2":
        libsvm_table(path)
    elif kind == "txt":
        for read_splits in read_location(str(path))[0].values():
            read_splits()
    else:
        quick = header_of(str(path))
        try:
            header: Header | UserError = probe(path)
        except UserError as error:
            header = error
        if str(quick) != str(header):
            raise AssertionError(f"the quick look says {quick}, and Pillow {header}")
        if isinstance(header, UserError):
            raise header
        for size in ((SIDE, SIDE), None):
            decode(path, header.channels, size)
        decode(path, header.channels, (SIDE, SIDE), frame=header.frames - 1)
        if kind in ("tif", "npy"):
            windows = windows_of(path)
            windows.read(range(min(9, windows.shape[1])), range(max(0, windows.shape[2] - 9), windows.shape[2]))


def one(path: Path) -> dict[str, Any]:
    """What opening a file came to: "read", "refused" or what is wrong with it, its seconds and its MiB."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of memory is now
    before, started = peak(), time.process_time()
    try:
        opened(path)
        outcome = "read"
    except UserError as error:
        outcome = "refused" if "\n" not in str(error) and len(str(error)) < 2000 else f"message of lines: {error}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:200]
    return {"outcome": outcome, "seconds": time.process_time() - started, "MiB": (peak() - before) / 1024}


def peak() -> int:
    """The most KiB of memory that this process had at once."""
    return status("VmHWM")


def status(name: str) -> int:
    """A figure of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def in_child(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """What opening each file came to, in a child with limits; of one that ends the child it is the last answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries say
            faulthandler.disable()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            limit = status("VmSize") * 1024 + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with open(writing, "w") as answers:
                for path in paths:
                    signal.setitimer(signal.ITIMER_PROF, SECONDS)
                    signal.alarm(PATIENCE)
                    print(json.dumps(one(path)), file=answers, flush=True)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answers:
        found = [json.loads(line) for line in answers]
    _, ended = os.waitpid(child, 0)
    if len(found) < len(paths):
        signalled = signal.Signals(os.WTERMSIG(ended)).name if os.WIFSIGNALED(ended) else f"status {ended}"
        found.append({"outcome": f"ended by {signalled}", "seconds": 0.0, "MiB": 0.0})
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Make the files, open them, print. The number of those with which something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--kinds", nargs="+", help="of files, such as jpg npz; all without it")
    parser.add_argument("--keep", type=Path, help="a folder for the files with which something is wrong")
    o = parser.parse_args(words)
    warnings.simplefilter("ignore")  # of a name that is twice in an archive
    wrong = 0
    totals: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        valid = pictures() | arrays(folder)
        for kind, files in deep(folder).items():
            valid.setdefault(kind, []).extend(files)
        kinds = o.kinds or list(valid)
        paths = []
        for number in range(o.count):
            kind = kinds[number % len(kinds)]
            rng = random.Random(f"{o.seed} {number}")
            paths.append(folder / f"{number}.{kind}")
            paths[-1].write_bytes(mutated(rng.choice(valid[kind]), kind, rng))
        done = 0
        while done < len(paths):
            batch = paths[done : done + BATCH]
            for path, found in zip(batch, in_child(batch), strict=False):
                done += 1
                kind, outcome = path.name.partition(".")[2], found["outcome"]
                total = totals.setdefault(kind, {"read": 0, "refused": 0, "wrong": 0, "seconds": 0, "MiB": 0})
                total[outcome if outcome in total else "wrong"] += 1
                for name in ("seconds", "MiB"):
                    total[name] = max(total[name], found[name])
                if outcome not in ("read", "refused"):
                    wrong += 1
                    print(f"{path.name} of seed {o.seed}: {outcome}")
                    if o.keep:
                        o.keep.mkdir(parents=True, exist_ok=True)
                        (o.keep / f"{o.seed}-{path.name}").write_bytes(path.read_bytes())
    print(f"{'kind':8}{'read':>8}{'refused':>9}{'wrong':>7}{'most s':>9}{'most MiB':>10}")
    for kind, total in totals.items():
        read, refused, bad, seconds, size = total.values()
        print(f"{kind:8}{read:8.0f}{refused:9.0f}{bad:7.0f}{seconds:9.2f}{size:10.0f}")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
