"""Every registered part keeps the contract; sizes of the 2017 networks; names and specs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_metric_contracts import NETWORKS, lacking
from torch import Tensor, nn

import unitkit.data
import unitkit.metrics  # noqa: F401 (importing the kinds, here and below, is what registers their parts)
from unitkit import discriminators, encoders, generators, losses, models, sharing, testing
from unitkit.annotations import Positive
from unitkit.commands.recipes.catalog import HOMES
from unitkit.networks.tower import Tower
from unitkit.registry import REGISTRIES, Registry, Spec
from unitkit.system.errors import UserError

# Read while collecting: parts that other tests register and take out again are not in it.
PARTS = [(kind, name) for kind in HOMES for name in REGISTRIES[kind]]


@pytest.mark.parametrize(("kind", "name"), PARTS, ids=[f"{kind}-{name}" for kind, name in PARTS])
def test_contract(kind: str, name: str) -> None:
    testing.check(kind, name)
    if kind == "metric" and (missing := lacking(name)):
        assert name in NETWORKS, f"{name} is measured by no test: give it a small network in test_metric_contracts.py"
        pytest.skip(f"its refusal alone is tried, and its figures in test_metric_contracts.py: {missing}")


def test_every_kind_has_a_contract_and_parts() -> None:
    assert set(testing.CONTRACTS) == set(HOMES)
    assert {kind for kind, _ in PARTS} == set(HOMES)


# The contract refuses parts that break it


@pytest.fixture
def registered() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = {kind: dict(registry.parts) for kind, registry in REGISTRIES.items()}
    yield
    for kind, registry in list(REGISTRIES.items()):
        if kind in before:
            registry.parts = before[kind]
        else:
            del REGISTRIES[kind]


DRAWS = itertools.count()  # stands for a generator that no seed reaches: no two draws are the same


class Broken(nn.Module):
    """A convolution that breaks one rule."""

    def __init__(self, fault: str, channels: int) -> None:
        super().__init__()
        self.fault = fault
        self.body = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
        self.idle = nn.Linear(2, 2) if fault == "idle" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "in place":
            x.clamp_(-0.5, 0.5)
        if self.fault == "square" and x.shape[2] != x.shape[3]:
            raise RuntimeError("only square images")
        y: Tensor = self.body(x)
        if self.fault == "batch":
            y = y - y.mean(dim=0)
        if self.fault == "random" and self.training:
            y = y + next(DRAWS)
        if self.fault == "infinite":
            y = y / 0
        if self.fault == "detached":
            y = self.body(x.detach())
        return y[..., 1:] if self.fault == "shape" else y


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("in place", "changes its input in place"),
        ("square", "only square images"),
        ("batch", "when others are in its batch"),
        ("random", "one seed gives different outputs"),
        ("infinite", "not finite"),
        ("detached", "no gradient reaches its input"),
        ("idle", "gradient of stages.0.idle.weight is missing"),
        ("shape", "not [(1, 4, 8, 8)]"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_a_broken_encoder_is_found(fault: str, words: str) -> None:
    @encoders.register
    def broken(in_channels: int) -> Tower:
        """Breaks one rule."""
        return Tower([Broken(fault, in_channels)], channels=4, stride=2)

    with pytest.raises(AssertionError) as caught:
        testing.check("encoder", "broken")
    assert words in str(caught.value) and "'broken'" in str(caught.value)


@pytest.mark.usefixtures("registered")
def test_own_parts_pass() -> None:
    @encoders.register
    def mine(in_channels: int, *, width: Positive = 8, bias: bool = True) -> Tower:
        """One convolution."""
        return Tower([nn.Conv2d(in_channels, width, 4, 4, bias=bias)], channels=width, stride=4)

    @losses.register()
    def Charbonnier(x: Tensor, y: Tensor, *, eps: float = 1e-3) -> Tensor:
        """A smooth L1."""
        return ((x - y).square() + eps**2).sqrt().mean()

    testing.check("encoder", "mine")
    testing.check("loss", "charbonnier")
    assert (2 * Charbonnier("aa", "a")).name == "charbonnier(aa, a)"


@pytest.mark.usefixtures("registered")
def test_bare_arguments_and_vector_losses_are_found() -> None:
    @encoders.register
    def bare(in_channels: int, *, width=8) -> Tower:  # type: ignore[no-untyped-def]
        """An argument without a type."""
        return Tower([nn.Conv2d(in_channels, width, 1)], channels=width)

    @losses.register()
    def vector(x: Tensor, y: Tensor) -> Tensor:
        """Not a scalar."""
        return (x - y).abs().mean(dim=0)

    with pytest.raises(AssertionError, match="annotate the argument 'width'"):
        testing.check("encoder", "bare")
    with pytest.raises(AssertionError, match="not a scalar tensor"):
        testing.check("loss", "vector")


def test_check_refuses_unknown_names_and_leaves_the_random_state() -> None:
    with pytest.raises(UserError, match=r"unknown kind of part 'encoders'\. Did you mean 'encoder'"):
        testing.check("encoders", "residual")
    with pytest.raises(UserError, match=r"unknown encoder 'residul'\. Did you mean 'residual'"):
        testing.check("encoder", "residul")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    testing.check("loss", "l1")
    assert torch.equal(torch.rand(3), expected)


# Sizes of the 2017 networks, as counted on the released code


def parameters(**arguments: Any) -> tuple[int, int]:
    """Of encoders with generators, and of discriminators, a tied parameter once."""
    with torch.device("meta"):
        model = models.spec("unit", **arguments).build()
    own = {id(p): p.numel() for part in (model.encoders, model.generators) for p in part.parameters()}
    return sum(own.values()), sum(p.numel() for p in model.discriminators.parameters())


@pytest.mark.parametrize(
    ("discriminator", "tied", "count"),
    [("coupled", 5, 25_240_065), ("strided", 0, 50_298_114), ("multiscale", 0, 9_308_934)],
)
def test_parameters_of_the_2017_networks(discriminator: str, tied: int, count: int) -> None:
    assert parameters(
        channels={"a": 3, "b": 3},
        encoder=encoders.spec("residual", width=64),
        generator=generators.spec("residual", width=64),
        discriminator=discriminators.spec(discriminator, width=64),
        sharing=sharing.spec("tie", encoder=1, generator=1, discriminator=tied),
    ) == (18_017_286, count)


def test_parameters_of_the_2017_digits_networks() -> None:
    assert parameters(
        channels={"a": 3, "b": 1},
        encoder=encoders.spec("conv32", coordinates=True),
        generator=generators.spec("conv32"),
        discriminator=discriminators.spec("conv32", classes=10),
        sharing=sharing.spec("tie", encoder=4, generator=3, discriminator=4),
    ) == (22_606_468, 4_332_812)


# Names and specs


@pytest.mark.usefixtures("registered")
def test_a_name_is_taken_once() -> None:
    registry = Registry("thing")

    def make(module: str) -> Any:
        def part() -> None:
            """A part."""

        part.__module__ = module
        return part

    first = registry.register(make("one"))
    assert registry.register(first) is first  # the same part again: a module that is reloaded
    registry.register(make("one"))
    with pytest.raises(UserError, match="the thing 'part' is already registered by one"):
        registry.register(make("two"))
    assert list(registry) == ["part"]


def test_a_spec_goes_to_json_and_back() -> None:
    spec = models.spec(
        "unit",
        channels={"a": 3, "b": 1},
        encoder=encoders.spec("residual", width=4, norm=True),
        generator=generators.spec("residual", width=4),
        discriminator=discriminators.spec("multiscale", width=4, layers=2, scales=2),
        sharing=sharing.spec("soft", generator=1),
        noise=0.5,
    )
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"kind": "encodr", "name": "residual", "arguments": {}}, "Did you mean 'encoder'"),
        ({"kind": "encoder", "name": "residul", "arguments": {}}, "Did you mean 'residual'"),
        ({"kind": "encoder", "name": "residual", "arguments": {"widht": 4}}, "Did you mean 'width'"),
        (
            {"kind": "encoder", "name": "residual", "arguments": {"width": "4"}},
            "a whole number of at least 1 and at most 65536, not '4'",
        ),
        ({"kind": "encoder", "name": "residual", "arguments": {"init": "x"}}, "one of gaussian, kaiming, not 'x'"),
        ({"kind": "model", "name": "unit", "arguments": {}}, "needs the argument 'channels'"),
        ({"name": "residual"}, "a spec holds kind, name and arguments"),
        ([], "a spec holds kind, name and arguments"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(value: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        Spec.from_json(value)
    assert words in str(caught.value) and "\n" not in str(caught.value)
