"""What can be read of an image path. Each kind is a function that puts the reading into a model's graph.

`@register("kind")` adds one, in a file of one's own too: losses of that kind can read it from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..losses import Classes, Features
from ..networks.bf16 import for_losses
from ..networks.graph import Graph, Node
from ..networks.tower import Tower
from ..registry import Registry
from ..sharing import Pairs
from ..system.errors import UserError
from .pool import ImagePool


class Model(Protocol):
    """What a kind sees of a model. Each method puts what it names into the graph, and gives where it is."""

    soft_pairs: Pairs
    pools: nn.ModuleDict

    def image(self, graph: Graph, path: str) -> Node: ...
    def code(self, graph: Graph, path: str) -> Node: ...
    def encode(self, graph: Graph, path: str) -> tuple[list[Node], Tower]: ...
    def generate(self, graph: Graph, path: str) -> list[Node]: ...
    def discriminate(self, graph: Graph, path: str) -> tuple[list[Node], Tower]: ...
    def style(self, graph: Graph, path: str) -> Node: ...
    def drawn_style(self, graph: Graph, path: str) -> Node: ...


class Kind(Protocol):
    """Adds a reading of `path` to the graph. Raises `UserError` where the model has no such reading."""

    __name__: str

    def __call__(self, model: Any, graph: Graph, path: str) -> Node: ...


K = TypeVar("K", bound=Kind)
registry: Registry = Registry("reading")
GRADIENT = "is_gradient"  # the attribute of a kind that says so


def register(name: str, *, gradient: bool = False) -> Callable[[K], K]:
    """Decorator: enter a kind of reading under a name. A name is taken once.

    Args:
        gradient: whether the reading is a gradient itself: its own is a second derivative, which torch.compile has not.
    """

    def enter(kind: K) -> K:
        registry.enter(kind, name)
        setattr(kind, GRADIENT, gradient)
        return kind

    return enter


def is_gradient(kind: str) -> bool:
    """Whether a kind of reading was registered as a gradient. Raises `UserError` for an unknown one."""
    return bool(getattr(registry[kind], GRADIENT, False))


@register("image")
def image(model: Model, graph: Graph, path: str) -> Node:
    """The image, (N, C, H, W) in [-1, 1]."""
    return model.image(graph, path)


@register("code")
def code(model: Model, graph: Graph, path: str) -> Node:
    """The `Posterior` of the image, by the encoder of the domain it is read as."""
    return model.code(graph, path)


@register("style")
def style(model: Model, graph: Graph, path: str) -> Node:
    """The style code (N, C, 1, 1) of the image, by the style encoder of the domain it is read as."""
    return model.style(graph, path)


@register("style.drawn")
def drawn_style(model: Model, graph: Graph, path: str) -> Node:
    """The style (N, C, 1, 1), drawn from N(0, I), that the translated image was made with."""
    return model.drawn_style(graph, path)


@register("score")
def score(model: Model, graph: Graph, path: str) -> Node:
    """A tuple of the discriminator's logit maps (N, gan_classes, h, w), one for each scale."""
    outputs, tower = model.discriminate(graph, path)
    return scores(graph, tower, outputs[-1])


@register("score.pooled")
def score_pooled(model: Model, graph: Graph, path: str) -> Node:
    """The `score` of images out of the pool, which the newest of the path go into: for discriminators alone."""
    _, tower = model.discriminate(graph, path)
    if path[-1] not in model.pools:
        raise UserError(
            f"'score.pooled:{path}' needs a pool of images: give the model one, pool=50 and size=data.window"
        )
    pool = model.pools[path[-1]]
    assert isinstance(pool, ImagePool)
    seen = graph.make(("pool", pool), pool.exchange, model.image(graph, path), translates=False)
    return scores(graph, tower, graph.tower(tower, seen, translates=False)[-1])


@register("feature")
def feature(model: Model, graph: Graph, path: str) -> Node:
    """The `Features` that the discriminator's last stage sees."""
    outputs, tower = model.discriminate(graph, path)
    if len(outputs) < 2:
        raise UserError(f"'feature:{path}' needs a discriminator of two stages or more")
    return graph.make(("feature", tower), partial(_features, tower, path), outputs[-2], translates=False)


@register("class")
def class_(model: Model, graph: Graph, path: str) -> Node:
    """The `Classes` of the image, by the discriminator's class head, with those of the real image behind it."""
    outputs, tower = model.discriminate(graph, path)
    if not tower.classes:
        raise UserError(f"'class:{path}' needs a discriminator with a class head, such as lenet with classes=10")
    label = graph.input(f"label:{path[0]}", optional=True)
    return graph.make(("class", tower), _classes, outputs[-1], label, translates=False)


@register("grad", gradient=True)
def grad(model: Model, graph: Graph, path: str) -> Node:
    """The gradient (N, C, H, W) of the discriminator's scores, summed over the image, by the image."""
    _, tower = model.discriminate(graph, path)
    return graph.make(("grad", tower), partial(_gradient, tower), model.image(graph, path), translates=False)


@register("layers.encoder")
def layers_of_encoder(model: Model, graph: Graph, path: str) -> Node:
    """A tuple of the outputs of the encoder's stages, first to last."""
    return _all("layers.encoder", graph, model.encode(graph, path)[0])


@register("layers.generator")
def layers_of_generator(model: Model, graph: Graph, path: str) -> Node:
    """A tuple of the outputs of the stages that generate the image, first to last."""
    return _all("layers.generator", graph, model.generate(graph, path))


@register("layers.discriminator")
def layers_of_discriminator(model: Model, graph: Graph, path: str) -> Node:
    """A tuple of the outputs of the discriminator's stages, first to last."""
    return _all("layers.discriminator", graph, model.discriminate(graph, path)[0])


@register("weights")
def weights(model: Model, graph: Graph, path: str) -> Node:
    """The pairs of stages that soft sharing draws together, of a part of the model: `weights:generators`."""
    if path not in model.soft_pairs:
        paired = ", ".join(model.soft_pairs) or "none"
        raise UserError(f"'weights:{path}' needs soft sharing of the {path}; parts shared softly here: {paired}")
    pairs = model.soft_pairs[path]
    return graph.make(("weights", path), lambda: pairs, translates=False)


def scores(graph: Graph, tower: Tower, output: Node) -> Node:
    """The logit maps alone of what a discriminator gives."""
    return graph.make(("score", tower), partial(_scores, tower), output, translates=False)


def _all(name: str, graph: Graph, nodes: Sequence[Node]) -> Node:
    return graph.make(name, lambda *values: values, *nodes)


def _scores(tower: Tower, output: Any) -> tuple[Tensor, ...]:
    maps = output if isinstance(output, tuple) else (output,)
    return maps[:-1] if tower.classes else maps


def _features(tower: Tower, path: str, top: Any) -> Features:
    if not isinstance(top, Tensor):
        raise UserError(f"'feature:{path}' needs a discriminator of one scale, such as lenet")
    return Features(top, for_losses(lambda again: _scores(tower, tower.stages[-1](again)), top.device))


def _classes(output: tuple[Tensor, ...], label: Tensor | None) -> Classes:
    return Classes(output[-1], label)


def _gradient(tower: Tower, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = torch.stack([scale.float().sum() for scale in _scores(tower, tower(x))]).sum()
        (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    return gradient
