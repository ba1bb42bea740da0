"""What `--precision` means on a device: auto, tf32, and what a run keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import TINY, one_line, unitkit
from tiny import recipe

from unitkit import RunOptions, Trainer, UserError
from unitkit.kernels import placement
from unitkit.kernels.operators import LAYOUTS, Fault
from unitkit.kernels.placement import best_precision
from unitkit.system.devices import set_precision

CPU = torch.device("cpu")


def able(monkeypatch: pytest.MonkeyPatch, *, instructions: bool, faults: tuple[Fault, ...] = ()) -> None:
    """A CPU with or without instructions for bfloat16, on which these operators are wrong."""
    monkeypatch.setattr(placement, "emulates_bf16", lambda device: not instructions)
    monkeypatch.setattr(placement, "outcome", lambda device: list(faults))


def test_auto_is_bf16_where_the_device_has_it_and_computes_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    able(monkeypatch, instructions=True)
    assert best_precision(CPU) == "bf16"
    able(monkeypatch, instructions=False)
    assert best_precision(CPU) == "fp32"
    wrong = tuple(Fault("convolution 3x3", "bf16", layout, 0.5) for layout in LAYOUTS)
    able(monkeypatch, instructions=True, faults=wrong)
    assert best_precision(CPU) == "fp32"
    able(monkeypatch, instructions=True, faults=wrong[:1])  # the other layout is right
    assert best_precision(CPU) == "bf16"
    assert best_precision(torch.device("mps")) == "fp32"


@pytest.mark.parametrize(("instructions", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_run_keeps_what_auto_meant(
    instructions: bool, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor that would choose otherwise too."""
    able(monkeypatch, instructions=instructions)
    made = Trainer(recipe(steps=1), RunOptions(tmp_path, precision="auto"))
    made.fit()
    assert made.run.record["precision"] == made.training_step.computation.precision == precision
    del made
    able(monkeypatch, instructions=not instructions)
    for said in (None, "auto"):
        again = Trainer(recipe(steps=2), RunOptions(tmp_path, precision=said, resume=True))
        assert again.training_step.computation.precision == precision and again.done == 1
        del again
    other = {"bf16": "fp32", "fp32": "bf16"}[precision]
    with pytest.raises(UserError, match=f"is a run with precision {precision}, not {other}"):
        Trainer(recipe(steps=2), RunOptions(tmp_path, precision=other, resume=True))


@pytest.fixture
def backends() -> Iterator[None]:
    """What this process may round is afterwards what it was."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("backends")
def test_products_are_rounded_in_tf32_alone() -> None:
    for precision in ("fp32", "tf32", "bf16", "tf32", "fp32"):
        set_precision(precision, torch.device("cuda"))
        found = {torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32}
        assert found == {precision == "tf32"}


def test_tf32_without_a_gpu_and_a_word_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tf32 is for CUDA devices, not cpu: choose fp32, bf16 or auto"):
        Trainer(recipe(), RunOptions(tmp_path / "run", precision="tf32", device="cpu"))
    assert not (tmp_path / "run").exists()
    out = ("--out", tmp_path / "run", "--device", "cpu")
    one_line(unitkit("train", TINY, *out, "--precision", "tf32"), "tf32 is for CUDA devices")
    one_line(unitkit("train", TINY, *out, "--precision", "bf61"), "unknown precision 'bf61'", "bf16")
