"""What lies where in a rendered piece of land: everything that is drawn at random about its plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..drawn.shapes import Array, box, circle, unit

# Kinds of blocks, the ground between streets.
HOUSES, HALLS, TOWN, OPEN, GREEN = range(5)
# By kind: rows of lots across a block, a lot's length, a roof's least share of its lot, and how often one is built on.
ROWS = np.array((2, 1, 2, 1, 1), np.float32)
LOT = np.array((0.19, 0.34, 0.25, 1, 1), np.float32)
ROOF = np.array((0.48, 0.60, 0.68, 0, 0), np.float32)
BUILT = np.array((0.93, 0.9, 0.97, 0, 0), np.float32)
FAR = np.float32(9)  # a distance that no image spans: where there is nothing


@dataclass(frozen=True)
class Line:
    """A wavy line across the land, with its own coordinates: how far along and how far across it a place is."""

    cos: float
    sin: float
    offset: float
    swing: float  # how far it strays to each side
    pace: float  # knots per unit of length
    knots: Array

    @staticmethod
    def sample(rng: np.random.Generator, swing: float, pace: float, reach: float = 0.7) -> Line:
        cos, sin = unit(2 * float(rng.random()) - 1)
        offset = reach * (2 * float(rng.random()) - 1)
        return Line(cos, sin, offset, swing, pace, (2 * rng.random(16) - 1).astype(np.float32))

    def coordinates(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(along, across) of the places `x`, `y`; the line is where across is 0."""
        along = self.cos * x + self.sin * y
        across = self.cos * y - self.sin * x - self.offset
        return along, across + self.swing * wave(along * self.pace, self.knots)

    def band(self, x: Array, y: Array, half: float) -> Array:
        """Distance to the band that reaches `half` to each side of the line."""
        return np.abs(self.coordinates(x, y)[1]) - half


def wave(t: Array, knots: Array) -> Array:
    """A smooth curve through `knots`, one per unit of `t`, round and round."""
    whole = np.floor(t)
    share = t - whole
    share = share * share * (3 - 2 * share)
    first = whole.astype(np.int32) % len(knots)
    return knots[first] + (np.roll(knots, -1) - knots)[first] * share


@dataclass(frozen=True)
class Blocks:
    """For each place: its block's kind and number, where in the block it is (`p` of `width`, `q` of `length`)."""

    kind: NDArray[np.int8]
    number: NDArray[np.int32]
    p: Array
    q: Array
    width: Array
    length: Array

    @property
    def street(self) -> Array:
        """Distance to the middle of the nearest street."""
        p = np.minimum(self.p, self.width - self.p)
        return np.minimum(p, np.minimum(self.q, self.length - self.q))


@dataclass(frozen=True)
class Roofs:
    """For each place: the distance to the nearest roof of its lot, the roof's number, and the side of its ridge."""

    distance: Array
    number: NDArray[np.int32]
    ridge: Array


@dataclass(frozen=True)
class Layout:
    """What is drawn at random about a plan. The largest centred square of an image spans [-1, 1] in x and y."""

    grid: Line  # the street grid's direction, and how its streets wind
    spacing: float
    length: float
    street: float  # half a street's width
    shifts: Array  # of each strip of blocks: its border, its blocks' length and their start, in shares
    kinds: NDArray[np.int8]
    dice: Array
    mains: tuple[Line, ...]
    main: float  # half a main road's width
    highway: Line | None
    broad: float  # half the highway's width
    water: Callable[[Array, Array], Array] | None
    wood: Callable[[Array, Array], Array] | None

    @staticmethod
    def sample(rng: np.random.Generator) -> Layout:
        """Draw a plan."""

        def between(low: float, high: float) -> float:
            return low + (high - low) * float(rng.random())

        def chance(probability: float) -> bool:
            return float(rng.random()) < probability

        town = between(0, 1)
        # Of houses, halls, town and open lots, from suburb to centre; the rest is green.
        shares = np.array((0.62 - 0.45 * town, 0.12 + 0.1 * town, 0.04 + 0.4 * town, 0.1), np.float32)
        spacing = between(0.42, 0.62)
        return Layout(
            grid=Line.sample(rng, between(0.02, 0.16) if chance(0.4) else 0.0, between(0.5, 0.9)),
            spacing=spacing,
            length=spacing * between(1.1, 1.7),
            street=between(0.038, 0.052),
            shifts=rng.random((3, 32)).astype(np.float32),
            kinds=np.searchsorted(np.cumsum(shares), rng.random(1024)).astype(np.int8),
            dice=rng.random(4096).astype(np.float32),
            mains=tuple(Line.sample(rng, between(0.05, 0.3), between(0.4, 0.8)) for _ in range(int(between(0.4, 2.6)))),
            main=between(0.058, 0.075),
            highway=Line.sample(rng, between(0.0, 0.3), between(0.3, 0.5), 0.55) if chance(0.5) else None,
            broad=between(0.095, 0.125),
            water=some_water(rng) if chance(0.6) else None,
            wood=blob(rng, between(0.35, 0.65)) if chance(0.4) else None,
        )

    def blocks(self, x: Array, y: Array) -> Blocks:
        """The blocks that the places `x`, `y` lie in, street included, to its middle."""
        v, u = self.grid.coordinates(x, y)
        u = u * (1 / self.spacing)
        strip = np.floor(u)
        borders, lengths, starts = self.shifts
        # A border lies up to a quarter of the spacing beside its place, so the strip may be the one before.
        strip = strip - (u < strip + 0.25 * borders[strip.astype(np.int32) % 32])
        at = strip.astype(np.int32)
        start = strip + 0.25 * borders[at % 32]
        width = (strip + 1 + 0.25 * borders[(at + 1) % 32] - start) * self.spacing
        p = (u - start) * self.spacing
        length = self.length * (0.8 + 0.7 * lengths[at % 32])
        q = v / length + starts[at % 32]
        row = np.floor(q)
        number = at * 37 + row.astype(np.int32) * 101
        return Blocks(self.kinds[number % 1024], number, p, (q - row) * length, width, length)

    def roofs(self, x: Array, y: Array) -> Roofs:
        """The roofs of the lots that the places `x`, `y` lie in."""
        blocks = self.blocks(x, y)
        kind, margin = blocks.kind, self.street + 0.018
        rows, deep, wide = ROWS[kind], blocks.width - 2 * margin, blocks.length - 2 * margin
        lots = np.maximum(np.floor(wide / LOT[kind]), 1)
        deep, wide = deep / rows, wide / lots
        p, q = (blocks.p - margin) / deep, (blocks.q - margin) / wide
        row = np.minimum(np.maximum(np.floor(p), 0), rows - 1)
        lot = np.minimum(np.maximum(np.floor(q), 0), lots - 1)
        number = blocks.number * 53 + row.astype(np.int32) * 17 + lot.astype(np.int32) * 5
        dice = [self.dice[(number * prime) % 4096] for prime in (1, 3, 7, 11)]
        rx, ry = ((0.5 * (ROOF[kind] + 0.26 * die)) * side for die, side in zip(dice, (deep, wide), strict=False))
        # From the roof's middle: somewhere in the lot, with a gap to the next.
        dp = (p - row - 0.5) * deep - (dice[2] - 0.5) * (0.94 * deep - 2 * rx)
        dq = (q - lot - 0.5) * wide - (dice[3] - 0.5) * (0.94 * wide - 2 * ry)
        built = self.dice[(number * 13) % 4096] < BUILT[kind]
        cos, sin = self.grid.cos, self.grid.sin
        # No roof reaches over roads, water or woods: measured at its middle, so that it is there or not as a whole.
        # Along is v here and across is u.
        built &= self.free(x - cos * dq + sin * dp, y - sin * dq - cos * dp) > 0.9 * np.maximum(rx, ry)
        distance = np.where(built, box(dp, dq, rx, ry), FAR)
        return Roofs(distance, number, np.where(rx < ry, dp, dq))

    def free(self, x: Array, y: Array) -> Array:
        """Distance to the nearest of water, wood, main roads and highway."""
        nearest: Array = np.full(x.shape, FAR)
        for feature in (self.water, self.wood):
            if feature:
                nearest = np.minimum(nearest, feature(x, y))
        return np.minimum(nearest, np.minimum(self.main_roads(x, y), self.highways(x, y)))

    def main_roads(self, x: Array, y: Array) -> Array:
        """Distance to the nearest main road."""
        nearest: Array = np.full(x.shape, FAR)
        for line in self.mains:
            nearest = np.minimum(nearest, line.band(x, y, self.main))
        return nearest

    def highways(self, x: Array, y: Array) -> Array:
        """Distance to the highway."""
        return self.highway.band(x, y, self.broad) if self.highway else np.full(x.shape, FAR)


def some_water(rng: np.random.Generator) -> Callable[[Array, Array], Array]:
    """A river, a coast or a lake: the distance to it."""
    choice = float(rng.random())
    if choice < 0.35:
        return blob(rng, 0.3 + 0.3 * float(rng.random()))
    line = Line.sample(rng, 0.15 + 0.2 * float(rng.random()), 0.6 + 0.5 * float(rng.random()), 0.45)
    if choice < 0.65:
        return lambda x, y: line.coordinates(x, y)[1] + 0.2
    half = 0.1 + 0.14 * float(rng.random())
    return lambda x, y: line.band(x, y, half)


def blob(rng: np.random.Generator, radius: float) -> Callable[[Array, Array], Array]:
    """Something round with a wavy outline: the distance to it."""
    x0, y0 = (float(part) for part in 1.8 * rng.random(2) - 0.9)
    knots = (2 * rng.random((2, 16)) - 1).astype(np.float32)

    def distance(x: Array, y: Array) -> Array:
        u = x - x0 + 0.13 * wave(2.2 * y, knots[0])
        v = y - y0 + 0.13 * wave(2.2 * x, knots[1])
        return circle(u, v, radius)

    return distance
