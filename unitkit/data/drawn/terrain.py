"""Land drawn by the package itself, as an aerial image and as its street map.

Both are pure functions of a scene, a few integers, and of the same plan. The map shows flat colours; the image has
light, texture and shade that the map cannot tell, so a map has one true image among many that would fit it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...system.errors import UserError, nearest
from ..folders.layout import FAR, GREEN, OPEN, TOWN, Blocks, Layout
from .shapes import Array, Canvas, Colour, circle, mix, plane

VIEWS = ("satellite", "map")

# Of the map. Any two are over 32 of 255 apart in some channel, so that no colour is within 16 of both.
GROUND: Colour = (0.925, 0.905, 0.862)
BUILDING: Colour = (0.788, 0.760, 0.718)
STREET: Colour = (1.0, 1.0, 1.0)
MAIN: Colour = (0.992, 0.886, 0.522)
HIGHWAY: Colour = (0.953, 0.620, 0.310)
PARK: Colour = (0.722, 0.890, 0.612)
WATER: Colour = (0.612, 0.784, 0.976)
PALETTE = (GROUND, BUILDING, STREET, MAIN, HIGHWAY, PARK, WATER)

# Of the aerial image.
SOILS: tuple[Colour, ...] = ((0.62, 0.56, 0.46), (0.52, 0.50, 0.40), (0.46, 0.50, 0.36), (0.56, 0.54, 0.50))
LAWNS: tuple[Colour, ...] = ((0.38, 0.47, 0.26), (0.44, 0.49, 0.30), (0.33, 0.42, 0.27))
TREES: tuple[Colour, ...] = ((0.17, 0.27, 0.14), (0.22, 0.30, 0.16), (0.15, 0.24, 0.17))
WATERS: tuple[Colour, ...] = ((0.10, 0.21, 0.28), (0.16, 0.28, 0.26), (0.24, 0.29, 0.23), (0.08, 0.14, 0.20))
ROOFS: tuple[Colour, ...] = (
    (0.58, 0.36, 0.28),
    (0.48, 0.32, 0.27),
    (0.45, 0.44, 0.44),
    (0.56, 0.55, 0.54),
    (0.36, 0.36, 0.38),
    (0.80, 0.79, 0.77),
    (0.66, 0.60, 0.52),
    (0.40, 0.47, 0.55),
)


def render(scenes: Sequence[tuple[int, ...]], view: str, *, size: int | tuple[int, int] = 64) -> NDArray[np.uint8]:
    """The `view` (one of `VIEWS`) of `scenes`: uint8 RGB, (n, 3, H, W).

    A scene is a tuple of integers >= 0, such as (seed, split, domain, index). `size` is a side or (height, width), 16
    or more; other sizes show the same land, not-square ones more of it. Raises `UserError`.
    """
    if view not in VIEWS:
        raise UserError(f"unknown view '{view}' of terrain. {nearest(view, VIEWS)}")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise UserError(f"terrain of {height}x{width} pixels is too small to draw. Choose a size of 16 or more.")
    images = np.empty((len(scenes), 3, height, width), np.uint8)
    for image, key in zip(images, scenes, strict=True):
        if any(part < 0 for part in key):
            raise UserError(f"a scene is named by integers of 0 or more, not {tuple(key)}. Use a seed >= 0.")
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        layout = Layout.sample(rng)
        canvas = Canvas.blank(height, width)
        if view == "map":
            draw_map(canvas, layout)
        else:
            Aerial(canvas, layout, rng).draw()
        image[:] = canvas.rgb * 255 + 0.5
    return images


def draw_map(canvas: Canvas, layout: Layout) -> None:
    """Paint the plan in flat colours."""
    x, y = canvas.x, canvas.y
    blocks = layout.blocks(x, y)
    canvas.rgb[:] = plane(GROUND)
    canvas.paint(np.where(blocks.kind == GREEN, -FAR, FAR), PARK)
    canvas.paint(layout.roofs(x, y).distance, BUILDING)
    canvas.paint(blocks.street - layout.street, STREET)
    if layout.wood:
        canvas.paint(layout.wood(x, y), PARK)
    if layout.water:
        canvas.paint(layout.water(x, y), WATER)
    canvas.paint(layout.main_roads(x, y), MAIN)
    canvas.paint(layout.highways(x, y), HIGHWAY)


class Aerial:
    """An image of the plan from above, in a light and a season drawn at random."""

    def __init__(self, canvas: Canvas, layout: Layout, rng: np.random.Generator) -> None:
        self.canvas, self.layout, self.rng = canvas, layout, rng
        self.rough: Array = rng.random((64, 64)).astype(np.float32) - np.float32(0.5)  # the knots of all noise
        self.dice = rng.random(4096).astype(np.float32)
        self.soil = mix(self.pick(SOILS), self.pick(SOILS), self.between(0, 1))
        self.lawn = mix(self.pick(LAWNS), self.soil, self.between(0, 0.2))
        self.tree = mix(self.pick(TREES), self.lawn, self.between(0, 0.25))
        # Lighter or darker than the soil, by little or by much.
        asphalt = self.soil[1] + self.between(0.05, 0.20) * (1 if self.between(0, 1) < 0.6 else -1)
        warm = self.between(-0.02, 0.03)
        self.asphalt: Colour = (asphalt + warm, asphalt, asphalt - warm)
        self.sun = (self.between(-0.035, 0.035), self.between(0.015, 0.04))  # where a roof's shadow falls

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def pick(self, choices: Sequence[Colour]) -> Colour:
        return choices[int(self.rng.random() * len(choices))]

    def draw(self) -> None:
        """Paint the image, back to front."""
        canvas, layout = self.canvas, self.layout
        x, y = canvas.x, canvas.y
        blocks = layout.blocks(x, y)
        self.draw_ground(blocks)
        self.draw_roofs()
        self.draw_streets(blocks)
        if layout.wood:
            edge = layout.wood(x, y)
            canvas.paint(edge, self.meadow())
            path = np.abs(edge + 0.12 + 0.3 * self.noise(3)) - 0.014
            canvas.paint(path, mix(self.soil, (0.8, 0.76, 0.66), 0.4), alpha=0.7, on=edge)
        self.draw_trees(blocks)
        self.draw_water()
        self.draw_roads()
        self.shine()

    def noise(self, pace: float) -> Array:
        """Smooth noise in about [-0.5, 0.5], `pace` knots per unit of length, fainter where pixels are too coarse."""
        shift = self.rng.random(2).astype(np.float32) * 64
        rows, columns = self.canvas.y[:, 0] * pace + shift[0], self.canvas.x[0] * pace + shift[1]
        top, left = np.floor(rows), np.floor(columns)
        down, right = rows - top, columns - left
        i, j = top.astype(np.int32) % 64, left.astype(np.int32) % 64
        down = (down * down * (3 - 2 * down))[:, None]
        right = right * right * (3 - 2 * right)
        lines = self.rough[i] + (self.rough[(i + 1) % 64] - self.rough[i]) * down
        noise: Array = lines[:, j] + (lines[:, (j + 1) % 64] - lines[:, j]) * right
        return noise * min(1.0, 1 / (pace * self.canvas.pixel))

    def meadow(self) -> Array:
        """Grass, worn here and there."""
        dry = 0.2 + 0.9 * self.noise(2.5) + 0.4 * self.noise(9)
        dry = np.minimum(np.maximum(dry, 0), 1)
        return plane(self.lawn) + dry * (plane(mix(self.lawn, self.soil, 0.6)) - plane(self.lawn))

    def draw_ground(self, blocks: Blocks) -> None:
        """Yards between soil and lawn, open lots of gravel, grass or asphalt, and parks."""
        canvas, die = self.canvas, self.dice[blocks.number % 4096]
        grass = np.where(blocks.kind == TOWN, 0.1, 0.2 + 0.5 * die) + 0.8 * self.noise(5) + 0.7 * self.noise(14)
        grass = np.minimum(np.maximum(grass, 0), 1).astype(np.float32)
        canvas.rgb[:] = plane(self.soil) + grass * (plane(self.lawn) - plane(self.soil))
        edge = blocks.street - self.layout.street
        lot = np.where(blocks.kind == OPEN, -edge, FAR)
        canvas.paint(np.where(die < 0.45, lot, FAR), mix(self.asphalt, self.soil, 0.15))
        canvas.paint(np.where(die > 0.75, lot, FAR), self.meadow())
        canvas.paint(np.where(blocks.kind == GREEN, -FAR, FAR), self.meadow())

    def draw_roofs(self) -> None:
        """Shadows, and gabled roofs with a sunny side."""
        canvas, (dx, dy) = self.canvas, self.sun
        canvas.paint(self.layout.roofs(canvas.x - dx, canvas.y - dy).distance, (0.10, 0.11, 0.15), alpha=0.6)
        roofs = self.layout.roofs(canvas.x, canvas.y)
        palette = np.array([mix(self.pick(ROOFS), self.pick(ROOFS), self.between(0, 0.5)) for _ in range(16)])
        shade = 0.86 + 0.28 * self.dice[(roofs.number * 7) % 4096] - 0.14 * (roofs.ridge > 0)
        colours = palette.astype(np.float32).T[:, roofs.number % 16] * (shade + 0.12 * self.noise(20)).astype(
            np.float32
        )
        canvas.paint(roofs.distance, np.minimum(colours, 1))

    def draw_streets(self, blocks: Blocks) -> None:
        """Asphalt with patches, between pavements."""
        canvas, edge = self.canvas, blocks.street - self.layout.street
        canvas.paint(edge - 0.012, mix(self.asphalt, (0.75, 0.73, 0.70), 0.4), alpha=0.5)
        patched = 1 + 0.18 * self.noise(4) + 0.14 * self.noise(18)
        canvas.paint(edge, plane(self.asphalt) * patched)

    def draw_trees(self, blocks: Blocks) -> None:
        """Trees with their shadows: thick in woods and parks, along streets and in yards as the scene has it."""
        canvas, layout = self.canvas, self.layout
        yards, avenue = self.between(0.05, 0.45), self.between(0.0, 0.6)
        edge = blocks.street - layout.street
        wooded = np.where(blocks.kind == GREEN, 0.4, np.where(blocks.kind == TOWN, 0.05, yards))
        wooded = np.where(np.abs(edge - 0.015) < 0.025, avenue, np.where(edge < 0, 0.1 * avenue, wooded))
        wooded = np.where(layout.roofs(canvas.x, canvas.y).distance < 0.01, 0.03, wooded)
        if layout.wood:
            wooded = np.where(layout.wood(canvas.x, canvas.y) < 0, self.between(0.4, 0.9), wooded)
        wooded = wooded * (1 + 2 * self.noise(2.5))
        for cell in (0.17, 0.13, 0.10):
            self.draw_grove(cell, wooded)

    def draw_grove(self, cell: float, wooded: Array) -> None:
        """At most one tree in each square of side `cell`, where its die falls below `wooded` at its stem."""
        canvas, (dx, dy) = self.canvas, self.sun
        turned = canvas.moved(self.between(1, 2), self.between(1, 2), self.between(-0.4, 0.4), cell)
        column, row = np.floor(turned.x), np.floor(turned.y)
        number = column.astype(np.int32) * 61 + row.astype(np.int32) * 139
        radius, left, down, die = (self.dice[(number * prime) % 4096] for prime in (1, 3, 7, 11))
        radius = 0.16 + 0.26 * radius * radius
        x = turned.x - column - radius - left * (1 - 2 * radius)
        y = turned.y - row - radius - down * (1 - 2 * radius)
        # The stem's pixel, or the nearest that the image shows.
        height, width = canvas.x.shape
        rows = np.rint(np.arange(height, dtype=np.float32)[:, None] - turned.sin * x - turned.cos * y).astype(np.int32)
        columns = np.rint(np.arange(width, dtype=np.float32) - turned.cos * x + turned.sin * y).astype(np.int32)
        stem = wooded[np.minimum(np.maximum(rows, 0), height - 1), np.minimum(np.maximum(columns, 0), width - 1)]
        grows = die < stem
        to_x, to_y = turned.cos * dx + turned.sin * dy, turned.cos * dy - turned.sin * dx
        scale = turned.pixel * 0.6 / cell
        shadow = circle(x - scale * to_x, y - scale * to_y, 0) - radius
        turned.paint(np.where(grows, shadow, FAR), (0.08, 0.10, 0.10), alpha=0.45)
        sunny = -(x * to_x + y * to_y) * scale / radius
        light = 1.05 + 0.6 * (die - 0.4) + 1.2 * sunny + 0.7 * self.noise(24)
        turned.paint(np.where(grows, circle(x, y, 0) - radius, FAR), plane(self.tree) * light, alpha=0.92)

    def draw_water(self) -> None:
        """A pale shore, and dark water with gentle waves."""
        if not self.layout.water:
            return
        canvas, edge = self.canvas, self.layout.water(self.canvas.x, self.canvas.y)
        canvas.paint(edge - 0.03, mix(self.soil, (0.78, 0.72, 0.58), 0.4), alpha=0.6, soft=0.03)
        deep = mix(self.pick(WATERS), self.pick(WATERS), self.between(0, 1))
        gentle = 1 + 0.25 * self.noise(1.5) + 0.15 * self.noise(7)
        canvas.paint(edge, plane(deep) * gentle)
        canvas.paint(-edge - 0.10, mix(deep, self.soil, 0.25), alpha=0.5, soft=0.2, on=edge)

    def draw_roads(self) -> None:
        """Main roads with a pale line in the middle, and the highway with its median."""
        canvas, layout = self.canvas, self.layout
        x, y = canvas.x, canvas.y
        verge = mix(self.lawn, self.soil, 0.5)
        for line in layout.mains:
            edge = line.band(x, y, layout.main)
            canvas.paint(edge - 0.016, verge, alpha=0.6)
            canvas.paint(edge, mix(self.asphalt, (0.3, 0.3, 0.31), self.between(0.1, 0.5)))
            canvas.paint(edge + layout.main - 0.006, (0.85, 0.80, 0.60), alpha=0.7)
        if layout.highway:
            edge = layout.highways(x, y)
            concrete = mix(self.asphalt, (0.68, 0.66, 0.63), self.between(0.3, 0.9))
            canvas.paint(edge - 0.03, verge, alpha=0.8)
            canvas.paint(edge, plane(concrete) * (1 + 0.1 * self.noise(12)))
            canvas.paint(edge + layout.broad - 0.012, verge)
            for lane in (0.35, 0.65):
                canvas.paint(np.abs(edge + lane * layout.broad) - 0.004, (0.9, 0.9, 0.88), alpha=0.5)

    def shine(self) -> None:
        """The scene's light: its tint, brightness, haze, a slow change across, and grain."""
        rgb = self.canvas.rgb
        tint = colorsys.hsv_to_rgb(self.between(0, 1), self.between(0, 0.10), self.between(0.95, 1.3))
        haze, veil = self.between(0, 0.18), (0.62, 0.66, 0.70)
        rgb *= plane(tint) * (1 + 0.16 * self.noise(0.7) + 0.10 * self.noise(30) + 0.10 * self.noise(60))
        rgb += haze * (plane(veil) - rgb)
        np.minimum(np.maximum(rgb, 0, out=rgb), 1, out=rgb)
