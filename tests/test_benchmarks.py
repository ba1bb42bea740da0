"""The benchmarks run, and compare what they say they compare."""

from __future__ import annotations

import csv
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from unitkit.runs.folder import RunFolder

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SETTINGS = {"size": 16, "width": 4, "layers": 2, "blocks": 2, "batch": 2, "steps": 2, "threads": 1}
TINY = ["--no-memory", *(f"--{name}={value}" for name, value in SETTINGS.items())]


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"unitkit_benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks import each other by bare names, as scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def step() -> ModuleType:
    return benchmark("step")


@pytest.fixture(autouse=True)
def threads_stay() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_textbook_and_package_take_the_same_step(
    step: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for compiled ones, which test_compile.py is about."""
    plain = [name for name in step.VARIANTS if "compiled" not in name]
    step.main([*TINY, f"--csv={tmp_path / 'step.csv'}", "--variants", *plain])
    said = capsys.readouterr().out
    line = (
        r"^(.+): 12 losses and 60 gradients equal to the package's \((fp\d\d|bf16).*\), .* ([\d.e+-]+) and ([\d.e+-]+)$"
    )
    compared = re.findall(line, said, re.MULTILINE)
    off = {(name, precision): (float(loss), float(gradient)) for name, precision, loss, gradient in compared}
    others = {"package, channels-last", "textbook", "textbook, detached"}
    assert {name for name, precision in off if precision == "fp32"} == others
    assert {name for name, precision in off if precision == "fp64"} == others
    assert all(off[name, "fp64"][0] <= 1e-12 and off[name, "fp64"][1] <= 1e-9 for name in others)
    assert all(off[name, "fp32"][0] <= 1e-4 and off[name, "fp32"][1] <= 1e-3 for name in others)
    with (tmp_path / "step.csv").open() as file:
        rows = {row["step"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"package, NCHW", *(name for name, _ in off)}
    assert all(float(row["ms, 20 %"]) <= float(row["ms"]) <= float(row["ms, 80 %"]) for row in rows.values())
    # Each image path once a step, and no gradient of weights that a player does not move.
    gflop = {name: float(row["GFLOP"]) for name, row in rows.items()}
    assert gflop["package, NCHW"] < gflop["textbook, detached"] < gflop["textbook"]
    assert rows["textbook"]["torch"] == torch.__version__ and rows["textbook"]["threads"] == "1"


def test_another_step_than_the_package_s_is_refused(step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    textbook = sys.modules["textbook"]
    with monkeypatch.context() as other, pytest.raises(SystemExit, match=r"'textbook' is .* the loss of .*l1"):
        other.setattr(textbook, "l1_loss", lambda x, y: (x - y).square().mean())
        step.main([*TINY, "--variants=textbook"])
    # The same losses with another gradient: the mean is not trained.
    encode = textbook.TextbookUnit.encode
    monkeypatch.setattr(
        textbook.TextbookUnit,
        "encode",
        lambda *given: [each.detach() if i else each for i, each in enumerate(encode(*given))],
    )
    with pytest.raises(SystemExit, match=r"'textbook' is .* the gradient of"):
        step.main([*TINY, "--variants=textbook"])


def test_the_variants_to_time_are_named_or_refused(step: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    step.main([*TINY, "--variants", "package, ch*"])
    said = capsys.readouterr().out
    assert "time / package, channels-last" in said and "textbook" not in said
    with pytest.raises(SystemExit):
        step.main([*TINY, "--variants", "packages"])


def test_the_table_of_digits_keeps_the_three_picks_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = benchmark("digits")
    record = {
        "model": {"kind": "model", "name": "unit", "arguments": {}},
        **{"seed": 0, "precision": "fp32", "batch": 1, "world": 1},
        "watch": {"accuracy(a)": {"title": "accuracy", "higher": True, "units": {}}},
    }
    for seed, b in enumerate(((0.5, 0.9, 0.7), (0.6, 0.8, 0.9))):
        run = RunFolder(tmp_path / "dann" / "usps-mnist" / "default" / f"seed-{seed}")
        run.path.mkdir(parents=True)
        data = {"name": "digits usps -> mnist, full", "fingerprint": "x"}
        run.write_json("run.json", {**record, "data": data})
        for step, (ours, theirs) in enumerate(zip((0.8, 0.7, 0.6), b, strict=True), start=1):
            watched = {"accuracy(a)": {"accuracy": ours}, "accuracy(b)": {"accuracy": theirs}}
            run.append_watched({"step": step, **watched})
        entry = {
            "checkpoint": "step-3",
            "step": 3,
            "weights": "last",
            "seed": 0,
            "split": "test",
            "images": "all",
            "size": [32, 32],
            "data": data,
        }
        said = {"title": "accuracy", "n": {}, "higher": {}, "units": {}, "protocol": {}, "warnings": []}
        run.add_evaluation({**entry, "metrics": {"accuracy(b)": {**said, "figures": {"accuracy": b[-1]}}}})
    unfinished = RunFolder(tmp_path / "dann" / "usps-mnist" / "default" / "seed-2")
    unfinished.path.mkdir()
    unfinished.write_json("run.json", {**record, "data": data})
    (tmp_path / "dann" / "usps-mnist" / "ablation.json").write_text("{}")
    digits.main([str(tmp_path), "--table"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == "| dann | usps-mnist | 2 | 80.00 ± 14.14 | 55.00 ± 7.07 | 90.00 ± 0.00 |"
    for wrong in (["--methods", "dan"], ["--pairs", "usps"], ["--pairs", "usps-mnst"], ["invert=1"], ["--data", "no"]):
        with pytest.raises(SystemExit):
            digits.main([str(tmp_path), *wrong])


def test_a_saving_is_worth_what_it_is_beside_the_same_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    savings = benchmark("savings")
    tiny = ["--steps", "2", "--size", "16", "--width", "4", "--threads", "1"]
    forward = savings.Doubling.forward
    savings.main(tiny)
    said = capsys.readouterr().out
    assert "losses and gradients equal to" in said and re.search(r"^saved +[\d.]+ \(.* - .*\) +\d", said, re.MULTILINE)
    monkeypatch.setattr(savings, "plain", lambda layer, x: forward(layer, x).flip(3))
    with pytest.raises(SystemExit, match="the steps differ"):
        savings.main(tiny)
    assert savings.Doubling.forward is forward


def test_kernels_are_compared_before_they_are_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = benchmark("kernels")
    tiny = ["--shapes", "1x2x4x3", "--precisions", "fp32", "--rounds", "2", "--threads", "1"]
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    kernels.main([*tiny, "--csv", str(tmp_path / "kernels.csv")])
    rows = list(csv.DictReader((tmp_path / "kernels.csv").open(encoding="utf-8")))
    assert "The kernel is left out" in capsys.readouterr().out
    assert {row["variant"] for row in rows} == {"plain", "compiled"} and {row["threads"] for row in rows} == {"1"}
    assert len(rows) == 9 * 2 * 2 * 3  # cases, layouts, variants, passes
    assert all(float(row["error"]) < 1e-5 for row in rows if row["case"] != "sampling + KL")
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda *inputs: 1.1 * function(*inputs))
    with pytest.raises(SystemExit, match="is not what plain PyTorch computes"):
        kernels.main(tiny)


def test_networks_that_translate_are_the_textbook_s_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inference = benchmark("inference")
    tiny = ["--parts", "one", "--width", "2", "--blocks", "1", "--rounds", "1", "--threads", "1"]
    inference.main([*tiny, f"--csv={tmp_path / 'inference.csv'}"])
    assert "unitkit, fp32, NCHW: largest difference from the textbook" in capsys.readouterr().out
    found = list(csv.DictReader((tmp_path / "inference.csv").open(encoding="utf-8")))
    assert {row["unit"] for row in found} == {"ms", "x textbook"} and found[0]["variant"] == "640x480, textbook"
    decode = inference.TextbookUnit.decode
    monkeypatch.setattr(inference.TextbookUnit, "decode", lambda self, *given: 0.9 * decode(self, *given))
    with pytest.raises(SystemExit, match="translates otherwise than the textbook"):
        inference.main(tiny)


def test_a_second_judge_knows_stripes_by_their_direction() -> None:
    judges = benchmark("second_judge")
    lying = torch.zeros(6, 1, 32, 32)
    lying[:, :, ::4] = torch.linspace(0.2, 1, 6)[:, None, None, None]
    standing = lying.transpose(2, 3)
    found = judges.gradients(lying).view(6, judges.BINS, 4, -1).sum((2, 3))  # a right angle lies between two of nine
    assert torch.allclose(found[:, 4], found[:, 5]) and found[:, [0, 1, 2, 3, 6, 7, 8]].abs().max() < 1e-4
    judge = judges.Judge([lying[:4], standing[:4].expand(-1, 3, -1, -1)])
    assert judge.share(lying[4:], 0) == judge.share(standing[4:], 1) == 100
    assert judge.share(lying[4:], 1) == 0
