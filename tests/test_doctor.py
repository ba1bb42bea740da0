"""The checks of the device: they find what is wrong, are remembered, and training goes around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import TINY, unitkit
from tiny import recipe
from torch import Tensor, nn
from torch.nn import functional

from unitkit import RunOptions, Trainer, TrainingError, load
from unitkit.commands.machine import doctor
from unitkit.kernels import operators, placement
from unitkit.kernels.norms import InstanceNorm, instance_norm_reference
from unitkit.kernels.operators import ADAM, LAYOUTS, Fault, Operator, Precision
from unitkit.kernels.placement import Placement
from unitkit.networks import convolutions

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unitkit" / "doctor"


def known(monkeypatch: pytest.MonkeyPatch, *faults: Fault) -> None:
    monkeypatch.setattr(operators, "faults", lambda device: iter(faults))


def everywhere(operator: str, precision: Precision = "fp32") -> list[Fault]:
    return [Fault(operator, precision, layout, 1.0) for layout in LAYOUTS]


@pytest.mark.parametrize("operator", operators.OPERATORS, ids=lambda operator: operator.name)
@pytest.mark.parametrize("what", ["value", "gradient"])
def test_each_operator_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, operator: Operator, what: str) -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 1.1 if what == "value" else x.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
            return grad.flip(0) * 0.9 if what == "gradient" else grad

    wrong = Operator(**{**operator.__dict__, "run": lambda *x: Wrong.apply(operator.run(*x))})
    monkeypatch.setattr(operators, "OPERATORS", (wrong,))
    assert {each.operator for each in operators.faults(CPU)} == {operator.name}
    assert {(each.precision, each.layout) for each in operators.faults(CPU)} == {
        (precision, layout) for precision in operators.TOLERANCE for layout in LAYOUTS
    }


def test_torchs_own_instance_norm_is_found_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 4, 9, 7, requires_grad=True)
    grad = torch.randn(1, 4, 9, 7)
    both = [
        torch.autograd.grad(functional.instance_norm(x), x, grad.contiguous(memory_format=memory))[0]
        for memory in LAYOUTS.values()
    ]
    own = Operator("instance norm of torch", functional.instance_norm, instance_norm_reference)
    monkeypatch.setattr(operators, "OPERATORS", (own,))
    layouts = {each.layout for each in operators.faults(CPU)}
    assert layouts == (set() if torch.allclose(*both, atol=1e-4) else {"channels-last"})


def test_an_adam_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    step = torch.optim.Adam.step

    def twice(self: torch.optim.Adam) -> None:
        step(self), step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", twice)
    monkeypatch.setattr(operators, "OPERATORS", ())
    assert {each.operator for each in operators.faults(CPU)} == {ADAM}


def test_the_outcome_is_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("tanh", "fp32", "NCHW", 0.5)
    known(monkeypatch, fault)
    assert doctor.outcome(CPU) == [fault]
    known(monkeypatch)
    assert doctor.outcome(CPU) == [fault]
    assert doctor.outcome(CPU, anew=True) == [] == doctor.outcome(CPU)
    (file,) = cache.iterdir()
    for damage in ("", "[", "{}", "7", json.dumps({"faults": [{"operator": "tanh"}]})):
        file.write_text(damage)
        known(monkeypatch, fault)
        assert doctor.outcome(CPU) == [fault]
    monkeypatch.setattr(torch, "__version__", "99.0")  # another build has an outcome of its own
    known(monkeypatch)
    assert doctor.outcome(CPU) == []


@pytest.mark.parametrize("name", ["operators.py", "norms.py", "convolutions.py"])
@pytest.mark.usefixtures("cache")
def test_an_outcome_is_of_the_text_of_what_was_checked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, *everywhere("tanh"))
    assert doctor.outcome(CPU) == everywhere("tanh")
    known(monkeypatch)
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *how: read(self, *how) + "# edited" * (self.name == name))
    assert doctor.outcome(CPU) == []


def test_layers_that_are_computed_another_way_are_checked_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the products of matrices and the shuffle that a training on a CPU takes."""
    used = []
    for place, name in ((torch, "addmm"), (torch, "baddbmm"), (convolutions, "pixel_shuffle")):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *given, r=real, n=name: (used.append(n), r(*given))[1])
    assert list(operators.faults(CPU)) == []
    assert set(used) == {"addmm", "baddbmm", "pixel_shuffle"}


def test_a_home_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert doctor.outcome(CPU) == []


def test_plans_go_around_what_is_wrong() -> None:
    def chosen(*faults: Fault, precision: str = "fp32", layout: operators.Layout | None = None) -> Placement:
        return doctor.placement_around(faults, CPU, precision, layout)

    assert chosen() == Placement("NCHW") and chosen(precision="bf16") == Placement("channels-last")
    assert chosen(layout="channels-last").layout == "channels-last"
    moved = chosen(Fault("convolution 3x3", "fp32", "NCHW", 1.0))
    assert moved.layout == "channels-last" and "convolution 3x3 wrongly in NCHW" in moved.notes[0]
    assert chosen(Fault("convolution 3x3", "bf16", "NCHW", 1.0)) == Placement("NCHW")
    norms = chosen(*everywhere("instance norm"))
    assert norms.reference and norms.layout == "NCHW" and "by their formulas" in norms.notes[0]
    adam = chosen(*everywhere(ADAM))
    assert not adam.fused and len(adam.notes) == 1
    with pytest.raises(TrainingError, match=r"convolution 3x3 wrongly in fp32.*another device"):
        chosen(*everywhere("convolution 3x3"))
    with pytest.raises(TrainingError, match="train with --precision fp32"):
        chosen(*everywhere("tanh", "bf16"), precision="bf16")


@pytest.fixture
def faulty(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known(monkeypatch, *everywhere("instance norm"), *everywhere(ADAM))
    yield


@pytest.mark.usefixtures("faulty")
def test_a_training_goes_around_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[InstanceNorm] = []
    forward = InstanceNorm.forward
    monkeypatch.setattr(InstanceNorm, "forward", lambda self, x: (seen.append(self), forward(self, x))[1])
    answer = unitkit("train", TINY, "@quick", "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    assert answer.out.count("note: torch") == 2 and "norms are computed by their formulas" in answer.out
    assert any(each.reference for each in seen)


@pytest.mark.usefixtures("cache")
def test_translating_goes_around_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a training does: in the layout that is right, with norms by their formulas, and not at all where none is."""
    trainer = Trainer(recipe(), RunOptions(tmp_path, device="cpu"))
    trainer.done = 1
    trainer.save()
    monkeypatch.setattr(placement, "emulates_bf16", lambda device: False)
    moved = Fault("convolution 3x3", "bf16", "channels-last", 1.0)
    found: dict[str, tuple[str, bool, bool]] = {}
    for name, faults in {
        "right": [],
        "moved": [moved],
        "norms": [moved, *everywhere("instance norm", "bf16")],
        "fp32": [Fault("convolution 3x3", "fp32", "NCHW", 1.0), *everywhere("convolution 3x3", "bf16")],
        "wrong": everywhere("tanh"),
    }.items():
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        known(monkeypatch, *faults)
        if name == "wrong":
            with pytest.raises(TrainingError, match="computes tanh wrongly in fp32"):
                load(tmp_path, device="cpu")
            continue
        ours = load(tmp_path, device="cpu", precision="auto")
        weight = next(module for module in ours.model.modules() if isinstance(module, nn.Conv2d)).weight
        norm = next(module for module in ours.model.modules() if isinstance(module, InstanceNorm))
        found[name] = ours.inference.precision, weight.is_contiguous(), norm.reference
    assert found == {
        "right": ("bf16", False, False),
        "moved": ("bf16", True, False),
        "norms": ("bf16", True, True),
        "fp32": ("fp32", False, False),
    }


@pytest.mark.usefixtures("cache")
def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = unitkit("doctor")
    assert answer.status == 0 and f"torch {torch.__version__.split('+')[0]}" in answer.out
    assert f"{len(operators.OPERATORS) + 1} operators are right" in answer.out and "fp32: trains in NCHW" in answer.out
    known(monkeypatch, *everywhere("max-pooling"))
    answer = unitkit("doctor")
    assert answer.status == 1 and "max-pooling" in answer.out and "another device" in answer.out


@pytest.mark.parametrize(
    "text",
    [
        *('{"faults":[{"operator":["a"],"precision":"fp32","layout":"NCHW","error":1}]}', "[" * 200_000, "", "{", "[]"),
        *(
            '{"faults":[{"operator":5,"precision":"fp32","layout":"NCHW","error":1}]}',
            '{"faults":null}',
            '{"faults":[7]}',
        ),
        *('{"faults":[{"operator":"tanh","precision":"fp8","layout":"NCHW","error":1}]}', '{"faults":[{}]}', "null"),
        *('{"faults":[{"operator":"tanh","precision":"fp32","layout":"NHWC","error":1}]}', '{"faults":{"a":1}}', "\0"),
        '{"faults":[{"operator":"tanh","precision":"fp32","layout":"NCHW","error":null}]}',
    ],
)
def test_a_damaged_outcome_is_found_out_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    known(monkeypatch, *everywhere("tanh"))
    doctor.outcome(CPU)
    (file,) = cache.rglob("*.json")
    file.write_text(text)
    assert doctor.outcome(CPU) == everywhere("tanh")
    assert "tanh" in file.read_text()  # and kept again


def test_no_home_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "~nosuchuser/x")
    known(monkeypatch, *everywhere("tanh"))
    assert doctor.outcome(CPU) == everywhere("tanh")


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, IndexError, AssertionError])
def test_an_operator_that_raises_anything_is_wrong(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def raises(*_: object, **__: object) -> None:
        raise error("strange")

    monkeypatch.setattr(functional, "max_pool2d", raises)
    monkeypatch.setattr(torch.optim.Adam, "step", raises)
    assert {each.operator for each in operators.faults(CPU)} == {"max-pooling", ADAM}


def test_the_way_out_is_one() -> None:
    """fp32 is named as the way out of a fault in bf16 only where it is right."""
    both = [*everywhere("tanh", "bf16"), *everywhere("tanh")]
    with pytest.raises(TrainingError, match="another device"):
        doctor.placement_around(both, CPU, "bf16")
    with pytest.raises(TrainingError, match="--precision fp32"):
        doctor.placement_around([*everywhere("tanh", "bf16"), *everywhere("instance norm")], CPU, "bf16")
