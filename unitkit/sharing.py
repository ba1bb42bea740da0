"""Weight-sharing strategies: what makes the towers of different domains share stages.

A strategy is called as `part(towers, **arguments)`, `towers` being a dict from "encoders", "generators" and
"discriminators" to the towers of the domains in order. It ties stages in place, and returns the pairs that the loss
`weight_distance` draws together: for each part, the pairs of stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeAlias

from torch import nn

from .annotations import Count
from .networks.tower import Tower
from .registry import Part, Registry
from .system.errors import UserError

Towers: TypeAlias = Mapping[str, Sequence[Tower]]
Pairs: TypeAlias = dict[str, list[tuple[nn.Module, nn.Module]]]

P = ParamSpec("P")

registry = Registry("sharing")
spec = registry.spec


def register(build: Callable[Concatenate[Towers, P], Pairs]) -> Part[P, Pairs]:
    """Decorator: a function becomes a sharing strategy, under its own name."""
    return Part(registry, build)


@register
def none(towers: Towers) -> Pairs:
    """No sharing: every domain has towers of its own."""
    return {}


@register
def tie(
    towers: Towers, *, encoder: Count = 0, generator: Count = 0, discriminator: Count = 0, twins: bool = False
) -> Pairs:
    """Hard sharing: one set of weights for the stages nearest the latent space, and for the discriminators' last.

    Args:
        encoder: the last n stages of every encoder become one.
        generator: the first n stages of every generator become one.
        discriminator: the last n stages of every discriminator become one.
        twins: towers start from the same weights in the stages that stay their own, too, wherever shapes agree. A
            translation then begins as the reconstruction, and domains part only as far as training takes them.

    Raises:
        UserError: a count that the towers do not have, or stages whose shapes differ, with both shapes.
    """
    if twins:
        for first, *others in filter(None, towers.values()):
            for other in others:
                _copy(first, other)
    for _, first, i, other, j in _same_stages(towers, encoder, generator, discriminator):
        other.stages[j] = first.stages[i]
    return {}


@register
def soft(towers: Towers, *, encoder: Count = 0, generator: Count = 0, discriminator: Count = 0) -> Pairs:
    """Soft sharing: the stages that `tie` would tie keep their own weights, drawn together by `weight_distance`.

    Raises:
        UserError: as in `tie`.
    """
    pairs: Pairs = {}
    for part, first, i, other, j in _same_stages(towers, encoder, generator, discriminator):
        pairs.setdefault(part, []).append((first.stages[i], other.stages[j]))
    return pairs


@register
def all(towers: Towers) -> Pairs:
    """One tower of each part for all domains, whose images must then have the same number of channels.

    Raises:
        UserError: stages whose shapes differ, with both shapes.
    """
    depth = {part[:-1]: len(group[0].stages) if group else 0 for part, group in towers.items()}
    return tie.build(towers, **depth)


def _copy(source: Tower, target: Tower) -> None:
    """Give a tower the weights of another, stage by stage, where their shapes agree."""
    for theirs, ours in zip(source.stages, target.stages, strict=False):
        weights = theirs.state_dict()
        if {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in ours.state_dict().items()}:
            ours.load_state_dict(weights)


def _same_stages(
    towers: Towers, encoder: int, generator: int, discriminator: int
) -> Iterator[tuple[str, Tower, int, Tower, int]]:
    """The stages to share, as (part, first domain's tower, its stage, other domain's tower, its stage)."""
    for part, count in ("encoders", encoder), ("generators", generator), ("discriminators", discriminator):
        if count and not towers[part]:
            raise UserError(f"cannot share {count} stages of the {part}: this model has none")
        first = next(iter(towers[part]), None)
        for other in towers[part][1:]:
            assert first is not None
            shortest = min(len(first.stages), len(other.stages))
            if not 0 <= count <= shortest:
                raise UserError(f"cannot share {count} stages of the {part}, which have {shortest}")
            # Encoders and discriminators share their last stages, generators their first.
            i, j = (0, 0) if part == "generators" else (len(first.stages) - count, len(other.stages) - count)
            for step in range(count):
                _check_same(part, i + step, first.stages[i + step], other.stages[j + step])
                yield part, first, i + step, other, j + step


def _check_same(part: str, number: int, ours: nn.Module, theirs: nn.Module) -> None:
    mine, yours = ({name: list(p.shape) for name, p in stage.state_dict().items()} for stage in (ours, theirs))
    if mine == yours:
        return
    name = next(name for name in {**mine, **yours} if mine.get(name) != yours.get(name))
    raise UserError(
        f"stage {number} of the {part} cannot be shared: its {name} has shape {mine.get(name, 'none')} in one domain "
        f"and {yours.get(name, 'none')} in another. Share fewer stages, or give both domains the same channels."
    )
