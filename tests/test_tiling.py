"""Tiles of a large image equal one pass over the whole."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipes import RECIPES, tiny
from torch import Tensor, nn

from unitkit import TrainingError, encoders, generators
from unitkit.kernels.norms import BatchNorm, InstanceNorm, LayerNorm
from unitkit.models import ImagePaths
from unitkit.networks import maps, tiling
from unitkit.networks.convolutions import Doubling, PixelwiseTransposed
from unitkit.networks.layers import Coordinates, Placed, Reflect, Residual, ShiftNorm, Smooth, conv, double
from unitkit.networks.maps import Limits, Map, Stored, tile_size

SMALL = Limits(tile=15_000, stored=4_000)  # many tiles, and larger maps in a file
PATHS = ("ab", "aba", "aa")


def spread(module: nn.Module, seed: int = 0) -> Any:
    """The module in evaluation and float64, its biases, scales and statistics drawn, so that each of them counts."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + ("var" in name) - 0.2)
    return module.eval().double()


def image(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, channels, height, width, generator=generator, dtype=torch.float64) * 2 - 1


def joined(found: Map, windows: Iterable[tuple[range, range]]) -> Tensor:
    """A map, put together from windows that are read row by row."""
    rows: dict[int, list[Tensor]] = {}
    for above, beside in windows:
        rows.setdefault(above.start, []).append(found.read(above, beside))
    return torch.cat([torch.cat(row, 3) for row in rows.values()], 2)


def whole(found: Map) -> Tensor:
    """A map, put together from its own tiles, of which there are several."""
    windows = list(found.tiles())
    assert len(windows) > 1
    return joined(found, windows)


def windows(size: torch.Size, tall: int, wide: int) -> Iterator[tuple[range, range]]:
    for top in range(0, size[2], tall):
        for left in range(0, size[3], wide):
            yield range(top, min(top + tall, size[2])), range(left, min(left + wide, size[3]))


def in_tiles(model: ImagePaths, x: Tensor, path: str, limits: Limits = SMALL) -> Tensor:
    return whole(model.read({path[0]: Stored(x, x.device, limits)}, [path], tiling.run)[path])


@pytest.fixture(params=[path for path in RECIPES if not path.stem.startswith("digits")], ids=lambda path: path.stem)
def model(request: pytest.FixtureRequest) -> ImagePaths:
    """What a shipped recipe that takes images of any size makes, in float64."""
    file: Path = request.param
    more = {"norm": True} if file.stem in ("cut", "cyclegan", "munit") else {}
    torch.manual_seed(0)
    built: ImagePaths = spread(tiny(file, **more).model.build())
    return built


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_every_recipe_in_tiles_is_one_pass(model: ImagePaths, layout: torch.memory_format) -> None:
    model.to(memory_format=layout)
    stride = model.stride
    for path in filter(model.has, PATHS):
        for height, width in ((13 * stride, 17 * stride), (16, 31 * stride)):
            x = image(model.channels["a"], height, width).contiguous(memory_format=layout)
            assert (in_tiles(model, x, path) - model(x, path)).abs().max() < 1e-10, (path, height, width)


@torch.no_grad()
def test_every_recipe_in_tiles_is_one_pass_in_float32(model: ImagePaths) -> None:
    x = image(model.channels["a"], 52, 68)
    single = copy.deepcopy(model).float()
    for path in filter(model.has, PATHS):
        exact, one = model(x, path), single(x.float(), path)
        tiled = in_tiles(single, x.float(), path)
        assert tiled.dtype == torch.float32
        # As far from the truth as the rounding of one pass takes it.
        assert (tiled - exact).abs().max() < 2 * (one - exact).abs().max() + 1e-6, path


def layers() -> dict[str, list[nn.Module]]:
    """Chains of layers with a rule, with kernels, strides and paddings that meet at their borders."""
    c = 3
    return {
        "even and dilated": [nn.Conv2d(c, c, 4, 2, 1), nn.Conv2d(c, c, 3, 1, 2, dilation=2), nn.Conv2d(c, c, (1, 5))],
        "strides of three": [nn.Conv2d(c, c, (5, 3), (3, 2), (2, 0)), nn.Conv2d(c, c, 2, 3)],
        "gaps between windows": [nn.Conv2d(c, c, 1, 3), nn.Conv2d(c, c, 1, 1, 1)],
        "transposed": [nn.ConvTranspose2d(c, c, 3, 2, 1, 1), nn.ConvTranspose2d(c, c, 4, 2, 1)],
        "transposed, wide": [nn.ConvTranspose2d(c, c, 7, 3, 2, 1), nn.ConvTranspose2d(c, c, 3, 1, 0, dilation=2)],
        "transposed, gaps": [nn.ConvTranspose2d(c, c, 1, 2, 0, 1), nn.ConvTranspose2d(c, c, (2, 1), 3, (1, 0), 0)],
        "reflect": [*conv(c, c, 7, padding="reflect"), *conv(c, c, 3, 2, padding="reflect"), Reflect(2), Reflect(1)],
        "doublings": [Doubling(c, c), nn.ReLU(inplace=True), Doubling(c, c)],
        "pixelwise": [PixelwiseTransposed(c, c), nn.Tanh()],
        "upsampling": [nn.Upsample(scale_factor=2), *conv(c, 12, 5), nn.PixelShuffle(2)],
        "smooth": [nn.ConvTranspose2d(c, c, 4, 2), Smooth(), nn.ReLU(inplace=True), *double(c, c, "smooth")],
        "pooling": [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AvgPool2d(3, 1, 1)],
        "norms": [InstanceNorm(), nn.Conv2d(c, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), LayerNorm(4)],
        "statistics of training": [BatchNorm(c), nn.Dropout(0.5), ShiftNorm(c), nn.LeakyReLU(0.2, inplace=True)],
        "in place": [nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Conv2d(c, c, 3), nn.LeakyReLU(0.2, inplace=True)],
        "each pixel": [
            nn.ELU(),
            nn.SiLU(),
            nn.Conv2d(c, c, 3),
            nn.Softplus(),
            nn.Sigmoid(),
            nn.PReLU(c),
            nn.Identity(),
        ],
        "batch norm of torch": [nn.BatchNorm2d(c), nn.Dropout2d(0.5), nn.Identity(), nn.Conv2d(c, c, 3)],
        "residual": [Residual(c), Residual(c, padding="reflect"), nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3))],
        "deep": [layer for _ in range(maps.DEEPEST) for layer in (nn.Conv2d(c, c, 3, padding=1), nn.Tanh())],
    }


def test_every_layer_with_a_rule_is_tested() -> None:
    """In these chains, or in the towers of MUNIT, in whose tests below and above the others are."""
    towers = encoders.style.build(3, width=4, downs=3, style=5), generators.adain.build(16, 3, ups=1, style=5)
    chains = (nn.Sequential(*chain) for chain in layers().values())
    assert tiling.RULES.keys() <= {type(module) for each in (*chains, *towers) for module in each.modules()}


@pytest.mark.parametrize("name", layers())
@torch.no_grad()
def test_layers_in_tiles_of_any_size_are_one_pass(name: str) -> None:
    torch.manual_seed(0)
    chain = spread(nn.Sequential(*layers()[name]))
    for height, width in ((29, 40), (37, 23), (9, 64)):
        x = image(3, height, width)
        before, expected = x.clone(), chain(x.clone())
        found = tiling.apply(chain, Stored(x, x.device, Limits(tile=9_000)))
        assert found.shape == expected.shape
        for tall, wide in ((1, 9), (5, 3), (8, 11)):
            tiles = windows(found.shape, tall, wide)
            assert (joined(found, tiles) - expected).abs().max() < 1e-10, (height, width, tall, wide)
        assert torch.equal(x, before)  # layers that work in place have windows of their own


@torch.no_grad()
def test_a_window_of_one_pixel_is_read_at_every_place() -> None:
    """Each pixel by itself, so that no tile's other pixels hide a reach that is too short or an offset."""
    torch.manual_seed(0)
    for name in ("even and dilated", "strides of three", "transposed", "transposed, wide", "reflect", "doublings"):
        chain = spread(nn.Sequential(*layers()[name]))
        x = image(3, 17, 19)
        found = tiling.apply(chain, Stored(x, x.device))
        assert (joined(found, windows(found.shape, 1, 1)) - chain(x)).abs().max() < 1e-10, name


@pytest.mark.parametrize(("dtype", "middle"), [(torch.float32, 1000), (torch.bfloat16, 10)])
@torch.no_grad()
def test_statistics_of_tiles_are_those_of_the_whole(dtype: torch.dtype, middle: float) -> None:
    """Channels whose mean is far from zero, as float64 has them; the mean to a few units in the last place."""
    x = (middle + 0.1 * image(3, 40, 40)).to(dtype)
    moments = tiling.Moments()
    for rows, columns in windows(x.shape, 17, 9):
        moments.add(x[:, :, rows.start : rows.stop, columns.start : columns.stop])
    variance, mean = torch.var_mean(x.double(), (2, 3), correction=0)
    assert moments.count == 1600 and (moments.mean - mean).abs().max() < middle * 2**-22
    assert ((moments.variance - variance) / variance).abs().max() < 1e-4


@pytest.mark.parametrize("style_of", [(96, 130), (33, 200)])
@torch.no_grad()
def test_the_style_of_a_large_image_is_that_of_one_pass(style_of: tuple[int, int]) -> None:
    tower = spread(encoders.style.build(3, width=4, downs=3, style=5))
    x = image(3, *style_of)
    value: Any = Stored(x, x.device, SMALL)
    for stage in tower.stages:
        value = tiling.apply(stage, value)
    assert isinstance(value, Tensor) and (value - tower(x)).abs().max() < 1e-10


@torch.no_grad()
def test_autocast_in_tiles_is_about_autocast_of_the_whole() -> None:
    torch.manual_seed(0)
    tower = encoders.residual.build(3, width=8, blocks=1, norm=True).eval()
    x = image(3, 48, 64).float()
    exact = tower(x)
    with torch.autocast("cpu", torch.bfloat16):
        value: Any = Stored(x, x.device, SMALL)
        for stage in tower.stages:
            value = tiling.apply(stage, value)
        tiled, one = whole(value), tower(x)
    assert tiled.dtype == one.dtype == torch.bfloat16
    assert (tiled - exact).norm() < 1.5 * (one - exact).norm()


@torch.no_grad()
def test_memory_is_that_of_a_tile_and_larger_maps_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tower = generators.residual.build(16, 3, width=4, blocks=2).eval()
    largest: list[int] = []
    for module in tower.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(
                lambda _, x, y: None if y.is_meta else largest.append((x[0].numel() + y.numel()) * 4)
            )
    files: list[int] = []
    real = maps._file
    monkeypatch.setattr(maps, "_file", lambda size: files.append(size) or real(size))
    limits = Limits(tile=2**17, stored=2**18)
    x = torch.rand(1, 16, 72, 90)
    expected = tower(x)
    largest.clear()
    value: Any = Stored(x, x.device, limits)
    for stage in tower.stages:
        value = tiling.apply(stage, value)
    assert (whole(value) - expected).abs().max() < 1e-5
    assert 2**15 < max(largest) < 1.5 * 2**17  # their halos come on top
    assert len(files) == 5 and set(files) == {
        x.numel() * 4
    }  # two norms and a sum a block; the first reads what is given


def test_a_disk_without_room_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tile = torch.zeros(1, 2, 4, 4)
    for like in (tile, tile.contiguous(memory_format=torch.channels_last)):
        kept = maps.empty(torch.Size((1, 2, 40, 40)), like, Limits(stored=0))
        assert kept.shape == (1, 2, 40, 40) and maps.memory_format(kept) == maps.memory_format(like)
    assert not list(tmp_path.iterdir())  # deleted at once

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(maps.os, "posix_fallocate", full, raising=False)
    with pytest.raises(TrainingError, match=r"has no room for .* \(No space left on device\): let TMPDIR name"):
        maps.empty(torch.Size((1, 2, 40, 40)), tile, Limits(stored=0))


@pytest.mark.parametrize(
    "layer",
    [
        Coordinates(),
        Placed(),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d(2),
        nn.BatchNorm2d(3).train(),
        nn.BatchNorm2d(3, track_running_stats=False),
        type("Own", (nn.Conv2d,), {})(3, 3, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_without_a_rule_is_refused(layer: nn.Module) -> None:
    if not isinstance(layer, nn.BatchNorm2d) or not layer.track_running_stats:
        layer.eval()
    with pytest.raises(tiling.Untiled):
        tiling.apply(layer, Stored(torch.zeros(1, 3, 8, 8), torch.device("cpu")))
    assert layer(torch.rand(1, 3, 8, 8)) is not None


@pytest.mark.parametrize(("size", "pixels"), [((40, 60), 100), ((2000, 3000), 2**18), ((5, 9000), 2**12), ((7, 7), 0)])
def test_tiles_are_even_and_within_their_pixels(size: tuple[int, int], pixels: int) -> None:
    height, width = tile_size(size, pixels)
    assert 1 <= height <= size[0] and 1 <= width <= size[1]
    assert height * width <= max(1, pixels)
    assert 4 * height * width >= min(pixels, size[0] * size[1])  # and not many more of them than needed
