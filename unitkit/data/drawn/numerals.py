"""Digits drawn by the package itself: photographs of house numbers, and plain white digits on black.

An image is a pure function of its key, a few integers, and of the look. Digits come from the fonts that matplotlib
brings, each as the distance to its outline: that gives weight, borders, shadows, blur and every size from one drawing.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ...system.errors import UserError, nearest
from .shapes import Array, Canvas, Colour, box, mix, plane

LOOKS = ("rendered", "printed")

FONTS = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"{name}.ttf" for name in ("cmr10", "cmb10", "cmti10", "cmss10", "cmtt10")),
)
# House numbers rarely lean.
UPRIGHT = tuple(font for font in FONTS if "Ita" not in font and "Oblique" not in font and font != "cmti10.ttf")
INK = 96  # pixels from top to bottom of a digit when it is drawn to be measured
STEP = 2  # of these pixels, from one distance that is kept to the next
ROOM = 0.45  # digit heights around the digit in which distances are known
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)


def classes(keys: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """The digits that `keys` show, the same in every look, 0 to 9 equally likely: (n,). Raises `UserError`."""
    return np.array([start(key)[0] for key in keys], np.int64)


def render(keys: Sequence[tuple[int, ...]], look: str, *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The digits of `keys` in `look` (one of `LOOKS`): uint8 RGB, (n, 3, H, W).

    "rendered" are house numbers in colour, at times between parts of others; "printed" is grey (R = G = B), one digit,
    white on black. A key is a tuple of integers >= 0, such as (seed, split, domain, index). `size` is (height, width),
    8 or more; other sizes show the same digit, not-square ones with more around it. Raises `UserError`.
    """
    if look not in LOOKS:
        raise UserError(f"unknown look '{look}' of digits. {nearest(look, LOOKS)}")
    height, width = size
    if min(height, width) < 8:
        raise UserError(f"a digit of {height}x{width} pixels is too small to draw. Choose a size of 8 or more.")
    images = np.empty((len(keys), 3, height, width), np.uint8)
    canvas = Canvas.blank(height, width)
    for image, key in zip(images, keys, strict=True):
        digit, rng = start(key)
        canvas.rgb[:] = 0
        drawing = Drawing(canvas, rng)
        if look == "printed":
            drawing.print(digit)
        else:
            drawing.photograph(digit)
        image[:] = canvas.rgb * 255 + 0.5
    return images


def start(key: tuple[int, ...]) -> tuple[int, np.random.Generator]:
    """The digit of `key`, and the generator of all else that the key decides."""
    if any(part < 0 for part in key):
        raise UserError(f"a digit is named by integers of 0 or more, not {tuple(key)}. Use a seed >= 0.")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    return int(rng.integers(10)), rng


@dataclass(frozen=True)
class Glyph:
    """A digit of a font, one unit high, centred at 0.

    `distances` (h, w) to its outline, below 0 inside, lie on a grid of `ROOM` around it; `half` is half its width.
    """

    distances: Array
    half: float

    def at(self, x: Array, y: Array) -> Array:
        """The distance to the outline at points, interpolated; beyond the grid as at its border."""
        rows, columns = self.distances.shape
        down = y * (INK / STEP) + (rows - 1) / 2
        right = x * (INK / STEP) + (columns - 1) / 2
        np.minimum(np.maximum(down, 0, out=down), rows - 1.001, out=down)
        np.minimum(np.maximum(right, 0, out=right), columns - 1.001, out=right)
        i, j = down.astype(np.int32), right.astype(np.int32)
        down -= i
        right -= j
        corner = i * columns + j
        flat = self.distances.reshape(-1)
        above: Array = flat.take(corner)
        below: Array = flat.take(corner + columns)
        above += (flat.take(corner + 1) - above) * right
        below += (flat.take(corner + columns + 1) - below) * right
        below -= above
        below *= down
        below += above
        return below


@cache
def glyph(font: str, digit: int) -> Glyph:
    """A digit of a font that matplotlib ships. Raises `UserError` where the file is not there."""
    from scipy.ndimage import distance_transform_edt  # here, since it is slow to load

    # The 0 of these has a spot that makes it an 8 where pixels are few; their letter O is a 0 without.
    text = "O" if digit == 0 and "Mono" in font else str(digit)
    # Every digit as high as any other, for in some fonts a few reach below the line.
    solid = drawn(font, text, INK * INK / len(drawn(font, text, INK)))
    # Whole steps and one pixel, so that the first and the last distance that are kept lie as far from the middle.
    room = int(ROOM * INK)
    ink = np.pad(solid, [(room, room + (1 - side) % STEP) for side in solid.shape])
    apart = distance_transform_edt(~ink) - distance_transform_edt(ink)
    # Between two pixels' centres, where the outline is, both are half a pixel too far.
    apart -= np.where(ink, -0.5, 0.5)
    return Glyph(np.ascontiguousarray(apart[::STEP, ::STEP] / INK, np.float32), solid.shape[1] / INK / 2)


def drawn(font: str, text: str, size: float) -> NDArray[np.bool_]:
    """Where a text in a font that matplotlib ships has ink, up to its edges: (h, w). Raises `UserError` as `glyph`."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", font)
    try:
        # The basic layout, since the other one is not in every build of Pillow.
        typeface = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UserError(
            f"digits are drawn with the fonts that matplotlib ships, and '{path}' cannot be read ({error}). "
            "Install matplotlib anew: pip install --force-reinstall matplotlib"
        ) from error
    side = int(2 * size)
    image = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(image).text((side // 2, side), text, 255, typeface, anchor="ls")
    ink = np.asarray(image) >= 128
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


class Drawing:
    """A canvas, and the random numbers that what is drawn on it hangs on."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator) -> None:
        self.canvas, self.rng = canvas, rng
        self.rough: Array = rng.random((16, 16), np.float32) - np.float32(0.5)  # the knots of all noise

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def chance(self, share: float) -> bool:
        return float(self.rng.random()) < share

    def noise(self, pace: float) -> Array:
        """Smooth noise in [-0.5, 0.5], `pace` knots per unit of length."""
        shift = self.between(16, 32), self.between(16, 32)
        rows, columns = self.canvas.y[:, 0] * pace + shift[0], self.canvas.x[0] * pace + shift[1]
        top, left = np.floor(rows), np.floor(columns)
        down, right = rows - top, columns - left
        i, j = top.astype(np.int32), left.astype(np.int32)
        down = (down * down * (3 - 2 * down))[:, None]
        right = right * right * (3 - 2 * right)
        upper, lower = self.rough[i % 16], self.rough[(i + 1) % 16]
        lines = upper + (lower - upper) * down
        j, k = j % 16, (j + 1) % 16
        noise: Array = lines.take(j, axis=1)
        noise += (lines.take(k, axis=1) - noise) * right
        return noise

    def placed(self, height: float, turn: float, lean: float, squeeze: float, off: float) -> Canvas:
        """The canvas in coordinates of a digit one unit high, which is `height` high there.

        It is turned by up to `turn` radians to either side, leans by up to `lean` of its height, is wider or narrower
        by up to `squeeze` of its width, and lies up to `off` from the middle each way.
        """
        across, along = self.between(-off, off), self.between(-off, off)
        local = self.canvas.moved(across, along, self.between(-turn, turn) / 2, height)
        lean, wide = self.between(-lean, lean), 1 + self.between(-squeeze, squeeze)
        x = (local.x + lean * local.y) * (1 / wide)
        return Canvas(local.rgb, x, local.y, local.pixel, local.column, local.row, local.cos, local.sin)

    def print(self, digit: int) -> None:
        """White on black, as a scanner sees a digit that an uneven hand wrote after the font."""
        shape = glyph(FONTS[self.rng.integers(len(FONTS))], digit)
        local = self.placed(self.between(1.15, 1.46), 0.3, 0.45, 0.3, 0.08)
        wave, pace = self.between(0.15, 0.4), self.between(1, 1.6)
        x, y = local.x + wave * self.noise(pace), local.y + wave * self.noise(pace)
        weight = self.between(-0.012, 0.035) + self.between(0, 0.06) * self.noise(2)
        local.paint(shape.at(x, y) - weight, WHITE, soft=self.between(1, 2) * local.pixel)

    def photograph(self, digit: int) -> None:
        """A house number, often between others, on a wall or a plate, in the light and the blur of a snapshot."""
        contrast = self.between(0.25, 0.6)
        dark = self.between(0.08, 0.95 - contrast)
        light = dark + contrast
        ground, ink = (self.tone(tone) for tone in ((dark, light) if self.chance(0.5) else (light, dark)))
        blur = 3 * self.between(0.05, 0.3) ** 2
        font = UPRIGHT[self.rng.integers(len(UPRIGHT))]
        shape = glyph(font, digit)
        local = self.placed(self.between(1.3, 1.75), 0.2, 0.15, 0.15, 0.08)
        self.draw_ground(local, ground, blur)
        distance = shape.at(local.x, local.y)
        if self.chance(0.55):
            for side in ((-1,), (1,), (-1, 1))[self.rng.integers(3)]:
                other = glyph(font, int(self.rng.integers(10)))
                away = max(shape.half, 0.25) + max(other.half, 0.25) + self.between(0.06, 0.2)
                distance = np.minimum(distance, other.at(local.x - side * away, local.y))
        distance -= self.between(-0.005, 0.03)
        if self.chance(0.25):  # a border, which lies on the far side of the ground from the digit
            edge = mix(ground, BLACK if luminance(ink) > luminance(ground) else WHITE, self.between(0.3, 0.9))
            local.paint(distance - self.between(0.02, 0.06), edge, soft=blur)
        worn = 1 + self.between(0, 0.3) * self.noise(1) + self.between(0, 0.2) * self.noise(6)
        local.paint(distance, plane(ink) * worn, soft=blur)
        self.shine()

    def tone(self, light: float) -> Colour:
        """A colour of luminance `light`: often one of sand, wood or brick, else of any hue, and rarely a loud one."""
        hue = self.between(0, 0.14) if self.chance(0.5) else self.between(0, 1)
        colour = colorsys.hsv_to_rgb(hue, 0.9 * self.between(0, 1) ** 2, 1)
        have = luminance(colour)
        if have > light:
            return mix(BLACK, colour, light / have)
        return mix(colour, WHITE, (light - have) / max(1 - have, 1e-6))

    def draw_ground(self, local: Canvas, ground: Colour, blur: float) -> None:
        """A wall that fades from one colour to another: plain, boarded, or with a plate on it."""
        canvas, rgb = self.canvas, self.canvas.rgb
        fade = 0.5 + self.between(-0.35, 0.35) * canvas.x + self.between(-0.35, 0.35) * canvas.y
        rgb[:] = plane(ground) + (plane(self.tone(luminance(ground))) - plane(ground)) * fade
        kind = self.between(0, 1)
        if kind < 0.3:
            middle, half = self.between(-0.5, 0.5), self.between(0.7, 1.4)
            edge = box(local.x - middle, local.y, half, self.between(0.58, 0.7), 0.1)
            wall = self.tone(self.between(0.1, 0.9))
            local.paint(-edge, wall, soft=blur)
            if self.chance(0.5):  # a line along the plate's edge
                local.paint(np.abs(edge + 0.05) - 0.012, mix(wall, ground, 0.3), soft=blur)
        elif kind < 0.6:
            every = self.between(0.3, 0.8)
            level = (canvas.y + self.between(-0.2, 0.2) * canvas.x) * (1 / every) + self.between(0, 1)
            joint = (np.abs(level - np.floor(level) - 0.5) - 0.06) * every
            shade = mix(ground, BLACK if self.chance(0.7) else WHITE, self.between(0.15, 0.5))
            canvas.paint(joint, shade, alpha=0.6, soft=blur)
        rgb *= 1 + self.between(0, 0.25) * self.noise(3) + self.between(0, 0.3) * self.noise(9)

    def shine(self) -> None:
        """The light: its tint, a slope, at times the shadow of something near, haze, and the sensor's noise."""
        canvas = self.canvas
        rgb = canvas.rgb
        tint = colorsys.hsv_to_rgb(self.between(0, 1), self.between(0, 0.15), self.between(0.85, 1.1))
        rgb *= plane(tint) * (1 + self.between(-0.2, 0.2) * canvas.x + self.between(-0.2, 0.2) * canvas.y)
        if self.chance(0.2):
            slope = self.between(-1, 1)
            edge = canvas.x + slope * canvas.y - self.between(-0.6, 0.6)
            canvas.paint(edge if self.chance(0.5) else -edge, BLACK, alpha=self.between(0.1, 0.35), soft=0.15)
        haze = self.between(0, 0.15)
        rgb += haze * (self.between(0.4, 0.8) - rgb)
        # Last, since it is the one draw that hangs on the size.
        grain = self.rng.standard_normal(rgb.shape, np.float32)
        grain *= self.between(0, 0.06) ** 1.2
        rgb += grain
        np.minimum(np.maximum(rgb, 0, out=rgb), 1, out=rgb)


def luminance(colour: Colour) -> float:
    """How light a colour seems, 0 to 1 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
