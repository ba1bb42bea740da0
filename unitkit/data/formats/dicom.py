"""DICOM images, with the slope, intercept and window that each states, or each of its frames. Read, not written."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import UserError, pass_on_failure
from ..files.bounds import refuse_sizes
from ..values import CHANNELS, supported
from .header import MAX_PIXELS, Header, missing

try:
    import pydicom
    import pydicom.pixels
    import pydicom.pixels.utils
except ImportError:
    pydicom = None  # type: ignore[assignment]

DEFLATED = "1.2.840.10008.1.2.1.99"
# In which sequence of a frame's, or of all frames', the elements lie that files of one image have at their top.
GROUPS = {
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
}


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a damaged file, or one without an image."""
    return _header(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)  # frames are read one by one
def _header(path: Path, changed: int) -> Header:
    found = _open(path)
    try:
        height, width, channels = int(found.Rows), int(found.Columns), int(found.get("SamplesPerPixel", 1))
        frames, bits = int(found.get("NumberOfFrames", 1) or 1), int(found.BitsAllocated)
        signed, palette = bool(found.get("PixelRepresentation", 0)), _is_palette(found)
        if not (0 < height * width <= MAX_PIXELS and channels <= CHANNELS and 0 < frames <= 100_000):
            raise UserError(f"'{path}' states {frames} images of {width}x{height} with {channels} channels: remove it")
        declared = frames * (-(-height * width * channels * bits // 8))
        refuse_sizes(f"the image '{path}'", declared, path.stat().st_size, 1 / frames)
        differing = range(frames if "PerFrameFunctionalGroupsSequence" in found else 1)
        plain = all(_rescaled(found, frame) == (1, 0) for frame in differing) and not signed and bits in (8, 16)
        windows = {_window(found, frame) for frame in differing}
    except UserError:
        raise
    except Exception as error:  # elements are parsed when they are asked for
        pass_on_failure(f"cannot read '{path}'", error)
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"'{path}' holds no image that is understood ({reason}): remove it") from None
    if palette:
        return Header(width, height, 3, "uint16", frames)
    return Header(
        width,
        height,
        channels,
        f"uint{bits}" if plain else "float32",
        frames,
        windows.pop() if len(windows) == 1 else None,
    )


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A frame (C, H, W), in the units that slope and intercept make. Raises `UserError`, as `probe`."""
    header = probe(path)
    found = _open(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            # Of a file that is deflated as a whole no frame can be found without all that lies before it.
            whole = pydicom.dcmread(path) if found.file_meta.TransferSyntaxUID == DEFLATED else path
            array = pydicom.pixels.utils.pixel_array(whole, index=frame)
            if _is_palette(found):
                array = pydicom.pixels.processing.apply_color_lut(array, found)[..., :3]
                array = array.astype(np.uint16) * 257 if array.dtype == np.uint8 else array
        array = array.reshape(header.height, header.width, header.channels).transpose(2, 0, 1)
        slope, intercept = _rescaled(found, frame)
        if found.get("PhotometricInterpretation") == "MONOCHROME1":
            array = _sum_of_ends(found) - array.astype(np.int64)
            array = array.astype(header.dtype) if header.dtype != "float32" else array
        if (slope, intercept) != (1, 0):
            array = array * np.float64(slope) + np.float64(intercept)
        return np.ascontiguousarray(supported(array, str(path)).astype(header.dtype))
    except Exception as error:  # of a decoder, or of one that is not installed
        pass_on_failure(f"cannot read '{path}'", error)
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"the pixels of '{path}' cannot be decoded ({reason})") from None


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """Raises `UserError`: a DICOM file says of whom and by what it was made, which a translation is not."""
    raise UserError(f"cannot write {path}: DICOM is read alone; name a .tif, .npy or .nii.gz")


def _open(path: Path) -> Any:
    """The file without its pixels."""
    if pydicom is None:
        raise missing("pydicom", f"'{path}'")
    try:
        with warnings.catch_warnings(action="ignore"):
            _check_deflated(path)
            return pydicom.dcmread(path, stop_before_pixels=True)
    except UserError:
        raise
    except OSError as error:
        pass_on_failure(f"cannot read '{path}'", error)
        raise UserError(f"cannot read '{path}': {error.strerror or error}") from None
    except Exception as error:
        pass_on_failure(f"cannot read '{path}'", error)
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"'{path}' is no DICOM file, or is damaged ({reason}): replace or remove it") from None


def _check_deflated(path: Path) -> None:
    """Raise `UserError` for a file that is deflated as a whole, which pydicom unpacks at once, and to far more."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    unpacked, unpacker = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        file.seek(128 + 4 + 12 + meta.FileMetaInformationGroupLength)  # preamble, magic word, the length itself
        data = file.read(2**16)
        while data and not unpacker.eof:
            unpacked += len(unpacker.decompress(data, 2**20))
            refuse_sizes(f"the image '{path}'", unpacked, size)
            data = unpacker.unconsumed_tail or file.read(2**16)


def _is_palette(found: Any) -> bool:
    return bool(found.get("PhotometricInterpretation") == "PALETTE COLOR")


def _stated(found: Any, frame: int, name: str) -> Any:
    """An element of a frame: its own, or that of all frames, or that of the file."""
    every = found.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (every[frame : frame + 1], found.get("SharedFunctionalGroupsSequence") or []):
        for group in groups[:1]:
            for values in (group.get(GROUPS[name]) or [])[:1]:
                if values.get(name) is not None:
                    return values.get(name)
    return found.get(name)


def _rescaled(found: Any, frame: int) -> tuple[float, float]:
    slope, intercept = (_stated(found, frame, name) for name in ("RescaleSlope", "RescaleIntercept"))
    return float(slope or 1), float(intercept or 0)


def _sum_of_ends(found: Any) -> int:
    """The least and the largest stored value together, by which a picture whose least is white is turned over."""
    least = -(2 ** (found.BitsStored - 1)) if found.get("PixelRepresentation", 0) else 0
    return int(2 * least + 2**found.BitsStored - 1)


def _window(found: Any, frame: int) -> tuple[float, float] | None:
    """The first window of a frame, in the units that slope and intercept make; turned over where the pixels are."""
    center, width = _stated(found, frame, "WindowCenter"), _stated(found, frame, "WindowWidth")
    if center is None or width is None:
        return None
    center, width = (float(each[0]) if hasattr(each, "__len__") and each else float(each) for each in (center, width))
    if found.get("PhotometricInterpretation") == "MONOCHROME1":
        slope, intercept = _rescaled(found, frame)
        center = _sum_of_ends(found) * slope + 2 * intercept - center
    return (center - width / 2, center + width / 2) if width > 0 else None
