"""A recipe for tests: UNIT at width 4 on rendered portraits of 16x16, or on a folder; twelve steps take a second."""

from dataclasses import replace
from typing import Any

from unitkit import (
    Adam,
    Player,
    Recipe,
    cycle,
    discriminators,
    encoders,
    gan,
    generators,
    models,
    open_data,
    psnr,
    sharing,
    vae,
)
from unitkit.data.drawn.rendered import portraits

presets = {"quick": {"steps": 2}}


def recipe(
    *,
    data: str = "portraits",
    size: int | tuple[int, int] = 16,
    width: int = 4,
    shared: int = 1,
    batch: int = 2,
    steps: int = 12,
    lr: float = 1e-3,
    decay: float = 0.0,
    noise: float = 1.0,
    augment: bool = True,
) -> Recipe:
    source = portraits(size=size, n=13, n_test=4) if data == "portraits" else open_data(data, size=size, domains=2)
    l_gan = gan("ab", "ba", weight=1, mode="least-squares")
    adam = Adam(lr=lr, decay=decay)
    return Recipe(
        model=models.spec(
            "unit",
            channels=source.channels,
            encoder=encoders.spec("residual", width=width, blocks=1),
            generator=generators.spec("residual", width=width, blocks=1),
            discriminator=discriminators.spec("strided", width=width, layers=2),
            sharing=sharing.spec("tie", encoder=shared, generator=shared),
            noise=noise,
        ),
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, adam),
            Player("generator", ["encoders", "generators"], [*vae("a", "b"), *l_gan.g, *cycle("aba", "bab")], adam),
        ],
        data=source,
        steps=steps,
        batch=batch,
        flip=augment,
        crop=2 if augment else 0,
        evaluate=[psnr("aa", "a")],
    )


def one_way(**knobs: Any) -> Recipe:
    """The game of `recipe` from a to b alone, which is soon computed."""
    ours, game = recipe(**knobs), gan("ab")
    players = [replace(player, terms=terms) for player, terms in zip(ours.players, (game.d, game.g), strict=True)]
    return replace(ours, players=players)
