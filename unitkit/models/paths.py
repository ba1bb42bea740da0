"""What every model shares: towers by domain, and the image paths and readings that follow from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import Classes, Features, Posterior
from ..networks.tower import Tower, Value, run_together
from ..registry import Spec
from ..system.errors import UserError, nearest

KINDS = ("code", "score", "feature", "class", "weights")


class ImagePaths(nn.Module):
    """The base of models. An image path begins with a real image, or with the noise `z` in models that draw their
    code; it enters domains that have a generator, and leaves those that have an encoder.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        encoders, generators, discriminators: the towers by domain, those that the model has.
        sharing: spec of the strategy that makes towers share stages; None leaves them as they are.
        noise: the standard deviation of z around its mean while training, where the encoder does not learn it.
        latent: channels of the code that a path from `z` draws from N(0, I).

    Raises:
        UserError: towers that do not fit, a strategy that they cannot keep, a domain that is no lower-case letter.
    """

    parts: tuple[str, ...] = ("encoders", "generators", "discriminators")
    translates: tuple[str, ...] = ("encoders", "generators")

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        encoders: Mapping[str, Tower],
        generators: Mapping[str, Tower],
        discriminators: Mapping[str, Tower],
        sharing: Spec | None,
        noise: float = 1.0,
        latent: int | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.noise, self.latent = dict(channels), noise, latent
        self.sampling = False  # whether codes are samples outside training too
        strides = {tower.stride for tower in encoders.values()}
        for tower in generators.values():
            if strides and tower.stride not in strides:
                raise UserError(f"the encoder shrinks by {max(strides)}, the generator grows by {tower.stride}")
        towers = {"encoders": encoders, "generators": generators, "discriminators": discriminators}
        self.soft_pairs = (
            sharing.build({part: list(group.values()) for part, group in towers.items()}) if sharing else {}
        )
        self.encoders, self.generators = nn.ModuleDict(encoders), nn.ModuleDict(generators)
        self.discriminators = nn.ModuleDict(discriminators)
        every = [tower for group in towers.values() for tower in group.values()]
        # Height and width of an image must be divisible by it.
        self.stride = max([1, *(t.stride for group in (encoders, generators) for t in group.values())])
        self.size = next((tower.size for tower in every if tower.size), None)  # the only one that the towers take

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
        if kind and kind not in KINDS:
            raise UserError(f"'{reading}' is not a reading. {nearest(kind, KINDS)}")
        if kind == "weights":
            if path not in self.soft_pairs:
                shared = ", ".join(self.soft_pairs) or "none"
                raise UserError(f"'{reading}' needs soft sharing of the {path}; linked parts here: {shared}")
            return
        if not self._walks(path) or (path == "z" and kind != "code"):
            letters = [*self.channels, *("z" if self.latent else "")]
            words = ["".join(w) for n in (1, 2, 3) for w in itertools.product(letters, repeat=n)]
            walks = [word for word in words if self._walks(word) and word != "z"]
            raise UserError(
                f"'{path}' is not an image path here: a path is a word over the domains {', '.join(self.channels)}, "
                f"and this model has {', '.join(walks[:8])}{', ...' if len(walks) > 8 else ''}. {nearest(path, walks)}"
            )
        if kind == "code" and path != "z" and path[-1] not in self.encoders:
            raise UserError(f"'{reading}' needs an encoder of domain {path[-1]}, and this model has none")
        if kind in ("score", "feature", "class") and path[-1] not in self.discriminators:
            raise UserError(f"'{reading}' needs a discriminator of domain {path[-1]}, and this model has none")
        if kind == "class" and not self._tower("discriminators", path).classes:
            raise UserError(f"'{reading}' needs a discriminator with a class head, such as lenet with classes=10")

    def has(self, reading: str) -> bool:
        """Whether this model can give a reading."""
        try:
            self.check(reading)
        except UserError:
            return False
        return True

    def _walks(self, path: str) -> bool:
        """Whether there is such an image path, or the lone `z`."""
        first = path[:1] in self.channels or (path[:1] == "z" and self.latent is not None)
        leaves = all(x in self.encoders or x == "z" for x in path[:-1])
        return first and leaves and all(y in self.generators for y in path[1:])

    def images(self, batch: Mapping[str, Tensor], readings: Iterable[str]) -> dict[str, Any]:
        """The images and posteriors that `readings` need, each computed once.

        Args:
            batch: real images by domain letter, (N, C, H, W) in [-1, 1]; classes (N,) of some of them, as `label:a`;
                and for paths from the noise `z` either codes under `z`, or images of any domain, as many of which are
                drawn.
            readings: image paths, and readings of kind `code`, `score`, `feature` or `class`.

        Returns:
            image paths to (N, C, H, W), and `code:PATH` to `Posterior`, with all that lies on the way: for `aba`
            also `a`, `code:a`, `ab`, `code:ab`; and the classes. All translations of one code decode the same sample.
        """
        codes, paths = _needed(readings)
        found: dict[str, Any] = {key: value for key, value in batch.items() if key.startswith("label:")}
        found |= {path: batch[path] for path in paths if len(path) == 1}
        if "z" in codes:
            found["code:z"] = self._drawn(batch)
        for length in range(1, max(map(len, paths), default=0) + 1):
            sources = [path for path in codes if len(path) == length and path != "z"]
            encoded = run_together([(self._tower("encoders", path).stages, found[path]) for path in sources])
            found |= {f"code:{path}": self._posterior(value) for path, value in zip(sources, encoded, strict=True)}
            targets = [path for path in paths if len(path) == length + 1]
            decoded = run_together(
                [(self._tower("generators", path).stages, found[f"code:{path[:-1]}"].sample) for path in targets]
            )
            found |= dict(zip(targets, decoded, strict=True))
        return found

    def readings(self, images: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """What terms read: `images`, with the scores, features, class logits and links among `names` added.

        Every discriminator runs once on all its images: `score:PATH` is a tuple of logit maps (N, gan_classes, h, w),
        `feature:PATH` the `Features` that its last stage sees, `class:PATH` the `Classes`.
        """
        kinds, names = ("score", "feature", "class"), list(names)
        split = [name.rpartition(":") for name in names]
        judged = list(dict.fromkeys(path for kind, _, path in split if kind in kinds))
        towers = [self._tower("discriminators", path) for path in judged]
        tops = run_together([(t.stages[:-1], images[path]) for t, path in zip(towers, judged, strict=True)])
        outputs = run_together([(t.stages[-1:], top) for t, top in zip(towers, tops, strict=True)])
        found = dict(images)
        for path, tower, top, value in zip(judged, towers, tops, outputs, strict=True):
            if isinstance(top, Tensor):
                found[f"feature:{path}"] = Features(top, partial(_scores, tower))
            elif f"feature:{path}" in names:
                raise UserError(f"'feature:{path}' needs a discriminator of one scale, such as lenet")
            maps = value if isinstance(value, tuple) else (value,)
            if tower.classes:
                *logits, classes = maps
                found[f"class:{path}"] = Classes(classes, images.get(f"label:{path[0]}"))
                maps = tuple(logits)
            found[f"score:{path}"] = maps
        return found | {f"weights:{part}": pairs for part, pairs in self.soft_pairs.items()}

    def draw(self, count: int, size: tuple[int, int], device: torch.device | str) -> Tensor:
        """Codes for paths from the noise `z`: N(0, I), (count, latent, h, w)."""
        assert self.latent, "checked: paths from z are those of models with a latent"
        height, width = size
        return torch.randn(count, self.latent, height // self.stride, width // self.stride, device=device)

    def _drawn(self, batch: Mapping[str, Tensor]) -> Posterior:
        code = batch.get("z")
        if code is None:
            like = next(value for key, value in batch.items() if key in self.channels)
            code = self.draw(len(like), (like.shape[2], like.shape[3]), like.device).to(like.dtype)
        return Posterior(code, None, code)

    def forward(self, x: Tensor, path: str) -> Tensor:
        """Images x (N, C, H, W) of domain `path[0]` in [-1, 1], translated along `path` to domain `path[-1]`."""
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
        # Not randn_like: it draws one by one where memory is channels last. In float32, whatever the precision: a seed
        # means the same noise in each.
        noise = torch.randn(mean.shape, device=mean.device).to(mean.dtype)
        return Posterior(mean, spread, mean + noise * (self.noise if spread is None else spread))


def check_domains(channels: Mapping[str, int], least: int = 1, taken: str = "") -> None:
    """Raise `UserError` for fewer domains than `least`, or one that is no lower-case letter, or in `taken`."""
    letters = all(len(d) == 1 and d.isascii() and d.islower() and d not in taken for d in channels)
    if len(channels) < least or not letters:
        wanted = f"{'two' if least == 2 else 'one'} or more single lower-case letters{f' but {taken}' if taken else ''}"
        raise UserError(f"domains are {wanted}, not {', '.join(map(repr, channels))}")


def check_kinds(**given: Spec) -> None:
    """Raise `UserError` for a spec of another kind than its keyword says."""
    for kind, part in given.items():
        if part.kind != kind:
            raise UserError(f"the model's {kind} is given as the {part.kind} '{part.name}'")


def _scores(tower: Tower, top: Tensor) -> tuple[Tensor, ...]:
    """The logit maps alone that a discriminator's last stage gives to top features."""
    value = tower.stages[-1](top)
    maps = value if isinstance(value, tuple) else (value,)
    return maps[:-1] if tower.classes else maps


def _needed(readings: Iterable[str]) -> tuple[list[str], list[str]]:
    """The codes and the images on the way to `readings`, each in a fixed order."""
    codes: set[str] = set()
    paths: set[str] = set()
    for reading in readings:
        kind, _, path = reading.rpartition(":")
        if kind == "weights":
            continue
        codes |= {path} if kind == "code" else set()
        paths |= {path[:i] for i in range(1, len(path) + 1)} - {"z"}
    codes |= {path[:-1] for path in paths if len(path) > 1}
    return sorted(codes), sorted(paths)


def _shape(size: Iterable[int]) -> str:
    return "x".join(map(str, size))
