"""UNIT: an encoder, a generator and a discriminator for each domain, and one latent space for all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..errors import UserError, nearest
from ..losses import Posterior
from ..registry import AtLeast, Spec
from ..towers import Tower, Value, run_together
from . import registry


@registry.register
class Unit(nn.Module):
    """The model of Liu, Breuel and Kautz (NIPS 2017), for two or more domains.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        encoder: spec of E_i, the posterior q_i(z|x).
        generator: spec of G_i.
        discriminator: spec of D_i.
        sharing: spec of the strategy that makes towers share stages.
        noise: the standard deviation of z around its mean while training, where the encoder does not learn it.
            The paper has 1; 0 makes the code deterministic (CycleGAN). In evaluation z is always the mean.

    Raises:
        UserError: fewer than two domains, a domain that is no lower-case letter, towers that do not fit.
    """

    parts = ("encoders", "generators", "discriminators")
    translates = ("encoders", "generators")

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        encoder: Spec,
        generator: Spec,
        discriminator: Spec,
        sharing: Spec,
        noise: Annotated[float, AtLeast(0)] = 1.0,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or not all(len(d) == 1 and d.isascii() and d.islower() for d in channels):
            raise UserError(f"domains are two or more single lower-case letters, not {', '.join(map(repr, channels))}")
        given = {"encoder": encoder, "generator": generator, "discriminator": discriminator, "sharing": sharing}
        for kind, part in given.items():
            if part.kind != kind:
                raise UserError(f"the model's {kind} is given as the {part.kind} '{part.name}'")
        self.channels, self.noise = dict(channels), noise
        self.sampling = False  # whether codes are samples outside training too
        encoders: dict[str, Tower] = {d: encoder.build(c) for d, c in channels.items()}
        first = next(iter(encoders.values()))
        generators: dict[str, Tower] = {d: generator.build(first.channels, c) for d, c in channels.items()}
        discriminators: dict[str, Tower] = {d: discriminator.build(c) for d, c in channels.items()}
        for tower in generators.values():
            if tower.stride != first.stride:
                raise UserError(f"the encoder shrinks by {first.stride}, the generator grows by {tower.stride}")
        self.links = sharing.build(
            {
                "encoders": list(encoders.values()),
                "generators": list(generators.values()),
                "discriminators": list(discriminators.values()),
            }
        )
        self.encoders, self.generators = nn.ModuleDict(encoders), nn.ModuleDict(generators)
        self.discriminators = nn.ModuleDict(discriminators)
        self.stride = first.stride  # height and width of an image must be divisible by it
        sizes = (tower.size for group in (encoders, discriminators) for tower in group.values())
        self.size = next((size for size in sizes if size), None)  # the only one that the towers take

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise `UserError` for a (height, width) that the towers cannot take, with the nearest that they can."""
        if self.size and tuple(size) != self.size:
            raise UserError(f"these networks take images of {_shape(self.size)} only, not {_shape(size)}")
        if any(edge < self.stride or edge % self.stride for edge in size):
            fitting = tuple(max(self.stride, round(edge / self.stride) * self.stride) for edge in size)
            raise UserError(
                f"images of {_shape(size)} do not fit the encoder, which divides height and width by {self.stride}; "
                f"the nearest size that does is {_shape(fitting)}"
            )

    def check(self, reading: str) -> None:
        """Raise `UserError` for a reading that this model cannot give, such as the path `ax`."""
        kind, _, path = reading.rpartition(":")
        if kind == "link":
            if path not in self.links:
                shared = ", ".join(self.links) or "none"
                raise UserError(f"'{reading}' needs soft sharing of the {path}; linked parts here: {shared}")
            return
        letters = "".join(self.channels)
        if kind not in ("", "code", "score", "class"):
            raise UserError(f"'{reading}' is not a reading. {nearest(kind, ['code', 'score', 'class', 'link'])}")
        if not path or not set(path) <= set(letters):
            words = ["".join(w) for n in (1, 2, 3) for w in itertools.product(letters, repeat=n)]
            raise UserError(
                f"'{path}' is not an image path here: a path is a word over the domains {', '.join(letters)}. "
                f"{nearest(path, words)}"
            )
        if kind == "class" and not self._tower("discriminators", path).classes:
            raise UserError(f"'{reading}' needs a discriminator with a class head, such as conv32 with classes=10")

    def images(self, batch: Mapping[str, Tensor], readings: Iterable[str]) -> dict[str, Any]:
        """The images and posteriors that `readings` need, each computed once.

        Args:
            batch: real images by domain letter, (N, C, H, W) in [-1, 1].
            readings: image paths, and readings of kind `code`, `score` or `class`.

        Returns:
            image paths to (N, C, H, W), and `code:PATH` to `Posterior`, with all that lies on the way: for `aba`
            also `a`, `code:a`, `ab`, `code:ab`. All translations of one code decode the same sample.
        """
        codes, paths = _needed(readings)
        found: dict[str, Any] = {path: batch[path] for path in paths if len(path) == 1}
        for length in range(1, max(map(len, paths), default=0) + 1):
            sources = [path for path in codes if len(path) == length]
            encoded = run_together([(self._tower("encoders", path), found[path]) for path in sources])
            found |= {f"code:{path}": self._posterior(value) for path, value in zip(sources, encoded, strict=True)}
            targets = [path for path in paths if len(path) == length + 1]
            decoded = run_together(
                [(self._tower("generators", path), found[f"code:{path[:-1]}"].sample) for path in targets]
            )
            found |= dict(zip(targets, decoded, strict=True))
        return found

    def readings(self, images: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """What terms read: `images`, with the scores, class logits and links among `names` added.

        Every discriminator runs once on all its images: `score:PATH` is a tuple of logit maps (N, 1, h, w),
        `class:PATH` is (N, classes).
        """
        judged = list(dict.fromkeys(n.partition(":")[2] for n in names if n.startswith(("score:", "class:"))))
        outputs = run_together([(self._tower("discriminators", path), images[path]) for path in judged])
        found = dict(images)
        for path, value in zip(judged, outputs, strict=True):
            maps = value if isinstance(value, tuple) else (value,)
            if self._tower("discriminators", path).classes:
                *logits, found[f"class:{path}"] = maps
                maps = tuple(logits)
            found[f"score:{path}"] = maps
        return found | {f"link:{part}": pairs for part, pairs in self.links.items()}

    def forward(self, x: Tensor, path: str) -> Tensor:
        """Images x (N, C, H, W) of domain `path[0]` in [-1, 1], carried along `path` to domain `path[-1]`."""
        image: Tensor = self.images({path[0]: x}, [path])[path]
        return image

    def _tower(self, part: str, path: str) -> Tower:
        tower = getattr(self, part)[path[-1]]
        assert isinstance(tower, Tower)
        return tower

    def _posterior(self, value: Value) -> Posterior:
        mean, spread = value if isinstance(value, tuple) else (value, None)
        if not (self.training or self.sampling) or (spread is None and not self.noise):
            return Posterior(mean, spread, mean)
        # Not randn_like: it draws one by one where memory is channels last.
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device)
        return Posterior(mean, spread, mean + noise * (self.noise if spread is None else spread))


def _needed(readings: Iterable[str]) -> tuple[list[str], list[str]]:
    """The codes and the images on the way to `readings`, each in a fixed order."""
    codes: set[str] = set()
    paths: set[str] = set()
    for reading in readings:
        kind, _, path = reading.rpartition(":")
        if kind == "link":
            continue
        codes |= {path} if kind == "code" else set()
        paths |= {path[:i] for i in range(1, len(path) + 1)}
    codes |= {path[:-1] for path in paths if len(path) > 1}
    return sorted(codes), sorted(paths)


def _shape(size: Iterable[int]) -> str:
    return "x".join(map(str, size))
