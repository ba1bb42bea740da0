"""The Triton kernels and the switch to them: interpreted, compiled for GPUs that are not here, and left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from unitkit.kernels import fused
from unitkit.kernels.fused import fusible, norm_act
from unitkit.kernels.norms import InstanceNorm
from unitkit.kernels.placement import Placement
from unitkit.networks.layers import Reflect, Residual

needs_triton = pytest.mark.skipif(not fused.TRITON, reason="Triton is not installed")


@needs_triton
def test_in_tritons_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "interpreted_kernels.py"]
    here = {"cwd": Path(__file__).parent, "env": {**os.environ, "TRITON_INTERPRET": "1"}}
    done = subprocess.run(command, **here, capture_output=True, text=True)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr


GIVEN = {"eps": "fp32", "moments": "*fp32", "sums": "*fp32"}
MAPS = ("x", "y", "residual", "gradient", "dx", "unpadded")


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "layout", "padding"), [("fp32", torch.contiguous_format, 0), ("bf16", torch.channels_last, 1)]
)
def test_kernels_compile_for_a_gpu(
    dtype: str, layout: torch.memory_format, padding: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the machine code of an sm_90, with the tiles that maps of 32x32 and 256x256 are given."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from unitkit.kernels import triton_norm
    from unitkit.kernels.triton_ops import Tiling

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    last = layout == torch.channels_last
    for size in (32, 256):
        tiling = Tiling.of(torch.empty(2, 64, size, size, device="meta"), last, padding)
        assert bool(tiling.chunks) == (size == 256)
        given = {
            "SLOPE": 0.01,
            "PADDING": padding,
            "RESIDUAL": True,
            "UNPADDED": bool(padding),
            "LAST": last,
            "CHUNKS": tiling.chunks,
            "BLOCK_C": tiling.channels,
            "BLOCK_P": tiling.pixels,
        }
        kernels = [triton_norm.forward, triton_norm.backward]
        kernels += [triton_norm.moments_of_chunks, triton_norm.grads_of_chunks] if tiling.chunks else []
        for kernel in kernels:
            names = kernel.arg_names
            signature = {
                name: "constexpr" if name in given else f"*{dtype}" if name in MAPS else GIVEN.get(name, "i32")
                for name in names
            }
            constants = {(place,): given[name] for place, name in enumerate(names) if name in given}
            target, options = GPUTarget("cuda", 90, 32), {"num_warps": tiling.warps}
            built = triton.compile(ASTSource(kernel, signature, constants), target=target, options=options)
            assert built.asm["cubin"]


@needs_triton
def test_a_compiler_sees_through_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its graphs, forward and backward, hold kernels that write to their results alone, as if for an sm_90."""
    import triton
    from torch._functorch.aot_autograd import aot_function, make_boxed_func
    from torch._subclasses.fake_tensor import FakeTensorMode
    from triton.backends.compiler import GPUTarget

    from unitkit.kernels import triton_ops

    driver = SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32))
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    graphs = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append([node for node in graph.graph.nodes if node.op == "call_function"])
        return make_boxed_func(graph.forward)

    with FakeTensorMode():
        x = torch.empty(2, 8, 128, 130).contiguous(memory_format=torch.channels_last).requires_grad_()
        run = aot_function(lambda x: triton_ops.norm_act(x, x, 0.0, 1, 1e-5)[0], fw_compiler=keep, bw_compiler=keep)
        y = run(x)
        assert y.shape == (2, 8, 130, 132) and y.is_contiguous(memory_format=torch.channels_last)
        y.sum().backward()
    assert len(graphs) == 2
    for graph, outputs in zip(graphs, ({"y", "moments"}, {"dx", "unpadded"}), strict=True):
        kernels = [node for node in graph if "triton_kernel_wrapper" in str(node.target)]
        written = [set(node.kwargs["tensors_to_clone"]) for node in kernels]
        assert written == [{"sums"}, outputs]
        assert not any("unitkit" in str(node.target) for node in graph)


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu"])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("kernel", [False, True])  # which the CPU does not have
def test_plain_is_what_layers_compute(activation: Any, padding: int, kernel: bool) -> None:
    torch.manual_seed(0)
    x, residual = torch.randn(2, 2, 3, 5, 7)
    after = {"none": nn.Identity(), "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.01)}[activation]
    x.requires_grad_(), residual.requires_grad_()
    wanted = Reflect(padding)(after(InstanceNorm()(x)) + residual)
    found = norm_act(x, activation=activation, residual=residual, padding=padding, fused=kernel)
    assert torch.equal(found, wanted)
    grad = torch.randn_like(wanted)
    for ours, theirs in zip(*(torch.autograd.grad(y, (x, residual), grad) for y in (found, wanted)), strict=True):
        assert torch.equal(ours, theirs)


def test_kernels_are_off_and_a_placement_switches_them_on() -> None:
    model, device = nn.Sequential(Residual(4), nn.Sequential(Residual(4, padding="reflect"))), torch.device("cpu")
    blocks = [module for module in model.modules() if isinstance(module, Residual)]
    x = torch.randn(1, 4, 5, 5)
    plain = model(x)
    assert not any(block.fused for block in blocks)
    Placement("NCHW", kernels=True).place(model, device)
    assert all(block.fused for block in blocks)
    if not fusible(x):
        assert torch.equal(model(x), plain)
    Placement("NCHW").place(model, device)
    assert not any(block.fused for block in blocks)


def test_training_never_imports_triton() -> None:
    code = (
        "import sys, torch; before = 'triton' in sys.modules\n"
        "import unitkit.trainer\n"
        "from unitkit.kernels.fused import norm_act\n"
        "norm_act(torch.randn(1, 2, 3, 3), activation='relu', fused=True)\n"
        "print(before, 'triton' in sys.modules, 'unitkit.kernels.triton_ops' in sys.modules)"
    )
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    before, after, ours = done.stdout.split()
    assert ours == "False" and after == before
