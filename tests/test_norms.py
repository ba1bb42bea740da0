"""Norms beside their formula in float64: every number of images, layout and size, values and gradients."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unitkit as kit
from unitkit.kernels import norms

SIZES = ((1, 5), (5, 1), (2, 2), (5, 7), (16, 16))


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same values with other strides, all of which occur in a training."""
    n, c, h, w = x.shape
    if layout == "channels last":  # every stride as of a map larger than one pixel, which sizes of 1 leave open
        return torch.empty_strided((n, c, h, w), (h * w * c, 1, w * c, c), dtype=x.dtype).copy_(x)
    if layout == "permuted":
        return x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    if layout == "cut out":
        return torch.empty(n, c, h + 3, w + 2, dtype=x.dtype)[:, :, 1 : 1 + h, 1 : 1 + w].copy_(x)
    return x.contiguous()


LAYOUTS = ("contiguous", "channels last", "permuted", "cut out")


def formula(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(dims, keepdim=True) + 1e-5).sqrt()


def batch(x: Tensor, function: Any = norms.batch_norm) -> Tensor:
    y: Tensor = function(x, None, None, training=True)
    return y


NORMS = {
    "instance": (norms.instance_norm, (2, 3)),
    "instance by formula": (norms.instance_norm_reference, (2, 3)),
    "layer": (norms.layer_norm, (1, 2, 3)),
    "layer by formula": (norms.layer_norm_reference, (1, 2, 3)),
    "batch": (batch, (0, 2, 3)),
    "batch by formula": (lambda x: batch(x, norms.batch_norm_reference), (0, 2, 3)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str
)
def test_values_and_gradients_in_every_layout(name: str, dtype: torch.dtype, most: float) -> None:
    norm, dims = NORMS[name]
    for n, c, size in itertools.product((1, 2, 3), (1, 8), SIZES):
        torch.manual_seed(0)
        plain, gradient = torch.randn(2, n, c, *size).to(dtype)
        wanted = plain.double().requires_grad_()
        out = formula(wanted, dims)
        (grad,) = torch.autograd.grad(out, wanted, gradient.double())
        for layout, theirs in itertools.product(LAYOUTS, LAYOUTS):
            x = laid_out(plain, layout).detach().requires_grad_()
            y = norm(x)
            (found,) = torch.autograd.grad(y, x, laid_out(gradient, theirs))
            doing = f"{n} images of {c}x{size} in {layout}, the gradient in {theirs}"
            assert y.dtype == dtype and (y.double() - out).norm() <= most * out.norm(), doing
            assert (found.double() - grad).norm() <= most * gradient.double().norm(), doing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_autocast_leaves_the_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 5, 3, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(norm(x).dtype == dtype for norm in (norms.instance_norm, norms.layer_norm, batch))


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_keeps_torchs_statistics(reference: bool, affine: bool) -> None:
    ours, theirs = norms.BatchNorm(3, affine=affine), nn.BatchNorm2d(3, affine=affine)
    ours.reference = reference
    torch.manual_seed(0)
    if affine:
        nn.init.normal_(ours.weight), nn.init.normal_(ours.bias)
        theirs.load_state_dict(ours.state_dict())
    for _ in range(3):
        x = torch.randn(4, 3, 6, 5) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("name", [name for name in NORMS if not name.startswith("layer")])
def test_what_has_no_statistics_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"1x1 pixel|more than 1 value per channel"):
        NORMS[name][0](torch.randn(1, 4, 1, 1))


def test_no_other_norm_is_in_the_package() -> None:
    """Norms of torch's own are called in one module alone, whose functions are checked above; tiles have rules for
    types of them, and read their statistics; exported files have them, and no gradients."""
    allowed = {
        "tiling.py": {"nn.BatchNorm2d", "nn.GroupNorm", "torch.native_layer_norm"},
        "plain.py": {"nn.BatchNorm2d", "nn.GroupNorm", "torch.instance_norm"},
    }
    forbidden = {"InstanceNorm2d", "BatchNorm2d", "GroupNorm", "LayerNorm", "instance_norm", "batch_norm", "layer_norm"}
    for path in sorted(Path(kit.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        named = {
            f"{n.value.id}.{n.attr}"
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        }
        torchs = {name for name in named if name.split(".")[0] in ("nn", "functional", "F", "torch")}
        found = {name for name in torchs if name.split(".")[1] in forbidden | {"group_norm", "native_layer_norm"}}
        assert path.name == "norms.py" or found <= allowed.get(path.name, set()), f"{path}: {found}"
