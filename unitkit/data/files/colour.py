"""Colour profiles and transparency: images as a screen shows them, and what of both an output says."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

MODES = ("RGB", "RGBX", "CMYK", "LAB")  # of which a profile tells the colours


def in_srgb(image: Image.Image) -> Image.Image:
    """An image in RGB as its colour profile means it; one without a profile, in sRGB, or in grey as it is.

    A profile that cannot be read is left out of account, as viewers do.
    """
    data = image.info.get("icc_profile")
    if not data or image.mode not in MODES:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        if "sRGB" in ImageCms.getProfileDescription(profile) and image.mode == "RGB":
            return image
        found = ImageCms.profileToProfile(image, profile, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if found is None else found


def srgb_profile(like: Path) -> bytes | None:
    """The profile that an output carries where the file that it was made of carries one: that of sRGB."""
    try:
        with Image.open(like) as image:
            return _srgb().tobytes() if image.info.get("icc_profile") and image.mode in MODES else None
    except Exception:  # no picture
        return None


def with_alpha(image: Image.Image, alpha: np.ndarray | None) -> Image.Image:
    """An image with the opacity uint8 (H, W), if there is some."""
    if alpha is None:
        return image
    made = image.convert("LA" if image.mode == "L" else "RGBA")
    made.putalpha(Image.fromarray(alpha))
    return made


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
