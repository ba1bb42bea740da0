"""Two ranks: their mean gradient is that of the whole batch, and they hold one set of weights."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
import torch
from commands import TINY, Moment, Started, one_line, start, unitkit
from safetensors.torch import load_file

from unitkit.runs.folder import RunFolder


def two_ranks(folder: Path, *words: object, moments: tuple[Moment, ...] = ()) -> list[Started]:
    """A training on two ranks, as torchrun starts it. `moments` are of rank 1."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(
            folder / f"log{rank}",
            "train",
            *words,
            moments=moments if rank == 1 else (),
            environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            weights=folder,
        )
        for rank in (0, 1)
    ]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
def test_two_ranks_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    knobs = ("noise=0", "augment=no", "steps=4", "lr=1e-3")
    ranks = two_ranks(tmp_path / "two", TINY, "batch=2", *knobs, "--out", tmp_path / "run2")
    assert unitkit("train", TINY, "batch=4", *knobs, "--out", tmp_path / "run1").status == 0
    answers = [rank.wait() for rank in ranks]
    assert [answer.status for answer in answers] == [0, 0], answers
    assert "protocol: step 4" in answers[0].out and answers[1].out == ""
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    one = load_file(RunFolder(tmp_path / "run1").latest() / "model.safetensors")
    saved = load_file(RunFolder(tmp_path / "run2").latest() / "model.safetensors")
    assert all(torch.equal(first[name], saved[name]) for name in first)
    # A bias before an instance norm changes nothing: its gradient is rounding, which Adam makes into steps.
    idle = {name for name in one if ".body." in name and name.endswith("bias")}
    assert len(idle) == 4  # of towers that share their blocks
    worst = {name: (one[name] - first[name]).abs().max().item() for name in one.keys() - idle}
    assert max(worst.values()) < 1e-5, worst
    for row, other in zip(RunFolder(tmp_path / "run1").stats(), RunFolder(tmp_path / "run2").stats(), strict=True):
        assert row["step"] == other["step"]
    record = json.loads((tmp_path / "run2/run.json").read_text())
    assert record["world"] == 2
    one_line(
        unitkit("train", "--resume", "--out", tmp_path / "run2", "steps=9"),
        "4 images of each domain a step, 2 on each of 2",
        "give batch=4",
    )


def test_a_signal_on_one_rank_stops_both(tmp_path: Path) -> None:
    moments = (Moment("unitkit.trainer:Trainer.step", 3, (signal.SIGTERM,)),)
    words = (TINY, "--out", tmp_path / "run")
    ranks = two_ranks(tmp_path / "two", *words, moments=moments)
    answers = [rank.wait() for rank in ranks]
    assert [answer.status for answer in answers] == [143, 143], answers
    assert "stopped at step 3 with a checkpoint" in answers[0].out
    ranks = two_ranks(tmp_path / "two", "--resume", "--out", tmp_path / "run")
    assert [rank.wait().status for rank in ranks] == [0, 0]
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ranks_agree_on_a_new_folder_and_go_on_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    knobs = ("noise=0", "augment=no", "lr=1e-5", "batch=2", "steps=4")  # Adam moves by lr whatever the last digits
    answers = [rank.wait() for rank in two_ranks(tmp_path / "two", TINY, *knobs)]
    assert [answer.status for answer in answers] == [0, 0], answers
    (folder,) = (tmp_path / "runs/tiny").iterdir()
    words = ("batch=4", "steps=8")
    answer = unitkit("train", "--resume", "--out", folder, *words)
    assert answer.status == 0 and "batch 4 for each of 1, where it was 2 for each of 2 processes" in answer.out, answer
    assert unitkit("train", TINY, *knobs[:3], *words, "--out", tmp_path / "one").status == 0
    rows, others = (RunFolder(each).stats() for each in (folder, tmp_path / "one"))
    assert rows[-1]["step"] == others[-1]["step"] == 8
    for name, value in others[-1].items():
        if name != "seconds":
            assert rows[-1][name] == pytest.approx(value, rel=1e-4), name  # the same images, summed otherwise


def test_what_one_rank_refuses_is_one_line_on_each(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.py").write_text("mine")
    answers = [rank.wait() for rank in two_ranks(tmp_path / "two", TINY, "--out", tmp_path / "run")]
    one_line(answers[0], "holds recipe.py")
    assert answers[1].status == 1 and answers[1].err.count("\n") == 1, answers[1]
    assert answers[1].err.startswith("training stopped: another process of this training has ended")
