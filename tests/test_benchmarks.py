"""The benchmarks run, and compare what they say they compare."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SETTINGS = {"size": 16, "width": 4, "layers": 2, "blocks": 2, "batch": 2, "steps": 2, "threads": 1}
TINY = ["--no-memory", *(f"--{name}={value}" for name, value in SETTINGS.items())]


@pytest.fixture
def step() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unitkit_benchmark_step", BENCHMARKS / "step.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def threads_stay() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_textbook_and_package_take_the_same_step(step: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    step.main(TINY)
    said = capsys.readouterr().out
    differences = re.findall(r"^(.+): 12 losses equal .* ([\d.e+-]+)$", said, re.MULTILINE)
    assert {name for name, _ in differences} == {"package", "textbook", "textbook, detached", "package, NCHW"}
    assert all(float(difference) <= step.TOLERANCE for _, difference in differences)
    gflop = {row[:20].strip(): row.split()[-2] for row in said.splitlines() if row.endswith("nan")}
    assert set(gflop) >= {name for name, _ in differences}


def test_a_textbook_of_another_objective_is_refused(step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "l1_loss", lambda x, y: (x - y).square().mean())
    with pytest.raises(SystemExit, match="'textbook' is another step than the package's"):
        step.main(TINY)
