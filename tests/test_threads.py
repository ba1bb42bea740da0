"""How OpenMP's idle threads wait: decided by the load before torch is loaded, unless the user has said it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unitkit.system import threads


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(threads, "usable", lambda: 2)
    for name in (*threads.SAYS, "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(threads, "LOADAVG", tmp_path / "loadavg")
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")


def load(tmp_path: Path, running: int) -> None:
    (tmp_path / "loadavg").write_text(f"0.00 0.01 0.05 {running}/300 4242\n")


@pytest.mark.parametrize(("running", "policy"), [(1, None), (2, "passive"), (9, "passive")])
def test_by_the_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: int, policy: str | None) -> None:
    load(tmp_path, running)
    threads.decide()
    assert threads.os.environ.get(threads.VARIABLE) == policy
    assert ("sleep" if policy else "spin") in threads.describe()


@pytest.mark.parametrize(("running", "policy"), [(1, None), (2, None), (61, None), (62, "passive")])
def test_others_may_have_the_processors_that_torch_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: int, policy: str | None
) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads, "usable", lambda: 4)
    load(tmp_path, running)
    threads.decide()
    assert threads.os.environ.get(threads.VARIABLE) == policy


@pytest.mark.parametrize(
    ("said", "policy"),
    [("max 100000", None), ("200000 100000", None), ("150000 100000", "passive"), ("-1 0", None), ("?", None)],
)
def test_a_container_may_grant_less_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, policy: str | None
) -> None:
    load(tmp_path, 1)
    (tmp_path / "cpu.max").write_text(said + "\n")
    threads.decide()
    assert threads.os.environ.get(threads.VARIABLE) == policy


@pytest.mark.parametrize("said", ["", "1", "1,2", "0", "many", "99999"])
def test_the_processors_that_torch_takes(said: str) -> None:
    code = "from unitkit.system.threads import usable; print(usable())"
    environment = {**threads.os.environ, "OMP_NUM_THREADS": said}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert 1 <= int(done.stdout) <= (1 if said.startswith("1") else 10**4)


@pytest.mark.parametrize("name", threads.SAYS)
def test_the_user_has_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    load(tmp_path, 9)
    monkeypatch.setenv(name, "active")
    threads.decide(shared=True)
    assert threads.os.environ.get(threads.VARIABLE) in (None, "active") and name in threads.describe()


@pytest.mark.parametrize("ranks", ["1", "2", "two"])
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


def test_a_command_under_load_sets_it_before_torch_is_loaded(tmp_path: Path) -> None:
    """A real `unitkit train`, cut off where torch is first asked for: torch reads what the variable is then."""
    code = f"""
import os, sys
from pathlib import Path
import unitkit.system.threads
unitkit.system.threads.LOADAVG = Path({str(tmp_path / "loadavg")!r})
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Stop())
from unitkit.cli import main
sys.argv = ["unitkit", "train", "recipes/unit_faces.py"]
main()
"""
    load(tmp_path, 99)
    environment = {k: v for k, v in threads.os.environ.items() if k not in threads.SAYS}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["passive"], done.stderr
