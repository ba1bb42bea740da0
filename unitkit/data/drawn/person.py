"""Who is in a rendered portrait: everything that is drawn at random about a person."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .shapes import Colour, mix

Choice = TypeVar("Choice")

SKINS: tuple[Colour, ...] = (
    (1.00, 0.87, 0.77),
    (0.97, 0.79, 0.66),
    (0.91, 0.70, 0.54),
    (0.80, 0.58, 0.42),
    (0.66, 0.45, 0.31),
    (0.50, 0.33, 0.23),
)
HAIRS: tuple[Colour, ...] = (
    (0.14, 0.12, 0.15),
    (0.24, 0.16, 0.13),
    (0.38, 0.24, 0.16),
    (0.54, 0.34, 0.19),
    (0.70, 0.34, 0.16),
    (0.90, 0.71, 0.38),
    (0.66, 0.66, 0.69),
)
BOLD_HAIRS: tuple[Colour, ...] = ((0.88, 0.42, 0.58), (0.26, 0.52, 0.60), (0.52, 0.40, 0.72))
IRISES: tuple[Colour, ...] = ((0.30, 0.18, 0.11), (0.47, 0.31, 0.15), (0.25, 0.48, 0.72), (0.30, 0.53, 0.34))
STYLES = ("short", "swept", "afro", "bald", "bob", "long", "bun")
BEARDED = STYLES[:4]


@dataclass(frozen=True)
class Person:
    """What is drawn at random about a person. Lengths within the head are in units of half its height."""

    x: float  # of the head's centre, in canvas units: the image spans [-1, 1]
    y: float
    scale: float  # half the head's height, in canvas units
    tilt: float
    width: float  # half the head's width
    jaw: float  # how much narrower the chin is
    skin: Colour
    blush: float
    freckles: bool
    style: str
    fringe: bool
    side: float  # the side of the parting: -1 or 1
    hair: Colour
    beard: str
    eyes: float  # half the distance between the eyes
    eye: float  # half an eye's height
    iris: Colour
    gaze: float
    lashes: bool
    brow: float
    frown: float
    nose: float
    smile: float
    mouth: float
    laughs: bool
    lips: Colour
    clothes: Colour
    neckline: str
    sky: Colour
    ground: Colour

    @staticmethod
    def sample(rng: np.random.Generator) -> Person:
        """Draw a person."""

        def between(low: float, high: float) -> float:
            return low + (high - low) * float(rng.random())

        def chance(probability: float) -> bool:
            return float(rng.random()) < probability

        def pick(choices: Sequence[Choice]) -> Choice:
            return choices[int(rng.random() * len(choices))]

        style = pick(STYLES)
        bearded = style in BEARDED
        tone = between(0, len(SKINS) - 1.001)
        skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
        # Dark skin goes with the first, darker colours of hair and irises.
        hairs, irises = (HAIRS, IRISES) if tone < 3 else (HAIRS[:3], IRISES[:2])
        hue, width = between(0, 1), between(0.76, 0.88)
        return Person(
            x=between(-0.07, 0.07),
            y=between(-0.04, 0.05),
            scale=between(0.54, 0.60),
            tilt=between(-0.06, 0.06),
            width=width,
            jaw=between(0.08, 0.24),
            skin=skin,
            blush=between(0.0, 0.4),
            freckles=chance(0.15),
            style=style,
            fringe=chance(0.5),
            side=pick((-1.0, 1.0)),
            hair=pick(BOLD_HAIRS) if not bearded and chance(0.2) else mix(pick(hairs), pick(hairs), between(0, 0.2)),
            beard=pick(("", "", "", "moustache", "full")) if bearded else "",
            eyes=width * between(0.43, 0.47),
            eye=between(0.15, 0.18),
            iris=pick(irises),
            gaze=between(-0.03, 0.03),
            lashes=not bearded and chance(0.8),
            brow=between(0.045, 0.075),
            frown=between(-0.04, 0.04),
            nose=between(0.06, 0.10),
            smile=between(0.03, 0.12),
            mouth=between(0.17, 0.26),
            laughs=chance(0.35),
            lips=mix((0.72, 0.25, 0.27), skin, between(0.0, 0.35)),
            clothes=colorsys.hsv_to_rgb(between(0, 1), between(0.35, 0.75), between(0.45, 0.9)),
            neckline=pick(("crew", "vee", "collar", "stripes")),
            sky=colorsys.hsv_to_rgb(hue, between(0.12, 0.35), between(0.88, 0.98)),
            ground=colorsys.hsv_to_rgb((hue + between(-0.12, 0.12)) % 1, between(0.25, 0.5), between(0.68, 0.85)),
        )
