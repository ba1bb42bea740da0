"""The Triton kernels in Triton's interpreter, on the CPU: `test_kernels.py` runs this file in a process of its own, for
the interpreter is chosen once, when Triton is imported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from unitkit.kernels import triton_ops
from unitkit.kernels.fused import Activation, norm_act
from unitkit.kernels.norms import instance_norm_reference
from unitkit.kernels.placement import Placement
from unitkit.networks.layers import Residual
from unitkit.system.errors import UserError

FORMATS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
# (N, C, H, W), activation, residual, padding: odd sides, maps one pixel wide; then maps that take several tiles.
SMALL: tuple[tuple[tuple[int, ...], Activation, bool, int], ...] = (
    ((1, 3, 5, 7), "relu", False, 1),
    ((2, 2, 4, 3), "leaky_relu", True, 2),
    ((2, 3, 1, 9), "none", True, 0),
    ((1, 2, 9, 1), "leaky_relu", False, 0),
    ((1, 9, 16, 16), "relu", True, 0),
    ((2, 1, 2, 2), "relu", False, 1),
)
LARGE: tuple[tuple[tuple[int, ...], Activation, bool, int], ...] = (
    ((1, 2, 129, 128), "relu", True, 0),
    ((1, 3, 70, 63), "leaky_relu", True, 3),
)


def formula(x: Tensor, residual: Tensor | None, activation: str, padding: int) -> Tensor:
    """The same of whole arithmetic: indices instead of flips, where instead of torch's activations."""
    y = instance_norm_reference(x)
    y = torch.where(y > 0, y, {"none": 1.0, "relu": 0.0, "leaky_relu": 0.01}[activation] * y)
    y = y if residual is None else y + residual
    rows, columns = (torch.arange(-padding, size + padding).abs() for size in y.shape[2:])
    last_row, last_column = y.shape[2] - 1, y.shape[3] - 1
    return y[:, :, last_row - (last_row - rows).abs()][:, :, :, last_column - (last_column - columns).abs()]


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (2 * torch.randn(shape) + 0.5).to(dtype)


def off(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [
        float((x.detach().double() - y.detach()).norm() / y.detach().norm()) for x, y in zip(found, wanted, strict=True)
    ]


def results(run: Any, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of what went in."""
    inputs = [each.detach().requires_grad_() for each in inputs]
    y = run(*inputs)
    return [y, *torch.autograd.grad(y, inputs, grad.to(y.dtype))]


@pytest.mark.parametrize(
    ("layout", "dtype", "cases"),
    [
        ("NCHW", torch.float32, SMALL),
        ("channels-last", torch.bfloat16, SMALL),
        ("NCHW", torch.bfloat16, SMALL[1:3]),
        ("channels-last", torch.float32, SMALL[1:3]),
        ("NCHW", torch.float32, LARGE[1:]),
        ("channels-last", torch.bfloat16, LARGE[:1]),
    ],
    ids=str,
)
def test_as_exact_as_plain_torch(layout: str, dtype: torch.dtype, cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are against float64: at most twice those of plain PyTorch, or one rounding."""
    monkeypatch.setattr(triton_ops, "CHUNKS", 2)  # of several tiles, the last not full
    for shape, activation, with_residual, padding in cases:
        torch.manual_seed(0)
        inputs = [drawn(shape, dtype).contiguous(memory_format=FORMATS[layout]) for _ in range(1 + with_residual)]

        def run(
            fused: bool, x: Tensor, residual: Tensor | None = None, a: Any = activation, p: int = padding
        ) -> Tensor:
            return norm_act(x, activation=a, residual=residual, padding=p, fused=fused)

        wide, high = shape[3] + 2 * padding, shape[2] + 2 * padding
        grad = drawn((*shape[:2], high, wide), dtype).contiguous(memory_format=FORMATS[layout])
        wanted = results(
            lambda x, r=None, a=activation, p=padding: formula(x, r, a, p), [x.double() for x in inputs], grad.double()
        )
        found = results(lambda *x, run=run: run(True, *x), inputs, grad)
        plain = results(lambda *x, run=run: run(False, *x), inputs, grad)
        for ours, theirs in zip(off(found, wanted), off(plain, wanted), strict=True):
            assert ours <= 2 * theirs + torch.finfo(dtype).eps, (shape, activation, with_residual, padding)
        for each in found:
            assert each.dtype == dtype and each.is_contiguous(memory_format=FORMATS[layout])


@pytest.mark.parametrize("cut", ["every other column", "of channels-last", "permuted"])
def test_any_strides_of_map_residual_and_gradient(cut: str) -> None:
    torch.manual_seed(0)
    shape = (2, 3, 5, 4)

    def strided() -> Tensor:
        if cut == "every other column":
            return torch.randn(2, 3, 5, 8, dtype=torch.float64)[..., ::2]
        if cut == "of channels-last":
            return torch.randn(2, 9, 6, 3, dtype=torch.float64)[:, 1:6, 2:].permute(0, 3, 1, 2)
        return torch.randn(4, 2, 5, 3, dtype=torch.float64).permute(1, 3, 2, 0)

    x, residual, grad = (strided() for _ in range(3))
    assert x.shape == shape and not any(x.is_contiguous(memory_format=each) for each in FORMATS.values())
    found = results(lambda x, r: norm_act(x, activation="relu", residual=r, fused=True), [x, residual], grad)
    wanted = results(lambda x, r: formula(x, r, "relu", 0), [x, residual], grad)
    assert max(off(found, wanted)) < 1e-12
    # And a gradient in the other format than the map, or expanded.
    x = x.contiguous()
    for other in grad.contiguous(memory_format=torch.channels_last), grad.new_ones(()).expand(shape):
        found = results(lambda x: norm_act(x, activation="leaky_relu", fused=True), [x], other)
        assert max(off(found, results(lambda x: formula(x, None, "leaky_relu", 0), [x], other))) < 1e-12


def test_a_residual_of_another_dtype_keeps_its_own() -> None:
    torch.manual_seed(0)
    x, residual = drawn((1, 2, 4, 5), torch.bfloat16), drawn((1, 2, 4, 5), torch.float32)
    for padding in (0, 1):
        grad = torch.randn(1, 2, 4 + 2 * padding, 5 + 2 * padding)
        y, dx, dr = results(lambda x, r, p=padding: norm_act(x, residual=r, padding=p, fused=True), [x, residual], grad)
        assert (y.dtype, dx.dtype, dr.dtype) == (torch.float32, torch.bfloat16, torch.float32)
        wanted = results(lambda x, r, p=padding: formula(x, r, "none", p), [x.double(), residual.double()], grad)
        assert all(error < most for error, most in zip(off([y, dx, dr], wanted), (1e-6, 1e-2, 1e-6), strict=True))


@pytest.mark.parametrize(("slope", "padding"), [(0.01, 1), (1.0, 0)])
def test_finite_differences(slope: float, padding: int) -> None:
    """Along directions drawn at random: all of them would take the interpreter a minute."""
    torch.manual_seed(0)
    x, residual = torch.randn(2, 2, 2, 3, 3, dtype=torch.float64)
    x, residual = x.requires_grad_(), residual.contiguous(memory_format=torch.channels_last).requires_grad_()

    def run(x: Tensor, residual: Tensor) -> Tensor:
        y: Tensor = triton_ops.norm_act(x, residual, slope, padding, 1e-5)[0]
        return y

    assert torch.autograd.gradcheck(run, (x, residual), fast_mode=True)


@pytest.mark.parametrize("layout", FORMATS)
def test_opcheck(layout: str) -> None:
    x, residual = (torch.randn(1, 2, 3, 4).contiguous(memory_format=FORMATS[layout]) for _ in range(2))
    x, residual = x.requires_grad_(), residual.requires_grad_()
    torch.library.opcheck(triton_ops.norm_act, (x, residual, 0.0, 1, 1e-5))
    y, moments = triton_ops.norm_act(x, residual, 0.0, 1, 1e-5)
    backward = (y.detach(), x.detach(), moments, 0.0, 1, True)
    torch.library.opcheck(triton_ops.norm_act_backward, backward)


@pytest.mark.parametrize(("padding", "dropout"), [("zero", 0.5), ("reflect", 0.0)])
def test_residual_blocks(padding: Any, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = Residual(3, padding=padding, dropout=dropout).double()
    calls: list[tuple[Any, ...]] = []
    kernel = triton_ops.norm_act
    monkeypatch.setattr(triton_ops, "norm_act", lambda *given: calls.append(given) or kernel(*given))
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    outcomes = []
    for kernels in (False, True):
        Placement("NCHW", kernels=kernels).place(block, torch.device("cpu"))
        torch.manual_seed(1)
        y = block(x)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])])
        assert len(calls) == 2 * kernels
    for plain, fused in zip(*outcomes, strict=True):
        torch.testing.assert_close(fused, plain)
    (_, none, slope, by, _), (_, residual, last_slope, last_by, _) = calls
    assert none is None and slope == 0.0 and by == (padding == "reflect")
    assert (residual is x) == (not dropout) and last_slope == 1.0 and last_by == 0


def test_compiled_as_eager() -> None:
    """Up to Inductor, which on a CPU has nothing to do with kernels: graphs, strides, and the gradient's graph."""
    torch.manual_seed(0)
    block = Residual(3, padding="reflect")
    block.fused = True
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    for run in (block, compiled):
        y = run(x)
        found = [y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])]
        if run is block:
            wanted = found
    for each, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(each, other)


def test_a_second_derivative_is_refused_in_words() -> None:
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(norm_act(x, activation="relu", fused=True).square().sum(), x, create_graph=True)
    with pytest.raises(UserError, match="cannot be differentiated twice"):
        torch.autograd.grad(grad.square().sum(), x)


def test_maps_that_it_cannot_take() -> None:
    for shape, padding, words in (((1, 2, 1, 1), 0, "1x1 pixel"), ((1, 2, 3, 9), 3, "3x9 cannot be padded by 3")):
        with pytest.raises(ValueError, match=words):
            norm_act(torch.randn(shape), padding=padding, fused=True)
    with pytest.raises(ValueError, match="residual"):
        norm_act(torch.randn(1, 2, 3, 3), residual=torch.randn(1, 2, 3, 1), fused=True)
