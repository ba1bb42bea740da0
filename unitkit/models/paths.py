"""What every model shares: towers by domain, and the image paths and readings that follow from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import Posterior
from ..losses.reading import PATH, Reading, last_step
from ..networks.graph import Graph, Node, Program
from ..networks.tower import Tower, Value
from ..registry import Spec
from ..system.errors import UserError, nearest, suggested
from .kinds import registry as kinds
from .pool import ImagePool

Run = Callable[[Program, list[Any]], list[Any]]
_NONE: Mapping[str, Any] = {}


class ImagePaths(nn.Module):
    """The base of models. An image path begins with a real image, or with the noise `z` in models that draw their
    code; it enters domains that have a generator, and leaves those that have an encoder.

    Args:
        channels: the number of channels of each domain's images, by letter: `{"a": 3, "b": 1}`.
        encoders: those that the model has, by domain.
        generators: likewise.
        discriminators: likewise.
        sharing: spec of the strategy that makes towers share stages; None leaves them as they are.
        parts: what players can train: names of module dicts with a tower for each domain.
        translates: the parts that image paths go through.
        noise: the standard deviation of z around its mean while training, where the encoder does not learn it.
        latent: channels of the code that a path from `z` draws from N(0, I).
        pools: of the domains whose discriminators see pooled translations, `score.pooled:ab`.
        styles: channels of the style that the generators of a domain read, by letter, in models that have styles.

    Raises:
        UserError: towers that do not fit, a strategy that they cannot keep, a domain that is no lower-case letter.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        encoders: Mapping[str, Tower] = _NONE,
        generators: Mapping[str, Tower] = _NONE,
        discriminators: Mapping[str, Tower] = _NONE,
        sharing: Spec | None = None,
        parts: tuple[str, ...] = ("encoders", "generators", "discriminators"),
        translates: tuple[str, ...] = ("encoders", "generators"),
        noise: float = 1.0,
        latent: int | None = None,
        pools: Mapping[str, ImagePool] = _NONE,
        styles: Mapping[str, int] = _NONE,
    ) -> None:
        super().__init__()
        self.parts, self.translates = parts, translates
        self.channels, self.noise, self.latent = dict(channels), noise, latent
        self.styles = dict(styles)
        self.least = 0  # the least side of an image from which all can be read
        self.sampling = False  # whether codes and styles are samples outside training too
        for letter, tower in generators.items():
            if tower.style != styles.get(letter):
                read, given = (
                    f"a style of {n} channels" if n else "no style" for n in (tower.style, styles.get(letter))
                )
                raise UserError(f"the generator of domain {letter} reads {read}, and this model has {given} for it")
        if any(tower.pools for tower in encoders.values()):
            raise UserError("the encoder gives one code for a whole image: it is one of styles, as `munit` reads")
        strides = {tower.stride for tower in encoders.values()}
        for tower in generators.values():
            if strides and tower.stride not in strides:
                raise UserError(f"the encoder shrinks by {max(strides)}, the generator grows by {tower.stride}")
        towers = {"encoders": encoders, "generators": generators, "discriminators": discriminators}
        groups = {part: list(group.values()) for part, group in towers.items()}
        self.soft_pairs = sharing.build(groups) if sharing else {}
        self.encoders, self.generators = nn.ModuleDict(encoders), nn.ModuleDict(generators)
        self.discriminators, self.pools = nn.ModuleDict(discriminators), nn.ModuleDict(pools)
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

    # What a path goes through, as nodes of a graph

    def trace(self, graph: Graph, reading: Reading) -> Node:
        """The node of a reading. Raises `UserError` for one that this model cannot give, such as the path `ax`."""
        if reading.kind not in kinds:
            raise UserError(f"'{reading}' is not a reading. {nearest(reading.kind, kinds)}")
        node: Node = kinds[reading.kind](self, graph, reading.path)
        return node

    def image(self, graph: Graph, path: str) -> Node:
        """The image of a path."""
        if not PATH.fullmatch(path) or path == "z" or not self._walks(path):
            raise UserError(self._no_path(path))
        step = last_step(path)
        if step is None:
            return graph.input(path)
        if step.translated:
            return self.generate(graph, path)[-1]
        ours, theirs = self.channels[step.image[-1]], self.channels[step.letter]
        if ours != theirs:
            raise UserError(f"'{path}' reads an image of {ours} channels as one of {theirs}, those of {step.letter}")
        return self.image(graph, step.image)

    def code(self, graph: Graph, path: str) -> Node:
        """The posterior of the image of a path, or of the noise `z`."""
        if path == "z" and self.latent:
            domains = [graph.input(letter, optional=True) for letter in self.channels]
            return graph.make("noise", self._drawn, graph.input("z", optional=True), *domains)
        outputs, tower = self.encode(graph, path)
        return graph.make(("posterior", tower), self._posterior, outputs[-1])

    def encode(self, graph: Graph, path: str) -> tuple[list[Node], Tower]:
        """The outputs of each stage of the encoder that reads the image of a path, and that encoder."""
        image = self.image(graph, path)
        if path[-1] not in self.encoders:
            raise UserError(f"'code:{path}' needs an encoder of domain {path[-1]}, and this model has none")
        tower = self._tower("encoders", path)
        return graph.tower(tower, image, translates=True), tower

    def generate(self, graph: Graph, path: str) -> list[Node]:
        """The outputs of each stage that makes the translated image of a path."""
        step = last_step(path)
        if step is None or not step.translated or not self._walks(path):
            raise UserError(f"'{path}' is no translation: nothing generates its image")
        return graph.tower(self._tower("generators", path), self.latent_of(graph, path), translates=True)

    def latent_of(self, graph: Graph, path: str) -> Node:
        """What the generator of a path's image reads: a sample of the code of the image before. (Models may add.)"""
        return graph.make("sample", _sample, self.code(graph, path[:-1]))

    def style(self, graph: Graph, path: str) -> Node:
        """The style of the image of a path, in models that have styles."""
        raise UserError(f"'style:{path}' needs a model that has styles, such as munit")

    def drawn_style(self, graph: Graph, path: str) -> Node:
        """The style that the translated image of a path is made with, in models that draw it."""
        raise UserError(f"'style.drawn:{path}' needs a model that has styles, such as munit")

    def discriminate(self, graph: Graph, path: str) -> tuple[list[Node], Tower]:
        """The outputs of each stage of the discriminator that sees the image of a path, and that discriminator."""
        image = self.image(graph, path)
        if path[-1] not in self.discriminators:
            raise UserError(f"'{path}' needs a discriminator of domain {path[-1]}, and this model has none")
        tower = self._tower("discriminators", path)
        return graph.tower(tower, image, translates=False), tower

    def _walks(self, path: str) -> bool:
        """Whether there is such an image path, or the lone `z`."""
        first = path[:1] in self.channels or (path[:1] == "z" and self.latent is not None)
        for place in range(1, len(path)):
            if path[place] == "/" or path[place - 1] == "/":  # read as an image of another domain
                first = first and (path[place] == "/" or path[place] in self.channels)
                continue
            leaves = path[place - 1] in self.encoders or path[place - 1] == "z"
            first = first and leaves and path[place] in self.generators
        return first

    def _no_path(self, path: str) -> str:
        letters = [*self.channels, *("z" if self.latent else "")]
        words = ["".join(w) for n in (1, 2, 3) for w in itertools.product(letters, repeat=n)]
        walks = [word for word in words if self._walks(word) and word != "z"]
        return (
            f"'{path}' is not an image path here: a path is a word over the domains {', '.join(self.channels)}, "
            f"and this model has {', '.join(walks[:8])}{', ...' if len(walks) > 8 else ''}"
            f"{suggested(path, walks)}"
        )

    def keep_only(self, path: str) -> None:
        """Drop the towers that an image path does not go through. Raises `UserError` for a path that there is not."""
        graph = Graph()
        self.trace(graph, Reading.parse(path))
        used = {node.make for node in graph.nodes}
        for towers in (each for each in self.children() if isinstance(each, nn.ModuleDict)):
            for letter, tower in list(towers.items()):
                if not (isinstance(tower, Tower) and used.issuperset(tower.stages)):
                    del towers[letter]
        self.soft_pairs = {}

    # Use

    def check(self, reading: str) -> None:
        """Raise `UserError` for a reading that this model cannot give, such as the path `ax`."""
        self.trace(Graph(), Reading.parse(reading))

    def has(self, reading: str) -> bool:
        """Whether this model can give a reading."""
        try:
            self.check(reading)
        except UserError:
            return False
        return True

    def read(self, batch: Mapping[str, Any], readings: Iterable[str], run: Run = Program.run) -> dict[str, Any]:
        """Readings by name, what lies on their way computed once.

        Args:
            batch: real images by domain letter, (N, C, H, W) in [-1, 1]; classes (N,) of some of them, as `label:a`;
                and for paths from the noise `z` either codes under `z`, or images of any domain, as many of which are
                drawn.
            readings: image paths, `ab`, and other kinds, `code:ab`.
            run: what executes the program; `tiling.run` where images of the batch are maps.

        Returns: image paths to (N, C, H, W), and others to what their kind says, see `kinds`. All translations of one
            code decode the same sample.
        """
        return self.reader(readings, run)(batch)

    def reader(self, readings: Iterable[str], run: Run = Program.run) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """`read` of these readings, for many batches: the way through the model's towers is found once."""
        graph = Graph()
        nodes = {name: self.trace(graph, Reading.parse(name)) for name in sorted(set(readings), key=_order)}
        slots = {node: slot for slot, node in enumerate(graph.nodes)}
        program = Program(graph, nodes.values())

        def read(batch: Mapping[str, Any]) -> dict[str, Any]:
            values = run(program, program.start(batch))
            return {name: values[slots[nodes[name]]] for name in nodes}

        return read

    def draw(self, count: int, size: tuple[int, int], device: torch.device | str) -> Tensor:
        """Codes for paths from the noise `z`: N(0, I), (count, latent, h, w)."""
        assert self.latent, "checked: paths from z are those of models with a latent"
        height, width = size
        return torch.randn(count, self.latent, height // self.stride, width // self.stride, device=device)

    def forward(self, x: Tensor, path: str) -> Tensor:
        """Images x (N, C, H, W) of domain `path[0]` in [-1, 1], translated along `path` to domain `path[-1]`."""
        image: Tensor = self.read({path[0]: x}, [path])[path]
        return image

    def _tower(self, part: str, path: str) -> Tower:
        tower = getattr(self, part)[path[-1]]
        assert isinstance(tower, Tower)
        return tower

    def _drawn(self, code: Tensor | None, *images: Tensor | None) -> Posterior:
        if code is None:
            like = next(image for image in images if image is not None)
            code = self.draw(len(like), (like.shape[2], like.shape[3]), like.device).to(like.dtype)
        return Posterior(code, None, code)

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


def _sample(code: Posterior) -> Tensor:
    return code.sample


def _order(name: str) -> tuple[int, str]:
    """Short paths first: a seed means the same noise, whatever else is read."""
    path = Reading.parse(name).path
    return len(path), path


def _shape(size: Iterable[int]) -> str:
    return "x".join(map(str, size))
