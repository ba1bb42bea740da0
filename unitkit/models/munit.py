"""MUNIT: a content code that domains share and a style of each domain, so that a translation is one of many."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..losses.reading import last_step
from ..networks.graph import Graph, Node
from ..networks.tower import Tower
from ..registry import Spec
from ..system.errors import UserError
from .model import register
from .paths import ImagePaths, check_domains, check_kinds


@register
def munit(
    *,
    channels: Mapping[str, int],
    encoder: Spec,
    style_encoder: Spec,
    generator: Spec,
    discriminator: Spec,
    sharing: Spec,
) -> ImagePaths:
    """The model of Huang, Liu, Belongie and Kautz (ECCV 2018), for two or more domains.

    The image `ab` has the content of a and a style of b: in training one drawn from N(0, I), in evaluation the prior's
    mean 0. An image back in the domain where its path began, `aa` and `aba`, has that real image's own style. Styles
    (N, C, 1, 1) under `style:b` in a batch stand for both.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        encoder: E_c, the content code, without noise where the encoder learns none.
        style_encoder: E_s, such as `style`.
        generator: G, which reads content and style, such as `adain`.
        discriminator: D.
        sharing: the strategy that makes towers share stages, those of styles excepted; the paper shares none.

    Raises:
        UserError: fewer than two domains, a domain that is no lower-case letter, towers that do not fit.
    """
    check_domains(channels, least=2)
    check_kinds(encoder=encoder, generator=generator, discriminator=discriminator, sharing=sharing)
    if style_encoder.kind != "encoder":
        raise UserError(f"the model's style_encoder is given as the {style_encoder.kind} '{style_encoder.name}'")
    style_encoders: dict[str, Tower] = {d: style_encoder.build(c) for d, c in channels.items()}
    if not all(tower.pools for tower in style_encoders.values()):
        raise UserError(f"the encoder '{style_encoder.name}' gives no one style for an image: choose style")
    encoders: dict[str, Tower] = {d: encoder.build(c) for d, c in channels.items()}
    code = next(iter(encoders.values())).channels
    return Munit(
        channels,
        style_encoders,
        encoders=encoders,
        generators={d: generator.build(code, c) for d, c in channels.items()},
        discriminators={d: discriminator.build(c) for d, c in channels.items()},
        sharing=sharing,
    )


class Munit(ImagePaths):
    """`munit`, whose generators read the content of the image before and a style."""

    def __init__(
        self,
        channels: Mapping[str, int],
        style_encoders: Mapping[str, Tower],
        *,
        encoders: Mapping[str, Tower],
        generators: Mapping[str, Tower],
        discriminators: Mapping[str, Tower],
        sharing: Spec,
    ) -> None:
        super().__init__(
            channels,
            parts=("encoders", "style_encoders", "generators", "discriminators"),
            translates=("encoders", "style_encoders", "generators"),
            encoders=encoders,
            generators=generators,
            discriminators=discriminators,
            sharing=sharing,
            noise=0.0,
            styles={letter: tower.channels for letter, tower in style_encoders.items()},
        )
        self.style_encoders = nn.ModuleDict(style_encoders)
        self.least = max(tower.stride for tower in style_encoders.values())  # side of an image that has a style

    def check_size(self, size: tuple[int, int]) -> None:
        """As every model's; an image must have a pixel left for its style, too."""
        super().check_size(size)
        if min(size) < self.least:
            raise UserError(
                f"images of {size[0]}x{size[1]} are too small for the style encoder, which halves them to less than a "
                f"pixel: give {self.least} pixels a side, or fewer downs"
            )

    def latent_of(self, graph: Graph, path: str) -> Node:
        """Content and style: that of the real image where the path is back in its domain, else the drawn one."""
        own = path[-1] == path[0]
        style = self.style(graph, path[0]) if own else self.drawn_style(graph, path)
        return graph.make("content, style", lambda *both: both, super().latent_of(graph, path), style)

    def style(self, graph: Graph, path: str) -> Node:
        """The style of the image of a path; of a real image of b, what the batch holds as `style:b`, if anything."""
        image = self.image(graph, path)
        code = graph.tower(self._tower("style_encoders", path), image, translates=True)[-1]
        if len(path) > 1:
            return code
        return graph.make("given style", _given, graph.input(f"style:{path}", optional=True), code)

    def drawn_style(self, graph: Graph, path: str) -> Node:
        """The style of a translation: of all paths from one real image into a domain it is the same in a step."""
        step = last_step(path)
        if step is None or not step.translated or path[-1] == path[0] or not self._walks(path):
            raise UserError(
                f"no style is drawn for '{path}': one is for paths such as 'ab', that end in another domain"
            )
        letter = path[-1]
        given = graph.input(f"style:{letter}", optional=True)
        draw = partial(self._drawn_style, self.styles[letter])
        return graph.make(("drawn style", letter), draw, given, graph.input(path[0]))

    def _drawn_style(self, channels: int, given: Tensor | None, images: Tensor) -> Tensor:
        if given is not None:
            return given
        shape = (len(images), channels, 1, 1)
        if not (self.training or self.sampling):
            return images.new_zeros(shape)
        return torch.randn(shape, device=images.device).to(images.dtype)  # in float32: see `_posterior`


def _given(given: Tensor | None, code: Tensor) -> Tensor:
    return code if given is None else given
