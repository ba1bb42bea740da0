"""A recipe checked as a whole, on the meta device: names, shapes, sizes, who trains what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, get_type_hints

import torch

from .annotations import describe, fits
from .data import Affine, Data
from .losses import Loss, Term
from .metrics import Metric
from .metrics.metric import check_metrics
from .models import ImagePaths
from .networks.bounded import Meta
from .recipe import Player, Recipe
from .registry import Part
from .system.errors import UserError, nearest
from .system.live import Live
from .training.plan import Plan, reads, trained


def check(recipe: Recipe) -> Checked:
    """Run the model and every term on the meta device, at no cost in memory.

    Raises:
        UserError: a term that reads a path that cannot be, towers or sizes that do not fit, a player without
            terms or parameters, two players that train one part.
    """
    return Checked(recipe)


class Checked:
    """A recipe that has passed its check, with what the check learnt.

    Attributes:
        players: the recipe's players, without the terms of weight 0 and the players left with none.
        model: the model on the meta device, in training mode.
        owners: by each player's name that of the player whose optimizer it moves by, mostly itself.
        readings: every reading of a step (image paths, codes, scores) by name, to its meta value.
        written: bytes of all that a step's forward pass makes on its way to what terms read, in float32.
    """

    def __init__(self, recipe: Recipe) -> None:
        _check_kinds("the recipe", recipe)
        for player in recipe.players:
            _check_kinds(f"player '{player.name}'", player)
        _check_numbers(recipe)
        self.recipe = recipe
        if recipe.model.kind != "model":
            raise UserError(f"the recipe's model is given as the {recipe.model.kind} '{recipe.model.name}'")
        try:
            with Meta():
                self.model: ImagePaths = recipe.model.build()
        except (RuntimeError, OverflowError) as error:  # more weights than 64 bits can count
            raise UserError(f"the networks cannot be built: {_first_line(error)}") from error
        players = [_effective(player, self.model) for player in recipe.players]
        self.players = [player for player in players if player.terms]
        if not self.players:
            raise UserError("every term of every player has weight 0: there is nothing to train")
        if not any(player.until == 1 and player.every <= recipe.steps for player in self.players):
            raise UserError("no player moves in the last step: give one until=1")
        self.owners = _owners(self.players, self.model)
        if recipe.data.channels != self.model.channels:
            raise UserError(f"the model's channels are {self.model.channels}, the data's {recipe.data.channels}")
        _check_soft_pairs(self.players, self.model)
        check_recompute(recipe, self.model)
        for player in self.players:
            if player.first(recipe.steps) is None:
                raise UserError(
                    f"player '{player.name}' moves from {player.since} to {player.until} of the training, and none of "
                    f"{recipe.steps} steps lies there: give more steps"
                )
        for size in {recipe.data.size, recipe.data.window}:
            self.model.check_size(size)
        _check_names("of the recipe", recipe.evaluate)
        _check_names("of the watch", recipe.watch.metrics if recipe.watch else ())
        check_counts(recipe, recipe.data)
        check_metrics([*recipe.evaluate, *(recipe.watch.metrics if recipe.watch else ())], self.model, recipe.data)
        self.written = 0
        self.readings = self._rehearse()
        for name, value in self.readings.items():
            if name.startswith("class:") and value.actual is not None:
                _check_head(name, value.logits.shape[1], recipe.data)

    @property
    def reads(self) -> list[str]:
        """The names of all readings that some term of some player needs."""
        return [str(reading) for reading in reads(self.players)]

    def _rehearse(self) -> dict[str, Any]:
        with self._fitting():
            batch = meta_batch(self.recipe)
        readings: dict[str, Any] = {}
        for phase in Plan(self.model, self.players, self.recipe.steps).phases.values():
            with self._fitting(), torch.no_grad(), Live() as live:
                images = phase.images.run(phase.images.start(batch))
                for turn in phase.turns:  # by itself, as in training: batch norms see what one player reads
                    values = turn.program.run(turn.start(images))
                    for term, slots in turn.terms:
                        readings |= {str(name): values[slot] for name, slot in zip(term.reads, slots, strict=True)}
            self.written = max(self.written, live.made)
        ways = self._ways()
        with self._fitting(), torch.no_grad(), Live():  # within which torch's meta operators are quick
            readings |= self.model.read(batch, [way for way in ways if way not in readings])
        for path in ways:
            image = readings[path]
            if len(path) > 1 and image.shape[1:] != batch[path[-1]].shape[1:] and "/" not in path[-2:]:
                raise UserError(
                    f"image path '{path}' comes out as {list(image.shape[1:])} and domain '{path[-1]}' holds "
                    f"{list(batch[path[-1]].shape[1:])}: the generator does not undo the encoder at this size"
                )
        for term in (term for player in self.players for term in player.terms):
            try:
                value = term(readings) if "weights" not in term.loss.kinds else torch.zeros(())
            except (UserError, RuntimeError, ValueError, TypeError) as error:
                raise UserError(f"the term {term.name} cannot be computed: {_first_line(error)}") from error
            if not isinstance(value, torch.Tensor) or value.shape != ():
                raise UserError(f"the term {term.name} gives {value!r:.60} where a loss is a scalar tensor")
        return readings

    def _ways(self) -> list[str]:
        """Every image on the way to what is read."""
        paths = {reading.path for reading in reads(self.players) if reading.kind != "weights"}
        ways = {path[:end] for path in paths for end in range(1, len(path) + 1)}
        return sorted(way for way in ways if not way.endswith("/") and self.model.has(way))

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """What networks raise within the block, as one line for the user."""
        try:
            yield
        except (RuntimeError, ValueError, TypeError) as error:
            height, width = self.recipe.data.window
            if "more than 1 value per channel" in str(error):
                raise UserError(
                    f"a batch norm would see a single value a channel at batch={self.recipe.batch} and images of "
                    f"{height}x{width}, and nothing is left of it: give batch={self.recipe.batch + 1} or more"
                ) from error
            raise UserError(f"the networks do not fit images of {height}x{width}: {_first_line(error)}") from error


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


def check_phases(recipe: Recipe, step: int, before: int) -> None:
    """Raise `UserError` where at `step` more steps than `before` would wake a player that has come to rest."""
    for player in recipe.players:
        if player.until < 1 and step / before >= player.until and step / recipe.steps < player.until:
            raise UserError(
                f"player '{player.name}' rests after {100 * player.until:.0f} % of the steps, as it does in this run "
                f"since step {round(player.until * before)}; of {recipe.steps} it would move again: train anew"
            )


def meta_batch(recipe: Recipe) -> dict[str, torch.Tensor]:
    """What a training step sees, on the meta device: images by letter, and the classes that a training may see."""
    height, width = recipe.data.window
    batch = {}
    for letter, domain in recipe.data.domains.items():
        batch[letter] = torch.empty(recipe.batch, domain.train.channels, height, width, device="meta")
        if domain.train_classes is not None:
            batch[f"label:{letter}"] = torch.empty(recipe.batch, dtype=torch.long, device="meta")
    return batch


def _check_head(reading: str, predicted: int, data: Data) -> None:
    known = data.domains[reading.removeprefix("class:")[0]].train_classes
    if known is not None and known.max() >= predicted:
        raise UserError(
            f"'{reading}' has {predicted} classes, and the data have {known.max() + 1}: give the head as many"
        )


def _effective(player: Player, model: ImagePaths) -> Player:
    trained(model, player)
    # A term that two bundles ask for (the KL of a real image in L_VAE and L_CC) is computed once, the weights added.
    merged: dict[str, Term] = {}
    for term in (term for term in player.terms if term.weight):
        before = merged.get(term.name)
        merged[term.name] = replace(term, weight=term.weight + before.weight) if before else term
    terms = list(merged.values())
    for term in terms:
        for reading in term.reads:
            try:
                model.check(str(reading))
            except UserError as error:
                raise UserError(f"the term {term.name} of player '{player.name}': {error}") from None
    if not player.terms or not player.trains:
        raise UserError(f"player '{player.name}' has no {'terms' if player.trains else 'parts to train'}")
    return replace(player, trains=tuple(player.trains), terms=terms)


def _owners(players: Sequence[Player], model: ImagePaths) -> dict[str, str]:
    owners: dict[str, str] = {}
    moved: dict[str, set[str]] = {}  # parameters by the player whose optimizer moves them
    for player in players:
        names = set(trained(model, player))
        if player.optimizer is None:
            same = [other for other, theirs in moved.items() if theirs == names]
            if not same:
                raise UserError(
                    f"player '{player.name}' has no optimizer, and no earlier player trains just "
                    f"{', '.join(player.trains)}: give it one"
                )
            owners[player.name] = same[0]
            continue
        for other, theirs in moved.items():
            if both := names & theirs:
                raise UserError(
                    f"the {min(both).partition('.')[0]} are trained by two players, '{other}' and '{player.name}': "
                    f"give the second optimizer=None, to move them by the first's"
                )
        moved[player.name] = names
        owners[player.name] = player.name
    return owners


def _check_soft_pairs(players: Sequence[Player], model: ImagePaths) -> None:
    readings = reads(players)
    drawn = {reading.path for reading in readings if reading.kind == "weights"}
    if undrawn := set(model.soft_pairs) - drawn:
        part = min(undrawn)
        raise UserError(
            f"soft sharing pairs stages of the {part}, and no term draws them together: add "
            f"weight * weight_distance('{part}')"
        )


def check_recompute(recipe: Recipe, model: ImagePaths) -> None:
    """Raise `UserError` for a part that the recipe wants recomputed and that is not there, or cannot be."""
    for part in recipe.recompute:
        if part not in model.parts:
            raise UserError(f"recompute names '{part}'. {nearest(part, model.parts)}")
        towers = getattr(model, part)
        if any(name in towers.state_dict() for name, _ in towers.named_buffers()):  # others are constants
            raise UserError(f"the {part} keep batch statistics, which recomputing would move twice: leave them out")


def _check_kinds(who: str, given: Recipe | Player) -> None:
    """Each field is what it is annotated to be."""
    later = {"Affine": Affine, "Data": Data, "Metric": Metric}
    hints = get_type_hints(type(given), localns=later, include_extras=True)
    for each in fields(given):
        if not fits(value := getattr(given, each.name), hints[each.name]):
            items = value if isinstance(value, list | tuple) else [value]
            strange = next((item for item in items if isinstance(item, type | Loss | Part)), None)
            hint = f": call it, {strange.__name__}(...)" if strange is not None else ""
            shown = repr(value) if len(repr(value)) < 100 else f"a {type(value).__name__}"
            raise UserError(f"{who} wants {each.name} to be {describe(hints[each.name])}, not {shown}{hint}")


def _check_numbers(recipe: Recipe) -> None:
    if recipe.crop > min(recipe.data.size):
        raise UserError(f"crop={recipe.crop} is more than the side of the images, {min(recipe.data.size)}")
    if not recipe.players:
        raise UserError("the recipe has no players")
    if len(set(names := [player.name for player in recipe.players])) < len(names):
        raise UserError(f"players need different names, not {', '.join(names)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
