"""How OpenMP's idle threads wait: decided by the load before torch is loaded, unless the user has said it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unitkit import threads


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*threads.SAYS, "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(threads, "LOADAVG", tmp_path / "loadavg")


def load(tmp_path: Path, running: int) -> None:
    (tmp_path / "loadavg").write_text(f"0.00 0.01 0.05 {running}/300 4242\n")


@pytest.mark.parametrize(("running", "policy"), [(1, None), (2, "passive"), (9, "passive")])
def test_by_the_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: int, policy: str | None) -> None:
    load(tmp_path, running)
    threads.decide()
    assert threads.os.environ.get(threads.VARIABLE) == policy
    assert ("sleep" if policy else "spin") in threads.describe()


@pytest.mark.parametrize("name", threads.SAYS)
def test_the_user_has_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    load(tmp_path, 9)
    monkeypatch.setenv(name, "active")
    threads.decide(shared=True)
    assert threads.os.environ.get(threads.VARIABLE) in (None, "active") and name in threads.describe()


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_several_of_ours_never_spin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ranks: str) -> None:
    load(tmp_path, 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    threads.decide(shared=ranks == "1")
    assert threads.os.environ[threads.VARIABLE] == "passive"


def test_a_machine_without_that_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (3.2, 0.0, 0.0))
    assert threads.busy() == 3


def test_it_is_decided_before_torch_is_loaded_and_not_by_an_import() -> None:
    code = "import os, sys, unitkit.cli; print('torch' in sys.modules, 'OMP_WAIT_POLICY' in os.environ)"
    environment = {k: v for k, v in threads.os.environ.items() if k not in threads.SAYS}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["False", "False"]
