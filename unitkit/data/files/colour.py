"""Colour profiles and transparency: images as a screen shows them, and what of both an output says."""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

MODES = ("RGB", "RGBX", "CMYK", "LAB", "P")  # of which a profile tells the colours
UNDATED = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # for when a profile was made: outputs made alike are equal


def in_srgb(image: Image.Image) -> Image.Image:
    """An image in RGB as its colour profile means it; one without a profile, in sRGB, or in grey as it is.

    A profile that cannot be read is left out of account, as viewers do.
    """
    data = image.info.get("icc_profile")
    if not data or image.mode not in MODES:
        return image
    if image.mode == "P":
        image = image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        name = ImageCms.getProfileDescription(profile)
        if "sRGB" in name and "linear" not in name.lower() and image.mode == "RGB":
            return image
        found = ImageCms.profileToProfile(image, profile, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if found is None else found


def output_profile(like: Path, channels: int) -> bytes | None:
    """The profile of an output in so many channels where the file that it was made of carries one: that of sRGB, to
    which colours of 8 bits are brought; of other images their own, as long as it means the same."""
    try:
        with Image.open(like) as image:
            data = image.info.get("icc_profile")
            colours = image.mode in (*MODES, "RGBA", "RGBa", "PA")
            if not data or channels != (3 if colours else 1):
                return None
            if colours and not _is_deep(image):
                made = _srgb().tobytes()
                return made[:24] + UNDATED + made[36:]
            return bytes(data) if data[16:20] == (b"RGB " if colours else b"GRAY") else None
    except Exception:  # no picture
        return None


def deep_profile(path: str | Path) -> bool:
    """Whether a file has colours of more than 8 bits, with a profile, which is not applied to them then."""
    try:
        with Image.open(path) as image:
            return bool(image.info.get("icc_profile")) and image.mode.startswith("RGB") and _is_deep(image)
    except Exception:  # no picture
        return False


def _is_deep(image: Image.Image) -> bool:
    bits = getattr(image, "tag_v2", {}).get(258)
    raw = str(getattr(image, "tile", None) or "")
    return ";16" in raw if bits is None else max(bits) > 8


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
