"""DICOM images, with the slope, intercept and window that each states. They are read, not written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import UserError
from ..values import CHANNELS, supported
from .header import Header, missing

try:
    import pydicom
    import pydicom.pixels.utils
except ImportError:
    pydicom = None  # type: ignore[assignment]

MAX_VALUES = 400_000_000


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a damaged file, or one without an image."""
    found = _open(path)
    try:
        height, width, channels = int(found.Rows), int(found.Columns), int(found.get("SamplesPerPixel", 1))
        frames, bits = int(found.get("NumberOfFrames", 1) or 1), int(found.BitsAllocated)
        signed, window = bool(found.get("PixelRepresentation", 0)), _window(found)
        slope, intercept = _rescaled(found)
    except Exception as error:  # elements are parsed when they are asked for
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"'{path}' holds no image that is understood ({reason}): remove it") from None
    if not (0 < height * width * channels <= MAX_VALUES and 0 < frames <= 100_000 and channels <= CHANNELS):
        raise UserError(f"'{path}' states {frames} images of {width}x{height} with {channels} channels: remove it")
    plain = (slope, intercept) == (1, 0) and not signed and bits in (8, 16)
    return Header(width, height, channels, f"uint{bits}" if plain else "float32", frames, window)


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A frame (C, H, W), in the units that slope and intercept make. Raises `UserError`, as `probe`."""
    header = probe(path)
    found = _open(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            array = pydicom.pixels.utils.pixel_array(path, index=frame)  # which decodes that one alone
        array = array.reshape(header.height, header.width, header.channels).transpose(2, 0, 1)
        slope, intercept = _rescaled(found)
        if found.get("PhotometricInterpretation") == "MONOCHROME1":  # white is the least
            least = -(2 ** (found.BitsStored - 1)) if found.get("PixelRepresentation", 0) else 0
            array = 2 * least + 2**found.BitsStored - 1 - array.astype(np.int64)
            array = array.astype(header.dtype) if header.dtype != "float32" else array
        if (slope, intercept) != (1, 0):
            array = array * np.float64(slope) + np.float64(intercept)
        return np.ascontiguousarray(supported(array, str(path)).astype(header.dtype))
    except Exception as error:  # of a decoder, or of one that is not installed
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"the pixels of '{path}' cannot be decoded ({reason})") from None


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """Raises `UserError`: a DICOM file says of whom and by what it was made, which a translation is not."""
    raise UserError(f"cannot write {path}: DICOM is read alone; name a .tif, .npy or .nii.gz")


def _open(path: Path) -> Any:
    """All that the file says besides its pixels."""
    if pydicom is None:
        raise missing("pydicom", f"'{path}'")
    try:
        with warnings.catch_warnings(action="ignore"):
            return pydicom.dcmread(path, stop_before_pixels=True)
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror or error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"'{path}' is no DICOM file, or is damaged ({reason}): replace or remove it") from None


def _rescaled(found: Any) -> tuple[float, float]:
    return float(found.get("RescaleSlope", 1) or 1), float(found.get("RescaleIntercept", 0) or 0)


def _window(found: Any) -> tuple[float, float] | None:
    """The first window, in the units that slope and intercept make."""
    center, width = found.get("WindowCenter"), found.get("WindowWidth")
    if center is None or width is None:
        return None
    center, width = (float(each[0]) if hasattr(each, "__len__") and each else float(each) for each in (center, width))
    return (center - width / 2, center + width / 2) if width > 0 else None
