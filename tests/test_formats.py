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
