"""UNIT on faces: one attribute of a face on and off, such as glasses (rendered portraits) or a smile (photographs).

unitkit train recipes/unit_faces.py
unitkit train recipes/unit_faces.py @smile data=FOLDER labels=neutral,smiling
unitkit train recipes/unit_faces.py @paper data=FOLDER
"""

from typing import Literal

from unitkit import (
    Adam,
    Player,
    Recipe,
    closeness,
    counterpart,
    cycle,
    discriminators,
    encoders,
    gan,
    generators,
    models,
    open_data,
    sharing,
    vae,
)
from unitkit.losses import Form


def recipe(
    *,
    data: str = "portraits",
    labels: str | None = None,
    size: int | tuple[int, int] = 64,
    width: int = 16,
    blocks: int = 4,
    shared: int = 1,
    layers: int = 4,
    judge_width: int | None = None,
    batch: int = 4,
    steps: int = 1200,
    lr: float = 5e-4,
    judge_lr: float | None = None,
    decay: int = 400,
    weight_decay: float = 1e-4,
    kl: float = 0.01,
    likelihood: float = 10.0,
    adversarial: float = 1.0,
    form: Form = "least-squares",
    start: Literal["gaussian", "kaiming"] = "kaiming",
    flip: bool = True,
    crop: int = 0,
) -> Recipe:
    source = open_data(data, size=size, domains=2, labels=labels)

    model = models.spec(
        "unit",
        channels=source.channels,
        encoder=encoders.spec("residual", width=width, blocks=blocks, start=start),
        generator=generators.spec("residual", width=width, blocks=blocks, start=start),
        discriminator=discriminators.spec("strided", width=judge_width or width, layers=layers, start=start),
        sharing=sharing.spec("tie", encoder=shared, generator=shared),
    )

    l_vae = vae("a", "b", kl=kl, likelihood=likelihood)
    l_gan = gan("ab", "ba", weight=adversarial, form=form)
    l_cc = cycle("aba", "bab", kl=kl, likelihood=likelihood)

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan.judge, adam(judge_lr or lr)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.fool + l_cc, adam(lr)),
        ],
        data=source,
        steps=steps,
        batch=batch,
        flip=flip,
        crop=crop,
        evaluate=[
            *([counterpart("ab"), counterpart("ba")] if source.truth else []),
            *(closeness(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )
