"""Images written by the suffix of their file: bytes as pictures, other types where a format holds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...system.errors import UserError
from ...system.files import replacing
from ..bands import Bands
from ..formats.header import ARRAYS, DICOM, TIFF, VOLUMES, suffix_of
from ..values import BYTES, Values
from .colour import output_profile, with_alpha
from .decode import alpha_of
from .scale import to_image

OPAQUE = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp")
DEEP = "name a .tif, .npy or .nii.gz"


def refuse_unwritable_format(
    path: Path, frames: int, channels: int, values: Values, transparent: bool = False
) -> list[str]:
    """Raise `UserError` now for a file that cannot hold these images; a note where it holds less than they are."""
    suffix = suffix_of(path)
    if suffix in DICOM:
        raise UserError(f"cannot write {path}: DICOM is read alone; {DEEP}")
    if transparent and suffix in (*OPAQUE, *ARRAYS, *VOLUMES):
        raise UserError(f"cannot write {path}: --alpha keep needs a format with transparency, .png, .webp or .tif")
    if suffix in TIFF and transparent and (channels not in (1, 3) or not values.whole):
        raise UserError(
            f"cannot write {path}: --alpha keep is of whole numbers in grey or RGB, and the translations have "
            f"{channels} channels of {values.dtype}"
        )
    if suffix in (*ARRAYS, *TIFF, *VOLUMES):
        return []
    if frames > 1:
        raise UserError(f"the input holds {frames} images, of which {path} holds one: {DEEP}")
    if channels not in (1, 3):
        raise UserError(f"the translations have {channels} channels, which {path} does not hold: {DEEP}")
    if values.dtype == "uint8" or (values.dtype == "uint16" and suffix == ".png"):
        return []
    return [f"{path.name} holds 8 bits of {values}; to keep all, {DEEP}"]


def write_image(
    frames: Sequence[np.ndarray],
    path: Path,
    like: Path | None = None,
    values: Values = BYTES,
    *,
    transparent: bool = False,
) -> os.stat_result:
    """Write the images (C, H, W) of a file by its suffix, whole or not at all. Returns the file's status.

    Args:
        like: the file that they were made of, whose resolution and place in space a TIFF or a volume keeps. Where it
            has a colour profile, an output in colours has that of sRGB, in which it is.
        values: what they mean, by which a picture of 8 bits is made.
        transparent: where `like` is.

    Raises:
        UserError: the disk refuses, or the format does not hold them.
    """
    suffix = suffix_of(path)
    refuse_unwritable_format(path, len(frames), len(frames[0]), values, transparent)
    try:
        with replacing(path) as file:
            if suffix in ARRAYS:
                from ..formats import npy

                npy.write(file, frames, like)
            elif suffix in TIFF:
                from ..formats import tiff

                tiff.write(file, frames, like, _alphas(like, frames) if transparent else None)
            elif suffix in VOLUMES:
                from ..formats import nifti

                nifti.write(file, frames, like)
            elif suffix == ".png" and frames[0].dtype == np.uint16:
                from ..formats import png

                png.write(file, frames, like, _alphas(like, frames) if transparent else None)
            else:
                image = to_image(Bands().shown(frames[0], values))
                profile = output_profile(like, len(image.getbands())) if like else None
                alphas = _alphas(like, [np.asarray(image)[None]]) if transparent else None
                image = with_alpha(image, alphas[0] if alphas else None)
                image.save(file, quality=95, icc_profile=profile)
            return file.stat()
    except ValueError as error:  # a format that holds no image of this size
        raise UserError(f"cannot write {path}: {error}") from error


def _alphas(like: Path | None, frames: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """The opacity (H, W) of each image of a file, in the type of its translation; None where all are opaque."""
    dtype = frames[0].dtype
    if like is None or dtype.kind != "u":
        return None
    top = np.iinfo(dtype).max
    found = [alpha_of(like, frame) for frame in range(len(frames))]
    if all(each is None for each in found):
        return None
    return [
        np.full(image.shape[-2:], top, dtype)
        if alpha is None
        else np.rint(alpha * np.float64(top / np.iinfo(alpha.dtype).max)).astype(dtype)
        for alpha, image in zip(found, frames, strict=True)
    ]
