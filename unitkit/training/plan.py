"""The plan of a training: what every step computes, made once from the players' terms and the model's towers.

A step runs the images that all players read, each path once, and then takes the players' turns. Nothing is looked up,
sorted or decided while training.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..losses import Term
from ..losses.reading import Reading
from ..models import ImagePaths
from ..networks.graph import Graph, Node, Program
from ..networks.nested import detached, full_precision
from ..recipe import Player
from ..system.errors import UserError, nearest


class Turn(NamedTuple):
    """What one player computes in a step.

    Attributes:
        program: from the images to what its terms read.
        terms: each with the slots of its readings.
        through: whether its gradient goes through the images, back into what it trains; they are cut off otherwise.
        anew: whether the images are computed again first, since an earlier player has moved what makes them.
    """

    player: Player
    program: Program
    terms: tuple[tuple[Term, tuple[int, ...]], ...]
    through: bool
    anew: bool

    def start(self, images: list[Any]) -> list[Any]:
        """The slots that the program starts from: its images, cut off from what made them where no gradient goes
        through."""
        start = [None] * len(images)
        for slot in self.program.reads:
            start[slot] = images[slot] if self.through else detached(images[slot])
        return start

    def losses(self, values: list[Any], progress: float) -> dict[str, Tensor]:
        """Each term's value, unweighted, by its name: of the slots that the program has filled, when this share of the
        training is done."""
        return {
            term.name: term.value([full_precision(values[slot]) for slot in slots], progress)
            for term, slots in self.terms
        }

    @property
    def on_weights(self) -> bool:
        """Whether a term reads weights, and not what networks make with them."""
        return any("weights" in term.loss.kinds for term, _ in self.terms)

    @property
    def alike(self) -> Hashable:
        """What two turns have in common that compute the same."""
        return self.player.name, self.program.alike, self.through, tuple(slots for _, slots in self.terms)


class Phase(NamedTuple):
    """What a step computes in which these players move.

    Attributes:
        images: all that translates, for all turns.
        turns: in order.
    """

    images: Program
    turns: tuple[Turn, ...]

    @property
    def through(self) -> bool:
        """Whether any turn needs a gradient through the images."""
        return any(turn.through for turn in self.turns)

    def values(self, batch: Mapping[str, Tensor]) -> list[Any]:
        """The slots of all images of a batch."""
        with nullcontext() if self.through else torch.no_grad():
            return self.images.run(self.images.start(batch))

    @property
    def alike(self) -> Hashable:
        """What two phases have in common whose images are the same."""
        return self.through, self.images.alike


class Plan:
    """The phases of a training.

    Args:
        model: whose towers run.
        players: all of them, with terms that it can read.
        steps: of the training.
        recompute: parts whose activations are computed again in the backward pass.
    """

    def __init__(self, model: ImagePaths, players: Sequence[Player], steps: int, recompute: Sequence[str] = ()) -> None:
        self.players, self.steps = list(players), steps
        again = {stage for part in recompute for tower in getattr(model, part).values() for stage in tower.stages}
        graph = Graph()  # one for all phases: what is the same in two of them has one place
        nodes = {reading: model.trace(graph, reading) for reading in reads(players)}
        self.phases = {
            moving: _phase(model, graph, nodes, [p for p, moves in zip(players, moving, strict=True) if moves], again)
            for moving in _combinations(players, steps)
        }

    def at(self, step: int) -> Phase:
        """The phase of step `step`, from 0."""
        return self.phases[tuple(player.moves(step, self.steps) for player in self.players)]


def reads(players: Iterable[Player]) -> list[Reading]:
    """Every reading that some term of these players needs, each once, short paths first: so a seed means the same
    noise, whatever else is read."""
    found = {reading for player in players for term in player.terms for reading in term.reads}
    return sorted(found, key=lambda reading: (len(reading.path), reading.path, reading.kind))


def trained(model: ImagePaths, player: Player) -> dict[str, nn.Parameter]:
    """The parameters that a player moves, by their names in the model; a tied one once. Raises `UserError` for what
    the model does not have, or what has none."""
    found: dict[str, nn.Parameter] = {}
    known: set[nn.Parameter] = set()
    for path in player.trains:
        if path.partition(".")[0] not in model.parts:
            raise UserError(f"player '{player.name}' trains '{path}'. {nearest(path, model.parts)}")
        try:
            module = model.get_submodule(path)
        except AttributeError:
            names = [name for name, _ in model.named_modules() if name.startswith(path.partition(".")[0])]
            raise UserError(f"player '{player.name}' trains '{path}'. {nearest(path, names)}") from None
        parameters = dict(module.named_parameters(prefix=path))
        if not parameters:
            raise UserError(f"player '{player.name}' trains the {path}, which have no parameters")
        found |= {name: p for name, p in parameters.items() if p not in known}
        known |= set(parameters.values())
    return found


def _combinations(players: Sequence[Player], steps: int) -> list[tuple[bool, ...]]:
    """Which players move together, in every step that there is."""
    period = math.lcm(*(player.every for player in players))
    borders = {border for player in players for border in (player.since, player.until)}
    near = {round(border * steps) + one for border in borders for one in (-1, 0, 1)}
    # Between two borders what moves repeats with the period.
    tried = {step + more for step in near for more in range(-period, period + 1)} if period < steps else range(steps)
    inside = sorted(step for step in tried if 0 <= step < steps)
    found = dict.fromkeys(tuple(player.moves(step, steps) for player in players) for step in inside)
    return list(found)


def _phase(
    model: ImagePaths,
    graph: Graph,
    nodes: Mapping[Reading, Node],
    moving: Sequence[Player],
    again: Iterable[nn.Module],
) -> Phase:
    slots = {node: slot for slot, node in enumerate(graph.nodes)}
    images = [node for node in graph.nodes if node.translates]
    turns = []
    stale = False
    shared: dict[Node, None] = {}
    for player in moving:
        wanted = [nodes[reading] for reading in reads([player])]
        program = Program(graph, wanted, images, again)
        shared |= dict.fromkeys(graph.nodes[slot] for slot in program.reads)
        terms = tuple((term, tuple(slots[nodes[reading]] for reading in term.reads)) for term in player.terms)
        through = any(path.partition(".")[0] in model.translates for path in player.trains)
        turns.append(Turn(player, program, terms, through, anew=through and stale))
        stale = stale or through
    return Phase(Program(graph, shared, recomputed=again), tuple(turns))
