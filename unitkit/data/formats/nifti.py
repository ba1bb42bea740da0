"""NIfTI volumes: slices along the third axis, the fourth being channels, scaled by the slope and intercept they state.

A slice is (H, W) = (second axis, first axis), as the file has them: nothing is turned, so that what is written back
lies where it lay.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import UserError, pass_on_failure
from ..files.bounds import refuse_sizes
from ..values import CHANNELS, described, supported
from .header import MAX_PIXELS, Header, missing

try:
    import nibabel
except ImportError:
    nibabel = None  # type: ignore[assignment]

LOCK = threading.Lock()
MAX_VALUES = 1_000_000_000


def probe(path: Path, channels: int | None = None) -> Header:
    """The header. Raises `UserError` for a damaged file, or one that holds no volume of numbers."""
    image = _open(path)
    width, height, frames, *more = (*image.shape, 1, 1)[: max(3, len(image.shape))]
    channels = int(np.prod(more, dtype=np.int64))
    dtype = np.dtype(image.get_data_dtype())
    if dtype.names or dtype.kind not in "iuf":
        raise UserError(f"'{path}' holds {described(dtype)}: expected a volume of numbers")
    if channels > CHANNELS:
        raise UserError(f"'{path}' has {channels} values at each place: expected at most {CHANNELS}, as channels")
    if not 0 < width * height * frames * channels <= MAX_VALUES or width * height > MAX_PIXELS:
        raise UserError(
            f"'{path}' has the shape {list(image.shape)}: expected 1 to {MAX_VALUES // 10**6} million values, in "
            f"slices of at most {MAX_PIXELS // 10**6} million"
        )
    declared, size = image.dataobj.offset + width * height * frames * channels * dtype.itemsize, path.stat().st_size
    if path.suffix.lower() == ".gz":
        refuse_sizes(f"the volume '{path}'", declared, size)
    elif declared > size:
        raise UserError(f"'{path}' is damaged or truncated: it has {size} bytes, and its header speaks of {declared}")
    kind = "float32" if _scaled(image) else str(supported(np.empty(0, dtype), str(path)).dtype)
    low, high = (float(image.header[key]) for key in ("cal_min", "cal_max"))
    window = (low, high) if np.isfinite([low, high]).all() and low < high else None
    return Header(width, height, channels, kind, frames, window)


def read(path: Path, frame: int = 0, channels: int | None = None) -> np.ndarray:
    """A slice (C, H, W). Raises `UserError`, as `probe`."""
    with LOCK:  # once, whoever asks first
        volume, slope, intercept = _volume(path, path.stat().st_mtime_ns)
    try:
        stored = np.array(volume[:, :, frame].transpose(2, 1, 0), order="C")
    except Exception as error:
        raise _damaged(path, error) from None
    return supported(nibabel.volumeutils.apply_read_scaling(stored, slope, intercept), str(path))


def write(path: Path, frames: Sequence[np.ndarray], like: Path | None = None) -> None:
    """Slices (C, H, W) as a volume that lies where `like` does."""
    if nibabel is None:
        raise missing("nibabel", "NIfTI")
    volume = np.stack(frames).transpose(3, 2, 0, 1)
    volume = volume[..., 0] if volume.shape[3] == 1 else volume
    volume = volume.astype(np.float32) if volume.dtype == np.float16 else volume
    affine, header = np.eye(4), None
    if like is not None and like.name.lower().endswith((".nii", ".nii.gz")):
        before = _open(like)
        affine, header = before.affine, before.header.copy()
        header.set_data_dtype(volume.dtype)
        header["cal_min"] = header["cal_max"] = 0
        if volume.size == np.prod(before.shape):
            volume = volume.reshape(before.shape)
    data: bytes = nibabel.Nifti1Image(volume, affine, header).to_bytes()  # type: ignore[no-untyped-call]
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix.lower() == ".gz" else data)


def _open(path: Path) -> Any:
    if nibabel is None:
        raise missing("nibabel", f"'{path}'")
    try:
        image: Any = nibabel.load(path)
    except OSError as error:
        pass_on_failure(f"cannot read '{path}'", error)
        raise UserError(f"cannot read '{path}': {error.strerror or error}") from None
    except Exception as error:
        raise _damaged(path, error) from None
    if not 2 <= len(image.shape) <= 5:
        raise UserError(f"'{path}' has the shape {list(image.shape)}: expected a volume of slices, or several")
    return image


@lru_cache(maxsize=2)
def _volume(path: Path, changed: int) -> tuple[np.ndarray, float, float]:
    """All of it as it is stored, (W, H, slices, C), which stays on the disk where it is not compressed; its slope and
    intercept."""
    probe(path)
    image = _open(path)
    try:
        array = image.dataobj.get_unscaled()
    except Exception as error:
        raise _damaged(path, error) from None
    return array.reshape(*(*array.shape, 1)[:3], -1), image.dataobj.slope, image.dataobj.inter


def _scaled(image: Any) -> bool:
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    return bool((slope, intercept) != (1, 0))


def _damaged(path: Path, error: Exception) -> UserError:
    """The error for a file that nibabel refuses. Raises what is no fault of the file, of which nibabel says nothing."""
    try:
        with open(path, "rb"):
            pass_on_failure(f"cannot read '{path}'", error)
    except OSError as failure:
        pass_on_failure(f"cannot read '{path}'", failure)
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"'{path}' is no NIfTI volume, or is damaged ({reason}): replace or remove it")
