"""Rendered portraits: pure, varied, the same at every size, with counterparts that differ only where they must."""

from __future__ import annotations

import numpy as np
import pytest

from unitkit.data.drawn.person import STYLES, Person
from unitkit.data.drawn.portraits import ATTRIBUTES, draw_hat, draw_plain, render
from unitkit.data.drawn.shapes import Canvas
from unitkit.system.errors import UserError

PEOPLE = [(7, 0, 1, index) for index in range(60)]


def sampled(key: tuple[int, ...]) -> Person:
    return Person.sample(np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_portrait_is_a_pure_function_of_its_person(attribute: str) -> None:
    people = PEOPLE[:12]
    batch = render(people, attribute)
    assert batch.shape == (12, 3, 64, 64) and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, render(people, attribute))
    np.testing.assert_array_equal(batch, np.concatenate([render([person], attribute) for person in people]))
    np.testing.assert_array_equal(batch[::-1], render(people[::-1], attribute))


def test_drawing_stays_in_float32_and_in_range() -> None:
    for key in PEOPLE[:20]:
        canvas = Canvas.blank(64, 64)
        head = draw_plain(canvas, sampled(key))
        assert {canvas.rgb.dtype, canvas.x.dtype, head.x.dtype, head.y.dtype} == {np.dtype(np.float32)}
        assert canvas.rgb.min() >= 0 and canvas.rgb.max() <= 1 + 1e-6


def test_glasses_change_as_much_as_documented() -> None:
    people = [(7, 0, 1, index) for index in range(250)]  # the mean over n people scatters by 2 dB / sqrt(n)
    plain, glasses = (render(people, attribute).astype(np.float32) for attribute in ("plain", "glasses"))
    change = np.abs(plain - glasses).max(axis=1)
    assert 0.045 < (change > 16).mean() < 0.06
    error = ((plain - glasses) ** 2).mean(axis=1)[change > 0].mean()
    assert 12.5 < 10 * np.log10(255**2 / error) < 13.5


def test_glasses_cover_the_surroundings_of_the_eyes_only() -> None:
    changed = (render(PEOPLE, "plain", size=128) != render(PEOPLE, "glasses", size=128)).any(axis=1)
    rows, columns = np.mgrid[:128, :128]
    for key, where in zip(PEOPLE, changed, strict=True):
        person = sampled(key)
        across, down = (columns - 63.5) / 64 - person.x, (rows - 63.5) / 64 - person.y
        reach = np.sqrt(across**2 + down**2) / person.scale
        assert where.any() and reach[where].max() < person.width + 0.15
        assert where.any(axis=1).sum() < 48  # of 128 rows


def test_hat_covers_the_top_of_the_head_only() -> None:
    changed = (render(PEOPLE, "plain") != render(PEOPLE, "hat")).any(axis=1)
    assert changed.any(axis=(1, 2)).all()
    assert not changed[:, 34:].any()  # eyes, mouth and clothes, from which the hat's colour is read
    assert 0.08 < changed.mean() < 0.3


def test_hat_takes_its_colour_from_the_clothes() -> None:
    person = sampled(PEOPLE[0])
    canvas = Canvas.blank(128, 128)
    head = draw_plain(canvas, person)
    draw_hat(head, person)
    crown = (np.abs(head.x) < 0.3) & (np.abs(head.y + 0.9) < 0.1)
    np.testing.assert_allclose(canvas.rgb[:, crown].T, np.tile(person.clothes, (crown.sum(), 1)), atol=1e-5)


def test_people_differ() -> None:
    images = render(PEOPLE, "plain", size=32).reshape(len(PEOPLE), -1).astype(np.float64)
    apart = np.abs(images[:, None] - images[None]).mean(axis=-1)
    assert apart[~np.eye(len(PEOPLE), dtype=bool)].min() > 8
    people = [sampled(key) for key in PEOPLE]
    assert {person.style for person in people} == set(STYLES)
    assert {person.beard for person in people} == {"", "moustache", "full"}
    brightness = [sum(person.skin) for person in people]
    assert max(brightness) > 2.4 and min(brightness) < 1.3


def test_every_part_of_the_key_counts() -> None:
    keys = [(7, 0, 1, 3), (8, 0, 1, 3), (7, 1, 1, 3), (7, 0, 2, 3), (7, 0, 1, 4)]
    assert len({image.tobytes() for image in render(keys, "plain")}) == len(keys)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_sizes_show_the_same_portrait(attribute: str) -> None:
    small, large = (render(PEOPLE[:8], attribute, size=size).astype(np.float64) for size in (32, 128))
    shrunk = large.reshape(8, 3, 32, 4, 32, 4).mean(axis=(3, 5))
    assert np.abs(shrunk - small).mean() < 3


def test_other_shapes_extend_the_square() -> None:
    people = PEOPLE[:4]
    square = render(people, "glasses", size=48).astype(np.float64)
    for size in ((48, 80), (80, 48)):
        image = render(people, "glasses", size=size)
        assert image.shape == (4, 3, *size)
        top, left = (size[0] - 48) // 2, (size[1] - 48) // 2
        middle = image[:, :, top : top + 48, left : left + 48].astype(np.float64)
        assert np.abs(middle - square).max() <= 1
    assert render(people, "hat", size=(17, 23)).shape == (4, 3, 17, 23)
    assert render([], "plain", size=16).shape == (0, 3, 16, 16)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"'glases'.*'glasses'"):
        render(PEOPLE[:1], "glases")
    with pytest.raises(UserError, match=r"15x64.*16"):
        render(PEOPLE[:1], "plain", size=(15, 64))
    with pytest.raises(UserError, match=r"\(-1, 0\).*>= 0"):
        render([(-1, 0)], "plain")
