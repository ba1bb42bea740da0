"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
for number, usual in (signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL):
    if signal.getsignal(number) is signal.SIG_IGN:  # as of a command behind `&` or nohup; tests send these signals
        signal.signal(number, usual)


IMPORTED = [0]  # modules, when what they made was last set aside


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What tests before this one have imported stays, and collecting garbage after each command need not walk it."""
    if len(sys.modules) > IMPORTED[0] + 20:
        IMPORTED[0] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def hasty_classifier() -> Iterator[None]:
    """The classifier of `attribute_success` learns for two steps in place of its usual 600, which are most of what a
    tiny run takes."""
    from unitkit.metrics import attribute

    learn = attribute.train_classifier
    usual = inspect.signature(attribute.attribute_success).parameters["steps"].default

    def hastily(data: Any, *, steps: int, **how: Any) -> Any:
        return learn(data, steps=2 if steps == usual else steps, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribute, "train_classifier", hastily)
        yield


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A recipe file that trains in a second."""
    return Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="session")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an uninterrupted training: 12 steps, a checkpoint every 3. Not to be changed."""
    from commands import unitkit

    folder = tmp_path_factory.mktemp("trained") / "run"
    answer = unitkit("train", tiny, "--out", folder, "--checkpoint-every", 3)
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture
def own_parts() -> Iterator[None]:
    """Parts that a test registers are forgotten again."""
    from unitkit.registry import REGISTRIES

    known = {kind: dict(registry.parts) for kind, registry in REGISTRIES.items()}
    yield
    for kind, registry in REGISTRIES.items():
        registry.parts = known[kind]
