"""What the recipes for digits share: the two domains, augmentation, and what is evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from unitkit import Adam, Affine, Data, Player, Recipe, Spec, Watch, accuracy, data
from unitkit.metrics import Metric

DIGITS = data.Digits("rendered", "printed", size=32)
ADAM = Adam(lr=1e-3, betas=(0.5, 0.999), weight_decay=0.0, decay=0.5)


def adapted(
    model: Spec,
    players: Sequence[Player],
    digits: Data,
    *,
    steps: int,
    batch: int = 64,
    affine: float,
    also: Sequence[Metric] = (),
    chosen: str = "a",
) -> Recipe:
    """A recipe for domain adaptation: the classes of the source (a) are seen, those of the target (b) evaluated.

    Args:
        batch: images of each domain in a step.
        affine: how much training images are rotated, scaled, stretched, sheared and shifted.
        also: evaluated beside the accuracy of both domains.
        chosen: the path whose accuracy chooses the best step; never the target's.
    """
    watched = dict.fromkeys([chosen, "a", "b"])
    return Recipe(
        model=model,
        players=players,
        data=digits,
        steps=steps,
        batch=batch,
        flip=False,
        affine=affine * Affine(rotate=15, scale=0.25, stretch=0.2, shear=0.3, shift=0.06),
        evaluate=[accuracy("b"), accuracy("a"), *also],
        watch=Watch([accuracy(path) for path in watched], every=0.2, images=0),
    )
