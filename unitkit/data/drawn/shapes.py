"""Anti-aliased drawing by signed distances: a canvas with coordinates, a few shapes, and paint.

Only +, -, *, /, sqrt, floor, minimum and maximum touch pixels: IEEE 754 fixes their float32 results to the last bit,
whereas sin or exp may differ between builds of NumPy. So an image is the same on every platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # float32, which NumPy's own stubs lose sight of in sums with a float
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """A (3, h, w) image in [0, 1] with the local coordinates `x`, `y` (h, w) of its pixels' centres.

    `pixel` is a pixel's side in local units. Local (x, y) lies at column `column + cos*x - sin*y` and row
    `row + sin*x + cos*y`, with cos and sin already multiplied by pixels per unit.
    """

    rgb: Array
    x: Array
    y: Array
    pixel: float
    column: float
    row: float
    cos: float
    sin: float

    @staticmethod
    def blank(height: int, width: int) -> Canvas:
        """A black canvas; the largest centred square spans [-1, 1] in x and y, with y pointing down."""
        half = min(height, width) / 2
        column, row = (width - 1) / 2, (height - 1) / 2
        x = np.broadcast_to(((np.arange(width) - column) / half).astype(np.float32), (height, width))
        y = np.broadcast_to(((np.arange(height) - row) / half).astype(np.float32)[:, None], (height, width))
        return Canvas(np.zeros((3, height, width), np.float32), x, y, 1 / half, column, row, half, 0.0)

    def moved(self, x: float, y: float, tilt: float, scale: float) -> Canvas:
        """The same pixels in coordinates with the origin at (x, y), turned by 2 atan(tilt), and larger by `scale`."""
        cos, sin = unit(tilt)
        dx, dy = (self.x - x) / scale, (self.y - y) / scale
        return Canvas(
            self.rgb,
            cos * dx + sin * dy,
            cos * dy - sin * dx,
            self.pixel / scale,
            self.column + self.cos * x - self.sin * y,
            self.row + self.sin * x + self.cos * y,
            scale * (cos * self.cos - sin * self.sin),
            scale * (sin * self.cos + cos * self.sin),
        )

    def near(self, x: float, y: float, rx: float, ry: float) -> Canvas:
        """The part that surely holds the local box (x, y) +- (rx, ry): small shapes then cost little."""
        column, row = self.column + self.cos * x - self.sin * y, self.row + self.sin * x + self.cos * y
        dx, dy = abs(self.cos) * rx + abs(self.sin) * ry + 2, abs(self.sin) * rx + abs(self.cos) * ry + 2
        left, top = max(0, int(column - dx)), max(0, int(row - dy))
        rows, columns = slice(top, max(top, int(row + dy) + 1)), slice(left, max(left, int(column + dx) + 1))
        return Canvas(
            self.rgb[:, rows, columns],
            self.x[rows, columns],
            self.y[rows, columns],
            self.pixel,
            self.column - left,
            self.row - top,
            self.cos,
            self.sin,
        )

    def paint(
        self,
        shape: Array,
        colour: Colour | Array,
        *,
        alpha: float = 1.0,
        soft: float = 0.0,
        on: Array | None = None,
    ) -> None:
        """Lay `colour` where the distance `shape` is below 0, and only there where the distance `on` is below 0 too.

        `colour` is one for all, or (3, h, w). The edge of `shape` is a pixel wide, or `soft` local units if that is
        more; the edge of `on` is a pixel wide.
        """
        cover = inside(shape, max(self.pixel, soft))
        if on is not None:
            cover *= inside(on, self.pixel)
        if alpha != 1:
            cover *= alpha
        change = plane(colour) - self.rgb
        change *= cover
        # Where cover is 0 this adds 0 exactly: a layer leaves every pixel outside its cover bit-identical.
        np.add(self.rgb, change, out=self.rgb)


def inside(distance: Array, edge: float) -> Array:
    """1 inside a shape, 0 outside, and a ramp as wide as `edge` between (in place of np.clip, which is slow here)."""
    cover: Array = distance * (-1 / edge)
    cover += 0.5
    np.maximum(cover, 0, out=cover)
    np.minimum(cover, 1, out=cover)
    return cover


def plane(colour: Colour | Array) -> Array:
    """A colour in the shape of an image, (3, 1, 1), or the image (3, h, w) that it already is."""
    return np.array(colour, np.float32).reshape(3, 1, 1) if isinstance(colour, tuple) else colour


def unit(t: float) -> tuple[float, float]:
    """(cos, sin) of the angle 2 atan(t), in arithmetic that is exact to the bit everywhere."""
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` of `second` stirred in."""
    r, g, b = (p + share * (q - p) for p, q in zip(first, second, strict=True))
    return r, g, b


def circle(x: Array, y: Array, radius: float) -> Array:
    """Distance to a circle around the origin."""
    return np.sqrt(x * x + y * y) - radius


def ellipse(x: Array, y: Array, rx: float, ry: float) -> Array:
    """Distance to an ellipse around the origin, to first order near its edge."""
    x, y = x * (1 / rx), y * (1 / ry)
    xx, yy = x * x, y * y
    square = xx + yy
    slope = np.sqrt(xx * (1 / rx**2) + yy * (1 / ry**2))
    return (square - np.sqrt(square)) / np.maximum(slope, 1e-6)


def box(x: Array, y: Array, rx: float | Array, ry: float | Array, corner: float = 0.0) -> Array:
    """Distance to a box of half-sides `rx`, `ry` around the origin, its corners rounded to radius `corner`."""
    x, y = np.abs(x) - (rx - corner), np.abs(y) - (ry - corner)
    outside: Array = np.sqrt(np.maximum(x, 0) ** 2 + np.maximum(y, 0) ** 2)
    return outside + np.minimum(np.maximum(x, y), 0) - corner


def stroke(x: Array, y: Array, length: float, bend: float, thick: float) -> Array:
    """Distance to a round-ended stroke through the origin, `length` to each side; `bend` is how far its ends rise."""
    along = np.clip(x, -length, length)
    across = y + bend * (along / length) ** 2
    slope = 2 * bend / length**2 * along
    distance: Array = np.sqrt((x - along) ** 2 + across * across / (1 + slope * slope))
    return distance - thick
