"""Portraits drawn by the package itself: the data set that needs no files, with ground truth to compare with.

A portrait is a pure function of its person, a few integers. An attribute is the last layer, laid over the finished
plain portrait, and is inferred from what shows there (eyes, tilt, head, clothes), so translation has a right answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...system.errors import UserError, nearest
from .person import Person
from .shapes import Array, Canvas, Colour, box, circle, ellipse, mix, stroke, unit

ATTRIBUTES = ("plain", "glasses", "hat")

WHITE: Colour = (1.0, 1.0, 1.0)
INK: Colour = (0.13, 0.10, 0.13)
PINK: Colour = (0.92, 0.35, 0.35)
FRAME: Colour = (0.10, 0.09, 0.20)
LENS: Colour = (0.62, 0.86, 1.0)
EYES = 0.05  # the eyes' height in the head
FRECKLES = ((0.24, 0.30), (0.36, 0.26), (0.33, 0.38), (0.47, 0.33), (0.12, 0.27))


def render(people: Sequence[tuple[int, ...]], attribute: str, *, size: int | tuple[int, int] = 64) -> NDArray[np.uint8]:
    """Portraits of `people`, wearing `attribute` (one of `ATTRIBUTES`): uint8 RGB, (n, 3, H, W).

    A person is a tuple of integers >= 0, such as (seed, split, domain, index). The same person with another attribute
    is the ground truth: bit-identical wherever the attribute does not cover. `size` is a side or (height, width),
    16 or more; other sizes show the same portrait, not-square ones with more background. Raises `UserError`.
    """
    if attribute not in ATTRIBUTES:
        raise UserError(f"unknown attribute '{attribute}' of a portrait. {nearest(attribute, ATTRIBUTES)}")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise UserError(f"a portrait of {height}x{width} pixels is too small to draw. Choose a size of 16 or more.")
    images = np.empty((len(people), 3, height, width), np.uint8)
    # One at a time: most shapes touch a small window, which differs between people; a batch would touch every pixel.
    for image, key in zip(images, people, strict=True):
        if any(part < 0 for part in key):
            raise UserError(f"a person is named by integers of 0 or more, not {tuple(key)}. Use a seed >= 0.")
        person = Person.sample(np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))))
        canvas = Canvas.blank(height, width)
        head = draw_plain(canvas, person)
        if attribute == "glasses":
            draw_glasses(head, person)
        elif attribute == "hat":
            draw_hat(head, person)
        image[:] = canvas.rgb * 255 + 0.5
    return images


def draw_plain(canvas: Canvas, person: Person) -> Canvas:
    """Paint the whole portrait, back to front. Returns the canvas in the head's coordinates."""
    head = canvas.moved(person.x, person.y, person.tilt, person.scale)
    body = canvas.moved(0.6 * person.x, person.y + 0.5 * person.scale, 0.0, person.scale)
    draw_background(canvas, person)
    draw_back_hair(head, person)
    draw_body(body, person)
    draw_head(head.near(0, 0.05, 1.1, 1.2), person)
    draw_mouth(head.near(0, 0.6, 0.7, 0.5), person)
    draw_front_hair(head, person)
    draw_eyes(head.near(0, -0.07, person.eyes + 0.25, 0.4), person)
    return head


def draw_background(canvas: Canvas, person: Person) -> None:
    """A gradient with a paler disc behind the head."""
    canvas.rgb[:] = np.array(person.sky, np.float32).reshape(3, 1, 1)
    canvas.paint(-canvas.y - 0.3 * canvas.x, person.ground, soft=2.6)
    canvas.paint(circle(canvas.x, canvas.y, 0.86), WHITE, alpha=0.22)


def draw_body(body: Canvas, person: Person) -> None:
    """Neck and clothes. The body's origin is halfway between the middle of the head and the chin."""
    chest = body.near(0, 50.7, 1.4, 50)  # a tall image shows more of the body
    shoulders = box(chest.x, np.minimum(chest.y, 1.6) - 1.6, 1.32, 0.86, 0.5)
    chest.paint(shoulders, person.clothes)
    if person.neckline == "stripes":
        for row in (1.12, 1.42):
            chest.paint(np.abs(chest.y - row) - 0.07, mix(person.clothes, WHITE, 0.7), on=shoulders)
    throat = body.near(0, 0.6, 0.8, 0.8)
    x, y = throat.x, throat.y
    neck = box(x, y + 0.02, 0.34, 0.68)
    opening = ellipse(x, y - 0.74, 0.40, 0.24)
    if person.neckline == "vee":
        opening = np.maximum((np.abs(x) * 1.5 + y - 1.22) / 1.8, 0.62 - y)
    white_collar = person.neckline == "collar"
    throat.paint(opening - 0.09, mix(WHITE, person.clothes, 0.12) if white_collar else mix(person.clothes, INK, 0.3))
    throat.paint(np.minimum(opening, neck), person.skin)
    throat.paint(np.maximum(neck, ellipse(x, y + 0.3, 0.75, 0.98)), shaded(person.skin))


def shaded(skin: Colour) -> Colour:
    """Skin in the shade."""
    return mix(skin, (0.45, 0.12, 0.12), 0.25)


def outline(x: Array, y: Array, person: Person) -> Array:
    """Distance to the edge of the head."""
    return ellipse(x / (1 - person.jaw * np.clip(y, 0, 1) ** 2), y, person.width, 1.0)


def draw_head(head: Canvas, person: Person) -> None:
    """Ears, face, shading, cheeks, freckles, beard and nose."""
    shade = shaded(person.skin)
    ears = ellipse(np.abs(head.x) - person.width - 0.02, head.y - 0.12, 0.12, 0.2)
    head.paint(ears, person.skin)
    head.paint(ears + 0.07, shade, alpha=0.7)
    face = outline(head.x, head.y, person)
    head.paint(face, person.skin)
    head.paint(-ellipse(head.x + 0.25, head.y + 0.15, 0.95, 1.05), shade, alpha=0.35, soft=0.3, on=face)
    if person.beard == "full":
        head.paint(np.maximum(face, 0.32 - ellipse(head.x, head.y - 0.02, 0.42, 0.30)), person.hair)
    cheeks = head.near(0, 0.36, 0.75, 0.25)
    cheeks.paint(circle(np.abs(cheeks.x) - 0.46, cheeks.y - 0.36, 0.1), PINK, alpha=person.blush, soft=0.16)
    if person.freckles:
        for x, y in FRECKLES:
            cheeks.paint(circle(np.abs(cheeks.x) - x, cheeks.y - y, 0.02), shade, alpha=0.8)
    nose = head.near(0, 0.3, 0.25, 0.2)
    nose.paint(stroke(nose.x, nose.y - 0.34, person.nose, 0.04, 0.028), shade)


def draw_mouth(mouth: Canvas, person: Person) -> None:
    """A smile, open where the person laughs, and the moustache."""
    x, y, width = mouth.x, mouth.y - 0.6, person.mouth
    if person.laughs:
        lower = np.maximum(ellipse(x, y, width, 0.10 + person.smile), -y)
        mouth.paint(lower - 0.025, mix(person.lips, INK, 0.35))
        mouth.paint(np.maximum(lower, y - 0.06), WHITE)
    else:
        mouth.paint(stroke(x, y - 0.03, width, person.smile, 0.035), person.lips)
    if person.beard:
        mouth.paint(stroke(x, y + 0.12, 0.2, -0.06, 0.055), person.hair)


def from_eyes(head: Canvas, person: Person) -> tuple[Array, Array, Array]:
    """Coordinates from the middle of the nearer eye, x still pointing right, and that eye's side, -1 or 1."""
    side = np.where(head.x < 0, np.float32(-1), np.float32(1))
    return head.x - side * person.eyes, head.y - EYES, side


def draw_eyes(head: Canvas, person: Person) -> None:
    """White, iris, pupil and highlight under a lid, and the eyebrow: both eyes at once."""
    x, y, side = from_eyes(head, person)
    white = ellipse(x, y, 0.175, person.eye)
    head.paint(white, WHITE)
    pupil = circle(x - person.gaze, y, 0.06)
    head.paint(pupil - 0.055, person.iris, on=white)
    head.paint(pupil, INK, on=white)
    head.paint(circle(x - person.gaze + 0.045, y + 0.05, 0.034), WHITE)
    lid = stroke(x, y + person.eye, 0.175, -0.8 * person.eye, 0.028 if person.lashes else 0.016)
    head.paint(lid, INK, alpha=0.9)
    brow = stroke(x, y + 0.34 + person.frown * side * x, 0.17, -0.05, 0.6 * person.brow)
    head.paint(brow, mix(person.hair, INK, 0.35))


def curls(head: Canvas, person: Person) -> Array:
    """Distance to a round head of curls: a ball with a ring of smaller ones, mirrored left and right."""
    x, y = np.abs(head.x), head.y + 0.28
    rx, ry = person.width + 0.22, 1.0
    distance = ellipse(x, y, rx, ry)
    for turn in (-1.3, -0.85, -0.6, -0.4, -0.22, -0.07, 0.1, 0.25):
        cos, sin = unit(turn)
        distance = np.minimum(distance, circle(x - rx * cos, y - ry * sin, 0.23))
    return distance


def draw_back_hair(head: Canvas, person: Person) -> None:
    """The hair behind neck and shoulders."""
    head = head.near(0, 0, person.width + 0.46, 2.0)
    colour = mix(person.hair, INK, 0.25)
    if person.style == "bob":
        head.paint(box(head.x, head.y - 0.14, person.width + 0.18, 1.05, 0.5), colour)
    elif person.style == "long":
        head.paint(box(head.x, head.y - 0.4, person.width + 0.16, 1.4, 0.6), colour)
    elif person.style == "afro":
        head.paint(curls(head, person), person.hair)
    elif person.style == "bun":
        head.paint(circle(head.x, head.y + 1.2, 0.3), colour)


def draw_front_hair(head: Canvas, person: Person) -> None:
    """The hair over the forehead and beside the face: a cap with a hole for the face."""
    low = {"bob": 1.3, "long": 1.9}.get(person.style, 0.15)
    head = head.near(0, (low - 1.2) / 2, person.width + 0.2, (low + 1.2) / 2)
    x, y, width = head.x, head.y, person.width
    if person.style == "bald":
        head.paint(ellipse(x + 0.2, y + 0.72, 0.22, 0.08), WHITE, alpha=0.35, soft=0.12)
        return
    if person.style == "swept":
        hole = ellipse(x + person.side * (0.22 + 0.3 * y), y - 0.42, width * 1.1, 1.0)
    elif person.fringe:
        hole = box(x, y - 0.66, width * 0.92, 1.0, 0.3)
    elif person.style in ("bob", "long"):
        hole = ellipse(np.abs(x + person.side * 0.1) - 0.36, y - 0.36, width * 0.62, 0.95)
    else:
        hole = ellipse(x, y - 0.5, width * 0.98, 1.0)
    cap = np.maximum(ellipse(x, y + 0.05, width + 0.09, 1.08), -hole)
    if person.style in ("bob", "long"):
        length = 0.55 if person.style == "bob" else 0.85
        cap = np.minimum(cap, stroke(y - length, np.abs(x) - width - 0.02, length, 0.06, 0.15))
    else:
        cap = np.maximum(cap, y - 0.12)
    head.paint(cap, person.hair)
    head.paint(ellipse(x + 0.3, y + 0.75, 0.3, 0.14), WHITE, alpha=0.15, soft=0.4, on=cap)


def draw_glasses(head: Canvas, person: Person) -> None:
    """Dark frames around both eyes, as large as the eyes are apart, with lightly tinted lenses."""
    head = head.near(0, EYES, person.width + 0.1, 0.5)
    x, y, side = from_eyes(head, person)
    apart, outward = person.eyes, x * side
    rx, ry, rim = 0.79 * apart, 0.70 * apart, 0.13 * apart
    lens = box(x, y, rx, ry, 0.55 * apart)
    head.paint(lens, LENS, alpha=0.18)
    glint = np.abs(x + 0.7 * y + 0.5 * apart) / 1.22 - 0.1 * apart
    head.paint(glint, WHITE, alpha=0.45, on=lens)
    bridge = box(outward + apart, y + 0.12 * apart, apart - rx, rim / 2)
    arm = (person.width - apart - rx) / 2
    arms = box(outward - rx - arm, y + 0.2 * apart, arm, rim / 2)
    head.paint(np.minimum(np.minimum(np.abs(lens) - rim / 2, bridge), arms), FRAME)


def draw_hat(head: Canvas, person: Person) -> None:
    """A beanie in a shade of the clothes' colour, large enough for the hair that shows."""
    head = head.near(0, -1, person.width + 0.5, 0.8)
    x, y = head.x, head.y
    room = 0.42 if person.style == "afro" else 0.13
    light = mix(person.clothes, WHITE, 0.55)
    head.paint(circle(x, y + 1.19 + room, 0.3), light)
    head.paint(np.maximum(ellipse(x, y + 0.4, person.width + room, 0.78 + 0.9 * room), y + 0.4), person.clothes)
    band = box(x, y + 0.5 + 0.06 * (1 - x * x), person.width + room + 0.03, 0.17, 0.1)
    head.paint(band, light)
    for column in (-0.75, -0.45, -0.15, 0.15, 0.45, 0.75):
        rib = np.abs(x - column * (person.width + room)) - 0.02
        head.paint(np.maximum(rib, band + 0.04), person.clothes, alpha=0.6)
