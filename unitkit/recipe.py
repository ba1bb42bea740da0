"""A recipe: the parts, the players with their terms, the data and the metrics of one training, checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from .errors import UserError, nearest
from .losses import Term
from .registry import Spec

if TYPE_CHECKING:
    from .data import Data, Warp
    from .metrics import Metric


@dataclass(frozen=True)
class Adam:
    """Settings of a player's Adam.

    Args:
        lr: learning rate.
        betas: decay rates of the running mean and variance of the gradient.
        weight_decay: of the L2 kind, added to the gradient, as in the released code.
        decay: the share of a run's steps, at its end, in which the learning rate falls linearly to 0.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-4
    decay: float = 0.0

    def __post_init__(self) -> None:
        betas = all(0 <= beta < 1 for beta in self.betas)
        if not (self.lr > 0 and betas and self.weight_decay >= 0 and 0 <= self.decay <= 1):
            expected = "lr above 0, betas in [0, 1), weight_decay of at least 0 and decay in [0, 1]"
            raise UserError(f"Adam needs {expected}, not {self}")

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of `steps`."""
        return self.lr * min(1.0, (steps - step) / (self.decay * steps + 1))


@dataclass(frozen=True)
class Player:
    """A named set of parameters, its optimizer and its terms. In a training step the players move in order.

    Args:
        name: such as "generator".
        trains: the parts of the model whose parameters move, such as ("encoders", "generators").
        terms: what the player minimises: the sum of weight times loss.
        since: the share of the training after which the player begins to move.
        until: the share after which it rests, and what it trained stays as it is.
    """

    name: str
    trains: Sequence[str]
    terms: Sequence[Term]
    optimizer: Adam = Adam()
    since: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.since < self.until <= 1:
            raise UserError(
                f"player '{self.name}' moves from {self.since} to {self.until} of the training: "
                f"expected 0 <= since < until <= 1"
            )

    def moves(self, progress: float) -> bool:
        """Whether the player moves when this share of the training is done."""
        return self.since <= progress < self.until


@dataclass(frozen=True)
class Watch:
    """Metrics during training, on the same part of the held-out images each time.

    The first metric's first figure decides which step is kept as the best, in the run's `best` folder beside the last
    step. The best is chosen on held-out images, so its figures on them flatter it: report the last step's.

    Args:
        metrics: what is measured.
        every: steps between two measurements.
        images: of each domain at most; 0 takes all.
        patience: measurements without a better one after which the training ends early; 0 never ends it.
    """

    metrics: Sequence[Metric]
    every: int = 500
    images: int = 64
    patience: int = 0

    def __post_init__(self) -> None:
        if not self.metrics:
            raise UserError("a watch needs at least one metric")
        for name, least in ("every", 1), ("images", 0), ("patience", 0):
            if getattr(self, name) < least:
                raise UserError(f"a watch's {name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """All that a training needs to know.

    Args:
        model: spec of the model, `models.spec("unit", ...)`.
        players: in the order of their turns.
        data: `open_data(...)`.
        steps: training steps.
        batch: images of each domain in a step, on each rank.
        flip: mirror each training image left to right with probability 1/2.
        crop: shift each training image by up to this many pixels (images are decoded that much larger).
        warp: turn, scale and shift each training image at random.
        evaluate: metrics of the finished model on the held-out split.
        sample_every: steps between two sample grids.
        watch: metrics during training.
    """

    model: Spec
    players: Sequence[Player]
    data: Data
    steps: int
    batch: int = 1
    flip: bool = True
    crop: int = 0
    warp: Warp | None = None
    evaluate: Sequence[Metric] = field(default_factory=tuple)
    sample_every: int = 500
    watch: Watch | None = None

    def checked(self) -> Checked:
        """Run the model and every term on the meta device, at no cost in memory.

        Raises:
            UserError: a term that reads a path that cannot be, towers or sizes that do not fit, a player without
                terms or parameters, two players that train one part.
        """
        return Checked(self)


class Checked:
    """A recipe that has passed its check, with what the check learnt.

    Attributes:
        players: the recipe's players, without the terms of weight 0 and the players left with none.
        model: the model on the meta device, in training mode.
        readings: every reading of a step (image paths, codes, scores) to its meta value.
    """

    def __init__(self, recipe: Recipe) -> None:
        _check_numbers(recipe)
        self.recipe = recipe
        if recipe.model.kind != "model":
            raise UserError(f"the recipe's model is given as the {recipe.model.kind} '{recipe.model.name}'")
        with torch.device("meta"):
            self.model: Any = recipe.model.build()
        players = [_effective(player, self.model) for player in recipe.players]
        self.players = [player for player in players if player.terms]
        if not self.players:
            raise UserError("every term of every player has weight 0: there is nothing to train")
        if not any(player.until == 1 for player in self.players):
            raise UserError("no player moves in the last step: give one until=1")
        taken: dict[str, str] = {}
        for player in self.players:
            for part in player.trains:
                if (other := taken.setdefault(part, player.name)) != player.name:
                    raise UserError(f"the {part} are trained by two players, '{other}' and '{player.name}'")
        if recipe.data.channels != self.model.channels:
            raise UserError(f"the model's channels are {self.model.channels}, the data's {recipe.data.channels}")
        pulled = {path for p in self.players for term in p.terms if term.loss.kind == "link" for path in term.paths}
        if unpulled := set(self.model.links) - pulled:
            part = min(unpulled)
            raise UserError(
                f"soft sharing links the {part}, and no term draws them together: add weight * pull('{part}')"
            )
        for player in self.players:
            if not any(player.moves(step / recipe.steps) for step in range(recipe.steps)):
                raise UserError(
                    f"player '{player.name}' moves from {player.since} to {player.until} of the training, and none of "
                    f"{recipe.steps} steps lies there: give more steps"
                )
        self.model.check_size(recipe.data.size)
        _check_names("of the recipe", recipe.evaluate)
        _check_names("of the watch", recipe.watch.metrics if recipe.watch else ())
        check_counts(recipe, recipe.data)
        for metric in [*recipe.evaluate, *(recipe.watch.metrics if recipe.watch else ())]:
            for name in metric.reads:
                if name.startswith("label:"):
                    _check_classes(recipe.data, metric.name, name[-1])
                    continue
                self.model.check(re.sub(r"^(truth|sample\d+):", "", name))
                if name.startswith("sample") and not hasattr(self.model, "sampling"):
                    raise UserError(
                        f"the metric {metric.name} samples the latent, and a {type(self.model).__name__} has no "
                        f"`sampling`: leave the metric out"
                    )
                if name.startswith("truth:") and recipe.data.truth is None:
                    raise UserError(
                        f"the metric {metric.name} needs the true counterpart of an image, and the data "
                        f"'{recipe.data.name}' do not know it: leave the metric out, or give aligned data"
                    )
            metric.check_size(recipe.data.size)
            metric.ready()
        self.readings = self._rehearse()
        for name, value in self.readings.items():
            if name.startswith("class:") and value.truth is not None:
                _check_head(name, value.logits.shape[1], recipe.data)

    @property
    def reads(self) -> list[str]:
        """Every reading that some term of some player needs."""
        return reads(self.players)

    def _rehearse(self) -> dict[str, Any]:
        batch = meta_batch(self.recipe)
        readings: dict[str, Any] = {}
        for moving in self._phases():
            with self._fitting(), torch.no_grad():
                images = self.model.images(batch, reads(moving))
                for player in moving:  # by itself, as in training: batch norms see what one player reads
                    readings |= self.model.readings(images, reads([player]))
        for path, image in readings.items():
            if ":" not in path and len(path) > 1 and image.shape[1:] != batch[path[-1]].shape[1:]:
                raise UserError(
                    f"image path '{path}' comes out as {list(image.shape[1:])} and domain '{path[-1]}' holds "
                    f"{list(batch[path[-1]].shape[1:])}: the generator does not undo the encoder at this size"
                )
        for term in (term for player in self.players for term in player.terms):
            try:
                value = term(readings) if term.loss.kind != "link" else torch.zeros(())
            except (UserError, RuntimeError, ValueError, TypeError) as error:
                raise UserError(f"the term {term.name} cannot be computed: {_first_line(error)}") from error
            if not isinstance(value, torch.Tensor) or value.shape != ():
                raise UserError(f"the term {term.name} gives {value!r:.60} where a loss is a scalar tensor")
        return readings

    def _phases(self) -> list[list[Player]]:
        """The players that move together, for each stretch of the training in which they are the same."""
        steps = self.recipe.steps
        borders = {border for player in self.players for border in (player.since, player.until)}
        beside = {min(max(round(border * steps) + one, 0), steps - 1) for border in borders for one in (-1, 0, 1)}
        found = {
            tuple(player.name for player in moving): moving
            for step in sorted(beside)
            if (moving := [player for player in self.players if player.moves(step / steps)])
        }
        return list(found.values())

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """What networks raise within the block, as one line for the user."""
        try:
            yield
        except (RuntimeError, ValueError, TypeError) as error:
            height, width = self.recipe.data.size
            if "more than 1 value per channel" in str(error):
                raise UserError(
                    f"a batch norm would see a single value a channel at batch={self.recipe.batch} and images of "
                    f"{height}x{width}, and nothing is left of it: give batch={self.recipe.batch + 1} or more"
                ) from error
            raise UserError(f"the networks do not fit images of {height}x{width}: {_first_line(error)}") from error


def reads(players: Sequence[Player]) -> list[str]:
    """Every reading that some term of these players needs, each once."""
    return list(dict.fromkeys(name for player in players for term in player.terms for name in term.reads))


def _check_names(kind: str, metrics: Sequence[Metric]) -> None:
    names = [metric.name for metric in metrics]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two metrics {kind} are called {twice[0]}: their figures could not be told apart")


def check_counts(recipe: Recipe, data: Data) -> None:
    """Raise `UserError` where `data` hold too few held-out images for a metric of the recipe."""
    for metric in recipe.evaluate:
        metric.check_held_out(data.held_out())
    for metric in recipe.watch.metrics if recipe.watch else ():
        metric.check_held_out(data.held_out(recipe.watch.images if recipe.watch else 0))


def meta_batch(recipe: Recipe) -> dict[str, torch.Tensor]:
    """What a training step sees, on the meta device: images by letter, and the classes that a training may see."""
    height, width = recipe.data.size
    batch = {}
    for letter, domain in recipe.data.domains.items():
        batch[letter] = torch.empty(recipe.batch, domain.train.channels, height, width, device="meta")
        if domain.train_classes is not None:
            batch[f"label:{letter}"] = torch.empty(recipe.batch, dtype=torch.long, device="meta")
    return batch


def _check_classes(data: Data, metric: str, letter: str) -> None:
    if letter not in data.domains or data.domains[letter].test_classes is None:
        known = [name for name, domain in data.domains.items() if domain.test_classes is not None]
        raise UserError(
            f"the metric {metric} needs the classes of domain '{letter}', and the data '{data.name}' know "
            f"{'those of ' + ', '.join(known) if known else 'none'}"
        )


def _check_head(reading: str, told: int, data: Data) -> None:
    known = data.domains[reading.removeprefix("class:")[0]].train_classes
    if known is not None and known.max() >= told:
        raise UserError(f"'{reading}' tells {told} classes, and the data have {known.max() + 1}: give the head as many")


def _effective(player: Player, model: Any) -> Player:
    for part in player.trains:
        if part not in model.parts:
            raise UserError(f"player '{player.name}' trains '{part}'. {nearest(part, model.parts)}")
        if not list(getattr(model, part).parameters()):
            raise UserError(f"player '{player.name}' trains the {part}, which have no parameters")
    # A term that two bundles ask for (the KL of a real image in L_VAE and L_CC) is computed once, the weights added.
    merged: dict[str, Term] = {}
    for term in (term for term in player.terms if term.weight):
        before = merged.get(term.name)
        merged[term.name] = replace(term, weight=term.weight + before.weight) if before else term
    terms = list(merged.values())
    for term in terms:
        for name in term.reads:
            try:
                model.check(name)
            except UserError as error:
                raise UserError(f"the term {term.name} of player '{player.name}': {error}") from None
    if not player.terms or not player.trains:
        raise UserError(f"player '{player.name}' has no {'terms' if player.trains else 'parts to train'}")
    return replace(player, trains=tuple(player.trains), terms=terms)


def _check_numbers(recipe: Recipe) -> None:
    for name, least in ("steps", 1), ("batch", 1), ("crop", 0), ("sample_every", 1):
        if getattr(recipe, name) < least:
            raise UserError(f"{name} must be at least {least}, not {getattr(recipe, name)}")
    if not recipe.players:
        raise UserError("the recipe has no players")
    names = [player.name for player in recipe.players]
    if len(set(names)) < len(names):
        raise UserError(f"players need different names, not {', '.join(names)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
