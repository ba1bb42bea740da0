"""Trainings that fit into memory: what is chosen so that one does, and what would fit where it does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from ..check import Checked, check, check_recompute
from ..data import Data
from ..data.cache import stored_bytes
from ..kernels.placement import Placement
from ..recipe import Recipe
from ..runs.options import Options
from ..system.errors import UserError
from ..system.sizes import available_memory, parse_size, show_size
from .predict import FRAMEWORK, SPLIT, Prediction, Unpredictable, predict

CERTAIN = 1.15  # times the memory that there is, from which a prediction refuses; its error is below that
NEAR = 0.85  # from which it warns
FEW = 3  # micro-batches, from which on each takes as much more as the last did
FAR = 1.5  # times the memory that there is, from which a rough guess will do
TRIED = 4  # numbers of parts from there on, each of which takes about half of the one before
NARROWER = "give narrower networks (see `unitkit show`)"
ELSEWHERE = "resume it where there is more memory"
MOST = 1024  # images of the largest batch that is looked for
STRAIGHT = 6  # batches that are looked for on a line; it bends where maps become too large for the heap


def fitted(
    checked: Checked,
    options: Options,
    placement: Placement,
    device: torch.device,
    before: Mapping[str, Any],
    warn: Callable[[str], None],
) -> Checked:
    """The checked recipe as the run trains it: with what `options.memory` chooses, or a resumed run has chosen.

    Args:
        before: the record of the run to resume, or nothing.
        warn: is told in a line what was chosen and why, and of memory that will not do.

    Raises:
        UserError: nothing fits into `options.memory`, or the training certainly not into the RAM that is free.
    """
    fitting = Fitting(checked, placement, options.precision, device, resumed=bool(before))
    recipe = checked.recipe
    if options.memory is not None:
        kept = _kept(recipe, before) if before.get("memory") == options.memory else None
        recipe = kept or fitting.choose(options.memory, warn)
    fitting.compare(recipe, warn)
    return checked if recipe is checked.recipe else check(recipe)


def _kept(recipe: Recipe, before: Mapping[str, Any]) -> Recipe | None:
    """The recipe with what a run has chosen, unless its batch can no longer be split so."""
    whole, count = recipe.batch * recipe.accumulate, before.get("accumulate", 1)
    if whole % count:
        return None
    return replace(recipe, batch=whole // count, accumulate=count, recompute=tuple(before.get("recompute", ())))


class Fitting:
    """What of a checked recipe fits, on a device. A training that is resumed keeps its networks, batch and images."""

    def __init__(
        self, checked: Checked, placement: Placement, precision: str, device: torch.device, *, resumed: bool = False
    ) -> None:
        self.checked, self.placement, self.precision, self.device = checked, placement, precision, device
        self.resumed, self.otherwise = resumed, ELSEWHERE if resumed else NARROWER
        self._known: dict[tuple[object, ...], Prediction] = {}

    def predict(self, recipe: Recipe) -> Prediction:
        """`predict`, of the recipe that was checked or one like it; once for each; many micro-batches from few."""
        if recipe.accumulate > FEW:
            one, other = (self.predict(replace(recipe, accumulate=count)) for count in (FEW - 1, FEW))
            return other.beyond(one, recipe.accumulate - FEW)
        key = (recipe.batch, recipe.accumulate, frozenset(recipe.recompute), recipe.data.window)
        if key not in self._known:
            self._known[key] = predict(self.checked, recipe, self.placement, self.precision, self.device)
        return self._known[key]

    def total(self, recipe: Recipe) -> float:
        """The bytes that a training takes; infinite for one that cannot be."""
        with suppress(Unpredictable):
            return self.predict(recipe).total
        return math.inf

    def choose(self, memory: str, warn: Callable[[str], None]) -> Recipe:
        """The recipe, or one with the same batch that is slower and fits: first with parts recomputed, then in
        micro-batches, then both.

        Raises:
            UserError: nothing fits; the message has what would.
        """
        recipe, limit = self.checked.recipe, parse_size(memory)
        try:
            plain = self.predict(recipe)
        except Unpredictable as error:
            raise UserError(f"--memory cannot choose for this recipe, whose memory is not predicted: {error}") from None
        for chosen in self._choices(limit):
            if (found := self.total(chosen)) <= limit:
                change = _changes(recipe, chosen)
                instead = f", {show_size(plain.total)} without" if change else ""
                warn(f"--memory {memory}: {change or 'nothing is changed'}; {_predicted(found)}{instead}")
                return chosen
        least = replace(recipe, recompute=self._parts())
        raise UserError(
            f"--memory {memory}: this training takes {_predicted(plain.total)}, and nothing makes it fit, neither "
            f"recomputing nor micro-batches: {self.way_out(least, limit)}"
        )

    def compare(self, recipe: Recipe, warn: Callable[[str], None]) -> None:
        """Warn of a training that may not fit into what the device has free. Raises `UserError` on the CPU for one
        that certainly does not."""
        free = available(self.device)
        if free is None or self._at_most(recipe) < free / 4:  # which takes no time to see
            return
        images = _decoded(recipe) if self.device.type == "cpu" else 0
        with suppress(Unpredictable):
            need = self.predict(recipe).total + images
            if need <= NEAR * free:
                return
            line = f"this training takes {_predicted(need)} at its peak, and {self.device} has {show_size(free)} free"
            if need <= free:
                warn(f"{line}: it may run out of memory")
                return
            line = f"{line}: {self.way_out(recipe, free - images)}"
            if self.device.type == "cpu" and need > CERTAIN * free:
                raise UserError(line)
            warn(line)

    def way_out(self, recipe: Recipe, limit: int) -> str:
        """What of a recipe that does not fit would: the largest batch, or size of its images."""
        words: list[str] = []
        with suppress(Unpredictable):
            if (found := self.predict(recipe)).lasting - found.batch > limit:  # whatever the batch is
                return self.otherwise
        if not self.resumed and 0 < (batch := self.largest_batch(recipe, limit)) < recipe.batch:
            words.append(f"batch={batch} fits")
        if chosen := next((each for each in self._choices(limit) if self.total(each) <= limit), None):
            words.append(f"--memory {limit // 2**20}M: {_changes(self.checked.recipe, chosen)}")
        if not words and not self.resumed and (size := self._largest_size(replace(recipe, batch=1), limit)):
            words.append(f"with batch=1, images of {size[0]}x{size[1]} fit")
        return ", or ".join(words) or self.otherwise

    def largest_batch(self, recipe: Recipe, limit: int) -> int:
        """A batch that fits, where none fits that is more than 2 % larger, of up to `MOST` images; 0 for none."""
        known = {batch: self.total(replace(recipe, batch=batch)) for batch in (recipe.batch, 2 * recipe.batch)}
        low = max((batch for batch, size in known.items() if size <= limit), default=0)
        high = min((batch for batch, size in known.items() if size > limit), default=max(MOST, *known) + 1)
        while high - low > (step := max(1, low // 50)):
            one, two = sorted(known, key=lambda batch: abs(known[batch] - limit))[:2]
            each = (known[two] - known[one]) / (two - one)
            batch = (low + high) // 2
            if len(known) <= STRAIGHT and 0 < each < math.inf:
                batch = math.floor(one + (limit - known[one]) / each)
            batch = min(max(batch, low + step), high - 1)
            known[batch] = self.total(replace(recipe, batch=batch))
            low, high = (batch, high) if known[batch] <= limit else (low, batch)
        return low

    def _choices(self, limit: int) -> Iterable[Recipe]:
        """From the least slow on. Where all parts together do not save enough, none of them is tried by itself."""
        recipe = self.checked.recipe
        yield recipe
        parts = self._parts()
        again = replace(recipe, recompute=parts)
        if len(parts) > len(recipe.recompute) and self.total(again) <= limit:
            yield from self._recomputed(parts)
        for each in (recipe, again):
            counts = (n for n in range(2, recipe.batch + 1) if recipe.batch % n == 0)
            near = (count for count in counts if self._share(each, count) <= FAR * limit)
            for count in itertools.islice(near, TRIED):
                yield replace(each, batch=recipe.batch // count, accumulate=recipe.accumulate * count)

    def _share(self, recipe: Recipe, count: int) -> float:
        """The bytes that last, and one of so many parts of what a step makes: a batch in parts takes hardly less."""
        with suppress(Unpredictable):
            found = self.predict(recipe)
            return found.lasting + found.activations / count
        return math.inf

    def _recomputed(self, parts: Sequence[str]) -> Iterable[Recipe]:
        """The recipe with parts recomputed, the least arithmetic first."""
        recipe = self.checked.recipe
        more = [part for part in parts if part not in recipe.recompute]
        cost = {}
        for part in more:
            with suppress(Unpredictable):  # which no choice can have then
                cost[part] = self.predict(replace(recipe, recompute=[*recipe.recompute, part])).flops
        more = list(cost)
        several = [chosen for n in range(1, len(more) + 1) for chosen in itertools.combinations(more, n)]
        least = min(cost.values(), default=0)
        for chosen in sorted(several, key=lambda chosen: (sum(cost[part] - least + 1 for part in chosen), len(chosen))):
            yield replace(recipe, recompute=(*recipe.recompute, *chosen))

    def _parts(self) -> tuple[str, ...]:
        """The parts that can be recomputed."""
        found = []
        for part in self.checked.model.parts:
            with suppress(UserError, AttributeError):
                check_recompute(replace(self.checked.recipe, recompute=[part]), self.checked.model)
                if any(True for tower in getattr(self.checked.model, part).values() for _ in tower.stages):
                    found.append(part)
        return tuple(dict.fromkeys([*self.checked.recipe.recompute, *found]))

    def _at_most(self, recipe: Recipe) -> int:
        """More than a training can take, from what its check has seen."""
        weights = sum(p.numel() * p.element_size() for p in self.checked.model.parameters())
        return round(6 * weights + SPLIT * 3 * self.checked.written * recipe.accumulate) + FRAMEWORK + _decoded(recipe)

    def _largest_size(self, recipe: Recipe, limit: int) -> tuple[int, int] | None:
        (height, width), stride = recipe.data.window, self.checked.model.stride
        if self.checked.model.size:
            return None
        low, high = 0, min(height, width) // stride
        while high - low > 1:
            middle = (low + high) // 2
            size = _scaled(recipe.data, middle * stride, stride)
            low, high = (middle, high) if self.total(replace(recipe, data=size)) <= limit else (low, middle)
        return _scaled(recipe.data, low * stride, stride).window if low else None


def available(device: torch.device) -> int | None:
    """The bytes that a training can still have on a device; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory() if device.type == "cpu" else None


def _decoded(recipe: Recipe) -> int:
    """The bytes of RAM that the decoded images may take, which go to a file where there are too many."""
    height, width = (edge + recipe.crop for edge in recipe.data.size)
    size = sum(stored_bytes(each.train.at((height, width))) for each in recipe.data.domains.values())
    return min(size, available_memory() // 4)


def _scaled(data: Data, shorter: int, stride: int) -> Data:
    """Data whose training sees images with that shorter side, and a longer one in proportion, a multiple of the
    stride."""
    share = shorter / min(data.window)
    height, width = (max(stride, round(edge * share / stride) * stride) for edge in data.window)
    return replace(data, cut=(height, width)) if data.cut else replace(data, size=(height, width))


def _changes(recipe: Recipe, chosen: Recipe) -> str:
    """What was chosen, in words."""
    words = []
    if more := [part for part in chosen.recompute if part not in recipe.recompute]:
        words.append(f"the activations of the {' and '.join(more)} are computed again in the backward pass")
    if chosen.accumulate > recipe.accumulate:
        words.append(
            f"a batch is {chosen.accumulate} micro-batches of {chosen.batch}, with noise and any batch statistics of "
            "their own"
        )
    return ", and ".join(words)


def _predicted(size: float) -> str:
    return f"about {show_size(int(size))}"
