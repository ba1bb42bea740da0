"""The systems and devices that unitkit is for: Windows is refused in one line, MPS is chosen where it is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import unitkit

from unitkit import UserError
from unitkit.commands import evaluate
from unitkit.kernels import operators
from unitkit.kernels.operators import ADAM, LAYOUTS, Fault
from unitkit.kernels.placement import choose_device
from unitkit.system import dist

REFUSAL = "unitkit runs on Linux and macOS; on Windows use WSL 2 (https://learn.microsoft.com/windows/wsl)"


def on_windows(*argv: str, code: str) -> subprocess.CompletedProcess[str]:
    head = f"import runpy, sys; sys.platform = 'win32'; sys.argv = {list(argv)}; "
    words = [sys.executable, "-c", head + code]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1])


def test_the_command_refuses_windows_in_one_line() -> None:
    for argv, code in (
        (["-m", "list"], "runpy.run_module('unitkit', run_name='__main__')"),  # as `python -m unitkit list` has it
        (["unitkit.exe", "list"], "from unitkit.__main__ import main"),
    ):
        done = on_windows(*argv, code=code)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{REFUSAL}\n")


@pytest.mark.parametrize("name", ["unitkit", "unitkit.data", "unitkit.trainer"])
def test_a_program_on_windows_gets_an_import_error(name: str) -> None:
    """Which it can catch: a package that ends the process is no good guest."""
    code = f"exec('try:\\n import {name}\\nexcept ImportError as error:\\n print(error)')"
    done = on_windows("my_program.py", code=code)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{REFUSAL}\n", "")


@pytest.fixture
def mps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with MPS, no CUDA, and no checks that were done before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(operators, "faults", lambda device: iter(()))
    return monkeypatch


def test_auto_is_mps_where_its_checks_pass(mps: pytest.MonkeyPatch) -> None:
    checked = []
    mps.setattr(operators, "faults", lambda device: iter(checked.append(device.type) or ()))  # type: ignore[func-returns-value]
    assert choose_device("auto").type == choose_device("auto").type == "mps"
    assert checked == ["mps"]  # once for each build of torch
    mps.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


def test_auto_is_mps_where_what_is_wrong_can_be_avoided(mps: pytest.MonkeyPatch) -> None:
    wrong = [Fault(ADAM, "fp32", layout, 1.0) for layout in LAYOUTS] + [Fault("tanh", "fp32", "channels-last", 1.0)]
    mps.setattr(operators, "faults", lambda device: iter(wrong))
    assert choose_device("auto").type == "mps"


def test_auto_is_the_cpu_where_mps_computes_wrongly(mps: pytest.MonkeyPatch) -> None:
    mps.setattr(operators, "faults", lambda device: iter([Fault("tanh", "fp32", layout, 1.0) for layout in LAYOUTS]))
    assert choose_device("auto").type == "cpu"
    assert choose_device("mps").type == "mps"  # who names it has the reason from the training


def test_auto_is_the_cpu_where_the_checks_cannot_run(mps: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> None:
        raise RuntimeError("MPS backend out of memory")

    mps.setattr(operators, "faults", broken)
    assert choose_device("auto").type == "cpu"


def test_auto_is_the_cpu_for_several_processes(mps: pytest.MonkeyPatch) -> None:
    """Which add up their gradients through gloo, that knows no MPS."""
    mps.setattr(dist, "world", lambda: 2)
    assert choose_device("auto").type == "cpu"


def test_mps_is_refused_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="no device 'mps' here"):
        choose_device("mps")


def test_a_torchvision_of_another_build_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch for CPUs with the torchvision of PyPI: what importing that says, wherever it is imported first."""

    def imports(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(evaluate, "evaluate_run", imports)
    answer = unitkit("evaluate", "run")
    assert answer.status == 2 and answer.err.count("\n") == 1
    assert "another build than torch" in answer.err and "pip install" in answer.err
