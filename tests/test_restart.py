"""A process of a training on several ranks is killed: torchrun's agent starts all again, and they go on exactly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
import torch
from commands import TINY, Answer, Moment, one_line, unitkit
from ranks import on_two_ranks
from safetensors.torch import load_file

from unitkit.runs.folder import RunFolder

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
WORDS = ("train", str(TINY), "@quick", "steps=5", "--checkpoint-every", "2", "--resume", "--device", "cpu", "--out")


def train(folder: Path, killed: bool, *words: str) -> None:
    """One rank; the second is killed before its fourth step, the first time."""
    rank, again = os.environ["RANK"], os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dies = killed and (rank, again) == ("1", "0")
    moments = [Moment("unitkit.trainer:Trainer.step", 4)] if dies else []
    try:
        commands._run(folder / f"log{rank}-{again}", [*words], moments, {}, None, None, None, False, False, 0)
    except SystemExit as end:
        if end.code:
            os._exit(int(end.code))


def untouched(environment: dict[str, str], folder: Path, *words: str) -> None:
    """One of two ranks of a training that nobody kills."""
    os.environ.update(environment)
    train(folder, False, *words)


@pytest.fixture
def signals() -> Iterator[None]:
    """What torchrun's agent does with signals in this process is undone."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_torchrun_starts_a_training_again_where_a_rank_was_killed(tmp_path: Path) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def files(run: Path) -> dict[str, torch.Tensor]:
        last = RunFolder(run).latest()
        assert last.name == "step-00000005"
        return load_file(last / "model.safetensors") | load_file(last / "training.safetensors")

    run, whole = tmp_path / "run", tmp_path / "whole"
    (tmp_path / "other").mkdir()
    agent = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=1,
        monitor_interval=0.05,
        start_method="forkserver",
    )
    assert on_two_ranks(untouched, tmp_path / "other", *WORDS, str(whole)) == [
        0,
        0,
    ]  # which starts our server of processes, too
    elastic_launch(agent, train)(tmp_path, True, *WORDS, str(run))
    first = (tmp_path / "log0-0.err").read_text()
    assert first.startswith("training stopped: another process of this training has ended"), first
    assert first.count("\n") == 1 and "pair.cc" not in first
    assert "steps 0 to 5" in (tmp_path / "log0-0.out").read_text()
    assert "steps 2 to 5" in (tmp_path / "log0-1.out").read_text()
    ours, theirs = files(run), files(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    rows = [[{**row, "seconds": 0} for row in RunFolder(each).stats()] for each in (run, whole)]
    assert rows[0] == rows[1] and len(rows[0]) == 2


def test_one_command_begins_a_run_and_goes_on_with_it(tmp_path: Path) -> None:
    words = ("train", TINY, "@quick", "width=5", "--out", tmp_path / "run", "--resume")
    assert "steps 0 to 2" in unitkit(*words).out
    answer = unitkit(*words)
    assert answer.status == 0 and answer.out.count("\n") == 1 and "this run is complete" in answer.out, answer
    assert "steps 2 to 3" in unitkit(*words, "steps=3").out
    one_line(unitkit(*words[:3], "width=6", *words[4:]), "is a run with width=5, not 6", "another --out")
    one_line(unitkit("train", TINY, "lr=1", *words[4:]), "is a run with lr=0.001, not 1.0")


def test_a_run_that_is_complete_is_left_as_it_is(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = ("train", "--resume", "--out", run)
    said = "this run is complete, and was measured; give steps=N with N above 12 to go on\n"
    assert unitkit(*again) == Answer(0, said, "")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    found = json.loads((run / "metrics.json").read_text())
    found["evaluations"][0]["metrics"]["psnr(aa, a)"].update(failed="no weights", figures={})
    (run / "metrics.json").write_text(json.dumps(found))
    assert "done in" in unitkit(*again).out and unitkit(*again).out == said
    (run / "metrics.json").unlink()  # as where it was killed as it measured
    assert "done in" in unitkit(*again).out and (run / "metrics.json").exists()


def test_metrics_that_are_never_watched_are_said(tmp_path: Path) -> None:
    words = ("train", TINY, "@quick", "--watch", "psnr(aa, a)", "--out")
    said = "its metrics are watched every 3 steps, and none of these is one; see --watch-every"
    assert said in unitkit(*words, tmp_path / "a", "--watch-every", 3).out
    assert "are watched every" not in unitkit(*words, tmp_path / "b", "--watch-every", 2).out


def test_what_cannot_go_on_or_join_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", TINY, "--out", tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    one_line(unitkit(*words), "torchrun --max-restarts", "add --resume --out DIR")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_PORT", "1")
    one_line(unitkit(*words), "WORLD_SIZE=2", "there is no RANK, MASTER_ADDR: ", "torchrun -m unitkit train")
    monkeypatch.setenv("WORLD_SIZE", "two")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    one_line(unitkit(*words), "WORLD_SIZE=two in the environment is no whole number")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    one_line(unitkit(*words), "RANK=2 in the environment is no whole number from 0 to 1")
    monkeypatch.setenv("RANK", "0")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        answer = unitkit(*words)
    assert answer.status == 1 and answer.err.startswith("training stopped: cannot join the 2 processes"), answer
    assert not (tmp_path / "run").exists()
