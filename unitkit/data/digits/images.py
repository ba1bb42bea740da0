"""Digits in grey, and digits beside their inverse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..files.scale import to_array, to_image
from ..sources import Images, digest


@dataclass(frozen=True)
class Grey:
    """Colour images, in grey."""

    images: Images
    channels: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image."""
        return self.images.size

    def __len__(self) -> int:
        return len(self.images)

    def name(self, i: int) -> str:
        return self.images.name(i)

    def load(self, i: int) -> np.ndarray:
        return to_array(to_image(self.images.load(i)).convert("L"))

    def fingerprint(self) -> str:
        return digest("grey", self.images.fingerprint())

    def at(self, size: tuple[int, int]) -> Grey:
        return replace(self, images=self.images.at(size))


@dataclass(frozen=True)
class WithInverse:
    """Every image twice: first all as they are, then all inverted, 255 - x."""

    images: Images

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.images.channels

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image."""
        return self.images.size

    def __len__(self) -> int:
        return 2 * len(self.images)

    def name(self, i: int) -> str:
        inverted, row = divmod(i, len(self.images))
        return self.images.name(row) + (" (inverted)" if inverted else "")

    def load(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        inverted, row = divmod(i, len(self.images))
        image = self.images.load(row)
        return 255 - image if inverted else image

    def fingerprint(self) -> str:
        return digest("with inverse", self.images.fingerprint())

    def at(self, size: tuple[int, int]) -> WithInverse:
        return replace(self, images=self.images.at(size))
