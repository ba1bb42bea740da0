"""Which channels of an image people are shown, and in which colours."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ..system.errors import UserError, nearest
from .values import Values


class Bands(NamedTuple):
    """What grids and reports show of an image.

    Attributes:
        channels: from 1, those that are red, green and blue, or the one that is grey. Without them the first three; of
            two, the first is red and the other cyan.
        colours: a colour map of matplotlib for the one channel, such as "viridis".
    """

    channels: tuple[int, ...] = ()
    colours: str = ""

    def shown(self, array: np.ndarray, values: Values) -> np.ndarray:
        """A stored image (C, H, W) as people see it: uint8 (1 or 3, H, W)."""
        found = np.rint(values.compared(array)).clip(0, 255).astype(np.uint8)
        chosen = [band - 1 for band in self.channels] or {1: [0], 2: [0, 1, 1]}.get(len(found), [0, 1, 2])
        if not self.colours:
            return np.ascontiguousarray(found[[min(band, len(found) - 1) for band in chosen]])
        from matplotlib import colormaps

        table = colormaps[self.colours](np.arange(256), bytes=True)[:, :3]
        return np.ascontiguousarray(table[found[min(chosen[0], len(found) - 1)]].transpose(2, 0, 1))


def read_bands(text: str | None, channels: int) -> Bands:
    """`bands=`: CHANNEL, RED,GREEN,BLUE, MAP or CHANNEL:MAP, of images of so many channels at most.

    Raises `UserError` for another text, a channel that is not there, or a map that matplotlib has not.
    """
    if not text:
        return Bands()
    found = re.fullmatch(r"(?P<channels>[0-9]{1,3}(,[0-9]{1,3}){0,2})?:?(?P<colours>[A-Za-z]\w*)?", text, re.ASCII)
    chosen = tuple(int(word) for word in (found["channels"] or "").split(",") if word) if found else ()
    colours = (found["colours"] or "") if found else ""
    separate = ":" in text
    if (
        not found
        or len(chosen) == 2
        or not all(1 <= each <= channels for each in chosen)
        or (colours and len(chosen) > 1)
        or separate != bool(colours and chosen)
    ):
        raise UserError(
            f"bands='{text}' is not possible: expected one channel, or three for red, green and blue, each from 1 to "
            f"{channels}, such as 3,2,1; or a colour map for one, such as viridis or 2:viridis"
        )
    if colours:
        from matplotlib import colormaps

        if colours not in colormaps:
            raise UserError(f"bands='{text}': matplotlib has no colour map '{colours}'. {nearest(colours, colormaps)}")
    return Bands(chosen, colours)
