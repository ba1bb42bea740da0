"""What files of every format hold comes out of `unitkit translate` in the same format: values, axes, tags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unitkit import UserError, discriminators, encoders, generators, models, sharing
from unitkit.commands import translate as command
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image
from unitkit.data.values import TOP, Values
from unitkit.translate import Translator

Translate = Callable[..., None]


def noise(dtype: str, shape: tuple[int, ...], top: float = 0) -> np.ndarray:
    """Numbers up to a type's largest, or up to `top`."""
    random = np.random.default_rng(0)
    if dtype in TOP:
        return random.integers(0, int(top or TOP[dtype]) + 1, shape).astype(dtype)
    return random.random(shape).astype(dtype)


def translator(channels: tuple[int, int], dtype: str) -> Translator:
    torch.manual_seed(0)
    spec = models.spec(
        "unit",
        channels=dict(zip("ab", channels, strict=True)),
        encoder=encoders.spec("residual", width=4, blocks=1),
        generator=generators.spec("residual", width=4, blocks=1),
        discriminator=discriminators.spec("strided", width=4, layers=2),
        sharing=sharing.spec("tie", encoder=1, generator=1),
        noise=1.0,
    )
    values = Values(dtype, (0.0,), (TOP.get(dtype, 1.0),))
    return Translator(spec.build(), {"a": "A", "b": "B"}, values={"a": values, "b": values})


@pytest.fixture
def translate(monkeypatch: pytest.MonkeyPatch) -> Translate:
    """`unitkit translate` of a model with so many channels, of values of a type; by windows where that is asked for."""

    def run(
        source: Path,
        target: Path,
        channels: int | tuple[int, int] = 1,
        dtype: str = "uint8",
        windows: bool = False,
        **options: Any,
    ) -> None:
        both = channels if isinstance(channels, tuple) else (channels, channels)
        monkeypatch.setattr(command, "load", lambda *_, **__: translator(both, dtype))
        monkeypatch.setattr(command, "LARGE", 100 if windows else 2**26)
        command.translate_images(Path("run"), "ab", source, target, **options)

    return run


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_keeps_its_format(
    suffix: str, dtype: str, channels: int, translate: Translate, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    given = noise(dtype, (channels, 20, 28))
    write_image([given], tmp_path / "in" / f"x{suffix}", values=Values(dtype, (0.0,), (TOP[dtype],)))
    assert np.array_equal(decode(tmp_path / "in" / f"x{suffix}", channels), given)
    translate(tmp_path / "in", tmp_path / "out", channels, dtype)
    assert probe(tmp_path / "out" / f"x{suffix}") == probe(tmp_path / "in" / f"x{suffix}")


ARRAYS = {  # with the channels that are wanted: what an array is read as, (N, C, H, W)
    ((20, 28), 1): (1, 1, 20, 28),
    ((20, 28), 3): (1, 1, 20, 28),
    ((20, 28, 1), 1): (1, 1, 20, 28),
    ((20, 28, 3), 1): (1, 3, 20, 28),
    ((20, 28, 3), 3): (1, 3, 20, 28),
    ((1, 20, 28), 1): (1, 1, 20, 28),
    ((3, 20, 28), 1): (1, 3, 20, 28),
    ((3, 20, 28), 3): (1, 3, 20, 28),
    ((1, 28, 3), 1): (1, 3, 1, 28),
    ((1, 28, 3), 3): (1, 3, 1, 28),
    ((20, 28, 5), 5): (1, 5, 20, 28),
    ((5, 20, 28), 5): (1, 5, 20, 28),
    ((5, 20, 28), 1): (5, 1, 20, 28),
    ((70, 66, 68), 1): (70, 1, 66, 68),
    ((70, 66, 68), 3): (70, 1, 66, 68),
    ((4, 1, 20, 28), 1): (4, 1, 20, 28),
    ((4, 20, 28, 1), 1): (4, 1, 20, 28),
    ((2, 20, 28, 3), 1): (2, 3, 20, 28),
    ((2, 3, 20, 28), 3): (2, 3, 20, 28),
    ((1, 5, 20, 28), 5): (1, 5, 20, 28),
}


@pytest.mark.parametrize(("shape", "channels"), ARRAYS)
@pytest.mark.parametrize("windows", [False, True])
def test_an_array_keeps_its_axes(
    shape: tuple[int, ...], channels: int, windows: bool, translate: Translate, tmp_path: Path
) -> None:
    count, found, *size = ARRAYS[shape, channels]
    np.save(tmp_path / "in.npy", noise("uint8", shape))
    assert probe(tmp_path / "in.npy", channels)[:5] == (size[1], size[0], found, "uint8", count)
    assert decode(tmp_path / "in.npy", channels).shape == (channels, *size)
    if windows and (count > 1 or found != channels or size[0] == 1):
        return
    translate(tmp_path / "in.npy", tmp_path / "out.npy", channels, windows=windows)
    if found != channels:  # the axis of channels has another length, or there is one now
        assert probe(tmp_path / "out.npy", channels)[:5] == (size[1], size[0], channels, "uint8", count)
    else:
        assert np.load(tmp_path / "out.npy").shape == shape


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(20, 28), (4, 28), (1, 28), (28, 4)])
@pytest.mark.parametrize("count", [1, 3, 70])
def test_an_array_without_a_model_is_read_as_it_was_written(
    channels: int, size: tuple[int, int], count: int, tmp_path: Path
) -> None:
    given = noise("uint8", (count, channels, *size))
    write_image(list(given), tmp_path / "x.npy")
    assert probe(tmp_path / "x.npy") == probe(tmp_path / "x.npy", channels)
    assert np.array_equal([decode(tmp_path / "x.npy", channels, frame=n) for n in range(count)], given)


def test_colours_in_an_array_become_grey_as_those_of_a_picture(tmp_path: Path) -> None:
    given = noise("uint8", (20, 28, 3))
    write_image([given.transpose(2, 0, 1)], tmp_path / "x.png")
    for name, laid in ("last", given), ("first", given.transpose(2, 0, 1)):
        np.save(tmp_path / f"{name}.npy", laid)
        assert np.array_equal(decode(tmp_path / f"{name}.npy", 1), decode(tmp_path / "x.png", 1))


def test_an_array_of_too_long_an_axis_is_refused(tmp_path: Path) -> None:
    """Of which a file without content behind its header says nothing else."""
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.dtype("uint8"), (1, 2**31))
    with pytest.raises(UserError, match="at most 16777216 along an axis"):
        probe(tmp_path / "x.npy")
