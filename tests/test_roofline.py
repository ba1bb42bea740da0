"""What the benchmarks of speed count and estimate, against formulas written out and plain simulations."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # they import each other by bare names
import ceilings
import counting
import data
import measuring
import of_ranks
import roofline
import scaling

sys.path.pop(0)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as text:
        return list(csv.DictReader(text))


def counted(work: Any) -> list[counting.Work]:
    with (counter := counting.Counter(CPU)):
        work()
    return counter.work


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_costs_its_multiplications_and_its_tensors(transposed: bool, groups: int) -> None:
    image = torch.randn(2, 4, 9, 7, requires_grad=True)
    if transposed:  # the kernel is put down at the pixels of the image, else at those of the result
        layer: nn.Module = nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=groups)
        places, result = 9 * 7, 2 * 6 * 17 * 13
    else:
        layer = nn.Conv2d(4, 6, 3, 2, 1, groups=groups)
        places, result = 5 * 4, 2 * 6 * 5 * 4

    def work() -> None:
        layer(image).sum().backward()

    weights = 3 * 3 * 4 * 6 // groups
    flop = 2 * 2 * places * weights  # a multiplication and an addition, two images
    found = {each.kind: each for each in counted(work) if each.convolution}
    parts = (counting.FORWARD, counting.BY_INPUT, counting.BY_WEIGHT)
    assert {kind: each.flop for kind, each in found.items()} == dict.fromkeys(parts, flop)
    tensors = image.numel() + weights + result
    assert found[counting.BY_INPUT].moved == 4 * tensors
    assert found[counting.FORWARD].moved == found[counting.BY_WEIGHT].moved == 4 * (tensors + 6)  # with the bias
    with FlopCounterMode(display=False) as theirs:
        work()
    assert theirs.get_total_flops() == sum(roofline.as_torch_counts(each) for each in found.values())
    frozen = [each.kind for each in counted(lambda: layer(image.detach()).sum().backward()) if each.convolution]
    assert frozen == [counting.FORWARD, counting.BY_WEIGHT]


def test_operators_move_what_they_read_and_write() -> None:
    a, b, half = torch.ones(10), torch.ones(10), torch.ones(10, dtype=torch.bfloat16)
    cases: list[tuple[Any, int, str]] = [
        (lambda: a + b, 3 * 40, counting.POINTWISE),
        (lambda: a.add_(b), 3 * 40, counting.POINTWISE),
        (lambda: a.copy_(b), 2 * 40, counting.COPIES),
        (lambda: a.to(torch.bfloat16), 40 + 20, counting.COPIES),
        (lambda: torch.cat([a, b]), 160, counting.COPIES),
        (lambda: a[:1].expand(100) * 2, 4 + 400, counting.POINTWISE),
        (lambda: a.zero_(), 40, counting.POINTWISE),
        (lambda: half.relu_(), 2 * 20, counting.POINTWISE),
        (lambda: torch._foreach_add([a, b], [b, a]), 6 * 40, counting.OPTIMIZER),
        (lambda: torch.native_layer_norm(a, (10,), None, None, 1e-5), 2 * 40 + 8, counting.NORMS),
    ]
    for work, moved, kind in cases:
        *before, last = counted(work)
        assert sum(each.moved for each in [*before, last]) == moved, (kind, moved)
        assert last.kind == kind or moved == 40
    assert sum(each.moved for each in counted(lambda: (a.view(2, 5).t(), torch.empty(5), a.split(5), a.detach()))) == 0


def test_losses_and_optimizers_are_told_apart_backward_too(tmp_path: Path) -> None:
    trainer = measuring.trainer_of(["unit_faces", "size=16", "width=4", "ema=0"], tmp_path / "run", "cpu", "fp32")
    step = measuring.whole_step(trainer)
    step(1)  # in which Adam's averages are made
    work = counting.count_step(trainer, step, 2)
    kinds = {kind: [each for each in work if each.kind == kind] for kind in counting.CLASSES}
    assert all(kinds[kind] for kind in counting.CLASSES)
    # The size of a difference is l1's alone, and its sign is l1's gradient: each of four reconstructions, once.
    names = [each.name for each in kinds[counting.LOSSES]]
    assert names.count("abs") == names.count("sgn") == 4
    assert all(each.name != "sgn" for each in work if each.kind != counting.LOSSES)
    assert not {"leaky_relu_backward", "tanh_backward"} & {*names, *(each.name for each in kinds[counting.OTHER])}
    # Adam reads weights, gradients and two averages, and writes all but the gradients; the norm reads gradients.
    elements = sum(p.numel() for own in trainer.training_step.parameters.values() for p in own)
    traffic = sum(each.moved for each in kinds[counting.OPTIMIZER])
    assert 8 * 4 * elements <= traffic < 8.1 * 4 * elements + 4000


def test_the_floor_is_arithmetic_or_traffic_whichever_is_longer() -> None:
    shape = counting.Convolution(
        counting.FORWARD, (1, 2, 4, 4), (3, 2, 1, 1), False, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, torch.float32
    )
    other = shape._replace(part=counting.BY_INPUT)
    assert shape.flop == 2 * 16 * 6 and shape.moved == 4 * (32 + 6 + 48)
    rates: ceilings.Rates = {shape: {"NCHW": 96.0, "channels-last": 48.0}, other: {"NCHW": 192.0, "channels-last": 9.0}}
    memory = [ceilings.Bandwidth("copy", 100, 1000.0), ceilings.Bandwidth("copy", 1000, 100.0)]
    conv = counting.Work(counting.FORWARD, "convolution", 192, 10, 4.0, shape)
    assert roofline.floor(conv, rates, memory) == 2.0  # 192 FLOP at 96 a second
    assert roofline.floor(conv._replace(moved=300), rates, memory) == 3.0  # 300 bytes at 100 a second
    assert roofline.floor(counting.Work(counting.COPIES, "copy_", 0, 100, 1.0), rates, memory) == 0.1  # in a cache
    assert ceilings.bandwidth_at(5000, memory) == 100.0
    work = [
        conv,
        conv._replace(convolution=other, kind=counting.BY_INPUT),
        counting.Work(counting.COPIES, "copy_", 0, 100, 1.0),
    ]
    assert roofline.arithmetic_floor(work, rates) == 2.0  # all 384 FLOP at 192 a second
    total = roofline.by_class(work, rates, memory)[-1]
    assert total["ms floor"] == 3100.0 and total["ms counted"] == 9000.0 and total["calls"] == 3


def test_quantiles_lie_between_values() -> None:
    assert measuring.spread([float(each) for each in reversed(range(11))]) == (2.0, 5.0, 8.0)
    assert measuring.spread([3.0]) == (3.0, 3.0, 3.0)
    assert measuring.spread([1.0, 2.0]).text(1) == "1.5 (1.2 - 1.8)"


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_ring_takes_as_long_as_its_messages(count: int) -> None:
    """Ranks hold a piece for each rank; in each round every rank passes one piece on to the next."""
    pieces = [{piece: {rank} for piece in range(count)} for rank in range(count)]
    size, link, seconds = 12.0 * count, scaling.Link(bandwidth=3.0, latency=0.5), 0.0
    for turn in range(2 * (count - 1)):
        passed = [dict(each) for each in pieces]
        for rank in range(count):
            piece = (rank - turn) % count
            pieces[(rank + 1) % count][piece] = pieces[(rank + 1) % count][piece] | passed[rank][piece]
        seconds += size / count / link.bandwidth + link.latency
    assert all(found == set(range(count)) for each in pieces for found in each.values())  # all have the whole sum
    assert scaling.ring(size, count, link) == pytest.approx(seconds)


def test_an_exchange_hides_behind_the_backward_pass_but_for_its_end() -> None:
    assert scaling.not_hidden(exchange=3.0, backward=5.0, last=0.1) == pytest.approx(0.3)
    assert scaling.not_hidden(exchange=8.0, backward=5.0, last=0.1) == 3.0
    assert scaling.not_hidden(exchange=3.0, backward=5.0, last=1.0) == 3.0


def test_a_rank_tells_its_gradients_and_what_it_gives_to_others(tmp_path: Path) -> None:
    trainer = measuring.trainer_of(["unit_faces", "size=16", "width=4"], tmp_path / "run", "cpu", "fp32")
    step = measuring.whole_step(trainer)
    with of_ranks.watched(trainer) as found:
        step(1)
    parameters = trainer.training_step.parameters
    assert found.gradients == {
        name: 4 * sum(p.numel() for p in parameters[name]) for name in ("discriminator", "generator")
    }
    assert found.backward.keys() == found.gradients.keys() and not found.sent  # alone: nothing to exchange


def test_the_estimate_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gradients, backward = {"d": 10**8, "g": 4 * 10**8}, {"d": 0.1, "g": 0.4}
    one = of_ranks.Measured(measuring.Spread(90.0, 100.0, 110.0), 8, 0.0, gradients, backward)
    two = one._replace(ms=measuring.Spread(115.0, 125.0, 135.0), exchanged=5e8)
    monkeypatch.setattr(scaling, "measure", lambda world, *_: {1: one, 2: two}[world])
    scaling.main(["unit_faces", f"--csv={tmp_path / 'scaling.csv'}", "--latency", "0", "0"])
    found = {(row["ranks"], row["figures"]): row for row in rows(tmp_path / "scaling.csv")}
    assert {figures for ranks_, figures in found if "GPUs" in ranks_} == {
        "estimated, exposed",
        "estimated, overlapped",
    }
    assert float(found["2 on cpu", "measured"]["efficiency"]) == pytest.approx(0.8)
    # 2 * 63/64 * 500 MB at 50 GB/s are 19.7 ms; hidden, but for the last 25 MB of each player's.
    assert float(found["64 GPUs", "estimated, exposed"]["step ms"]) == pytest.approx(100 + 2 * 63 / 64 * 10)
    assert float(found["64 GPUs", "estimated, overlapped"]["step ms"]) == pytest.approx(100 + 2 * 63 / 64 * 1)
    assert float(found["8 GPUs", "estimated, exposed"]["step ms"]) == pytest.approx(100 + 2 * 7 / 8 * 500 / 450)
    with pytest.raises(SystemExit):
        scaling.main(["unit_face"])
    assert "unit_faces" in capsys.readouterr().err


def test_a_roofline_of_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ceilings, "ARRAYS", (2**12, 2**14))
    tiny = ["unit_faces", "size=16", "width=4", "--steps=1", "--budget=0", "--threads=1"]
    roofline.main([*tiny, f"--csv={tmp_path / 'roofline.csv'}"])
    assert "the same by torch.utils.flop_counter" in capsys.readouterr().out
    found = rows(tmp_path / "roofline.csv")
    whole = next(row for row in found if row["operators"] == "all")
    convolutions = [row for row in found if row["convolution"]]
    products = next(row for row in found if row["operators"] == "matrix products")
    arithmetic = sum(float(row["GFLOP"]) for row in [*convolutions, products])
    assert arithmetic == pytest.approx(float(whole["GFLOP"]))
    last = next(row for row in found if row["operators"] == "step")
    assert float(last["floor ms"]) == pytest.approx(float(whole["ms floor"]))
    assert 0 < float(last["arithmetic floor ms"]) <= float(last["floor ms"])
    count_step = roofline.count_step
    monkeypatch.setattr(roofline, "count_step", lambda *given: count_step(*given)[:-200])
    with pytest.raises(SystemExit, match="an operator is missing"):
        roofline.main(tiny)


def test_the_loader_beside_steps_of_two_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sides=24", "--size=16", "--images=6", "--batch=2", "--workers=1", "--step-ms", "1", "10", "--threads=1"]
    data.main([*words, f"--csv={tmp_path / 'data.csv'}"])
    found = rows(tmp_path / "data.csv")
    assert [float(row["step eats images/s"]) for row in found] == [4000.0, 400.0]
    assert all(float(row["cold images/s"]) > 0 and row["torch"] == torch.__version__ for row in found)
